"""One suite for both engines: a state machine asks each all that a book can be asked; an independent model predicts.

Every rule sends one group to the memory engine, the PostgreSQL engine and the model; all three must say the same.
"""

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from base.clock import ManualClock
from ledger.commands import Expire, Freeze, FreezeScope, Group, Hold, Post, SetCreditLine, Settle, Unfreeze, Void, alone
from ledger.engine import Ledger
from ledger.memory import MemoryLedger
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS, ASSETS, OPENING, START, evidence, postings
from tests.ledger.model import PlainBook
from tests.support.postgres import fresh_database

holds = st.integers(1, 30).map(lambda number: f"c{number}")
amounts = st.one_of(
    st.none(), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=2).map(tuple)
)


class Book(RuleBasedStateMachine):
    """A book near its limits. `make_engines` and `run` are given by the tests below; each example has a fresh book."""

    make_engines: Callable[[ManualClock], list[Ledger]]
    run: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.engines = self.make_engines(self.clock)
        self.model = PlainBook()
        self.count = 0
        self.sent: list[Group] = []

    @initialize()
    def open_the_accounts(self) -> None:
        for engine in self.engines:
            if isinstance(engine, PostgresLedger):
                self.run(engine.create_book())
            for asset in ASSETS:
                self.run(engine.register_asset(asset))
        self.submit(OPENING)

    @rule(entry=postings(rests=True), evidence=evidence, covered=st.booleans())
    def post(self, entry, evidence, covered) -> None:
        self.submit(alone(Post(id=self.name(), postings=entry, evidence=evidence, covered=covered)))

    @rule(entry=postings(rests=False), seconds=st.one_of(st.none(), st.integers(0, 5)))
    def hold(self, entry, seconds) -> None:
        expires_at = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
        self.submit(alone(Hold(id=self.name(), postings=entry, expires_at=expires_at)))

    @rule(hold=holds, amounts=amounts, close=st.booleans())
    def settle(self, hold, amounts, close) -> None:
        self.submit(alone(Settle(id=self.name(), hold=hold, amounts=amounts, close=close)))

    @rule(hold=holds)
    def void(self, hold) -> None:
        self.submit(alone(Void(id=self.name(), hold=hold)))

    @rule(hold=holds)
    def expire(self, hold) -> None:
        self.submit(alone(Expire(id=self.name(), hold=hold)))

    @rule(account=st.sampled_from(ACCOUNTS), cap=st.integers(0, 10))
    def set_credit_line(self, account, cap) -> None:
        self.submit(alone(SetCreditLine(id=self.name(), account=account, cap=cap)))

    @rule(lifted=st.booleans())
    def freeze(self, lifted) -> None:
        kind = Unfreeze if lifted else Freeze
        self.submit(alone(kind(id=self.name(), scope=FreezeScope.OWNER, target="usr_b")))

    @rule(first=postings(rests=True), hold=holds)
    def post_and_settle_together(self, first, hold) -> None:
        self.submit(Group((Post(id=self.name(), postings=first), Settle(id=self.name(), hold=hold, close=True))))

    @rule(data=st.data())
    def repeat(self, data) -> None:
        self.submit(data.draw(st.sampled_from(self.sent)))

    @rule(data=st.data(), entry=postings(rests=True))
    def reuse_an_id(self, data, entry) -> None:
        used = data.draw(st.sampled_from(self.sent)).commands[0].id
        self.submit(alone(Post(id=used, postings=entry)))

    @rule(seconds=st.integers(-1, 4))
    def let_time_pass(self, seconds) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @invariant()
    def every_engine_has_the_models_balances(self) -> None:
        for engine in self.engines:
            accounts = {account.id: account for account in self.run(engine.accounts())}
            for name in accounts:
                found = accounts[name]
                assert (found.balance, found.debits_pending) == (self.model.balance(name), self.model.held(name))

    def submit(self, group: Group) -> None:
        predicted = self.model.submit(group, self.clock.now())
        answers = [self.run(engine.submit(group)) for engine in self.engines]
        assert all(answer == answers[0] for answer in answers)
        assert [outcome.refusal and outcome.refusal.code for outcome in answers[0][0]] == predicted
        self.sent.append(group)

    def name(self) -> str:
        self.count += 1
        return f"c{self.count}"


def on_engines(make: Callable[[ManualClock], list[Ledger]], runner: asyncio.Runner) -> type[Book]:
    """The state machine over the engines that `make` gives for a clock."""
    return type("BookOnEngines", (Book,), {"make_engines": staticmethod(make), "run": staticmethod(runner.run)})


def machine_settings(*, examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def test_the_memory_engine_does_what_the_model_predicts():
    with asyncio.Runner() as runner:
        machine = on_engines(lambda clock: [MemoryLedger(clock)], runner)
        run_state_machine_as_test(machine, settings=machine_settings(examples=40, steps=40))


@pytest.mark.slow
def test_both_engines_do_what_the_model_predicts(postgres):
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        fixture = fresh_database(postgres)
        engine = runner.run(fixture.__aenter__()).engine()

        def engines(clock):
            book = f"book{next(numbers)}"
            return [MemoryLedger(clock, book), PostgresLedger(engine, clock=clock, book=book)]

        machine = on_engines(engines, runner)
        run_state_machine_as_test(machine, settings=machine_settings(examples=15, steps=30))
        runner.run(fixture.__aexit__(None, None, None))
