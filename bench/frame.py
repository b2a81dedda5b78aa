"""What every benchmark shares: figures, one report per area, progress while it loads, and the page of results.

A figure is judged by its report's reader, never here: nothing in this package asserts a time.
"""

import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from base.files import write_atomically

RESULTS = Path(__file__).parent / "RESULTS.md"

REPEATS = 5
"""Measurements whose median an absolute figure is."""

PAIRS = 3
"""Times that two measurements of a ratio are taken in turn; the figure is the median of their ratios."""


class Better(StrEnum):
    """Which way a figure is better."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `target` is what it must reach, None for a number that is only told."""

    name: str
    value: float
    unit: str
    target: float | None = None
    better: Better = Better.HIGHER

    @property
    def met(self) -> bool | None:
        """Whether it reaches its target; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.better is Better.HIGHER else self.value <= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how much. `seconds` is one measurement's; `quick` makes everything small and measures once.

    `only` are patterns (`batcher*`) of the rows to measure; none means all.
    """

    seconds: float = 5
    seed: int = 1
    quick: bool = False
    only: tuple[str, ...] = ()

    @property
    def repeats(self) -> int:
        return 1 if self.quick else REPEATS

    @property
    def pairs(self) -> int:
        return 1 if self.quick else PAIRS

    def rate(self, work: Callable[[], None], count: int) -> float:
        """How often a second, when `work` does it `count` times; the median of the repeats."""
        rates = []
        work()
        for _ in range(self.repeats):
            done, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < self.seconds:
                work()
                done += count
            rates.append(done / elapsed)
        return median(rates)

    def wants(self, row: str) -> bool:
        """Whether this row is to be measured."""
        return not self.only or any(fnmatchcase(row, pattern) for pattern in self.only)

    def wants_any(self, *rows: str) -> bool:
        return any(map(self.wants, rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One area's figures, on which machine, with which settings, and when."""

    area: str
    machine: dict[str, object]
    settings: dict[str, object]
    at: datetime
    figures: list[Figure] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """The report as plain JSON."""
        return asdict(self) | {"at": self.at.isoformat(timespec="seconds")}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def interleaved(
    first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]], pairs: int
) -> float:
    """The median of first / second, each pair measured one right after the other."""
    return median([await first() / await second() for _ in range(pairs)])


# Telling


def to_json(reports: Sequence[Report]) -> str:
    """One document for one area, a list of them for several."""
    documents = [report.document() for report in reports]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, default=str)


def rows(report: Report) -> list[tuple[str, str, str, str, str]]:
    """A report's figures as text: name, value, unit, target, whether it's met."""
    return [
        (
            figure.name,
            number(figure.value),
            figure.unit,
            "" if figure.target is None else f"{'>=' if figure.better is Better.HIGHER else '<='} {figure.target:,g}",
            {True: "yes", False: "NO", None: ""}[figure.met],
        )
        for figure in report.figures
    ]


def number(value: float) -> str:
    """A figure with as many digits as mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


# The page of results


def record(report: Report, page: Path = RESULTS) -> None:
    """Renew this area's section of the page, or add it at the end; the rest of the page stays as it is."""
    start, end = f"<!-- measured: {report.area} -->\n", f"<!-- end: {report.area} -->\n"
    section = start + _section(report) + end
    text = page.read_text(encoding="utf-8") if page.exists() else "# Results\n"
    if start in text and end in text:
        head, _, rest = text.partition(start)
        text = head + section + rest.partition(end)[2]
    else:
        text = text.rstrip("\n") + f"\n\n## {report.area}\n\n" + section
    write_atomically(page, text.encode())
    page.chmod(0o644)


def _section(report: Report) -> str:
    lines = [f"Measured {report.at:%Y-%m-%d %H:%M} UTC.", ""]
    lines += [f"- {what}: {_said(facts)}" for what, facts in (report.machine | report.settings).items()]
    lines += ["", "| figure | value | unit | must reach | met |", "| --- | ---: | --- | --- | --- |"]
    lines += [f"| `{name}` | {' | '.join(cells)} |" for name, *cells in rows(report)]
    return "\n".join(lines) + "\n"


def _said(facts: object) -> str:
    if isinstance(facts, dict):
        return ", ".join(f"{name} {value}" for name, value in facts.items())
    return str(facts)
