"""Much stored history, quickly: the engine writes a stretch, and the database repeats it as often as it takes.

What is loaded is a consistent book that the audit finds clean. What only a fresh index makes fast is dropped meanwhile
and made again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg

from base.progress import Progress
from bench.mix import Mix
from bench.stage import Place
from ledger.commands import Group

_FUNCTIONS = Path(__file__).with_name("loader.sql")

STRETCH = 50_000
"""Submissions that the engine writes itself at most, to be repeated."""

_WRITERS = 2
"""Connections that repeat side by side."""

_CHUNK = 500

_SESSION = {"timezone": "UTC", "synchronous_commit": "off", "maintenance_work_mem": "512MB", "work_mem": "128MB"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was written to be repeated: commands in (first, last], and the time that it took in the book."""

    book: int
    first: int
    last: int
    interval: timedelta

    @property
    def commands(self) -> int:
        return self.last - self.first


async def fill(place: Place, mix: Mix, commands: int, progress: Progress) -> None:
    """Bring a book to so many commands, by repeating a stretch of the mix. Its clock must be far behind."""
    async with _connected(place) as connection:
        seq = await connection.fetchval("SELECT seq FROM ledger_books")
    wanted = min(STRETCH, max(1, (commands - seq) // 4))
    stretch = await write_stretch(place, [*mix.prime(), *mix.groups(wanted)], progress)
    await repeat(place, stretch, max(0, round((commands - stretch.last) / stretch.commands)), progress)


async def write_stretch(place: Place, groups: Sequence[Group], progress: Progress) -> Stretch:
    """Let the engine write these groups, which must refer to no hold of an earlier stretch."""
    async with _connected(place) as connection:
        book, first = await connection.fetchrow("SELECT number, seq FROM ledger_books")
        with progress.bar("writing a stretch", len(groups)) as advance:
            for begin in range(0, len(groups), _CHUNK):
                chunk = groups[begin : begin + _CHUNK]
                await place.ledger.submit(*chunk)
                advance(len(chunk))
        last, end = await connection.fetchrow("SELECT seq, booked_at FROM ledger_books")
        start = await connection.fetchval("SELECT booked_at FROM ledger_commands WHERE seq = $1", first + 1)
        await connection.execute(_FUNCTIONS.read_text(encoding="utf-8"))
        await connection.execute("SELECT bench_steps($1, $2)", book, first)
        await connection.execute("ANALYZE")
    return Stretch(book, first, last, end - start + timedelta(milliseconds=1))


async def repeat(place: Place, stretch: Stretch, times: int, progress: Progress) -> None:
    """Repeat a stretch so many times, and leave the book as if the engine had done it.

    Nobody else may use the book meanwhile, and who knew it before must look again.
    """
    async with _connected(place) as connection, _without_slow_indexes(connection):
        await _extend(connection, stretch, times)
        numbers = iter(range(1, times + 1))
        with progress.bar("storing commands", times * stretch.commands) as advance:

            async def write() -> None:
                async with _connected(place) as writer:
                    for nth in numbers:
                        advance(await writer.fetchval("SELECT bench_repeat($1, $2, $3, $4, $5)", *_args(stretch, nth)))

            await asyncio.gather(*(write() for _ in range(_WRITERS)))
        await connection.execute("SELECT bench_repeated($1, $2, $3, $4, $5)", *_args(stretch, times))
    async with _connected(place) as connection:
        progress.note("vacuum and analyze")
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")


def _args(stretch: Stretch, nth: int) -> tuple[object, ...]:
    return stretch.book, stretch.first, stretch.last, nth, stretch.interval


async def _extend(connection: asyncpg.Connection, stretch: Stretch, times: int) -> None:
    """Make every partition that the repetitions need, by pretending that the book had got there."""
    reached, end = stretch.last, stretch.last + stretch.commands * times
    while reached <= end:
        await connection.execute("UPDATE ledger_books SET seq = $2 WHERE number = $1", stretch.book, reached)
        reached = await connection.fetchval("SELECT ledger_extend($1)", stretch.book)
    await connection.execute("UPDATE ledger_books SET seq = $2 WHERE number = $1", stretch.book, stretch.last)


@asynccontextmanager
async def _without_slow_indexes(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Without the ids' key and the histories' indexes that are no key; all of them are made again at the end."""
    key = await connection.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pk_ledger_ids'"
    )
    indexes = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS made FROM pg_index"
        " WHERE indrelid IN ('ledger_commands'::regclass, 'ledger_lines'::regclass) AND NOT indisunique"
    )
    await connection.execute("ALTER TABLE ledger_ids DROP CONSTRAINT pk_ledger_ids")
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    yield
    await connection.execute(f"ALTER TABLE ledger_ids ADD CONSTRAINT pk_ledger_ids {key}")
    for _, made in indexes:
        await connection.execute(made.replace(" ON ONLY ", " ON "))


@asynccontextmanager
async def _connected(place: Place) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(place.admin_url, server_settings=_SESSION)
    try:
        yield connection
    finally:
        await connection.close()
