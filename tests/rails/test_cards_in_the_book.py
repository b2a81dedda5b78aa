"""Stripe and Square through everything that's ours: webhooks over HTTP into the inbox, and the book at the end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from base.entropy import SeededEntropy
from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from fiat.personal import KEY_NAME, Vault, load_vault, make_key_file
from fiat.rails.booking import provider_account
from fiat.rails.desk import Desk, Rails
from fiat.rails.dispute_states import DisputeState
from fiat.rails.errors import RefusalReason, SettlementNotMatching, WebhookRefused
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import Capturing, Rail, RawWebhook
from fiat.rails.records import Refund
from fiat.rails.refund_states import RefundState
from fiat.rails.square.rail import SquareRail
from fiat.rails.top_up_states import TopUpState
from fiat.top_ups import TopUp
from ledger.accounts import house_account, user_account
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from railsim.switches import Fault
from tests.fiat.statements import IBAN, Entry, camt053
from tests.rails import square_rail, stripe_rail
from tests.rails.conftest import Sim
from tests.rails.inbox import Got
from tests.rails.orders import ASSETS
from tests.support.postgres import Database
from wiring.rails import RailServices, services_of

ADA = "usr_ada"
GOOD = {"stripe": "pm_card_visa", "square": "cnon:card-nonce-ok"}
BAD = {"stripe": "pm_card_chargeDeclined", "square": "cnon:card-nonce-declined"}
CREATED = {"stripe": "payment_intents$", "square": "v2/payments$"}
ROUNDS_MAX = 40


@dataclass
class House:
    """One book, one provider, and what the provider has sent us."""

    sim: Sim
    name: str
    ledger: PostgresLedger
    rails: RailServices
    taken: int = 0
    refused: list[RefusalReason] = field(default_factory=list)
    numbers: int = 0

    def key(self) -> RequestKey:
        self.numbers += 1
        name = f"{self.name}-{self.numbers}"
        return request_key(owner=ADA, route="POST /test", key=name, body={"n": name})

    async def top_up(self, amount: int = 10_000, method: str | None = None) -> TopUp:
        told: dict[str, Any] = {"owner": ADA, "rail": self.name, "asset": "USD", "amount": amount}
        return await self.rails.top_ups.request(key=self.key(), method=method or GOOD[self.name], **told)

    async def again(self, top_up: TopUp) -> TopUp:
        return await self.rails.top_ups.get(ADA, top_up.id)

    async def deliver(self) -> None:
        """Every webhook that has arrived, each twice."""
        arrived = self.sim.webhooks(self.name)
        fresh, self.taken = arrived[self.taken :], len(arrived)
        for got in [*fresh, *fresh]:
            await self._receive(got)

    async def _receive(self, got: Got) -> None:
        try:
            await self.rails.inbox.receive(self.name, RawWebhook(body=got.body, headers=got.headers))
        except WebhookRefused as refusal:
            self.refused.append(refusal.reason)

    async def until_quiet(self) -> None:
        """Let time pass and everybody work until nothing is left to do."""
        steps = (
            self.rails.effects.step,
            self.rails.top_ups.steps.step,
            self.rails.refunds.step,
            self.rails.effects.look_through,
            self.rails.settlements.step,
        )
        for _ in range(ROUNDS_MAX):
            await self.deliver()
            before = await self.rows()
            for step in steps:
                await step()
            if before == await self.rows() and not (await self._due()):
                return
            self.sim.advance(seconds=600)
        raise AssertionError("there is always something left to do")

    async def rows(self) -> Any:
        """What our tables say now."""
        top_ups = await self.rails.top_ups.list_for(ADA)
        disputes, settlements = await self.rails.disputes.list_all(), await self.rails.settlements.list_all()
        return top_ups, await self.refunds(), disputes, settlements

    async def refunds(self) -> list[Refund]:
        top_ups = await self.rails.top_ups.list_for(ADA)
        return [refund for top_up in top_ups for refund in await self.rails.refunds.list_for(ADA, top_up.id)]

    async def _due(self) -> bool:
        return any(one.state in (TopUpState.SUBMITTED, TopUpState.UNKNOWN) for one in (await self.rows())[0])

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def at_provider(self) -> int:
        return -await self.balance(provider_account(self.name, "USD"))

    def forget_others(self) -> None:
        """What other tests left in the provider's balance."""
        stripe, square = self.sim.house.stripe.store, self.sim.house.square.store
        for kept in (stripe.tables["txn"], stripe.tables["po"], square.entries, square.payouts):
            kept.clear()

    def by_provider(self) -> int:
        """What the simulator itself says that it owes us: all that moved its balance."""
        if self.name == "stripe":
            booked = self.sim.house.stripe.store.tables["txn"].values()
            return sum(one["net"] for one in booked if one["currency"] == "usd")
        return sum(one["_net"] for one in self.sim.house.square.store.entries if not one["payout_id"])


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    make_key_file(tmp_path / KEY_NAME)
    return load_vault(tmp_path / KEY_NAME)


