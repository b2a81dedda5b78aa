"""Any history of top-ups, refunds, disputes and settlements, whatever goes wrong between us and the provider: once
nothing goes wrong any more, all comes to rest, and the book is the provider's to the cent.

The users' balances are predicted by `provider_truth`, which adds up the provider's own objects and knows nothing of
ours. A tariff is in force all the time: what counts in limits must be what is live. SECONDS plays histories for so
long, SEED says which (`make fuzz-rails`).
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from base.errors import OnebookError
from db.server import Running
from fiat.rails.booking import provider_account
from fiat.rails.dispute_states import DisputeState
from fiat.rails.protocol import Capability, Capturing
from fiat.rails.records import WebhookState
from fiat.rails.refund_states import RefundState
from fiat.rails.top_up_states import ENDED, TopUpState
from ledger.accounts import house_account, user_account
from ledger.owing import receivable_account
from ledger.state import HoldState
from railsim.switches import Fault, Mishap
from tariff import limits
from tariff.limits import Period
from tariff.schedule import Sum
from tests.fiat.rail_world import make_older
from tests.rails.any_house import PAGE, PATIENT, USD, USERS, AnyHouse, any_house
from tests.rails.conftest import Sim, fresh_sim
from tests.rails.counting import TOTALS
from tests.rails.provider_truth import open_disputes, payable, truth_of
from tests.rails.schemas import Checker, folder

SECONDS = float(os.environ.get("SECONDS", "0"))
"""Histories are played for so long, on each provider; else a few."""

SEED = int(os.environ.get("SEED", "0")) or secrets.randbits(32)
FEW, MANY = int(os.environ.get("EXAMPLES", "3")), 20
"""Histories of one seed."""

HOUR, DAY = 3_600, 86_400
REST_SECONDS = (1, 300, HOUR + 1, HOUR + 1, HOUR + 1, *[12 * HOUR] * 6, DAY, DAY)
"""How time passes until all must rest: by then who never paid was given up, and what was to fail has failed."""

METHODS = {
    "stripe": {
        "good": "pm_card_visa",
        "declined": "pm_card_chargeDeclined",
        "delayed": "pm_card_authenticationRequired",
        "comes_back": "pm_card_refundFail",
    },
    "square": {"good": "cnon:card-nonce-ok", "declined": "cnon:card-nonce-declined"},
}
"""What pays. Where a provider has no such method the good one is taken; PayPal has none, its payer approves."""

STEPS = 6
WHO, NUMBER, AMOUNT = st.integers(0, 1), st.integers(0, 9), st.integers(1, 5_000)
RANDOM = st.randoms(use_true_random=False)
SOON = st.sampled_from([600, 2 * HOUR])
ACTS = st.one_of(
    st.tuples(
        st.just("top_up"),
        WHO,
        st.sampled_from(["good", "good", "declined", "delayed", "comes_back", "manual", "manual"]),
        st.integers(45, 5_000),
    ),
    st.tuples(st.just("pay"), NUMBER, st.booleans()),
    st.tuples(st.just("capture"), NUMBER, AMOUNT | st.none()),
    st.tuples(st.just("cancel"), NUMBER),
    st.tuples(st.just("older"), NUMBER),
    st.tuples(st.just("refund"), NUMBER, st.integers(1, 2_000), st.booleans()),
    st.tuples(st.just("refund"), NUMBER, st.none(), st.booleans()),
    st.tuples(st.just("refunds_end"), st.sampled_from(["failed", "pending"]), SOON),
    st.tuples(st.just("settlements_end"), st.sampled_from(["failed", "returned", "pending"]), SOON),
    st.tuples(st.just("dispute"), NUMBER, AMOUNT | st.none()),
    st.tuples(st.just("decide"), NUMBER, st.booleans()),
    st.tuples(st.just("spend"), WHO, AMOUNT),
    st.tuples(st.just("settle"), st.booleans()),
    st.tuples(
        st.just("fault"),
        st.sampled_from([kind.value for kind in Fault if kind is not Fault.LATENCY]),
        st.sampled_from(["POST", "GET", None]),
        st.integers(0, 2),
        st.integers(1, 3),
    ),
    st.tuples(
        st.just("webhooks"),
        st.sampled_from([kind.value for kind in Mishap if kind is not Mishap.SLOW]),
        st.integers(1, 3),
    ),
    st.tuples(st.just("deliver"), RANDOM, st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.3])),
    st.tuples(st.just("step"), st.integers(0, STEPS - 1)),
    st.tuples(
        st.just("work"), st.integers(1, 4_000), st.permutations(range(STEPS)), st.sampled_from([False, False, True])
    ),
)


class History:
    """Plays acts. What is refused with one of our errors is refused; everything else would be a bug."""

    def __init__(self, house: AnyHouse) -> None:
        self.house, self.sim = house, house.sim

    async def play(self, act: tuple[Any, ...]) -> None:
        try:
            await getattr(self, f"do_{act[0]}")(*act[1:])
        except OnebookError as refusal:
            if act[0] in ("step", "work"):
                raise
            note(f"{act[0]}: {refusal.code}")

    async def some(self, number, *states):
        found = [one for one in await self.house.top_ups() if one.state in states]
        return found[number % len(found)] if found else None

    async def do_top_up(self, who, kind, amount):
        name = self.house.name
        methods = METHODS.get(name, {})
        made = await self.house.rails.top_ups.request(
            key=self.house.key(USERS[who]),
            owner=USERS[who],
            rail=name,
            asset="USD",
            amount=amount,
            method=methods.get(kind, methods.get("good")),
            capturing=Capturing.MANUAL if kind == "manual" else Capturing.AUTOMATIC,
            return_url="https://us.example/back",
        )
        if name == "paypal" and kind in ("good", "manual") and made.source is not None:
            self.house.ask("/customers/acts", act="approve", id=made.source)

    async def do_pay(self, number, is_slow):
        found, name = payable(self.sim.house, self.house.name), self.house.name
        if name == "paypal" and is_slow:
            self.house.mishap(kind="charge", outcome="pending", seconds=2 * HOUR)
        if found:
            act = "approve" if name == "paypal" else "authenticate"
            self.house.ask("/customers/acts", act=act, id=found[number % len(found)])

    async def do_capture(self, number, amount):
        if (found := await self.some(number, TopUpState.AUTHORISED)) is not None:
            amount = None if amount is None else min(amount, found.amount)
            key = self.house.key(found.owner)
            await self.house.rails.top_ups.capture(key=key, owner=found.owner, top_up=found.id, amount=amount)

    async def do_cancel(self, number):
        if (found := await self.some(number, *(set(TopUpState) - ENDED))) is not None:
            await self.house.rails.top_ups.cancel(key=self.house.key(found.owner), owner=found.owner, top_up=found.id)

    async def do_older(self, number):
        """One that an older version asked for."""
        found = [one for one in await self.house.top_ups() if one.held]
        if found and number % 4 == 0:
            await make_older(self.house.engine, self.house.ledger, found[number % len(found)])

    async def do_refund(self, number, amount, by_the_house):
        if (found := await self.some(number, TopUpState.FINAL)) is None:
            return
        told = {"key": self.house.key(found.owner), "top_up": found.id, "amount": amount}
        if by_the_house:
            await self.house.rails.refunds.by_the_house(**told)
        else:
            await self.house.rails.refunds.request(owner=found.owner, **told)

    async def do_refunds_end(self, outcome, seconds):
        self.house.mishap(kind="refund", outcome=outcome, seconds=seconds)

    async def do_settlements_end(self, outcome, seconds):
        self.house.mishap(kind="settlement", outcome=outcome, seconds=seconds)

    async def do_dispute(self, number, amount):
        paid = truth_of(self.sim.house, self.house.name).paid
        if paid:
            one = paid[number % len(paid)]
            self.house.ask("/disputes", payment=one.source, amount=0 if amount is None else min(amount, one.amount))

    async def do_decide(self, number, won):
        found = open_disputes(self.sim.house, self.house.name)
        if found:
            self.house.ask(f"/disputes/{found[number % len(found)]}", won=won)

    async def do_spend(self, who, amount):
        await self.house.spend(USERS[who], USERS[1 - who], amount)

    async def do_settle(self, everything):
        if Capability.SETTLEMENT in self.house.rails.rails.get(self.house.name).capabilities:
            self.house.ask("/settlements", everything=everything)

    async def do_fault(self, kind, method, skip, times):
        self.house.mishap(kind=kind, method=method, skip=skip, times=times)

    async def do_webhooks(self, kind, times):
        seconds = {"seconds": HOUR} if kind == Mishap.LATE else {}
        self.house.mishap(kind=kind, times=times, **seconds)

    async def do_deliver(self, random, lost, twice):
        await self.house.deliver(random, lost=lost, twice=twice)

    async def do_step(self, number):
        await self.house.work([number])

    async def do_work(self, seconds, order, together):
        self.sim.advance(seconds=seconds)
        await self.house.work(order, together=together)

    async def rest(self) -> None:
        """Nothing goes wrong any more, the processes are started anew, and time passes."""
        self.sim.tell("/switches", "DELETE")
        await self.house.stop()
        self.house.start(PATIENT)
        for seconds in REST_SECONDS:
            self.sim.tell("/webhooks/release", provider=self.house.name)
            await self.house.deliver(Random(seconds))
            await self.house.work(range(STEPS))
            self.sim.advance(seconds=seconds)
        await self.house.work(range(STEPS))


async def check_rest(house: AnyHouse) -> None:
    """Nothing is left to do, and what can't end by itself says what it waits for."""
    for one in await house.top_ups():
        assert one.state in (*ENDED, TopUpState.AUTHORISED), one
        assert one.state is not TopUpState.FAILED or one.code, one
        assert one.state is not TopUpState.FINAL or one.fee is not None, one
        assert one.state is not TopUpState.AUTHORISED or (one.capture_amount is None and not one.cancelling), one
    for refund in await house.refunds():
        assert refund.state in (RefundState.FINAL, RefundState.FAILED), refund
        assert refund.state is not RefundState.FAILED or refund.code, refund
    assert await house.rails.inbox.list_all(state=WebhookState.WAITING) == []
    for user in USERS:
        account = await house.ledger.account(user_account(user, "USD"))
        authorised = sum(one.amount for one in await house.top_ups() if one.owner == user and one.held)
        assert account is None or (account.debits_pending, account.credits_pending) == (0, authorised)
    assert not sum(one.balance for one in await house.ledger.accounts(asset="USD"))


