"""Payouts over PayPal, end to end: asked, sent once, followed; at every end the book and PayPal have the same."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from base.errors import ConfigError
from db.engine import tx
from fiat.errors import (
    AmountOutOfBounds,
    InvalidRecipient,
    NoPayoutRail,
    PayoutNotCancellable,
    PayoutNotInDoubt,
    PersonalKeyMissing,
)
from fiat.payout_desk import PayoutDesk, PayoutTerms
from fiat.payout_steps import PayoutSteps
from fiat.payouts import PAYPAL, Payout, PayoutState
from fiat.personal import KEY_NAME, load_vault, make_key_file
from fiat.rails.booking import provider_account
from fiat.rails.desk import Desk, Rails
from fiat.rails.errors import EffectUnknown, RateLimited
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import RawWebhook
from fiat.rails.records import WebhookState
from fiat.sealing import Sealing
from fiat.tables import payout_memories, payouts
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from railsim.money import from_text
from tests.api.conftest import settings_for
from tests.rails.conftest import Sim
from tests.rails.paypal_house import SimulatedClock, rail
from wiring.banking import build_vault, paypal_terms
from wiring.rails import RailServices, services_of

ADA = "usr_ada"
HERS = "Ada.Example@Example.com"
EUR = Asset("EUR", AssetKind.FIAT, 2)
USER, FEES, RAIL_FEES = user_account(ADA, "EUR"), house_account("fees", "EUR"), house_account("rail-fees", "EUR")
PROVIDER, OUT = provider_account(PAYPAL, "EUR"), house_account("in-transit:paypal:out", "EUR")
FUNDS = 500_00
"""What the house has at PayPal, and Ada with the house."""

S = PayoutState


@dataclass
class House:
    sim: Sim
    engine: Any
    ledger: PostgresLedger
    vault: Any
    desk: PayoutDesk
    rails: RailServices
    entropy: Any
    numbers: int = 0
    heard: int = 0

    def key(self) -> RequestKey:
        self.numbers += 1
        return request_key(owner=ADA, route="POST /payouts", key=str(self.numbers), body={"n": self.numbers})

    async def ask(self, amount: int = 60_00, paypal: str = HERS) -> Payout:
        return await self.desk.request(key=self.key(), owner=ADA, asset="EUR", amount=amount, paypal=paypal)

    async def again(self, payout: Payout) -> Payout:
        return await self.desk.get(ADA, payout.id)

    @property
    def steps(self) -> PayoutSteps:
        (found,) = self.rails.outgoing
        return found

    async def hear(self) -> None:
        """Every webhook that PayPal has sent since, the last one first, and each of them twice; then what follows."""
        told = self.sim.webhooks("paypal")[self.heard :]
        self.heard += len(told)
        for got in [*reversed(told), *told]:
            await self.rails.inbox.receive("paypal", RawWebhook(body=got.body, headers=got.headers))
        await self.rails.effects.step()

    async def look(self, *, days: int = 0, seconds: int = 0) -> None:
        """Time passes and the worker works, without any webhook."""
        self.sim.advance(days=days, seconds=seconds)
        await self.steps.step()
        await self.rails.payouts.step()

    def will_be(self, outcome: str) -> None:
        self.sim.tell("/switches", provider="paypal", kind="payout", outcome=outcome)

    async def balances(self) -> tuple[int, int, int, int]:
        """Ada's, the house's fees, PayPal's as the house's cost, and what is on its way; all as the book shows them."""
        found = [await self.ledger.account(account) for account in (USER, FEES, RAIL_FEES, OUT)]
        first, second, third, fourth = (0 if one is None else one.balance for one in found)
        return first, second, third, fourth

    async def books_agree(self) -> None:
        """What the book says that PayPal owes us is what PayPal has for us."""
        found = await self.ledger.account(PROVIDER)
        assert found is not None
        assert -found.balance == at_paypal(self.sim)

    def batches(self) -> int:
        return len(self.sim.house.paypal.store.batches)


def at_paypal(sim: Sim) -> int:
    """The merchant's balance: what it began with, less what PayPal's own objects say has left it."""
    left = 0
    for item in sim.house.paypal.store.items.values():
        fee = from_text(item["payout_item_fee"]["value"], "EUR") or 0
        left += {"SUCCESS": item["_amount"] + fee, "UNCLAIMED": item["_amount"] + fee, "RETURNED": fee}.get(
            item["transaction_status"], 0
        )
    return FUNDS - left


@pytest.fixture
async def house(sim: Sim, database: Any, entropy: Any, tmp_path: Any) -> AsyncIterator[House]:
    sim.advance(days=100)  # what earlier tests began has ended
    sim.webhooks("paypal")
    sim.inbox.clear()
    for table in ("batches", "items"):
        getattr(sim.house.paypal.store, table).clear()
    clock, engine = SimulatedClock(sim), database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    await ledger.register_asset(EUR)
    await ledger.ensure_open(USER, PROVIDER)
    funds = Post(id="test:funds", postings=(Posting(PROVIDER, USER, "EUR", FUNDS),))
    (outcomes,) = await ledger.submit(alone(funds))
    require_accepted(outcomes)
    make_key_file(tmp_path / KEY_NAME)
    vault = load_vault(tmp_path / KEY_NAME)
    paypal = rail(sim, assets={"EUR": EUR})
    told = Desk(engine=engine, ledger=ledger, rails=Rails([paypal]), vault=vault, clock=clock, entropy=entropy)
    terms = PayoutTerms(rail=PAYPAL, asset="EUR", account=PAYPAL, paying=PROVIDER, fee=50, minimum=1_00, maximum=400_00)
    services = services_of(told, Inbox(told))
    endings = {PAYPAL: services.ending}
    desk = PayoutDesk(engine, ledger, vault, terms=[terms], clock=clock, entropy=entropy, endings=endings)
    made = House(sim, engine, ledger, vault, desk, services, entropy)
    yield made
    await made.rails.inbox.aclose()
    await paypal.aclose()


@pytest.mark.parametrize("told", [True, False])
async def test_a_payout_is_held_sent_once_and_paid_by_webhook_or_by_asking(house: House, told: bool):
    asked = await house.ask()
    assert (asked.state, asked.rail, asked.fee) == (S.REQUESTED, PAYPAL, 50)
    assert await house.steps.step() == 1
    assert (await house.again(asked)).state is S.SUBMITTED
    (batch,) = house.sim.house.paypal.store.batches.values()
    assert batch["_items"][0]["payout_item"]["receiver"] == HERS.lower()
    house.sim.advance(seconds=120)
    for _ in range(2):
        await (house.hear() if told else house.look(seconds=3_600))
    paid = await house.again(asked)
    assert (paid.state, paid.source, paid.rail_fee) == (S.PAID, batch["payout_batch_id"], 25)
    assert await house.balances() == (FUNDS - 60_50, 50, -25, 0)
    await house.books_agree()
    assert house.batches() == 1


@pytest.mark.parametrize("fault", ["error_before", "error_after", "closed_after", "rate_limited"])
async def test_a_payout_whose_answer_was_lost_is_found_and_paid_once(house: House, fault: str):
    house.sim.tell("/switches", provider="paypal", kind=fault, method="POST", path="payments/payouts$")
    asked = await house.ask()
    if fault == "rate_limited":
        with pytest.raises(RateLimited):
            await house.steps.step()
        assert (await house.again(asked)).state is S.SUBMITTING
    else:
        await house.steps.step()
        assert (await house.again(asked)).state is S.UNKNOWN
    for _ in range(4):
        await house.look(seconds=300)
    assert (await house.again(asked)).state is S.PAID
    assert house.batches() == 1
    assert await house.balances() == (FUNDS - 60_50, 50, -25, 0)
    await house.books_agree()
    if fault == "rate_limited":
        house.sim.checker.problems[:] = [one for one in house.sim.checker.problems if "answer 429" not in one]


async def test_a_worker_that_dies_after_asking_asks_again_and_pays_once(house: House):
    class Killed(Exception):
        pass

    def die(at: str) -> None:
        if at == "submitted":
            raise Killed

    asked = await house.ask()
    house.steps._reached = die
    with pytest.raises(Killed):
        await house.steps.step()
    assert ((await house.again(asked)).state, house.batches()) == (S.SUBMITTING, 1)
    house.steps._reached = lambda _: None
    for _ in range(3):
        await house.look(seconds=300)
    assert ((await house.again(asked)).state, house.batches()) == (S.PAID, 1)
    await house.books_agree()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("outcome", "code"), [("failed", "receiver_country_not_allowed"), ("denied", "insufficient_funds")]
)
async def test_a_payout_that_paypal_fails_comes_back_whole(house: House, outcome: str, code: str, told: bool):
    house.will_be(outcome)
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(seconds=120)
    await (house.hear() if told else house.look())
    failed = await house.again(asked)
    assert (failed.state, failed.reason, failed.rail_fee) == (S.FAILED, code, 0)
    assert await house.balances() == (FUNDS, 0, 0, 0)
    await house.books_agree()


@pytest.mark.parametrize("told", [True, False])
async def test_an_unclaimed_payout_shows_it_and_comes_back_after_a_month(house: House, told: bool):
    house.will_be("unclaimed")
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(seconds=120)
    await (house.hear() if told else house.look())
    waits = await house.again(asked)
    assert (waits.state, waits.reason, waits.detail) == (S.SUBMITTED, "unclaimed", "receiver_unregistered")
    await house.look(days=20)
    assert (await house.again(asked)).state is S.SUBMITTED
    user = await house.ledger.account(USER)
    assert user is not None
    assert user.available == FUNDS - 60_50
    house.sim.advance(days=11)
    await (house.hear() if told else house.look())
    back = await house.again(asked)
    assert (back.state, back.reason) == (S.FAILED, "returned")
    assert await house.balances() == (FUNDS, 0, -25, 0), "PayPal keeps its fee"
    await house.books_agree()


@pytest.mark.parametrize("told", [True, False])
async def test_f72_a_payout_over_paypal_returned_days_later_is_credited_once(house: House, told: bool):
    house.will_be("returned")
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(seconds=120)
    await (house.hear() if told else house.look())
    assert (await house.again(asked)).state is S.PAID
    await house.books_agree()
    for _ in range(2):
        house.sim.advance(days=2)
        await (house.hear() if told else house.look())
    back = await house.again(asked)
    assert (back.state, back.reason) == (S.RETURNED, "returned")
    assert await house.balances() == (FUNDS - 50, 50, -25, 0), "the house keeps its fee for having sent it"
    await house.books_agree()


async def test_several_payouts_go_out_in_one_step_each_by_itself(house: House):
    asked = [await house.ask(amount) for amount in (1_00, 2_00, 3_00)]
    assert await house.steps.step() == 3
    assert house.batches() == 3
    house.sim.advance(seconds=120)
    await house.hear()
    assert {(await house.again(one)).state for one in asked} == {S.PAID}
    await house.books_agree()


async def test_paypal_paying_what_was_given_back_by_hand_is_for_a_person(house: House):
    house.sim.tell("/switches", provider="paypal", kind="error_after", method="POST", path="payments/payouts$")
    house.will_be("pending")
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(days=30)  # PayPal can't be asked by our id any more
    await house.desk.fail(key=house.key(), payout=asked.id)
    await house.hear()
    assert (await house.again(asked)).state is S.FAILED
    assert await house.balances() == (FUNDS, 0, 0, 0)
    waiting = await house.rails.inbox.list_all(state=WebhookState.WAITING)
    assert {one.code for one in waiting} == {"rail_corrupt"}


async def test_who_ends_a_payout_by_hand_asks_paypal_first_as_long_as_it_can_be_asked(house: House):
    house.sim.tell("/switches", provider="paypal", kind="error_after", method="POST", path="payments/payouts$")
    asked = await house.ask()
    await house.steps.step()
    assert (await house.again(asked)).state is S.UNKNOWN
    house.sim.tell("/switches", provider="paypal", kind="error_before", method="POST", path="payments/payouts$")
    with pytest.raises(EffectUnknown):
        await house.desk.fail(key=house.key(), payout=asked.id)
    assert (await house.again(asked)).state is S.UNKNOWN
    with pytest.raises(PayoutNotInDoubt, match="submitted"):
        await house.desk.fail(key=house.key(), payout=asked.id)
    assert house.batches() == 1
    house.sim.advance(seconds=120)
    await house.hear()
    assert ((await house.again(asked)).state, house.batches()) == (S.PAID, 1)
    await house.books_agree()


async def test_what_was_ended_by_hand_is_never_asked_for_again(house: House):
    """PayPal never got it. To ask for it by our id would order it."""
    house.sim.tell("/switches", provider="paypal", kind="error_before", method="POST", path="payments/payouts$")
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(days=29, seconds=1)
    await house.desk.fail(key=house.key(), payout=asked.id)
    failed = await house.again(asked)
    await house.rails.payouts.ask(failed)
    for _ in range(3):
        await house.look(days=1)
    assert ((await house.again(asked)).state, house.batches()) == (S.FAILED, 0)
    assert await house.balances() == (FUNDS, 0, 0, 0)


async def test_a_payout_from_before_the_database_was_put_back_is_not_given_up_but_paid_once(house: House):
    """PayPal may have been asked for it since the backup; there it can't be asked about without ordering it."""
    await house.rails.ending.begin(PAYPAL)
    first = await house.ask()
    await house.desk.cancel(key=house.key(), owner=ADA, payout=first.id)
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(seconds=120)
    async with tx(house.engine) as connection:  # as it was before, in a database that is another one
        await connection.execute(update(payouts).where(payouts.c.id == asked.id).values(state="requested", batch=None))
        await connection.execute(update(payout_memories).values(identity="the database of the backup"))
    with pytest.raises(PayoutNotCancellable, match="put back from a backup"):
        await house.desk.cancel(key=house.key(), owner=ADA, payout=asked.id)
    await house.hear()
    for _ in range(2):
        await house.look(seconds=3_600)
    assert ((await house.again(asked)).state, house.batches()) == (S.PAID, 1)
    await house.books_agree()
    later = await house.ask()
    assert (await house.desk.cancel(key=house.key(), owner=ADA, payout=later.id)).state is S.CANCELLED


