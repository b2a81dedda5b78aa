"""What a report is, whatever it's about and however it's shown: a head, tables of cells, what is to be noted. Pure.

Cells are texts that mean the same to everybody: exact decimals, instants in UTC, keys of words. Languages and locales
come in only where a report is rendered, so its digest is that of the figures alone.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from treasury.reports.periods import Period

Row = tuple[str | None, ...]
"""A table's row. None: there is no such figure."""

FULL = 1000
"""The length of the longest bar that fits a chart."""


class ReportKind(StrEnum):
    """What reports there are."""

    BALANCE_SHEET = "balance-sheet"
    INCOME = "income"
    MOVEMENTS = "movements"
    COSTS = "costs"
    AGEING = "ageing"
    STATEMENT = "statement"
    """One user's; the others are the house's."""


class Cell(StrEnum):
    """What the cells of a column are."""

    TEXT = "text"
    """As somebody wrote it; never a formula."""
    WORD = "word"
    """A key of `render.words`."""
    AMOUNT = "amount"
    """An exact decimal, `-12.50`: of the asset that its row names, or of the report's reference."""
    WHOLE = "whole"
    INSTANT = "instant"
    """RFC 3339 in UTC."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; its heading is the word of its name."""

    name: str
    cell: Cell


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. `rows` can be walked through more than once, and needn't be in memory."""

    name: str
    columns: tuple[Column, ...]
    rows: Iterable[Row]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader must know of: a key of words, and what it's about."""

    word: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart: how long it is of FULL, to the left where it's `below` zero."""

    label: str
    figure: str
    length: int
    below: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars below each other, with a line at `mark` of FULL where one is to be seen. `word` is its title."""

    word: str
    bars: tuple[Bar, ...]
    mark: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Figures of a period, as they were known with command `known_seq`, booked at `known_at`.

    `at`: the period's last instant, or the last one that is told of, where it isn't over.
    `provisional`: the period wasn't closed then, so more may have come. `subject`: whose statement it is. `reference`:
    the asset in which values are told; None: in none. `digest`: see `digest_of`.
    """

    kind: ReportKind
    book: str
    period: Period
    at: datetime
    known_at: datetime
    known_seq: int
    provisional: bool
    tables: tuple[Table, ...] = ()
    subject: str | None = None
    reference: str | None = None
    notes: tuple[Note, ...] = ()
    charts: tuple[Chart, ...] = ()
    digest: str = ""


def digest_of(report: Report) -> str:
    """SHA-256 over a line of JSON for the head, then one for each row: `[table, cell, ...]`, compact, UTF-8."""
    made = hashlib.sha256()
    for line in _figures(report):
        made.update(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return made.hexdigest()


def head_of(report: Report) -> list[str | None]:
    """What the digest says of the report itself."""
    period = report.period
    state = "provisional" if report.provisional else "final"
    return [
        report.kind.value,
        report.book,
        report.subject,
        instant_cell(period.since),
        instant_cell(period.until),
        instant_cell(report.at),
        instant_cell(report.known_at),
        str(report.known_seq),
        state,
        report.reference,
    ]


def instant_cell(at: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def columns(**cells: Cell) -> tuple[Column, ...]:
    """Columns by their names."""
    return tuple(Column(name, cell) for name, cell in cells.items())


def bars(rows: Sequence[tuple[str, str, int, int]]) -> tuple[Bar, ...]:
    """Bars of (label, figure, value, the value that fills the chart)."""
    return tuple(
        Bar(label, figure, min(FULL, abs(value) * FULL // full) if full else 0, value < 0)
        for label, figure, value, full in rows
    )


def _figures(report: Report) -> Iterator[list[str | None]]:
    yield head_of(report)
    for table in report.tables:
        for row in table.rows:
            yield [table.name, *row]
