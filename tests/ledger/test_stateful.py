"""Long random histories: both engines against the independent model, and in small against in large batches.

`make fuzz` runs the first for SECONDS, from SEED on, one book after the other. Every run prints its seed.
"""

import asyncio
import json
import os
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select, text

from base.clock import ManualClock
from base.entropy import SeededEntropy
from db.engine import tx
from db.tables import metadata
from ledger import known
from ledger.audit import audit
from ledger.commands import Command, Group
from ledger.memory import MemoryLedger
from ledger.outcomes import Kind, Outcome
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.service import PostgresLedger
from tests.ledger.crowd import THINGS
from tests.ledger.histories import ASSETS, OPENING, START, Asked, Writer, few_or_many
from tests.ledger.model import PlainBook, Told, told_by
from tests.support.postgres import Database, fresh_database

pytestmark = pytest.mark.slow

STEPS = 10_000
COMMANDS_A_STEP = 8
"""On average; a step has 1 to 200."""

STRETCH = 1_000
"""Steps after which all states are compared and the engine is stopped, and started again from what is stored."""

SECONDS = float(os.environ.get("SECONDS") or 0)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))

KEPT = ("ACCOUNTS_KEPT", "HOLDS_KEPT", "OUTCOMES_KEPT", "UNOPENED_KEPT")
USUAL = tuple(getattr(known, name) for name in KEPT)
FEW = (4, 4, 20, 2)
"""How much a process that soon forgets keeps of accounts, holds, outcomes, and names without an account."""


@dataclass(slots=True)
class Story:
    """What was said lately, to tell how it came to a disagreement."""

    seed: int
    step: int = 0
    said: deque[tuple[int, Command, Told]] = field(default_factory=lambda: deque(maxlen=400))
    kinds: Counter[tuple[str, R | None]] = field(default_factory=Counter)
    """Outcomes by kind of command and code; None where it was accepted."""

    def compare(self, asked: Asked, answers: Sequence[tuple[Outcome, ...]], who: str) -> None:
        """Every outcome is the predicted one."""
        for (group, told), outcomes in zip(asked, answers, strict=True):
            found = tuple(map(told_by, outcomes))
            if found != told:
                pytest.fail(self.told(group, told, found, who), pytrace=False)

    def note(self, asked: Asked) -> None:
        self.kinds.update((said.about[1], said.code) for _, told in asked for said in told)
        self.said.extend(
            (self.step, command, said)
            for group, told in asked
            for command, said in zip(group.commands, told, strict=True)
        )

    def told(self, group: Group, told: tuple[Told, ...], found: tuple[Told, ...], who: str) -> str:
        """Seed, step and command, what the model expects, what was found, and what concerns it of the time before."""
        place = next(i for i, (a, b) in enumerate(zip(told, found, strict=True)) if a != b)
        concerned = set().union(*(_names(c, *both) for c, *both in zip(group.commands, told, found, strict=True)))
        before = [f"  {step}: {c}\n     {said}" for step, c, said in self.said if _names(c, said) & concerned]
        return "\n".join(
            (
                f"seed {self.seed}, step {self.step}: {who} disagrees with the model",
                *(f"command:  {command}" for command in group.commands),
                f"riders:   {group.riders}",
                f"expected: {told[place]}",
                f"found:    {found[place]}",
                "what concerns it, of the time before (step: command, outcome):",
                *before[-12:],
            )
        )


def _names(command: Command, *told: Told) -> set[str]:
    """Ids and accounts that stand in a command and its outcome."""
    said = {command.id, getattr(command, "hold", ""), getattr(command, "entry", ""), getattr(command, "account", "")}
    said.update(side for p in getattr(command, "postings", ()) for side in (p.debit, p.credit, p.debit_rest or ""))
    said.update(side for one in told for line in one.lines for side in line[1:3])
    return said - {""}


@asynccontextmanager
async def open_book(database: Database, clock: ManualClock, **more: Any) -> AsyncIterator[PostgresLedger]:
    """The engine on this database, with its assets; stopped at the end."""
    ledger = PostgresLedger(database.engine(pool_size=4), clock=clock, **more)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    yield ledger
    await ledger.aclose()


async def make_things(database: Database) -> None:
    """The table that riders write."""
    async with tx(database.engine(owner=True, pool_size=1)) as connection:
        columns = "book text, id text, state text, PRIMARY KEY (book, id)"
        await connection.execute(text(f"CREATE TABLE {THINGS} ({columns})"))
        await connection.execute(text(f"GRANT SELECT, INSERT, UPDATE ON {THINGS} TO onebook_app"))


# A long history


@pytest.mark.timeout(600 + 2 * SECONDS)
@pytest.mark.long
def test_both_engines_do_what_the_model_predicts_for_ten_thousand_steps(postgres, monkeypatch):
    until, seed = time.monotonic() + SECONDS, SEED
    while True:
        print(f"SEED={seed}", end="", flush=True)
        asyncio.run(play(postgres, seed, monkeypatch))
        seed += 1
        if time.monotonic() >= until:
            break


