"""The area `ledger`: the engine under the standard mix, beside yardsticks that write the same rows.

An entry is a command that was accepted and booked lines; a group of two is two entries. Absolute figures are medians of
five measurements, ratios the median of three, each of two measurements taken one right after the other. Every
measurement starts from a fresh clone of the same book, but for those on much stored history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from base.clock import SystemClock
from base.progress import Progress
from bench import effective
from bench.callers import Row, Submit, drive
from bench.callers import measure as measure_callers
from bench.frame import Better, Figure, Options, Report, median, number
from bench.loader import fill
from bench.machine import describe_machine, describe_server
from bench.mix import ACCOUNTS, SHARES, Mix, Pattern
from bench.stage import BOOK, FOLDER, FOUNDED, Ago, Place, Stage, opened, prepare, server
from bench.yardsticks import call, copy, orm
from bench.yardsticks.disk import fsyncs_per_s
from ledger.commands import Group
from ledger.outcomes import Outcome

CALLERS = (1, 16, 64, 256, 1024)
AGAINST = 64
"""Callers of the engine, and of every yardstick."""
MIXED = 80
"""Callers where some entries carry a row of another package."""

BULK = {100: 16, 1000: 4}
"""Groups in a submission, and how many callers send such."""

STORED = {"1m": 1_000_000, "10m": 10_000_000}
"""Commands that a book has before it's measured."""

_QUICK_SHRINKS = 100
"""A quick run stores so many times less."""

RESOURCES = 0.2
"""Share of entries that carry a row."""

_QUICK_ACCOUNTS = 1_000

_EXPECTED = {1: 4_000, 16: 16_000}
_EXPECTED_MOST = 24_000
_EXPECTED_BULK = 40_000
_EXPECTED_CALLS, _EXPECTED_ORM = 8_000, 2_000
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

TARGETS = {
    "batcher64_over_orm64": 30.0,
    "batcher64_over_call64": 4.0,
    "batcher64_over_copy": 0.3,
    "bulk1000_over_copy": 0.45,
    "batcher64_entries_per_s": 12_000.0,
    "batcher64_p99_ms": 12.0,
    "mixed20_over_plain": 0.8,
    "hot_house_over_uniform": 0.9,
    "hot_limited_over_uniform": 0.9,
    "stored10m_over_stored10k": 0.8,
    "effective_balance_p99_ms": 20.0,
}
"""What figures must reach."""


