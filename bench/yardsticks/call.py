"""Yardstick "call": every command is one function call in a tx of its own (`call.sql`), over a pool of connections.

A group of two is one tx with two calls.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from base.clock import SystemClock
from bench.stage import Place
from ledger.canonical import command_content, id_key, kind_of
from ledger.commands import Command, Group, Hold, Post, Settle, Void
from ledger.outcomes import Outcome, Refusal, Refused

POOL = 16
"""Connections, as many as the ORM's."""

_FUNCTIONS = Path(__file__).with_name("call.sql")

_ENTER = (
    "SELECT seq, refusal, replayed FROM bench_enter($1, $2, $3, $4, $5, $6, $7, $8::text[], $9::text[], $10::text[])"
)
_END = "SELECT seq, refusal, replayed FROM bench_end($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

_ATTEMPTS = 10
"""Times that a group of two is sent, should it meet a deadlock."""


class Calls:
    """Submits groups by function calls."""

    def __init__(self, pool: asyncpg.Pool, *, book: int, name: str) -> None:
        self._pool = pool
        self._book = book
        self._name = name
        self._clock = SystemClock()

    async def submit(self, groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
        return [await self._group(group) for group in groups]

    async def _group(self, group: Group) -> tuple[Outcome, ...]:
        async with self._pool.acquire() as connection:
            if len(group.commands) == 1:
                return (await self._call(connection, group.commands[0], group.content),)
            for _ in range(_ATTEMPTS):
                try:
                    async with connection.transaction():
                        return tuple([await self._call(connection, each, group.content) for each in group.commands])
                except asyncpg.DeadlockDetectedError:
                    continue
            raise RuntimeError("a group met a deadlock every time")

    async def _call(self, connection: Any, command: Command, content: bytes | None) -> Outcome:
        row = await connection.fetchrow(*self._statement(command, content or command_content(command)))
        refusal = None if row["refusal"] is None else Refusal(Refused(row["refusal"]), {})
        return Outcome(
            id=command.id,
            seq=row["seq"],
            booked_at=self._clock.now(),
            kind=kind_of(command),
            subject=command.subject,
            content=content or b"",
            refusal=refusal,
            replayed=row["replayed"],
        )

    def _statement(self, command: Command, content: bytes) -> tuple[object, ...]:
        said = (
            self._book,
            self._name,
            kind_of(command).value,
            command.id,
            id_key(command.id),
            command.subject,
            content,
        )
        match command:
            case Post() | Hold():
                debits = [posting.debit for posting in command.postings]
                credits_ = [posting.credit for posting in command.postings]
                return (_ENTER, *said, debits, credits_, [str(posting.amount) for posting in command.postings])
            case Settle():
                part = None if command.amounts is None else str(command.amounts[0][1])
                return (_END, *said, id_key(command.hold), part, command.close)
            case Void():
                return (_END, *said, id_key(command.hold), None, True)
            case _:
                raise TypeError(f"the mix has no {type(command).__name__}")


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Calls]:
    """The yardstick in this place's book, its functions made."""
    connection = await asyncpg.connect(place.admin_url)
    try:
        await connection.execute(_FUNCTIONS.read_text(encoding="utf-8"))
        number, name, seq = await connection.fetchrow("SELECT number, book, seq FROM ledger_books")
        await connection.fetchval("SELECT setval('bench_seq', $1)", seq)
    finally:
        await connection.close()
    settings = {"timezone": "UTC", "plan_cache_mode": "force_generic_plan"}
    async with asyncpg.create_pool(place.admin_url, min_size=POOL, max_size=POOL, server_settings=settings) as pool:
        yield Calls(pool, book=number, name=name)