async def play(postgres, seed: int, monkeypatch) -> None:
    """One history on a new book, from its first command to the audit."""
    chance, clock = random.Random(seed), ManualClock(START)
    writer, memory, story = Writer(chance, riders=True), MemoryLedger(clock), Story(seed)
    seen: Counter[str] = Counter()
    opening = [(OPENING, writer.book.submit(OPENING, START))]
    story.compare(opening, await memory.submit(OPENING), "the engine in memory")
    async with fresh_database(postgres) as database:
        await make_things(database)
        async with open_book(database, clock) as stored:
            story.compare(opening, await stored.submit(OPENING), "PostgreSQL")
        for start in range(0, STEPS, STRETCH):
            for name, size in zip(KEPT, chance.choice((USUAL, FEW)), strict=True):
                monkeypatch.setattr(known, name, size)
            async with open_book(database, clock) as stored:
                while story.step < start + STRETCH:
                    writer.let_time_pass()
                    clock.instant = writer.now
                    together = min(chance.choice((1, 1, 2, 4)), start + STRETCH - story.step)
                    steps = [writer.step(few_or_many(chance, average=COMMANDS_A_STEP)) for _ in range(together)]
                    await check(story, steps, memory, stored)
                seen += stored.decided + stored.batches
                assert seen["apart"] == 0, f"the database refused what had been decided, in the steps to {story.step}"
                await compare_states(stored, memory, writer.book)
        await compare_outcomes(stored, writer.book, chance)
        report = await audit(stored._engine, "main")
    assert report.disagreements == []
    assert {code for _, code in story.kinds} == {None, *R}, "a refusal never came about"
    assert {kind for kind, code in story.kinds if code is None} == set(Kind), "a command was never accepted"
    shares = {way: seen[way] / (seen["plain"] + seen["ordered"]) for way in ("plain", "ordered")}
    print(f": {report.commands} outcomes, {shares['plain']:.0%} decided plainly", flush=True)
    assert min(shares.values()) >= 0.2, f"one way of deciding was hardly taken: {seen}"
    assert min(seen["ahead"], seen["locked"]) > STEPS / 100, f"one way of writing was hardly taken: {seen}"


async def check(story: Story, steps: Sequence[Asked], memory: MemoryLedger, stored: PostgresLedger) -> None:
    """Submit steps one behind the other, without waiting for the one before where there is a database."""
    asked = [[group for group, _ in step] for step in steps]
    answers = await asyncio.gather(*(stored.submit(*groups) for groups in asked))
    for step, groups, from_postgres in zip(steps, asked, answers, strict=True):
        story.step += 1
        from_memory = await memory.submit(*groups)
        story.compare(step, from_memory, "the engine in memory")
        story.compare(step, from_postgres, "PostgreSQL")
        assert from_memory == from_postgres
        story.note(step)


# States


async def compare_states(stored: PostgresLedger, memory: MemoryLedger, book: PlainBook) -> None:
    """Accounts, holds, counters, reversals, freezes, rows and closed periods are the model's, in both engines."""
    assert await stored.accounts() == await memory.accounts()
    expected = state_of_model(book)
    for who, found in (("memory", state_of_memory(memory)), ("PostgreSQL", await state_of_postgres(stored))):
        for part, there in expected.items():
            names = there.keys() | found[part].keys()
            wrong = {n: (there.get(n), found[part].get(n)) for n in names if there.get(n) != found[part].get(n)}
            assert not wrong, f"{part} in {who}, expected and found: {dict(list(wrong.items())[:5])}"


def state_of_model(book: PlainBook) -> dict[str, dict[Any, Any]]:
    return {
        "accounts": {
            name: (*book.counters(name), book.caps.get(name, 0), not is_open) for name, is_open in book.is_open.items()
        },
        "holds": {
            name: (
                hold.state,
                hold.until,
                [(p.debit, p.credit, p.asset, p.amount, n) for p, n in zip(hold.postings, hold.left, strict=True)],
                [[charge.counter, str(charge.amount), str(charge.cap)] for charge in hold.charges],
            )
            for name, hold in book.holds.items()
        },
        "counters": dict(book.used),
        "reversals": dict(book.back),
        "freezes": {place: True for place, is_frozen in book.frozen.items() if is_frozen},
        "book": {"seq": book.seq, "booked_at": book.now, "closed_until": book.periods.get("closed")},
        "rows": {row["id"]: row for row in book.rows.values()},
    }


