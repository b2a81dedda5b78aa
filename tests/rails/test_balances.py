"""What providers say that they owe us, against the book: what differs is a break until it doesn't."""

from typing import Any

import pytest

from chain.networks import Registry
from fiat.rails.booking import provider_account
from ledger.accounts import house_account
from ledger.commands import Post, Posting, alone
from ledger.outcomes import require_accepted
from tests.rails.conftest import Sim
from tests.rails.test_cards_in_the_book import House as Cards
from tests.rails.test_cards_in_the_book import house as cards  # noqa: F401 - a fixture
from tests.rails.test_cards_in_the_book import vault  # noqa: F401 - a fixture
from tests.rails.test_paypal_payouts import FUNDS, PROVIDER, House
from tests.rails.test_paypal_payouts import house as paypal  # noqa: F401 - a fixture
from treasury.reconciliation import Reconciler
from treasury.records import Break, BreakReason, Reconciliation


def reconciler(database: Any, ledger: Any, rails: Any, clock: Any, entropy: Any) -> Reconciler:
    return Reconciler(
        database.engine(),
        ledger=ledger,
        registry=Registry([], []),
        nodes={},
        banks=[],
        rails=rails.balances,
        clock=clock,
        entropy=entropy,
    )


def told(run: Reconciliation) -> list[tuple[str, str, str, int, int]]:
    return [_told(one) for one in run.breaks]


def _told(one: Break) -> tuple[str, str, str, int, int]:
    assert one.reason is BreakReason.RAIL_DIFFERS
    return one.detail, one.account, one.asset, one.expected, one.found


@pytest.mark.parametrize("cards", ["stripe"], indirect=True)
async def test_what_stripe_owes_us_otherwise_than_the_book_says_is_a_break_until_it_is_booked(
    cards: Cards,  # noqa: F811
    sim: Sim,
    database: Any,
    entropy: Any,
):
    cards.forget_others()
    made = reconciler(database, cards.ledger, cards.rails, sim.house.world.timeline, entropy)
    assert (await made.run()).clean
    paid = await cards.top_up()
    await cards.until_quiet()
    run = await made.run()
    assert (run.clean, told(run)) == (True, [])
    booked, account = await cards.at_provider(), provider_account("stripe", "USD")
    charge = sim.house.stripe.store.book(amount=-700, currency="usd", type="stripe_fee", source="", category="fee")
    assert charge["net"] == -700
    assert told(await made.run()) == [("stripe", account, "USD", booked, booked - 700)]
    sim.tell("/switches", provider="stripe", kind="error_before", method="GET", path="v1/balance$")
    run = await made.run()
    assert [one.network for one in run.networks if one.skipped] == ["rail:stripe"]
    assert told(run) == [("stripe", account, "USD", booked, booked - 700)], "what can't be judged ends no break"
    fee = Post(id="test:fee", postings=(Posting(house_account("rail-fees", "USD"), account, "USD", 700),))
    require_accepted((await cards.ledger.submit(alone(fee)))[0])
    run = await made.run()
    assert (run.clean, told(run)) == (True, [])
    assert paid.asset == "USD"


async def test_paypals_balance_is_compared_and_a_payout_on_its_way_is_no_break(
    paypal: House,  # noqa: F811
    database: Any,
    entropy: Any,
):
    sim, store = paypal.sim, paypal.sim.house.paypal.store
    for table in (store.captures, store.refunds, store.disputes):
        table.clear()
    clock = sim.house.world.timeline
    made = reconciler(database, paypal.ledger, paypal.rails, clock, entropy)
    assert told(await made.run()) == [("paypal", PROVIDER, "EUR", FUNDS, 0)], "PayPal has none of the test's funds"
    store.captures["FUNDS"] = {
        "id": "FUNDS",
        "status": "COMPLETED",
        "seller_receivable_breakdown": {"net_amount": {"currency_code": "EUR", "value": f"{FUNDS // 100}.00"}},
    }
    assert (await made.run()).clean
    paypal.will_be("unclaimed")
    asked = await paypal.ask()
    await paypal.steps.step()
    sim.advance(seconds=120)
    await paypal.look()
    sim.advance(seconds=1)
    run = await made.run()
    assert told(run) == []
    assert [(one.network, "haven't ended" in (one.skipped or "")) for one in run.networks] == [("rail:paypal", True)]
    sim.advance(days=31)
    await paypal.look()
    sim.advance(seconds=1)
    run = await made.run()
    assert (await paypal.again(asked)).state == "failed"
    assert (run.clean, told(run)) == (True, [])
    store.captures.clear()


async def test_balances_older_than_what_moved_since_are_not_judged(
    paypal: House,  # noqa: F811
    database: Any,
    entropy: Any,
):
    """PayPal's reporting lags behind by up to three hours."""
    made = reconciler(database, paypal.ledger, paypal.rails, paypal.sim.house.world.timeline, entropy)
    paypal.will_be("failed")
    await paypal.ask()
    await paypal.steps.step()
    run = await made.run()
    assert "something moved since" in str([one.skipped for one in run.networks])