async def check_objects(house: AnyHouse) -> None:
    """Each object of the provider is one of ours, with the same amounts, and none of ours has none."""
    truth = truth_of(house.sim.house, house.name)
    top_ups = await house.top_ups()
    paid = Counter({one.reference: 0 for one in truth.paid})
    for one in truth.paid:
        paid[one.reference] += one.amount
    assert len(paid) == len(truth.paid), "a payer was charged twice for one order"
    assert paid == {one.id: one.captured for one in top_ups if one.state is TopUpState.FINAL}
    refunds = {one.source: one.amount for one in await house.refunds() if one.state is RefundState.FINAL}
    assert refunds == {source: amount for source, (_, amount) in truth.refunds.items()}
    given_back = Counter[str]()
    for refund in await house.refunds():
        given_back[refund.top_up] += refund.amount if refund.state is RefundState.FINAL else 0
    assert {one.id: one.refunded for one in top_ups if one.refunded} == {
        id: sum for id, sum in given_back.items() if sum
    }
    disputes = {one.source: one for one in await house.rails.disputes.list_all(limit=PAGE)}
    assert {id: one.withdrawn for id, one in disputes.items()} == {
        id: taken for id, (_, taken) in truth.disputes.items()
    }
    for id, how in truth.ended.items():
        ended = disputes[id].state in (DisputeState.WON, DisputeState.LOST)
        assert disputes[id].state.value == how if how != "open" else not ended, disputes[id]


