"""The area `ledger`: the engine under the standard mix, beside yardsticks that write the same rows.

An entry is a command that was accepted and booked lines; a group of two is two entries. Ratios are of measurements
taken in turn, each on a fresh clone of the same book.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime

from base.clock import SystemClock
from bench.callers import Row, drive
from bench.callers import measure as measure_callers
from bench.frame import Better, Figure, Options, Progress, Report
from bench.machine import describe_machine, describe_server
from bench.mix import ACCOUNTS, SHARES, Mix, Pattern
from bench.stage import BOOK, Place, Stage, prepare, server
from ledger.commands import Group
from ledger.outcomes import Outcome

CALLERS = (1, 16, 64, 256, 1024)

_QUICK_ACCOUNTS = 1_000

_EXPECTED = {1: 4_000, 16: 16_000}
_EXPECTED_MOST = 22_000
"""Submissions a second made ready, by callers; a row that uses them up ends early."""

_WARM_SECONDS = 0.5
"""How long callers call before the clock starts."""

UNITS = {
    "entries_per_s": ("entries/s", Better.HIGHER),
    "p50_ms": ("ms", Better.LOWER),
    "p99_ms": ("ms", Better.LOWER),
    "wal_bytes_per_entry": ("bytes", Better.LOWER),
    "python_cores": ("cores", Better.LOWER),
    "postgres_cores": ("cores", Better.LOWER),
    "commands_per_batch": ("commands", Better.HIGHER),
}

TARGETS = {"batcher64_entries_per_s": 12_000.0, "batcher64_p99_ms": 12.0}


async def measure(options: Options, progress: Progress) -> Report:
    """Measure the wanted rows on a server of their own."""
    accounts = _QUICK_ACCOUNTS if options.quick else ACCOUNTS
    with ExitStack() as stack:
        running = stack.enter_context(server("ledger"))
        stage = await prepare(running, accounts=accounts, seed=options.seed, progress=progress)
        bench = _Bench(stage, options, progress)
        await bench.batcher()
        settings = {
            "postgresql": await describe_server(running.admin_url),
            "mix": {kind.value: share for kind, share in SHARES.items()},
            "run": {"seconds": options.seconds, "seed": options.seed, "accounts": accounts, "quick": options.quick},
        }
    return Report(
        area="ledger",
        machine=describe_machine(),
        settings=settings,
        at=datetime.now(UTC),
        figures=bench.figures,
    )


class _Bench:
    """The rows, one method for each family of them."""

    def __init__(self, stage: Stage, options: Options, progress: Progress) -> None:
        self.figures: list[Figure] = []
        self._stage = stage
        self._options = options
        self._progress = progress
        self._run = 0

    async def batcher(self) -> None:
        """Uniform, by the number of callers."""
        for callers in CALLERS:
            if self._options.wants(name := f"batcher{callers}"):
                rows = [await self._fresh(callers=callers) for _ in range(self._options.repeats)]
                self._tell(name, Row.middle(rows))

    async def _fresh(
        self, *, callers: int, pattern: Pattern = Pattern.UNIFORM, resources: float = 0, bulk: int = 1
    ) -> Row:
        """One measurement of the engine on a fresh clone."""
        async with self._stage.book() as place:
            return await self._engine(place, callers=callers, pattern=pattern, resources=resources, bulk=bulk)

    async def _engine(
        self, place: Place, *, callers: int, pattern: Pattern = Pattern.UNIFORM, resources: float = 0, bulk: int = 1
    ) -> Row:
        mix = self._mix(pattern, resources)

        async def submit(groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
            return await place.ledger.submit(*groups)

        primed = mix.prime()
        for start in range(0, len(primed), 500):
            await submit(primed[start : start + 500])
        groups = self._made(mix, callers)
        await drive(submit, groups, callers=callers, seconds=min(_WARM_SECONDS, self._options.seconds), bulk=bulk)
        row, _ = await measure_callers(
            submit,
            groups,
            place,
            callers=callers,
            seconds=self._options.seconds,
            bulk=bulk,
        )
        return row

    def _mix(self, pattern: Pattern = Pattern.UNIFORM, resources: float = 0) -> Mix:
        self._run += 1
        return Mix(
            self._stage.accounts,
            seed=self._options.seed,
            run=str(self._run),
            clock=SystemClock(),
            pattern=pattern,
            resources=resources,
            book=BOOK,
        )

    def _made(self, mix: Mix, callers: int) -> Iterator[Group]:
        """Submissions for the warming and the measurement."""
        rate = _EXPECTED.get(callers, _EXPECTED_MOST)
        return iter(mix.groups(int(rate * (self._options.seconds + _WARM_SECONDS))))

    def _tell(self, name: str, row: Row) -> None:
        for field, value in asdict(row).items():
            unit, better = UNITS[field]
            figure = f"{name}_{field}"
            self.figures.append(Figure(figure, value, unit, TARGETS.get(figure), better))
        self._progress.note(
            f"{name}: {row.entries_per_s:,.0f} entries/s, p50 {row.p50_ms:.1f} ms, p99 {row.p99_ms:.1f} ms,"
            f" python {row.python_cores:.2f} and postgres {row.postgres_cores:.2f} cores,"
            f" {row.commands_per_batch:.0f} commands a batch, {row.wal_bytes_per_entry:.0f} bytes of WAL an entry"
        )
