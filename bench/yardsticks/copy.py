"""Yardstick COPY: exactly the rows that the engine wrote, by one binary COPY per table, into empty tables.

A row that the engine changed often (an account, a hold) is copied once, as it is in the end; `xmin` tells which rows
those are. The tables are those of a fresh migration: the same partitions, indexes, checks, keys and triggers. Only the
copying is timed, with its one commit. It decides nothing: nothing that keeps a book can be faster.
"""

import io
import time
from dataclasses import dataclass

import asyncpg

from bench.stage import Place, Stage

TABLES = (
    *("ledger_accounts", "ledger_ids", "ledger_commands", "ledger_lines", "ledger_holds", "ledger_metadata"),
    *("ledger_evidence", "ledger_backdated", "ledger_reversals", "ledger_counters"),
)
"""What an engine writes."""

_BEFORE = ("ledger_books", "ledger_assets")
"""What the rows refer to: copied before the clock starts."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and how long it took."""

    rows: int
    seconds: float


async def copy_again(stage: Stage, place: Place, *, since: int) -> Copied:
    """Copy what was written in `place` by tx `since` and later ones into a blank database, and time it."""
    source = await asyncpg.connect(place.admin_url)
    try:
        async with stage.blank() as blank:
            target = await asyncpg.connect(blank.admin_url)
            try:
                for table in _BEFORE:
                    await _put(target, table, await _take(source, table))
                await target.fetchval("SELECT ledger_extend(number) FROM ledger_books")
                await target.execute("ANALYZE")
                written = f"WHERE xmin::text::bigint >= {since}"
                taken = {table: await _take(source, table, written) for table in TABLES}
                return await _timed(target, taken)
            finally:
                await target.close()
    finally:
        await source.close()


async def _timed(target: asyncpg.Connection, taken: dict[str, bytes]) -> Copied:
    start = time.perf_counter()
    rows = 0
    async with target.transaction():
        for table, binary in taken.items():
            rows += await _put(target, table, binary)
    return Copied(rows, time.perf_counter() - start)


async def _take(source: asyncpg.Connection, table: str, where: str = "") -> bytes:
    """A table's rows in PostgreSQL's binary COPY format."""
    stream = io.BytesIO()
    query = f"SELECT * FROM {table} {where}"  # noqa: S608 - our own tables' names
    await source.copy_from_query(query, output=stream, format="binary")
    return stream.getvalue()


async def _put(target: asyncpg.Connection, table: str, binary: bytes) -> int:
    """Copy rows in; returns how many. An empty table costs no statement."""
    if len(binary) <= _EMPTY_BYTES:
        return 0
    done = await target.copy_to_table(table, source=io.BytesIO(binary), format="binary")
    return int(done.rpartition(" ")[2])


_EMPTY_BYTES = 21
"""Header and trailer of the binary format without a row."""