BAD = [
    *("", "ada", "ada@", "@example.com", "ada@example", "a da@example.com", "ada@exam_ple.com", "ada@-x.com"),
    *("ada@example.com\nb@example.com", f"{'x' * 120}@example.com", "ädä@example.com", "MJHX2E3ZCDZQ4"),
]


@pytest.mark.parametrize("given", BAD)
async def test_what_is_no_paypal_account_is_refused_without_repeating_it(house: House, given: str):
    with pytest.raises(InvalidRecipient, match="no e-mail address") as stop:
        await house.ask(paypal=given)
    assert stop.value.param == "recipient.paypal"
    assert not given or given not in str(stop.value)


async def test_a_request_is_refused_with_what_is_wrong(house: House):
    async def ask(**told: Any) -> Payout:
        given: dict[str, Any] = {"asset": "EUR", "amount": 10_00, "paypal": HERS} | told
        return await house.desk.request(key=house.key(), owner=ADA, **given)

    with pytest.raises(NoPayoutRail, match="'USD' can't be paid out to a PayPal account; what can is EUR"):
        await ask(asset="USD")
    with pytest.raises(NoPayoutRail, match="a bank account; what can is none"):
        await ask(paypal=None, name="Ada", iban="NL26MOCK0000000077")
    for amount in (99, 400_01):
        with pytest.raises(AmountOutOfBounds):
            await ask(amount=amount)
    house.desk.terms[PAYPAL, "EUR"] = replace(house.desk.terms[PAYPAL, "EUR"], step=10)
    with pytest.raises(AmountOutOfBounds, match="decimals"):
        await ask(amount=10_05)
    for told in ({"paypal": None}, {"name": "Ada"}, {"iban": "NL26MOCK0000000077"}, {"paypal": None, "name": "Ada"}):
        with pytest.raises(InvalidRecipient, match="either"):
            await ask(**told)
    assert await house.balances() == (FUNDS, 0, 0, 0)


