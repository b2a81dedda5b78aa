"""The periods that reports are about: a day, a month, a quarter or a year of one time zone, as instants. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

from treasury.errors import ReportPeriodUnfit

YEARS = range(1970, 9998)
"""Years that can be meant: far enough from both ends of what can be computed with."""

_NAMED = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?|-Q(?P<quarter>[1-4]))?", re.ASCII
)


class Length(StrEnum):
    """How long a period is."""

    DAY = "day"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` (inclusive) to `until` (exclusive), both in UTC: the first instants of local days of `zone`.

    `name` is what it's asked for by: `2026-10-05`, `2026-10`, `2026-Q4` or `2026`.
    """

    name: str
    length: Length
    first_day: date
    since: datetime
    until: datetime
    zone: str

    @property
    def last_instant(self) -> datetime:
        """The last one that it has."""
        return self.until - timedelta(microseconds=1)


def parse_period(text: str, zone: tzinfo = UTC) -> Period:
    """The period that a name means in `zone`. Raises ReportPeriodUnfit."""
    found = _NAMED.fullmatch(text)
    if found is None or int(found["year"]) not in YEARS:
        raise ReportPeriodUnfit(
            f"{text[:40]!r} is no period: write a day (2026-10-05), a month (2026-10), a quarter (2026-Q4) or a year"
            " (2026)",
            param="period",
        )
    year, length = int(found["year"]), _length(found)
    month = int(found["month"] or 1) if length is not Length.QUARTER else 3 * int(found["quarter"]) - 2
    try:
        first = date(year, month, int(found["day"] or 1))
    except ValueError:
        raise ReportPeriodUnfit(f"{text} isn't in the calendar", param="period") from None
    return _period(text, length, first, zone)


def months_of(period: Period, zone: tzinfo = UTC) -> list[Period]:
    """The months that a quarter or a year has; a shorter period has none to tell apart."""
    count = {Length.QUARTER: 3, Length.YEAR: 12}.get(period.length, 0)
    starts = [_months_on(period.first_day, number) for number in range(count)]
    return [_period(f"{start:%Y-%m}", Length.MONTH, start, zone) for start in starts]


def _length(found: re.Match[str]) -> Length:
    if found["quarter"]:
        return Length.QUARTER
    if found["day"]:
        return Length.DAY
    return Length.MONTH if found["month"] else Length.YEAR


def _period(name: str, length: Length, first: date, zone: tzinfo) -> Period:
    months = {Length.MONTH: 1, Length.QUARTER: 3, Length.YEAR: 12}
    end = first + timedelta(days=1) if length is Length.DAY else _months_on(first, months[length])
    return Period(name, length, first, _midnight(first, zone), _midnight(end, zone), zone_name(zone))


def zone_name(zone: tzinfo) -> str:
    """What a time zone is called: `UTC`, `Asia/Shanghai`."""
    return "UTC" if zone is UTC else str(zone)


def _months_on(first: date, months: int) -> date:
    """The first of the month so many months later."""
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