@pytest.fixture(params=["stripe", "square"])
async def house(
    request: pytest.FixtureRequest, sim: Sim, database: Database, entropy: SeededEntropy, vault: Vault
) -> AsyncIterator[House]:
    clock = sim.house.world.timeline
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    await ledger.register_asset(next(one for one in ASSETS if one.code == "USD"))
    rail: Rail = stripe_rail.rail_of(sim) if request.param == "stripe" else square_rail.rail_of(sim)
    desk = Desk(
        engine=database.engine(),
        ledger=ledger,
        rails=Rails([rail]),
        vault=vault,
        clock=clock,
        entropy=entropy,
        accounts=("dollars",),
    )
    services = services_of(desk, Inbox(desk))
    yield House(sim, request.param, ledger, services)
    await services.inbox.aclose()
    await rail.aclose()


async def test_f71_what_the_provider_owes_us_is_what_our_book_says(house: House):
    sim, name = house.sim, house.name
    paid, declined = await house.top_up(), await house.top_up(method=BAD[name])
    sim.tell("/switches", provider=name, kind=Fault.CLOSED_AFTER, method="POST", path=CREATED[name])
    sim.tell("/switches", provider=name, kind="webhook_dropped", times=2)
    lost = await house.top_up(7_000)
    await house.until_quiet()
    assert ((await house.again(paid)).state, (await house.again(lost)).state) == (TopUpState.FINAL, TopUpState.FINAL)
    assert (await house.again(declined)).state is TopUpState.FAILED
    assert await house.balance(user_account(ADA, "USD")) == 17_000
    assert await house.at_provider() == house.by_provider() == 17_000 - await _fees(house)

    sim.tell("/switches", provider=name, kind="refund", outcome="failed", seconds=1_200)
    failing = await house.rails.refunds.request(key=house.key(), owner=ADA, top_up=lost.id, amount=500)
    await house.until_quiet()
    sim.advance(seconds=3_600)
    refund = await house.rails.refunds.request(key=house.key(), owner=ADA, top_up=paid.id, amount=1_000)
    await house.until_quiet()
    states = {one.id: one.state for one in await house.refunds()}
    assert (states[failing.id], states[refund.id]) == (RefundState.FAILED, RefundState.FINAL)
    assert await house.at_provider() == house.by_provider()

    sources = [(await house.again(one)).source for one in (paid, lost)]
    made = [sim.tell("/disputes", provider=name, payment=one, amount=2_000) for one in sources]
    await house.until_quiet()
    for one, won in zip(made, (True, False), strict=True):
        sim.tell(f"/disputes/{one['id']}", provider=name, won=won)
    sim.advance(seconds=3_601)
    await house.until_quiet()
    ended = {one.source: one.state for one in await house.rails.disputes.list_all()}
    assert [ended[one["id"]] for one in made] == [DisputeState.WON, DisputeState.LOST]
    assert await house.balance(user_account(ADA, "USD")) == 17_000 - 1_000 - 2_000
    assert await house.at_provider() == house.by_provider()

    sim.tell("/settlements", provider=name, everything=True)
    sim.advance(seconds=3_601)
    await house.until_quiet()
    [settlement] = await house.rails.settlements.list_all()
    assert (settlement.differences, settlement.unexplained) == (0, 0)
    assert await house.at_provider() == house.by_provider() == 0
    assert set(house.refused) <= {RefusalReason.TOO_OLD}, "the clock was put on before they were taken"


@pytest.mark.parametrize("house", ["square"], indirect=True)
async def test_a_refund_at_the_providers_pages_with_the_id_of_one_that_is_done_is_another_one(house: House):
    made = await house.top_up()
    ours = await house.rails.refunds.request(key=house.key(), owner=ADA, top_up=made.id, amount=4_000)
    await house.until_quiet()
    square = house.rails.rails.get("square")
    assert isinstance(square, SquareRail)
    await square._sdk.refunds.refund_payment(
        idempotency_key="by hand",
        amount_money={"amount": 1_000, "currency": "USD"},
        payment_id=str(made.source),
        reason=ours.id,
    )
    await house.until_quiet()
    house.sim.advance(seconds=60)
    await house.until_quiet()
    found = sorted((one.origin, one.amount, one.state) for one in await house.refunds())
    assert found == [("provider", 1_000, RefundState.FINAL), ("user", 4_000, RefundState.FINAL)]
    assert await house.balance(user_account(ADA, "USD")) == 5_000


