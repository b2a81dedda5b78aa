"""Random histories of top-ups, refunds and disputes over a bad line: at the end the book is the provider's.

What users must have is predicted by a model that knows neither: it adds up what was done at the provider.
"""

import asyncio
import os
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from base.errors import OnebookError
from fiat.rails.protocol import Capturing
from fiat.rails.top_up_states import ENDED, TopUpState
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.fiat.rail_world import ADA, BEN, World, make_world
from tests.support.postgres import fresh_database

EXAMPLES = int(os.environ.get("EXAMPLES", "6"))
"""Histories; more of them to look for what a few don't show."""

METHODS = ("tok_visa", "tok_declined", "tok_delayed", "tok_delayed_failed", "tok_late_fee", "tok_refund_fails")
ACTS = st.one_of(
    st.tuples(st.just("top_up"), st.sampled_from(METHODS), st.integers(26, 5_000)),
    st.tuples(st.just("manual"), st.integers(1, 3_000), st.integers(26, 5_000)),
    st.tuples(st.just("open"), st.booleans(), st.integers(26, 5_000)),
    st.tuples(st.just("pay"), st.integers(0, 9)),
    st.tuples(st.just("capture"), st.integers(0, 9), st.integers(1, 5_000)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("refund"), st.integers(0, 9), st.integers(1, 3_000)),
    st.tuples(st.just("refund_outside"), st.integers(0, 9), st.integers(1, 3_000)),
    st.tuples(st.just("refund_by_house"), st.integers(0, 9), st.integers(1, 3_000)),
    st.tuples(st.just("dispute"), st.integers(0, 9)),
    st.tuples(st.just("decide"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("spend"), st.integers(1, 4_000)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("faults"), st.lists(st.sampled_from(["before", "after", "limited", ""]), max_size=4)),
    st.tuples(st.just("deliver"), st.randoms(use_true_random=False)),
    st.tuples(st.just("work"), st.integers(0, 4_000)),
)


class History:
    """Plays acts. Whatever is refused with one of our errors is refused; everything else would be a bug."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.spent = 0
        self.decided: set[str] = set()

    async def play(self, act: tuple[Any, ...]) -> None:
        try:
            await getattr(self, f"do_{act[0]}")(*act[1:])
        except OnebookError as refusal:
            note(f"{act[0]}: {refusal.code}")

    async def some(self, number: int, *states: TopUpState):
        found = await self.world.rails.top_ups.list_for(ADA, limit=100)
        fit = [top_up for top_up in found if top_up.state in states]
        return fit[number % len(fit)] if fit else None

    async def documents(self, kind: str) -> list[dict[str, Any]]:
        async with self.world.record.session() as session:
            return await session.all(kind)

    async def do_top_up(self, method, amount):
        await self.world.top_up(amount, method)

    async def do_manual(self, _, amount):
        await self.world.top_up(amount, "tok_visa", capturing=Capturing.MANUAL)

    async def do_open(self, on_page, amount):
        await self.world.top_up(amount, None, return_url="https://shop.example/" if on_page else None)

    async def do_pay(self, number):
        waiting = [paid for paid in await self.documents("payment") if paid["status"] == "requires_action"]
        if waiting:
            await self.world.acts.pay(waiting[number % len(waiting)]["id"], "tok_visa")

    async def do_capture(self, number, amount):
        if (found := await self.some(number, TopUpState.AUTHORISED)) is not None:
            top_ups = self.world.rails.top_ups
            await top_ups.capture(key=self.world.key(), owner=ADA, top_up=found.id, amount=min(amount, found.amount))

    async def do_cancel(self, number):
        if (found := await self.some(number, *(set(TopUpState) - ENDED))) is not None:
            await self.world.rails.top_ups.cancel(key=self.world.key(), owner=ADA, top_up=found.id)

    async def do_refund(self, number, amount):
        if (found := await self.some(number, TopUpState.FINAL)) is not None:
            await self.world.rails.refunds.request(key=self.world.key(), owner=ADA, top_up=found.id, amount=amount)

    async def do_refund_by_house(self, number, amount):
        if (found := await self.some(number, TopUpState.FINAL)) is not None:
            await self.world.rails.refunds.by_the_house(key=self.world.key(), top_up=found.id, amount=amount)

    async def captured(self, number):
        paid = [one for one in await self.documents("payment") if one["captured"]]
        return paid[number % len(paid)] if paid else None

    async def do_refund_outside(self, number, amount):
        if (paid := await self.captured(number)) is not None:
            await self.world.acts.refund(paid["id"], amount)

    async def do_dispute(self, number):
        disputed = {one["payment"] for one in await self.documents("dispute")}
        paid = await self.captured(number)
        if paid is not None and paid["id"] not in disputed:
            await self.world.acts.dispute(paid["id"])

    async def do_decide(self, number, won):
        found = await self.documents("dispute")
        if found:
            await self.world.acts.decide(found[number % len(found)]["id"], won=won)

    async def do_spend(self, amount):
        await self.world.spend(amount)
        self.spent += amount

    async def do_settle(self):
        await self.world.acts.settle("EUR")

    async def do_faults(self, faults):
        self.world.line.faults.extend(faults)

    async def do_deliver(self, random):
        """Some of the events, in any order, some of them twice; the others are lost for good."""
        async with self.world.record.session() as session:
            events = await session.unsent(limit=100)
            await session.sent(events)
        told = [event for event in events if random.random() < 0.8]
        told += [event for event in [*told, *self.world.sent] if random.random() < 0.3]
        random.shuffle(told)
        self.world.sent += events
        for event in told:
            await self.world.receive(event)

    async def do_work(self, seconds):
        self.world.clock.advance(timedelta(seconds=seconds))
        await self.world.acts.tick()
        await self.world.work()


async def check(history: History) -> None:
    world = history.world
    await world.until_quiet()
    payments = await history.documents("payment")
    refunds = [one for one in await history.documents("refund") if one["status"] != "failed"]
    disputes = await history.documents("dispute")
    captured = sum(paid["captured"] for paid in payments)
    gone = sum(one["amount"] for one in refunds) + sum(one["withdrawn"] for one in disputes)
    fees = sum(paid["fee"] for paid in payments if paid["captured"]) + sum(one["fee"] for one in disputes)

    assert await world.at_provider() == await world.acts.balance("EUR")
    assert await world.has() - await world.owes() == captured - gone - history.spent
    assert await world.has() >= 0
    assert not (await world.has() and await world.owes())
    assert await world.fees() == fees
    assert await world.has(BEN) == history.spent
    top_ups = await world.rails.top_ups.list_for(ADA, limit=100)
    assert {top_up.state for top_up in top_ups} <= {*ENDED, TopUpState.AUTHORISED}
    assert sum(top_up.captured for top_up in top_ups) == captured
    assert len({paid["reference"] for paid in payments}) == len(payments) <= len(top_ups)
    account = await world.ledger.account(f"{ADA}/wallet/EUR")
    assert account is None or account.debits_pending == 0  # nothing is held for ever
    accounts = await world.ledger.accounts(asset="EUR")
    assert sum(one.balance for one in accounts) == 0


@pytest.mark.timeout(600)
def test_at_the_end_the_book_is_the_providers_to_the_cent(postgres, clock, entropy):
    runs = count()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(acts=st.lists(ACTS, min_size=8, max_size=30))
    def play(acts):
        next(runs)
        asyncio.run(one(acts))

    async def one(acts):
        async with fresh_database(postgres) as database:
            ledger = PostgresLedger(database.engine(), clock=clock, entropy=entropy)
            await ledger.create_book()
            await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
            world = make_world(database.engine(), ledger, clock, entropy)
            history = History(world)
            await history.do_top_up("tok_visa", 3_000)
            for act in acts:
                await history.play(act)
            await check(history)
            await world.rails.inbox.aclose()
            await ledger.aclose()

    play()
    assert next(runs) >= EXAMPLES