async def check_money(house: AnyHouse) -> None:
    """What the book says is what the provider has, and what its objects leave to each user."""
    truth = truth_of(house.sim.house, house.name)
    assert -await house.balance(provider_account(house.name, "USD")) == truth.balance
    assert -await house.balance(house_account(f"in-transit:{house.name}:in", "USD")) == truth.on_its_way
    assert await house.balance(house_account("suspense", "USD")) == 0
    fees = await fees_due(house)
    assert await house.balance(house_account("fees", "USD")) == sum(fees.values())
    has = {user: await house.balance(user_account(user, "USD")) for user in USERS}
    owes = {user: -await house.balance(receivable_account(user, "USD")) for user in USERS}
    owner_of = {one.id: one.owner for one in await house.top_ups()}
    due = truth.of_users(owner_of, house.moved)
    assert {user: has[user] - owes[user] for user in USERS} == {user: due[user] - fees[user] for user in USERS}
    assert all(has[user] >= 0 and owes[user] >= 0 and not (has[user] and owes[user]) for user in USERS)


async def fees_due(house: AnyHouse) -> Counter[str]:
    """The house's fees by user: 0.07 and 1.3 % of what was asked for, rounded up; of it as much as was paid."""
    paid = Counter[str]()
    for one in truth_of(house.sim.house, house.name).paid:
        paid[one.reference] += one.amount
    fees = Counter[str](dict.fromkeys(USERS, 0))
    for top_up in await house.top_ups():
        full = 7 - -top_up.amount * 13 // 1_000
        fees[top_up.owner] += full * paid[top_up.id] // top_up.amount if top_up.hold is not None else 0
    return fees