async def test_the_recipient_is_sealed_and_seen_by_its_owner_alone(house: House, caplog, capsys):
    asked = await house.ask()
    await house.steps.step()
    house.sim.advance(seconds=120)
    await house.hear()
    assert HERS.lower() not in repr(await house.again(asked)).lower()
    assert (await house.again(asked)).recipient.number == HERS.lower()
    async with house.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT p::text, encode(recipient, 'escape') FROM fiat_payouts p"))).all()
        webhooks = (await connection.execute(text("SELECT w::text FROM fiat_webhooks w"))).all()
    assert (len(rows), len(webhooks) > 0) == (1, True)
    assert "example.com" not in f"{rows}{webhooks}{caplog.text}{capsys.readouterr()}".lower()
    assert await Sealing(house.engine, house.vault, book=house.ledger.book).seal_all() == 0


async def test_a_payout_is_not_looked_at_more_often_than_its_age_says(house: House):
    house.will_be("pending")
    asked = await house.ask()
    await house.steps.step()
    assert await house.rails.payouts.step() == 1
    assert await house.rails.payouts.step() == 0
    house.sim.advance(seconds=31)
    assert await house.rails.payouts.step() == 1
    house.sim.advance(days=2)
    assert await house.rails.payouts.step() == 1
    house.sim.advance(seconds=int(timedelta(hours=5).total_seconds()))
    assert await house.rails.payouts.step() == 0
    assert (await house.again(asked)).state is S.SUBMITTED