def state_of_memory(memory: MemoryLedger) -> dict[str, dict[Any, Any]]:
    state = memory.state
    ids = {outcome.seq: outcome.id for outcome in state.outcomes.values()}
    return {
        "accounts": {account.id: _counters(account) for account in state.accounts.values()},
        "holds": {
            hold.id: (
                hold.state,
                hold.expires_at,
                [(p.debit, p.credit, p.asset, p.amount, p.remaining) for p in hold.postings],
                [[charge.counter, str(charge.amount), str(charge.cap)] for charge in hold.charges],
            )
            for hold in state.holds.values()
        },
        "counters": dict(state.counters),
        "reversals": {(ids[seq], line): amount for (seq, line), amount in state.reversed.items()},
        "freezes": {f"{scope}:{target}": True for (scope, target), is_frozen in state.frozen.items() if is_frozen},
        "book": {"seq": state.seq, "booked_at": state.booked_at, "closed_until": state.closed_until},
        "rows": {row["id"]: row for row in memory.rows(THINGS)},
    }


def _counters(account: Any) -> tuple[object, ...]:
    posted = account.debits_posted, account.credits_posted
    return (*posted, account.debits_pending, account.credits_pending, account.credit_line, account.closed)


HOLDS = """
SELECT c.id, h.posting, h.state, h.expires_at, d.name, e.name, d.asset, h.amount, h.remaining, h.charges
  FROM ledger_holds h
  JOIN ledger_commands c ON c.book = h.book AND c.seq = h.hold
  JOIN ledger_accounts d ON d.book = h.book AND d.account = h.debit
  JOIN ledger_accounts e ON e.book = h.book AND e.account = h.credit
 ORDER BY h.hold, h.posting
"""
REVERSALS = """
SELECT c.id, r.line, sum(r.amount)
  FROM ledger_reversals r JOIN ledger_commands c ON c.book = r.book AND c.seq = r.entry GROUP BY c.id, r.line
"""


async def state_of_postgres(stored: PostgresLedger) -> dict[str, dict[Any, Any]]:
    holds: dict[str, Any] = {}
    async with tx(stored._engine) as connection:

        async def rows(question: str) -> Iterable[Any]:
            return (await connection.execute(text(question))).all()

        for name, posting, state, until, debit, credit, asset, amount, left, charges in await rows(HOLDS):
            if posting == 0:
                holds[name] = (state, until, [], json.loads(charges or "[]"))
            holds[name][2].append((debit, credit, asset, int(amount), int(left)))
        [book] = await rows("SELECT seq, booked_at, closed_until FROM ledger_books")
        counters = {counter: int(used) for counter, used in await rows("SELECT counter, used FROM ledger_counters")}
        reversals = {(name, line): int(amount) for name, line, amount in await rows(REVERSALS)}
        things = {row.id: dict(row._mapping) for row in await rows(f"SELECT book, id, state FROM {THINGS}")}
    return {
        "accounts": {account.id: _counters(account) for account in await stored.accounts()},
        "holds": holds,
        "counters": counters,
        "reversals": reversals,
        "freezes": {f"{scope}:{target}": True for scope, target in await stored.freezes()},
        "book": dict(book._mapping),
        "rows": things,
    }


async def compare_outcomes(stored: PostgresLedger, book: PlainBook, chance: random.Random) -> None:
    """What was decided is read back as it was told."""
    ids = chance.sample(sorted(book.heard), 3_000)
    found = {outcome.id: told_by(outcome) for outcome in await stored.outcomes(*ids)}
    assert found == {name: book.heard[name][2] for name in ids}


# Small and large batches

LARGE = 200


@pytest.mark.timeout(300)
async def test_a_history_in_batches_of_1_and_of_200_is_the_same_book(postgres):
    print(f"SEED={SEED}")
    writer = Writer(random.Random(SEED))
    writer.book.submit(OPENING, START)
    history = []
    for _ in range(15):
        writer.let_time_pass()
        history.append((writer.now, [group for group, _ in writer.step(LARGE)]))
    small = [(now, [group]) for now, groups in history for group in groups]
    books = []
    for batches in (small, history):
        clock = ManualClock(START)
        memory = MemoryLedger(clock)
        async with fresh_database(postgres) as database:
            async with open_book(database, clock, entropy=SeededEntropy(1)) as stored:
                outcomes = [await submit(clock, [(START, [OPENING]), *batches], ledger) for ledger in (memory, stored)]
                assert min(stored.decided["plain"], stored.decided["ordered"]) >= 0.2 * stored.decided.total()
                assert stored.batches["apart"] == 0
            books.append((outcomes, state_of_memory(memory), await tables(database)))
            assert (await audit(stored._engine, "main")).disagreements == []
    (small_outcomes, *small_states), (large_outcomes, *large_states) = books
    assert small_outcomes[0] == small_outcomes[1] == large_outcomes[0] == large_outcomes[1]
    assert small_states == large_states


async def submit(clock: ManualClock, batches, ledger) -> list[tuple[Outcome, ...]]:
    told = []
    for now, groups in batches:
        clock.instant = now
        told += await ledger.submit(*groups)
    return told


async def tables(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the book's tables, leaves and salts included."""
    stored = {}
    async with tx(database.engine(pool_size=1)) as connection:
        for name, table in metadata.tables.items():
            if name.startswith("ledger_"):
                rows = await connection.execute(select(table))
                stored[name] = sorted((tuple(row) for row in rows), key=repr)
    return stored
