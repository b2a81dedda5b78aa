"""Closed-loop callers: each sends its next submission when the last one is answered, all in this process.

The submissions are made before the clock starts, since making ids and hashes is the API's work and not the book's; the
callers themselves, their futures and the answers' objects are measured with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice

import asyncpg

from base.collector import calm_collector
from bench.frame import median, percentile
from bench.machine import usage
from bench.stage import Place
from ledger.commands import Group
from ledger.outcomes import Outcome

Submit = Callable[[Sequence[Group]], Awaitable[list[tuple[Outcome, ...]]]]
"""Sends groups and returns each one's outcomes once they are durable."""


@dataclass(frozen=True, slots=True)
class Run:
    """What callers got in `seconds`. An entry is a command that was accepted, for the first time, and booked lines."""

    seconds: float
    submissions: int
    entries: int
    refused: int
    repeated: int
    latencies_ms: list[float] = field(repr=False)

    @property
    def entries_per_s(self) -> float:
        return self.entries / self.seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the results: a run with what it cost. Cores are those kept busy; commands_per_batch is the mean."""

    entries_per_s: float
    p50_ms: float
    p99_ms: float
    wal_bytes_per_entry: float
    python_cores: float
    postgres_cores: float
    commands_per_batch: float

    @staticmethod
    def middle(rows: Sequence["Row"]) -> "Row":
        """Each field's median."""
        return Row(*(median([getattr(row, item.name) for row in rows]) for item in fields(Row)))


async def drive(submit: Submit, groups: Iterator[Group], *, callers: int, seconds: float, bulk: int = 1) -> Run:
    """Let so many callers send `bulk` groups at a time until the time is over or the groups are."""
    latencies: list[float] = []
    entries = refused = repeated = submissions = 0
    start = time.perf_counter()
    end = start + seconds

    async def call() -> None:
        nonlocal entries, refused, repeated, submissions
        while chunk := list(islice(groups, bulk)):
            sent = time.perf_counter()
            if sent > end:
                return
            answers = await submit(chunk)
            latencies.append((time.perf_counter() - sent) * 1000)
            submissions += len(chunk)
            for outcomes in answers:
                for outcome in outcomes:
                    if outcome.replayed:
                        repeated += 1
                    elif outcome.refusal is None:
                        entries += 1
                    else:
                        refused += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    return Run(time.perf_counter() - start, submissions, entries, refused, repeated, latencies)


async def measure(
    submit: Submit, groups: Iterator[Group], place: Place, *, callers: int, seconds: float, bulk: int = 1
) -> tuple[Row, Run, int]:
    """Drive callers and note what it cost: the row, the run, and the first tx id after its start."""
    connection = await asyncpg.connect(place.admin_url)
    try:
        calm_collector()
        before, used = await _mark(connection), usage(place.postmaster)
        run = await drive(submit, groups, callers=callers, seconds=seconds, bulk=bulk)
        python, postgres = usage(place.postmaster).since(used)
        after = await _mark(connection)
        commands, batches = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT xmin::text) FROM ledger_commands WHERE seq > $1 AND seq <= $2",
            before.seq,
            after.seq,
        )
    finally:
        await connection.close()
    row = Row(
        entries_per_s=run.entries_per_s,
        p50_ms=percentile(run.latencies_ms, 0.5),
        p99_ms=percentile(run.latencies_ms, 0.99),
        wal_bytes_per_entry=(after.wal_bytes - before.wal_bytes) / run.entries,
        python_cores=python,
        postgres_cores=postgres,
        commands_per_batch=commands / max(1, batches),
    )
    return row, run, before.xid


@dataclass(frozen=True, slots=True)
class _Mark:
    seq: int
    wal_bytes: int
    xid: int


async def _mark(connection: asyncpg.Connection) -> _Mark:
    row = await connection.fetchrow(
        "SELECT (SELECT max(seq) FROM ledger_commands) AS seq,"
        " pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal,"
        " pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid"
    )
    return _Mark(row["seq"] or 0, row["wal"], row["xid"])
