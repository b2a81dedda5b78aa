"""Periods by name: a month (`2026-10`) or a day (`2026-10-31`) of the treasury's time zone. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from treasury.errors import PeriodUnfit

_NAME = re.compile(r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """All effective time before `until`, the first instant that stays open. `name`: None for an instant of its own."""

    until: datetime
    name: str | None = None


def named_period(name: str, zone: tzinfo) -> Period:
    """The period that ends with this month or day in `zone`. Raises PeriodUnfit."""
    found = _NAME.fullmatch(name)
    try:
        if found is None:
            raise ValueError
        year, month, day = int(found[1]), int(found[2]), found[3]
        first = date(year, month, int(day or 1))
        after = first + timedelta(days=1) if day else (first + timedelta(days=31)).replace(day=1)
        until = datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        said = f"{name[:40]!r} is no period: write a month like 2026-10 or a day like 2026-10-31"
        raise PeriodUnfit(said, param="period") from error
    return Period(until, name)


def last_day(until: datetime, zone: tzinfo) -> date:
    """The last day that lies, at least in part, before `until`."""
    return (until - timedelta(microseconds=1)).astimezone(zone).date()
