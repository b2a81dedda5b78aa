"""How fast a book is audited: everything that its lines claim recomputed outside the database, seals included."""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from base.clock import SystemClock
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, median, number
from bench.loader import fill
from bench.machine import describe_machine, describe_server
from bench.mix import Mix, Pattern
from bench.stage import BOOK, FOUNDED, Ago, Stage, opened, prepare, server
from ledger.audit import audit
from ledger.audit.crew import crew_size
from ledger.sealing import SealBook
from ledger.seals import make_seal_key

SIZES = (250_000, 1_000_000)
_QUICK_SIZES = (60_000, 120_000)
"""Commands of the smaller and the larger book."""

_ACCOUNTS = 10_000

_TARGET = 200_000.0


async def measure(options: Options, progress: Progress) -> Report:
    """Audit two books of the standard mix, in full and since the last seal."""
    figures: list[Figure] = []
    rates: list[float] = []
    with server("audit") as running:
        stage = await prepare(running, accounts=_ACCOUNTS, seed=options.seed, progress=progress)
        for commands in _QUICK_SIZES if options.quick else SIZES:
            rate, since, lines = await _audited(stage, commands, options, progress)
            rates.append(rate)
            progress.note(
                f"{commands:,} commands: {lines:,} postings, {rate:,.0f} a second; since the last seal {since:.2f} s"
            )
        figures += [
            Figure("audit_postings_per_s", rates[-1], "postings/s", _TARGET),
            Figure("audit_larger_over_smaller", rates[-1] / rates[0], "ratio"),
            Figure("audit_since_last_seal_s", since, "s", better=Better.LOWER),
            Figure("audit_postings", float(lines), "postings"),
        ]
        settings = {
            "postgresql": await describe_server(running.admin_url),
            "run": {"sizes": _QUICK_SIZES if options.quick else SIZES, "processes": crew_size(), "seed": options.seed},
        }
    for figure in figures:
        progress.note(f"{figure.name}: {number(figure.value)} {figure.unit}")
    return Report(area="audit", machine=describe_machine(), settings=settings, at=datetime.now(UTC), figures=figures)


async def _audited(stage: Stage, commands: int, options: Options, progress: Progress) -> tuple[float, float, int]:
    """Postings a second of a full audit, seconds of one since the last seal, and how many postings there are."""
    async with stage.book() as place:
        mix = Mix(
            stage.accounts,
            seed=options.seed,
            run="audit",
            clock=SystemClock(),
            pattern=Pattern.UNIFORM,
            resources=0,
            book=BOOK,
        )
        async with opened(stage.server, place.name, clock=Ago(FOUNDED / 2)) as past:
            await fill(past, mix, commands, progress)
        with tempfile.TemporaryDirectory() as folder:
            key = make_seal_key(Path(folder) / "seal.key")
            sealing = SealBook(
                place.engine, book=BOOK, key=key, folder=Path(folder), clock=SystemClock(), interval=timedelta(0)
            )
            while await sealing.step():
                pass
        full, since = [], []
        for _ in range(1 if options.quick else 3):
            began = time.perf_counter()
            report = await audit(place.engine, BOOK, trusted=(key.public,))
            full.append(report.lines / (time.perf_counter() - began))
            assert report.clean, report.disagreements[0]
            began = time.perf_counter()
            assert (await audit(place.engine, BOOK, since_last_seal=True)).clean
            since.append(time.perf_counter() - began)
        return median(full), median(since), report.lines
