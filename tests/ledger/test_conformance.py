"""One suite for both engines: a state machine asks each all that a book can be asked; an independent model predicts.

Every rule sends one group to the memory engine, the PostgreSQL engine and the model; all three must say the same. Its
histories are Hypothesis' own: short, apart from those of `tests.ledger.histories`, and made smaller where one fails.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import UNSET

from base.clock import ManualClock
from ledger.commands import (
    BankEvidence,
    Bound,
    Charge,
    CloseAccount,
    ClosePeriod,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
    alone,
)
from ledger.engine import Ledger
from ledger.memory import MemoryLedger
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS, ASSETS, NOBODY, OPENING, RECEIVABLE, START
from tests.ledger.model import PlainBook, told_by
from tests.support.postgres import fresh_database

evidence = st.one_of(st.none(), st.just(BankEvidence("main", "S1", 1)))
names = st.integers(1, 30).map(lambda number: f"c{number}")
some_accounts = st.sampled_from((*ACCOUNTS, NOBODY))
parts = st.one_of(
    st.none(), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=2).map(tuple)
)
charges = st.lists(
    st.builds(Charge, st.sampled_from(["limit:1", "limit:2"]), st.integers(0, 3), st.just(6)), max_size=2
).map(tuple)
bounds_of = st.builds(Bound, some_accounts, st.none() | st.integers(-5, 5), st.none() | st.integers(0, 12))
bounds = st.just(UNSET) | st.lists(bounds_of, min_size=1, max_size=2).map(tuple)
debtors = st.lists(st.sampled_from((*ACCOUNTS, NOBODY)), max_size=1).map(tuple)
ago = st.one_of(st.none(), st.none(), st.integers(-1, 5))
"""Seconds before now, or None for now."""


@st.composite
def sound_postings(draw: st.DrawFn, *, rests: bool) -> Posting:
    asset = draw(st.sampled_from(["USD", "USD", "USD", "ETH"]))
    debit, credit = draw(st.permutations([name for name in ACCOUNTS if name.endswith(asset)]))[:2]
    has_rest = rests and asset == "USD" and RECEIVABLE not in (debit, credit) and draw(st.integers(0, 3)) == 0
    rest = {draw(st.sampled_from(["debit_rest", "credit_rest"])): RECEIVABLE} if has_rest else {}
    return Posting(debit=debit, credit=credit, asset=asset, amount=draw(st.integers(1, 12)), **rest)


wild_postings = st.builds(
    Posting,
    debit=some_accounts,
    credit=some_accounts,
    asset=st.sampled_from(["USD", "ETH"]),
    amount=st.one_of(st.integers(1, 12), st.sampled_from([0, -1, 2**53, 2**128, 2**256 - 1, 2**256, 2**255])),
)


def postings(*, rests: bool) -> st.SearchStrategy[tuple[Posting, ...]]:
    sound = sound_postings(rests=rests)
    return st.lists(st.one_of(sound, sound, sound, sound, wild_postings), max_size=3).map(tuple)


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines over which the machine runs: made anew for each example's clock, and asked by `run`."""

    make: Callable[[ManualClock], list[Ledger]]
    run: Callable[..., Any]


