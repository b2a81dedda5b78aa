"""Does a statement tell in other words, or in more detail, what another file told? Found before it's booked. Pure.

A line is known by what the bank said of it, so the same money told otherwise would be booked twice. What gives it
away: of one day and direction the book has lines that the file lacks, and the file has lines that the book lacks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

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


class Told(NamedTuple):
    """What brought a line that is in the book: the kind of file, our id of it, and whether it was only noted."""

    kind: Kind
    statement: str
    noted: bool


@dataclass(slots=True)
class Seen:
    """What of a file's lines is in the book, by day and side; filled batch by batch, so it holds days and no lines.

    `fresh` counts new lines, `first` has the place in the file of the first. `known` counts those in the book, by what
    told them; `ahead` has the ids of those that only a notification told. `moved` is what the statement adds to the
    balances before it: new lines, its own, those told ahead.
    """

    statement: str
    fresh: Counter[Day] = field(default_factory=Counter)
    first: dict[Day, int] = field(default_factory=dict)
    known: Counter[tuple[Day, Kind]] = field(default_factory=Counter)
    ahead: set[str] = field(default_factory=set)
    moved: int = 0

    def take(self, lines: Iterable[tuple[str, StatementLine]], known: Mapping[str, Told]) -> None:
        """Count these lines, by id. `known`: what told those that are in the book."""
        for line_id, line in lines:
            told = known.get(line_id)
            if told is None or told.kind is Kind.NOTIFICATION or told.statement == self.statement:
                self.moved += line.signed_amount
            if line.amount == 0:
                continue
            day = (line.booked_on, line.direction)
            if self.is_fresh(told):
                self.fresh[day] += 1
                self.first.setdefault(day, line.file_line)
                continue
            assert told is not None
            self.known[day, told.kind] += 1
            if told.kind is Kind.NOTIFICATION:
                self.ahead.add(line_id)

    def is_fresh(self, told: Told | None) -> bool:
        """Whether a line is new: also one that this statement noted before its import was cut off."""
        return told is None or (told.noted and told.statement == self.statement)

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


@dataclass(frozen=True, slots=True)
class Again:
    """What a statement tells again that a notification told: its lines by number, and whose place they take.

    `of`: the notification's lines by id, each with the number of a line of the statement that tells it.
    """

    numbers: frozenset[int] = frozenset()
    of: Mapping[str, int] = field(default_factory=dict)

    def __or__(self, other: "Again") -> "Again":
        return Again(self.numbers | other.numbers, {**self.of, **other.of})


def told_again(notified: Mapping[str, int], lines: Sequence[StatementLine]) -> Again | None:
    """Which new lines of a day and side are the money that was `notified` (amount by id). None where that's not sure.

    The bank's statement has all of its day, so what was notified must be among its new lines: as one of the same
    amount, as an entry whose parts make it up, or, of the rest, all together.
    """
    left = list(lines)
    missing = dict(notified)
    numbers: set[int] = set()
    of: dict[str, int] = {}

    def pair(groups: Mapping[int, Sequence[StatementLine]]) -> None:
        for group in groups.values():
            amount = sum(line.amount for line in group)
            found = next((id for id in sorted(missing) if missing[id] == amount), None)
            if found is not None:
                of[found] = group[0].number
                numbers.update(line.number for line in group)
                del missing[found]
        left[:] = [line for line in left if line.number not in numbers]

    pair({line.number: [line] for line in left})
    entries: dict[int, list[StatementLine]] = {}
    for line in left:
        entries.setdefault(line.file_line, []).append(line)
    pair(entries)
    if missing and left:
        if sum(missing.values()) != sum(line.amount for line in left):
            return None
        of |= dict.fromkeys(missing, left[0].number)
        numbers.update(line.number for line in left)
    return Again(frozenset(numbers), of)
