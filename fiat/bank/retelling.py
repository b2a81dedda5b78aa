"""Does a statement tell in other words, or in more detail, what another file told? Found before it's booked. Pure.

A line is known by what the bank said of it, so the same money told otherwise would be booked twice. What gives it
away: of one day and direction the book has lines that the file lacks, and the file has lines that the book lacks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from fiat.bank.lines import Direction, Kind, StatementLine


def bounds(days: Iterable[date]) -> tuple[date, date] | None:
    """The first and the last of these days."""
    first = last = None
    for day in days:
        first = day if first is None or day < first else first
        last = day if last is None or day > last else last
    return None if first is None or last is None else (first, last)


Day = tuple[date, Direction]
"""A day of booking, and one of its two sides."""


@dataclass(slots=True)
class Seen:
    """What of a file's lines is in the book, by day and side; filled batch by batch, so it holds days and no lines.

    `fresh` counts new lines, `first` has the place in the file of the first. `known` counts those in the book, by what
    told them. `moved` is what the statement adds to the balances before it: new lines, its own, those told ahead.
    """

    fresh: Counter[Day] = field(default_factory=Counter)
    first: dict[Day, int] = field(default_factory=dict)
    known: Counter[tuple[Day, Kind]] = field(default_factory=Counter)
    moved: int = 0

    def take(
        self, lines: Iterable[tuple[str, StatementLine]], known: Mapping[str, tuple[Kind, str]], *, statement: str
    ) -> None:
        """Count these lines, by id. `known`: what told those that are in the book, and our id of the statement."""
        for line_id, line in lines:
            told = known.get(line_id)
            if told is None or told[0] is Kind.NOTIFICATION or told[1] == statement:
                self.moved += line.signed_amount
            if line.amount == 0:
                continue
            day = (line.booked_on, line.direction)
            if told is None:
                self.fresh[day] += 1
                self.first.setdefault(day, line.file_line)
            else:
                self.known[day, told[0]] += 1

    def told_elsewhere(self, booked: Mapping[tuple[Day, Kind], int], by: Kind) -> frozenset[Day]:
        """Days on which the file has new lines, and lacks lines that the book has (`booked`, counted) by such files."""
        return frozenset(day for day in self.fresh if booked.get((day, by), 0) > self.known[day, by])


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The closing balance before a statement, and the opening balance of the next one; None: there is none."""

    closing_before: int | None
    opening_after: int | None

    def fit(self, *, closing: int, moved: int) -> bool:
        """Whether a statement that adds `moved` stands between the two without a gap."""
        gapless = closing == (self.closing_before or 0) + moved
        return gapless and self.opening_after in (None, closing)