async def measure(options: Options, progress: Progress) -> Report:
    """Measure the wanted rows on a server of their own."""
    accounts = _QUICK_ACCOUNTS if options.quick else ACCOUNTS
    with server("ledger") as running:
        stage = await prepare(running, accounts=accounts, seed=options.seed, progress=progress)
        bench = _Bench(stage, options, progress)
        await bench.callers()
        await bench.against_yardsticks()
        await bench.bulk()
        await bench.patterns()
        await bench.resources()
        await bench.stored()
        await bench.effective()
        bench.disk()
        settings = {
            "postgresql": await describe_server(running.admin_url),
            "mix": {kind.value: share for kind, share in SHARES.items()},
            "run": {
                "seconds": options.seconds,
                "seed": options.seed,
                "accounts": accounts,
                "quick": options.quick,
                "bulk callers": str(BULK),
            },
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

    # Families of rows

    async def callers(self) -> None:
        """Uniform, by the number of callers."""
        for callers in CALLERS:
            if self._options.wants(name := f"batcher{callers}"):
                self._row(name, [await self._engine(callers=callers) for _ in range(self._options.repeats)])

    async def against_yardsticks(self) -> None:
        """The same callers on the engine, on COPY of what it wrote, on function calls and on the ORM, in turn."""
        names = ("batcher64_over_copy", "batcher64_over_call64", "batcher64_over_orm64")
        if not (wanted := [name for name in names if self._options.wants(name)]):
            return
        rows: dict[str, list[Row]] = {"call64": [], "orm64": []}
        copies: list[tuple[float, float]] = []
        ratios: dict[str, list[float]] = {name: [] for name in wanted}
        for _ in range(self._options.pairs):
            async with self._stage.book() as place:
                engine, copied = await self._engine_and_copy(place, callers=AGAINST)
            copies.append(copied)
            if names[0] in wanted:
                ratios[names[0]].append(engine.entries_per_s / copied[0])
            for name, yardstick in (("call64", self._calls), ("orm64", self._orm)):
                if (ratio := f"batcher64_over_{name}") in wanted:
                    rows[name].append(await yardstick())
                    ratios[ratio].append(engine.entries_per_s / rows[name][-1].entries_per_s)
        for name, measured in rows.items():
            if measured:
                self._row(name, measured)
        self._tell("copy_entries_per_s", median([entries for entries, _ in copies]), "entries/s")
        self._tell("copy_rows_per_s", median([each for _, each in copies]), "rows/s")
        for name, values in ratios.items():
            self._tell(name, median(values), "ratio")

    async def bulk(self) -> None:
        """Many groups in a submission."""
        for size, callers in BULK.items():
            name, ratio = f"bulk{size}", f"bulk{size}_over_copy"
            if not self._options.wants_any(name, ratio):
                continue
            rows, ratios = [], []
            for _ in range(self._options.pairs):
                async with self._stage.book() as place:
                    row, (copied, _) = await self._engine_and_copy(place, callers=callers, bulk=size)
                rows.append(row)
                ratios.append(row.entries_per_s / copied)
            self._row(name, rows)
            self._tell(ratio, median(ratios), "ratio")

    async def patterns(self) -> None:
        """Other choices of accounts, each beside uniform."""
        for pattern in (Pattern.ZIPF, Pattern.HOT_HOUSE, Pattern.HOT_LIMITED):
            if not self._options.wants_any(f"{pattern}64", f"{pattern}_over_uniform"):
                continue
            rows, ratios = [], []
            for _ in range(self._options.pairs):
                uniform = await self._engine(callers=AGAINST)
                rows.append(await self._engine(callers=AGAINST, pattern=pattern))
                ratios.append(rows[-1].entries_per_s / uniform.entries_per_s)
            self._row(f"{pattern}64", rows)
            self._tell(f"{pattern}_over_uniform", median(ratios), "ratio")

    async def resources(self) -> None:
        """A row of another package with every fifth entry, beside none."""
        if not self._options.wants_any("mixed20", "mixed20_over_plain"):
            return
        rows, ratios = [], []
        for _ in range(self._options.pairs):
            plain = await self._engine(callers=MIXED)
            rows.append(await self._engine(callers=MIXED, resources=RESOURCES))
            ratios.append(rows[-1].entries_per_s / plain.entries_per_s)
        self._row("mixed20", rows)
        self._tell("mixed20_over_plain", median(ratios), "ratio")

    async def stored(self) -> None:
        """Much history: each size beside a fresh book, whose accounts were opened and funded and nothing else."""
        names = {f"stored{size}_over_stored10k": size for size in STORED}
        if not self._options.wants_any(*names):
            return
        async with self._stage.book() as place:
            rows = {size: await self._stored(place.name, size) for size in STORED if self._options.wants_any(*names)}
        for size, (measured, ratio) in rows.items():
            self._row(f"stored{size}", measured)
            self._tell(f"stored{size}_over_stored10k", ratio, "ratio")

    async def _stored(self, name: str, size: str) -> tuple[list[Row], float]:
        """Load a book up to this size and measure it beside a fresh one."""
        running = self._stage.server
        commands = STORED[size] // (_QUICK_SHRINKS if self._options.quick else 1)
        async with opened(running, name, clock=Ago(FOUNDED / 2)) as past:
            await fill(past, self._mix(), commands, self._progress)
        rows, ratios = [], []
        for _ in range(self._options.pairs):
            fresh = await self._engine(callers=AGAINST)
            async with opened(running, name) as place:
                rows.append(await self._measure(_submit(place), await self._primed(place), place, callers=AGAINST))
            ratios.append(rows[-1].entries_per_s / fresh.entries_per_s)
        return rows, median(ratios)

    async def effective(self) -> None:
        """A balance by effective time, of an account with much history."""
        if self._options.wants("effective_balance_p99_ms"):
            postings = effective.POSTINGS // (_QUICK_SHRINKS if self._options.quick else 1)
            value = await effective.balance_p99_ms(
                self._stage, postings=postings, seed=self._options.seed, progress=self._progress
            )
            self._tell("effective_balance_p99_ms", value, "ms", Better.LOWER)

    def disk(self) -> None:
        """How often a page can be flushed: the floor under a lone caller's commit."""
        if self._options.wants("fsyncs_per_s"):
            self._tell("fsyncs_per_s", fsyncs_per_s(FOLDER, self._options.seconds), "fsyncs/s")

    # Measurements

    async def _engine(self, *, callers: int, pattern: Pattern = Pattern.UNIFORM, resources: float = 0) -> Row:
        """The engine on a fresh clone."""
        async with self._stage.book() as place:
            mix = await self._primed(place, pattern, resources)
            return await self._measure(_submit(place), mix, place, callers=callers)

    async def _engine_and_copy(self, place: Place, *, callers: int, bulk: int = 1) -> tuple[Row, tuple[float, float]]:
        """The engine, and COPY of exactly the rows that it wrote while it was measured: entries and rows a second."""
        mix = await self._primed(place)
        groups = await self._warm(_submit(place), mix, callers=callers, bulk=bulk)
        row, run, since = await measure_callers(
            _submit(place), groups, place, callers=callers, seconds=self._options.seconds, bulk=bulk
        )
        copied = await copy.copy_again(self._stage, place, since=since)
        return row, (run.entries / copied.seconds, copied.rows / copied.seconds)

    async def _calls(self) -> Row:
        async with self._stage.book() as place:
            mix = await self._primed(place)
            async with call.opened(place) as calls:
                return await self._measure(calls.submit, mix, place, callers=AGAINST, expected=_EXPECTED_CALLS)

    async def _orm(self) -> Row:
        async with self._stage.book() as place:
            mix = await self._primed(place)
            async with orm.opened(place) as sessions:
                return await self._measure(sessions.submit, mix, place, callers=AGAINST, expected=_EXPECTED_ORM)

    async def _measure(
        self, submit: Submit, mix: Mix, place: Place, *, callers: int, expected: int | None = None
    ) -> Row:
        groups = await self._warm(submit, mix, callers=callers, expected=expected)
        row, _, _ = await measure_callers(submit, groups, place, callers=callers, seconds=self._options.seconds)
        return row

    async def _primed(self, place: Place, pattern: Pattern = Pattern.UNIFORM, resources: float = 0) -> Mix:
        """A new mix, its first holds in the book."""
        mix = self._mix(pattern, resources)
        await drive(_submit(place), iter(mix.prime()), callers=1, seconds=60, bulk=500)
        return mix

    async def _warm(
        self, submit: Submit, mix: Mix, *, callers: int, bulk: int = 1, expected: int | None = None
    ) -> Iterator[Group]:
        """Make the submissions and let the callers begin; what is left to send."""
        seconds = min(_WARM_SECONDS, self._options.seconds)
        rate = expected or (_EXPECTED_BULK if bulk > 1 else _EXPECTED.get(callers, _EXPECTED_MOST))
        groups = iter(mix.groups(int(rate * (self._options.seconds + seconds))))
        await drive(submit, groups, callers=callers, seconds=seconds, bulk=bulk)
        return groups

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

    # Telling

    def _row(self, name: str, measured: Sequence[Row]) -> None:
        row = Row.middle(measured)
        for field, value in asdict(row).items():
            unit, better = UNITS[field]
            figure = f"{name}_{field}"
            self.figures.append(Figure(figure, value, unit, TARGETS.get(figure), better))
        self._progress.note(
            f"{name}: {row.entries_per_s:,.0f} entries/s, p50 {row.p50_ms:.1f} ms, p99 {row.p99_ms:.1f} ms,"
            f" python {row.python_cores:.2f} and postgres {row.postgres_cores:.2f} cores,"
            f" {row.commands_per_batch:.0f} commands a batch, {row.wal_bytes_per_entry:.0f} bytes of WAL an entry"
        )

    def _tell(self, name: str, value: float, unit: str, better: Better = Better.HIGHER) -> None:
        self.figures.append(Figure(name, value, unit, TARGETS.get(name), better))
        self._progress.note(f"{name}: {number(value)} {unit}")


def _submit(place: Place) -> Submit:
    async def submit(groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
        return await place.ledger.submit(*groups)

    return submit
