"""The PayPal rail against simulated PayPal: paying out, and disputes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from fiat.rails.errors import AmountNotPayable, Declined, EffectUnknown
from fiat.rails.paypal.rail import PayPal
from fiat.rails.protocol import DisputeStatus, DisputeTruth, PayoutOrder, PayoutStatus
from tests.rails.conftest import Sim
from tests.rails.paypal_house import captured, fresh, rail

S = PayoutStatus
RECEIVER = "receiver@example.com"


@pytest.fixture
async def paypal(sim: Sim) -> AsyncIterator[PayPal]:
    made = rail(sim)
    sim.advance(seconds=300)  # what earlier tests began has ended
    yield made
    await made.aclose()


def payout(sim: Sim, amount: int = 25_00, asset: str = "USD", **changes: Any) -> PayoutOrder:
    return PayoutOrder(reference=fresh(sim, "pyo"), asset=asset, amount=amount, **{"destination": RECEIVER} | changes)


async def now(paypal: PayPal, id: str) -> tuple[PayoutStatus, str | None, int]:
    found = await paypal.fetch_payout(id)
    assert found is not None
    return found.status, found.code, found.fee


async def test_a_payout_is_a_batch_of_one_and_is_paid_a_little_later(sim: Sim, paypal: PayPal):
    order = payout(sim, note="Your money")
    made = await paypal.pay_out(order)
    assert (made.status, made.reference, made.amount) == (S.PENDING, order.reference, 25_00)
    batch = sim.house.paypal.store.batches[made.id]
    assert batch["sender_batch_header"] == {"sender_batch_id": order.reference}
    (item,) = batch["_items"]
    assert item["payout_item"] == {
        "recipient_type": "EMAIL",
        "receiver": RECEIVER,
        "amount": {"currency": "USD", "value": "25.00"},
        "sender_item_id": order.reference,
        "note": "Your money",
    }
    assert await now(paypal, made.id) == (S.PENDING, None, 25)
    sim.advance(seconds=120)
    paid = await paypal.fetch_payout(made.id)
    assert paid is not None
    assert (paid.id, paid.reference, paid.status, paid.asset, paid.amount, paid.fee) == (
        made.id, order.reference, S.PAID, "USD", 25_00, 25,
    )  # fmt: skip
    assert await paypal.recover_payout(order) == paid
    assert await paypal.fetch_payout("NOSUCHBATCH00") is None


async def test_the_same_payout_again_pays_once(sim: Sim, paypal: PayPal):
    batches = sim.house.paypal.store.batches
    order = payout(sim)
    first = await paypal.pay_out(order)
    count = len(batches)
    assert (await paypal.pay_out(order)).id == first.id
    # Also where PayPal doesn't know the key of the call: the batch's own id is refused, with a link to the first.
    sim.house.paypal.payment_keys._known.clear()
    found = await paypal.pay_out(order)
    assert (found.id, found.reference, found.status) == (first.id, order.reference, S.PENDING)
    assert len(batches) == count


@pytest.mark.parametrize(
    ("outcome", "seconds", "seen"),
    [
        ("failed", 120, (S.FAILED, "receiver_country_not_allowed", 0)),
        ("denied", 120, (S.FAILED, "insufficient_funds", 0)),
        ("pending", 120, (S.PENDING, None, 25)),
        ("unclaimed", 120, (S.UNCLAIMED, "receiver_unregistered", 25)),
        ("unclaimed", 31 * 86_400, (S.RETURNED, "returned", 25)),
        ("returned", 120, (S.PAID, None, 25)),
        ("returned", 2 * 86_400, (S.RETURNED, "returned", 25)),
    ],
)
async def test_a_payout_ends_as_paypal_says(sim: Sim, paypal: PayPal, outcome: str, seconds: int, seen: Any):
    sim.tell("/switches", provider="paypal", kind="payout", outcome=outcome)
    made = await paypal.pay_out(payout(sim))
    sim.advance(seconds=seconds)
    assert await now(paypal, made.id) == seen


@pytest.mark.parametrize(("destination", "kind"), [("a.b@sub.example.org", "EMAIL"), ("MJHX2E3ZCDZQ4", "PAYPAL_ID")])
async def test_a_receiver_is_named_as_what_it_is(sim: Sim, paypal: PayPal, destination: str, kind: str):
    made = await paypal.pay_out(payout(sim, destination=destination))
    (item,) = sim.house.paypal.store.batches[made.id]["_items"]
    assert (item["payout_item"]["receiver"], item["payout_item"]["recipient_type"]) == (destination, kind)


@pytest.mark.parametrize("destination", ["", "nobody", "a b@example.com", "+4915112345678", f"{'x' * 120}@example.com"])
async def test_what_names_no_receiver_is_declined_without_repeating_it(sim: Sim, paypal: PayPal, destination: str):
    count = len(sim.house.paypal.store.batches)
    with pytest.raises(Declined) as declined:
        await paypal.pay_out(payout(sim, destination=destination))
    assert declined.value.reason_code == "receiver_invalid"
    assert not destination or destination not in str(declined.value)
    assert len(sim.house.paypal.store.batches) == count


async def test_payouts_of_yen_have_no_decimals_and_other_money_is_refused(sim: Sim, paypal: PayPal):
    made = await paypal.pay_out(payout(sim, 5_000, "JPY"))
    sim.advance(seconds=120)
    paid = await paypal.fetch_payout(made.id)
    assert paid is not None
    assert (paid.asset, paid.amount, paid.status) == ("JPY", 5_000, S.PAID)
    with pytest.raises(AmountNotPayable):
        await paypal.pay_out(payout(sim, 1, "XAU"))


async def test_what_paypal_has_surely_forgotten_is_not_sent_again(sim: Sim, paypal: PayPal):
    order, count = payout(sim), len(sim.house.paypal.store.batches)
    sim.advance(days=30)
    with pytest.raises(EffectUnknown):
        await paypal.recover_payout(order)
    assert len(sim.house.paypal.store.batches) == count


async def test_a_batch_of_several_is_nobody_s_payout_here(sim: Sim, paypal: PayPal):
    made = await paypal.pay_out(payout(sim))
    batch = sim.house.paypal.store.batches[made.id]
    batch["_items"].append(batch["_items"][0])
    found = await paypal.fetch_payout(made.id)
    assert found is not None
    assert found.reference is None


# Disputes


async def dispute(sim: Sim, paypal: PayPal, **told: Any) -> DisputeTruth:
    payment = await captured(sim, paypal)
    made = sim.tell("/disputes", provider="paypal", payment=payment.capture_id, **told)
    found = await paypal.fetch_dispute(made["dispute_id"])
    assert found is not None
    assert found.payment == payment.capture_id
    return found


async def decided(sim: Sim, paypal: PayPal, dispute: DisputeTruth, *, won: bool) -> DisputeTruth:
    sim.tell(f"/disputes/{dispute.id}", provider="paypal", won=won)
    found = await paypal.fetch_dispute(dispute.id)
    assert found is not None
    return found


def money(dispute: DisputeTruth) -> tuple[DisputeStatus, int, int]:
    return dispute.status, dispute.withdrawn, dispute.fee


async def test_a_dispute_takes_amount_and_fee_and_a_won_one_gives_the_amount_back(sim: Sim, paypal: PayPal):
    opened = await dispute(sim, paypal, amount=60_00, reason="UNAUTHORISED")
    assert money(opened) == (DisputeStatus.OPEN, 60_00, 15_00)
    assert (opened.asset, opened.amount, opened.reason) == ("USD", 60_00, "unauthorised")
    assert opened.respond_by is not None
    assert (opened.respond_by - opened.opened_at).days == 10
    assert money(await decided(sim, paypal, opened, won=True)) == (DisputeStatus.WON, 0, 15_00)
    assert await paypal.fetch_dispute("PP-R-NONE") is None


async def test_a_lost_dispute_keeps_what_it_took(sim: Sim, paypal: PayPal):
    opened = await dispute(sim, paypal)
    assert money(await decided(sim, paypal, opened, won=False)) == (DisputeStatus.LOST, 100_00, 15_00)


async def test_who_gets_the_fee_back_owes_none(sim: Sim, paypal: PayPal):
    sim.tell("/terms/paypal", "PUT", dispute_fee_returned=True)
    try:
        opened = await dispute(sim, paypal)
        assert money(await decided(sim, paypal, opened, won=True)) == (DisputeStatus.WON, 0, 0)
    finally:
        sim.tell("/terms/paypal", "PUT", dispute_fee_returned=False)


async def test_an_accepted_claim_and_an_unanswered_one_are_lost(sim: Sim, paypal: PayPal):
    accepted, silent = await dispute(sim, paypal), await dispute(sim, paypal)
    token = await paypal._client._bearer()
    await paypal._client._http.post(
        f"/v1/customer/disputes/{accepted.id}/accept-claim",
        files={"input": (None, '{"note": "Ours"}', "application/json")},
        headers={"authorization": f"Bearer {token.value}"},
    )
    sim.advance(days=11)
    for one in (accepted, silent):
        found = await paypal.fetch_dispute(one.id)
        assert found is not None
        assert money(found) == (DisputeStatus.LOST, 100_00, 15_00)


async def test_disputes_are_listed_in_pages_and_later_only_those_that_changed(sim: Sim, paypal: PayPal):
    opened = [await dispute(sim, paypal) for _ in range(12)]
    seen: list[DisputeTruth] = []
    cursor, more, pages = None, True, 0
    while more:
        listed = await paypal.list_disputes(cursor)
        cursor, more, pages = listed.cursor, listed.more, pages + 1
        seen += listed.items
    assert pages > 1
    assert {one.id for one in opened} <= {one.id for one in seen}
    assert replace(opened[0]) in seen
    for _ in range(2):  # the first goes over the seam again
        sim.advance(days=1)
        quiet = await paypal.list_disputes(cursor)
        while quiet.more:
            quiet = await paypal.list_disputes(quiet.cursor)
        cursor = quiet.cursor
    assert (quiet.items, quiet.more) == ((), False)
    sim.advance(days=1)
    changed = await decided(sim, paypal, opened[3], won=True)
    listed = await paypal.list_disputes(quiet.cursor)
    assert listed.items == (changed,)
    assert (await paypal.list_disputes(listed.cursor)).items == (changed,), "around a seam it comes twice"
    sim.advance(days=1)
    assert (await paypal.list_disputes((await paypal.list_disputes(listed.cursor)).cursor)).items == ()


async def test_a_dispute_that_can_t_be_read_is_passed_by_in_the_list(sim: Sim, paypal: PayPal):
    odd, good = await dispute(sim, paypal), await dispute(sim, paypal)
    amount = sim.house.paypal.store.disputes[odd.id]["dispute_amount"]
    amount["currency_code"] = "EUR"  # what it moved is in dollars
    try:
        listed = await paypal.list_disputes(None)
        assert good in listed.items
        assert odd.id not in [one.id for one in listed.items]
    finally:
        amount["currency_code"] = "USD"


async def test_a_cursor_of_months_ago_goes_on_as_far_back_as_paypal_lists(sim: Sim, paypal: PayPal):
    for _ in range(11):
        await dispute(sim, paypal)
    first = await paypal.list_disputes(None)
    assert first.more
    last = await paypal.list_disputes(first.cursor)
    sim.advance(days=400)
    opened, now = await dispute(sim, paypal), sim.house.world.timeline.now()
    for old in (first.cursor, last.cursor):  # broken off in the middle, and at its end
        sent: list[httpx.Request] = []
        paypal._client._http.event_hooks["request"] = [_keeping(sent)]
        assert (await paypal.list_disputes(old)).items == (opened,)
        (asked,) = [one for one in sent if one.url.path == "/v1/customer/disputes"]
        assert (now - datetime.fromisoformat(asked.url.params["update_time_after"])).days < 180


def _keeping(sent: list[httpx.Request]) -> Any:
    async def keep(request: httpx.Request) -> None:
        sent.append(request)

    return keep
