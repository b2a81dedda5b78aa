"""A book that a crowd has written, replayed by seq through the pure core: is it what everybody was told?

`check` asserts that seq has no gap and booked_at never falls; that every command, decided by the core alone in the
order of the book, comes out as it's stored; that every answer which anybody heard is that outcome; that what was heard
before another thing was said stands before it in the book; and that accounts, riders' rows and audit agree.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import SystemClock
from db.engine import tx
from db.tables import metadata
from ledger.audit import audit
from ledger.canonical import command_content
from ledger.commands import Group
from ledger.core import apply
from ledger.memory import BEGINNING
from ledger.service import PostgresLedger
from ledger.state import State
from ledger.tables import commands
from tests.ledger.crowd import FUNDING, OPENING, THINGS, Crowd
from tests.ledger.spender import events, plain

Told = Mapping[str, Any]


@dataclass(slots=True)
class Found:
    """What a replay saw, for tests to ask whether anything was shown at all."""

    decided: int = 0
    answers: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    conflicts: int = 0


async def check(app: AsyncEngine, crowd: Crowd, records: Iterable[Path]) -> Found:
    """Assert all of it."""
    found = Found()
    book = PostgresLedger(app, clock=SystemClock())
    state, stored = await _replay(app, book, crowd, found)
    for path in records:
        _compare_answers(events(path), stored, crowd, found)
    _check_real_time([event for path in records for event in events(path)], stored)
    assert await book.accounts() == [account for _, account in sorted(state.accounts.items())]
    async with tx(app) as connection:
        rows = {row.id: dict(row._mapping) for row in await connection.execute(select(metadata.tables[THINGS]))}
    assert rows == {row["id"]: dict(row) for row in state.rows.values() if row is not None}
    report = await audit(app, book.book)
    assert report.clean, report.disagreements
    return found


async def _replay(app: AsyncEngine, book: PostgresLedger, crowd: Crowd, found: Found) -> tuple[State, dict[str, Told]]:
    async with tx(app) as connection:
        columns = commands.c.seq, commands.c.id, commands.c.content, commands.c.booked_at
        rows = (await connection.execute(select(*columns).order_by(commands.c.seq))).all()
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    instants = [row.booked_at for row in rows]
    assert instants == sorted(instants)
    stored = {}
    for start in range(0, len(rows), 500):
        for outcome in await book.outcomes(*(row.id for row in rows[start : start + 500])):
            stored[outcome.id] = outcome
    state = State(seq=0, booked_at=BEGINNING)
    at = 0
    while at < len(rows):
        group = _group_of(crowd, rows[at].id, rows[at].content)
        layer, [outcomes] = apply(state, rows[at].booked_at, [group])
        state.absorb(layer)
        for outcome, row in zip(outcomes, rows[at : at + len(outcomes)], strict=True):
            assert outcome == stored[row.id], f"seq {row.seq}\ncore:   {outcome}\nstored: {stored[row.id]}"
            found.kinds[outcome.kind] += 1
            found.refused[outcome.refusal.code if outcome.refusal else "accepted"] += 1
        at += len(outcomes)
    found.decided = len(rows)
    return state, {name: plain(outcome) for name, outcome in stored.items()}


def _group_of(crowd: Crowd, command: str, content: bytes) -> Group:
    """What was asked under an id; where all may say it differently, what fits the stored content."""
    if command == OPENING.commands[0].id:
        return OPENING
    if command == FUNDING.commands[0].id:
        return FUNDING
    names = (f"{command}/0", f"{command}/1") if command.startswith("s") else (command,)
    fitting = [g for g in map(crowd.group, names) if command_content(g.commands[0]) == content]
    assert len(fitting) == 1, f"{command} is in the book, and nobody could have meant it"
    return fitting[0]


def _compare_answers(record: list[dict[str, Any]], stored: Mapping[str, Told], crowd: Crowd, found: Found) -> None:
    """Every answer is the stored outcome, or a conflict with it; and whatever was said was answered in the end."""
    said: set[str] = set()
    heard: set[str] = set()
    for event in record:
        said.update(event.get("sent", ()))
        found.batches.update(event.get("batches", {}))
        if "code" in event:
            found.failures[event["code"]] += 1
        if "heard" not in event:
            continue
        heard.add(event["name"])
        for command, told in zip(crowd.group(event["name"]).commands, event["heard"], strict=True):
            found.answers += 1
            found.replays += told["replayed"]
            first = stored[command.id]
            if told["refusal"] and told["refusal"]["code"] == "id_conflict":
                found.conflicts += 1
                assert told["content"] != first["content"]
                assert told["refusal"]["facts"]["first_seq"] == first["seq"]
            else:
                assert {**told, "replayed": False} == first
    assert said == heard, f"never answered: {sorted(said - heard)}"


def _check_real_time(record: list[dict[str, Any]], stored: Mapping[str, Told]) -> None:
    """What was answered before something was first said has the lower seq."""
    said: dict[str, float] = {}
    heard: dict[str, float] = {}
    for event in sorted(record, key=lambda event: event["at"]):
        for name in event.get("sent", ()):
            said.setdefault(name.partition("/")[0], event["at"])
        if "heard" in event:
            heard.setdefault(event["name"].partition("/")[0], event["at"])
    moments = [(at, 1, stored[name]["seq"]) for name, at in said.items()]
    moments += [(at, 0, stored[name]["seq"]) for name, at in heard.items()]
    highest = 0
    for _, is_said, seq in sorted(moments):
        if is_said:
            assert seq > highest, f"seq {seq} was said after seq {highest} had been answered"
        else:
            highest = max(highest, seq)