# Settings

ACCOUNT = {
    "client_id": "A" * 80,
    "client_secret": "E" * 80,
    "webhook_id": "9XL90610J3647323C",
    "merchant_id": "ABCDEFGHJKLMN",
}


def told(tmp_path: Any, *payouts: dict[str, str]) -> list[PayoutTerms]:
    settings = settings_for(tmp_path, rails={"paypal": ACCOUNT | {"payouts": payouts}})
    return paypal_terms(settings)


def test_the_settings_tell_which_assets_paypal_pays_out_and_on_what_terms(tmp_path):
    assert told(tmp_path) == []
    given = {"asset": "EUR", "payout_fee": "0.50", "payout_minimum": "1.00", "payout_maximum": "400"}
    (terms,) = told(tmp_path, given)
    assert (terms.rail, terms.asset, terms.account, terms.paying) == (PAYPAL, "EUR", PAYPAL, PROVIDER)
    assert (terms.fee, terms.minimum, terms.maximum) == (50, 1_00, 400_00)
    (plain,) = told(tmp_path, {"asset": "EUR"})
    assert (plain.fee, plain.minimum, plain.maximum) == (0, 1, None)


@pytest.mark.parametrize(
    "payouts", [({"asset": "USDC"},), ({"asset": "XAU"},), ({"asset": "EUR"}, {"asset": "EUR"})], ids=str
)
def test_an_asset_that_paypal_can_t_pay_out_is_refused_at_the_start(tmp_path, payouts):
    with pytest.raises(ConfigError, match="must be one of the assets, one that PayPal takes"):
        told(tmp_path, *payouts)


def test_payouts_over_paypal_need_the_key_of_personal_data(tmp_path):
    settings = settings_for(tmp_path, bank_accounts=[], rails={"paypal": ACCOUNT | {"payouts": [{"asset": "EUR"}]}})
    settings.path(settings.personal_key).unlink()
    with pytest.raises(PersonalKeyMissing):
        build_vault(settings)
