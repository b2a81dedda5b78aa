"""Running an audit: one snapshot of the database, ranges of the journal checked side by side, and the comparison.

The database only hands rows over, by COPY; all that they must add up to is computed here. Where a fingerprint says that
a table with no order of its own disagrees, a query names the rows.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import URL, select
from sqlalchemy.ext.asyncio import AsyncEngine

from base.entropy import Entropy, SystemEntropy
from db.engine import driver_of, tx
from ledger.audit.crew import crew_size, run_crew
from ledger.audit.fingerprints import SECRET_BYTES
from ledger.audit.ranges import RangeJob, RangeResult
from ledger.audit.report import AuditReport
from ledger.audit.rows import IN_ORDER
from ledger.audit.seals import compare_seals
from ledger.audit.since import compare_since
from ledger.audit.states import compare_assets, compare_states, fingerprint_ids
from ledger.audit.whole import Whole
from ledger.audit.worker import Setup, check_range, end, load_names
from ledger.copying import SESSION
from ledger.errors import BookCorrupt
from ledger.money import Asset
from ledger.sealing import load_all_seals
from ledger.seals import SignedSeal
from ledger.tables import books

SMALL = 50_000
"""Commands up to which one process does it all."""

RANGE_MAX = 100_000
"""Commands in a range, about: small enough that the last ones don't keep one core waiting for long."""

CHUNK_ALONE = 4_000
"""Commands read at a time where other tasks share the process."""

Progress = Callable[[int, int], None]
"""Told how many commands of how many are checked."""


async def audit(
    engine: AsyncEngine,
    book: str,
    *,
    since_last_seal: bool = False,
    outside: Sequence[SignedSeal] = (),
    trusted: Collection[bytes] = (),
    assets: Mapping[str, Asset] | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    entropy: Entropy | None = None,
) -> AuditReport:
    """Audit one book as it stands at one instant. Takes no lock; what is written meanwhile isn't looked at.

    `outside` are seals that were kept where nobody could rewrite them; `trusted` the public keys that may have signed
    seals (none given: any). `assets` are those that the installation was configured with. `since_last_seal` reads the
    journal only behind the last seal and starts from the balances that stand there. Raises BookCorrupt if there is no
    such book.
    """
    secret = (entropy or SystemEntropy()).draw(SECRET_BYTES)
    async with tx(engine) as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        raw = await driver_of(connection)
        await raw.execute(
            f"{SESSION}; {IN_ORDER}; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        row = (await connection.execute(select(books.c.number, books.c.seq).where(books.c.book == book))).first()
        if row is None:
            raise BookCorrupt(f"there is no book {book!r}: create it with `onebook init`")
        seals = await load_all_seals(connection, book)
        after = seals[-1].seal.last_seq if since_last_seal and seals else 0
        whole = Whole(book=book, after=after, knows_all=after == 0)
        jobs = _plan(book, row.number, after=after, head=row.seq, seals=seals, secret=secret)
        if processes is None:
            processes = 1 if row.seq - after <= SMALL else crew_size()
        report = AuditReport(book, after_seq=after, seals=len(seals), outside_seals=len(outside))
        ranges: list[RangeResult] = []
        take = _telling(ranges.append if after else whole.add, row.seq - after, progress)
        if processes > 1:
            snapshot = await raw.fetchval("SELECT pg_export_snapshot()")
            setup = Setup(_arguments(engine.url), snapshot, row.number)
            crew = asyncio.create_task(run_crew(jobs, setup, processes=processes, take=take))
            try:
                ids = 0 if after else await fingerprint_ids(raw, row.number, secret=secret)
                await crew
            finally:
                await end(crew)
        else:
            names = await load_names(raw, row.number)
            for job in jobs:
                take(await check_range(raw, job, names, chunk=CHUNK_ALONE))
            ids = 0 if after else await fingerprint_ids(raw, row.number, secret=secret)
        if after:
            report.accounts = await compare_since(raw, whole, row.number, ranges, secret=secret)
        else:
            report.accounts = await compare_states(raw, whole, row.number, ids=ids, secret=secret)
        compare_seals(whole, seals, trusted=trusted, outside=outside)
        if assets is not None:
            await compare_assets(connection, whole, assets)
    return _told(report, whole, seals)


def _told(report: AuditReport, whole: Whole, seals: Sequence[SignedSeal]) -> AuditReport:
    report.commands, report.lines, report.erased = whole.commands, whole.lines, whole.erased
    report.through_seq = whole.through
    report.holds = len(whole.holds.open) + whole.holds.ended
    report.sealed_seq = seals[-1].seal.last_seq if seals else 0
    report.disagreements = whole.findings.sorted()
    return report


def _telling(
    take: Callable[[RangeResult], None], total: int, progress: Progress | None
) -> Callable[[RangeResult], None]:
    """`take`, and the progress told after each range."""
    done = 0

    def told(result: RangeResult) -> None:
        nonlocal done
        take(result)
        done += result.commands
        if progress is not None:
            progress(done, total)

    return told


def _plan(
    book: str, number: int, *, after: int, head: int, seals: Sequence[SignedSeal], secret: bytes
) -> list[RangeJob]:
    """Ranges that end where a seal ends or, behind the last seal, anywhere."""
    cuts = sorted({signed.seal.last_seq for signed in seals if after < signed.seal.last_seq <= head})
    bounds = [after]
    for cut in cuts:
        if cut - bounds[-1] >= RANGE_MAX // 2 or cut == cuts[-1]:
            bounds.append(cut)
    bounds += range(bounds[-1] + RANGE_MAX, head, RANGE_MAX)
    if head > bounds[-1] or len(bounds) == 1:
        bounds.append(head)
    return [
        RangeJob(
            book=book,
            number=number,
            after=first,
            through=last,
            cuts=tuple(cut for cut in cuts if first < cut <= last),
            secret=secret,
            is_first=first == 0,
            is_last=last == bounds[-1],
            keeps_keys=after > 0,
        )
        for first, last in pairwise(bounds)
    ]


def _arguments(url: URL) -> dict[str, Any]:
    """What `asyncpg.connect` needs for this address."""
    query = dict(url.query)
    asked: dict[str, Any] = {
        "host": query.pop("host", None) or url.host,
        "port": query.pop("port", None) or url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
        "ssl": query.pop("ssl", None),
    }
    return {name: value for name, value in asked.items() if value is not None}
