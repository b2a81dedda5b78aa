"""Ageing: what didn't agree and what users owed at the end of a period, by how long already. Pure.

A receivable is repaid from its oldest part on, so its age is that of what was lent last, up to what is owed. A break is
as old as the run that found it; its difference is the one that the last run by then had seen.
"""

from collections import defaultdict
from datetime import datetime, timedelta

from treasury.reports.figures import cell
from treasury.reports.model import Cell, Row, Table, columns, instant_cell
from treasury.reports.records import AGES, AgedReceivable, OpenBreak
from treasury.reports.valuing import Valuation

BUCKETS = tuple(f"age_{number}" for number in range(len(AGES) + 1))
"""Words of the ages: up to so many days, and older."""

DAY = timedelta(days=1)

BREAK_COLUMNS = columns(
    id=Cell.TEXT,
    reason=Cell.WORD,
    account=Cell.TEXT,
    asset=Cell.TEXT,
    expected=Cell.AMOUNT,
    found=Cell.AMOUNT,
    difference=Cell.AMOUNT,
    since=Cell.INSTANT,
    days=Cell.WHOLE,
)
RECEIVABLE_COLUMNS = columns(
    user=Cell.TEXT,
    asset=Cell.TEXT,
    owed=Cell.AMOUNT,
    since=Cell.INSTANT,
    **dict.fromkeys(BUCKETS, Cell.AMOUNT),
)


class Ageing:
    """Takes rows in, one after the other, and adds them up by age."""

    def __init__(self, valuation: Valuation, *, at: datetime) -> None:
        self._valuation = valuation
        self._at = at
        self._owed: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._breaks: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(BUCKETS))

    def break_row(self, one: OpenBreak) -> Row:
        """A break as a row, counted by its age."""
        days = (self._at - one.first_seen_at) // DAY
        self._breaks[one.reason, one.asset][bucket(self._at - one.first_seen_at)] += 1
        amounts = (one.expected, one.found, one.found - one.expected)
        return (
            one.id,
            one.reason,
            one.account,
            one.asset,
            *(cell(amount, one.asset, self._valuation) for amount in amounts),
            instant_cell(one.first_seen_at),
            str(days),
        )

    def receivable_row(self, one: AgedReceivable) -> Row:
        """What a user owes as a row, added up by its ages."""
        for number, amount in enumerate((*one.by_age, one.owed)):
            self._owed[one.asset][number] += amount
        return (
            one.user,
            one.asset,
            cell(one.owed, one.asset, self._valuation),
            instant_cell(one.oldest_at),
            *(cell(amount, one.asset, self._valuation) for amount in one.by_age),
        )

    def sums(self) -> tuple[Table, Table]:
        """Breaks by reason, asset and age; receivables by asset and age."""
        counts: list[Row] = [(*key, *map(str, ages)) for key, ages in sorted(self._breaks.items())]
        owed: list[Row] = [
            (asset, *(cell(amount, asset, self._valuation) for amount in ages))
            for asset, ages in sorted(self._owed.items())
        ]
        of_breaks = columns(reason=Cell.WORD, asset=Cell.TEXT, **dict.fromkeys(BUCKETS, Cell.WHOLE))
        of_owed = columns(asset=Cell.TEXT, **dict.fromkeys(BUCKETS, Cell.AMOUNT), owed=Cell.AMOUNT)
        return Table("break_ages", of_breaks, counts), Table("receivable_ages", of_owed, owed)


def bucket(age: timedelta) -> int:
    """Which of the BUCKETS an age belongs to."""
    return next((number for number, days in enumerate(AGES) if age <= days * DAY), len(AGES))