@pytest.mark.parametrize("house", ["square"], indirect=True)
@pytest.mark.parametrize("end", ["complete", "cancel"])
async def test_a_part_whose_amount_was_lowered_and_that_then_ended_at_square_is_no_other_payment(
    house: House, end: str
):
    sim = house.sim
    told: dict[str, Any] = {"owner": ADA, "rail": "square", "asset": "USD", "amount": 10_000, "method": GOOD["square"]}
    made = await house.rails.top_ups.request(key=house.key(), capturing=Capturing.MANUAL, **told)
    sim.tell("/switches", provider="square", kind=Fault.ERROR_BEFORE, method="POST", path="complete$")
    await house.rails.top_ups.capture(key=house.key(), owner=ADA, top_up=made.id, amount=4_000)
    payment = sim.house.square.store.payments[str(made.source)]
    assert (payment["status"], payment["_amount"]) == ("APPROVED", 4_000)
    if end == "complete":
        payment["approved_money"] = payment["amount_money"]  # reauthorised for the part alone
    else:
        sim.advance(days=7)
    await house.until_quiet()
    ended = await house.again(made)
    state, captured = (TopUpState.FINAL, 4_000) if end == "complete" else (TopUpState.CANCELLED, 0)
    assert (ended.state, ended.captured) == (state, captured)
    assert await house.balance(user_account(ADA, "USD")) == captured


async def _fees(house: House) -> int:
    return -await house.balance(house_account("rail-fees", "USD"))


@pytest.mark.parametrize("refused", [False, True])
async def test_what_the_provider_takes_from_our_bank_account_is_booked_by_the_banks_debit(
    house: House, database: Database, entropy: SeededEntropy, vault: Vault, refused: bool
):
    """More was disputed than paid since the last settlement, so the next one is negative."""
    sim, name = house.sim, house.name
    house.forget_others()
    paid = await house.top_up()
    await house.until_quiet()
    sim.tell("/settlements", provider=name, everything=True)
    await house.until_quiet()
    sim.tell("/disputes", provider=name, payment=(await house.again(paid)).source, amount=2_000)
    await house.until_quiet()
    owed = await house.at_provider()
    assert owed == house.by_provider() < -1_999
    if refused:
        sim.tell("/switches", provider=name, kind="settlement", outcome="failed")
    sim.tell("/settlements", provider=name, everything=True)
    await house.until_quiet()
    taken, first = await house.rails.settlements.list_all()
    assert (taken.amount, taken.differences, taken.unexplained) == (owed, 0, 0)
    on_its_way = house_account(f"in-transit:{name}:in", "USD")
    if refused:
        sim.advance(days=3)
        await house.until_quiet()
        assert (await house.rails.settlements.get(taken.id)).state == "failed"
        assert await house.at_provider() == house.by_provider() == owed
        assert await house.balance(on_its_way) == -first.amount
        return
    assert await house.at_provider() == house.by_provider() == 0
    assert await house.balance(on_its_way) == -first.amount - owed
    account = BankAccount(name="dollars", iban=IBAN, asset="USD")
    clock = sim.house.world.timeline
    bank = BankRail(database.engine(), house.ledger, clock=clock, entropy=entropy, accounts=[account], vault=vault)
    came = Entry(first.amount, f"{first.source} x", currency="USD")
    gone = Entry(-owed, f"{taken.source} y", side="DBIT", currency="USD")
    wrong = Entry(-owed, f"{taken.source} z", currency="USD")
    await bank.import_statement(camt053(came, gone, wrong, currency="USD"), filename="s.xml")
    (line,) = [one for one in await bank.lines() if one.remittance.endswith("z")]
    with pytest.raises(SettlementNotMatching, match="only money out"):
        await house.rails.settlements.match(key=house.key(), settlement=taken.id, line=line.id)
    (candidate,) = await house.rails.settlements.candidates(taken)
    assert await house.rails.settlements.step() == 2
    done = await house.rails.settlements.get(taken.id)
    assert (done.state, done.bank_line) == ("matched", candidate.id)
    assert (await bank.line(candidate.id)).state == "settled"
    assert await house.balance(on_its_way) == 0
    assert await house.balance(house_account("suspense", "USD")) == -owed
    assert await house.balance(house_account("bank:dollars", "USD")) == -first.amount