async def check_limits(house: AnyHouse) -> Counter[HoldState]:
    """What counts on each day and in each month is what was asked for then and wasn't given up. How holds stand."""
    live, seen = Counter[str](), Counter[HoldState]()
    for top_up in await house.top_ups():
        if top_up.hold is None:
            continue
        hold = await house.ledger.hold(top_up.hold)
        assert hold is not None
        seen[hold.state] += 1
        match top_up.state:
            case TopUpState.FAILED | TopUpState.CANCELLED:
                assert hold.state is HoldState.VOIDED
            case TopUpState.AUTHORISED:
                assert hold.state is HoldState.OPEN
            case _:
                assert hold.state is not HoldState.OPEN, "voided: it was taken after it had ended"
        for period in (Period.DAY, Period.MONTH):
            name = limits.counter(top_up.owner, Sum.TOP_UP, USD, period, top_up.created_at)
            live[name] += 0 if hold.state is HoldState.VOIDED else top_up.amount
    assert await house.ledger.counters(*live) == live
    return seen


def check_exchanges(sim: Sim) -> None:
    """All that was said fits the provider's own files. PayPal's declare no 429, which it gives all the same."""
    for got in sim.inbox.arrived:
        sim.checker.webhook(got.provider, got.json())
    assert [one for one in sim.checker.problems if "429" not in one] == []


async def played(house: AnyHouse, acts: list[tuple[Any, ...]]) -> None:
    """Play a history to its end. One that fails is told at once: to shorten it takes a while."""
    try:
        history = History(house)
        await history.do_top_up(0, "good", 3_000)
        for act in acts:
            await history.play(act)
        await history.rest()
        await check_rest(house)
        await check_objects(house)
        await check_money(house)
        await check_limits(house)
    except Exception as problem:
        print(f"\n{house.name} fails by {type(problem).__name__}: {str(problem)[:500]}\nacts={acts}", flush=True)
        raise


def rounds() -> Iterator[int]:
    """Seeds, one after the other."""
    until, number = time.monotonic() + SECONDS, 0
    while not number or time.monotonic() < until:
        yield SEED + number
        number += 1


@pytest.mark.timeout(SECONDS + 900)
@pytest.mark.parametrize("name", ["stripe", "square", "paypal"])
@pytest.mark.long
def test_whatever_goes_wrong_the_book_is_the_providers_in_the_end(name: str, postgres: Running):
    folder()
    seen = Counter[str]()

    async def one(acts: list[tuple[Any, ...]]) -> None:
        with fresh_sim(Checker()) as sim:
            async with any_house(sim, name, postgres) as house:
                await played(house, acts)
                seen.update(f"top-up {top_up.state}" for top_up in await house.top_ups())
                seen.update({f"hold {state}": count for state, count in (await check_limits(house)).items()})
                seen.update(f"refund {refund.state}" for refund in await house.refunds())
                seen.update(f"dispute {dispute.state}" for dispute in await house.rails.disputes.list_all())
            check_exchanges(sim)
            TOTALS.update(sim.checker.counts)
        seen["histories"] += 1

    for number in rounds():
        print(f"\nSEED={number}: {dict(sorted(seen.items()))}", flush=True)

        @seed(number)
        @settings(
            max_examples=MANY if SECONDS else FEW,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(acts=st.lists(ACTS, min_size=10, max_size=40))
        def play(acts: list[tuple[Any, ...]]) -> None:
            asyncio.run(one(acts))

        play()
    print(f"{name}: {dict(sorted(seen.items()))}")
    assert seen["histories"] >= FEW
    assert seen["top-up final"] >= FEW