class Book(RuleBasedStateMachine):
    """A book near its limits; each example has a fresh one."""

    def __init__(self, engines: Engines) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.run = engines.run
        self.engines = engines.make(self.clock)
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

    @rule(
        entry=postings(rests=True),
        evidence=evidence,
        covered=st.booleans(),
        charges=charges,
        ago=ago,
        debtors=debtors,
        bounds=bounds,
    )
    def post(self, entry, evidence, covered, charges, ago, debtors, bounds) -> None:
        more = {"effective_at": self.before(ago), "evidence": evidence, "owing_nothing": debtors, "bounds": bounds}
        self.submit(alone(Post(id=self.name(), postings=entry, covered=covered, charges=charges, **more)))

    @rule(entry=postings(rests=False), seconds=st.one_of(st.none(), st.integers(0, 5)), charges=charges)
    def hold(self, entry, seconds, charges) -> None:
        expires_at = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
        self.submit(alone(Hold(id=self.name(), postings=entry, expires_at=expires_at, charges=charges)))

    @rule(hold=names, amounts=parts, close=st.booleans(), debtors=debtors)
    def settle(self, hold, amounts, close, debtors) -> None:
        settle = Settle(id=self.name(), hold=hold, amounts=amounts, close=close, owing_nothing=debtors)
        self.submit(alone(settle))

    @rule(hold=names)
    def void(self, hold) -> None:
        self.submit(alone(Void(id=self.name(), hold=hold)))

    @rule(hold=names)
    def expire(self, hold) -> None:
        self.submit(alone(Expire(id=self.name(), hold=hold)))

    @rule(entry=names, amounts=parts, ago=ago)
    def reverse(self, entry, amounts, ago) -> None:
        self.submit(alone(Reverse(id=self.name(), entry=entry, amounts=amounts, effective_at=self.before(ago))))

    @rule(account=some_accounts, cap=st.integers(0, 10))
    def set_credit_line(self, account, cap) -> None:
        self.submit(alone(SetCreditLine(id=self.name(), account=account, cap=cap)))

    @rule(
        lifted=st.booleans(),
        place=st.sampled_from(
            [(FreezeScope.OWNER, "usr_b"), (FreezeScope.ASSET, "ETH"), (FreezeScope.ACCOUNT, ACCOUNTS[0])]
        ),
    )
    def freeze(self, lifted, place) -> None:
        scope, target = place
        self.submit(alone((Unfreeze if lifted else Freeze)(id=self.name(), scope=scope, target=target)))

    @rule(account=some_accounts)
    def close_and_open_again(self, account) -> None:
        closing = CloseAccount(id=self.name(), account=account)
        self.submit(alone(closing))
        self.submit(alone(OpenAccount(id=self.name(), account=account)))

    @rule(seconds=st.integers(-1, 4))
    def close_period(self, seconds) -> None:
        self.submit(alone(ClosePeriod(id=self.name(), until=self.clock.now() - timedelta(seconds=seconds))))

    @rule(fact=st.text(max_size=5), charges=st.just(UNSET) | charges)
    def record(self, fact, charges) -> None:
        self.submit(alone(Record(id=self.name(), facts={"fact": fact}, subject="of it", charges=charges)))

    @rule(first=postings(rests=True), hold=names)
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
    def every_engine_has_the_models_accounts(self) -> None:
        for engine in self.engines:
            for account in self.run(engine.accounts()):
                found = account.debits_posted, account.credits_posted, account.debits_pending, account.credits_pending
                assert found == self.model.counters(account.id), account.id
                assert (account.credit_line, account.closed) == (
                    self.model.caps.get(account.id, 0),
                    not self.model.is_open[account.id],
                )

    def submit(self, group: Group) -> None:
        predicted = self.model.submit(group, self.clock.now())
        answers = [self.run(engine.submit(group)) for engine in self.engines]
        assert all(answer == answers[0] for answer in answers)
        assert tuple(map(told_by, answers[0][0])) == predicted
        self.sent.append(group)

    def before(self, seconds: int | None):
        return None if seconds is None else self.clock.now() - timedelta(seconds=seconds)

    def name(self) -> str:
        self.count += 1
        return f"c{self.count}"


def machine(engines: Engines) -> type[Book]:
    class BookOnEngines(Book):
        def __init__(self) -> None:
            super().__init__(engines)

    return BookOnEngines


def machine_settings(*, examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def test_the_memory_engine_does_what_the_model_predicts():
    with asyncio.Runner() as runner:
        engines = Engines(lambda clock: [MemoryLedger(clock)], runner.run)
        run_state_machine_as_test(machine(engines), settings=machine_settings(examples=40, steps=40))


@pytest.mark.slow
def test_both_engines_do_what_the_model_predicts(postgres):
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        fixture = fresh_database(postgres)
        engine = runner.run(fixture.__aenter__()).engine()

        def make(clock: ManualClock) -> list[Ledger]:
            book = f"book{next(numbers)}"
            return [MemoryLedger(clock, book), PostgresLedger(engine, clock=clock, book=book)]

        engines = Engines(make, runner.run)
        run_state_machine_as_test(machine(engines), settings=machine_settings(examples=15, steps=30))
        runner.run(fixture.__aexit__(None, None, None))
