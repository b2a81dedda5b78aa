"""Limits and allowances as charges on the book's counters, and what their numbers mean. Pure.

A counter names whose it is, what it adds up, in which unit, and the day or month (UTC) in which it was asked for:
`usr_.../out/EUR/2026-11-23`, `usr_.../free-value:transfer/EUR/2026-11`. So nothing has to be set back when a month
begins, and a reference that is changed begins anew.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ledger.commands import Charge
from ledger.money import AMOUNT_END, Asset
from tariff.errors import LimitExceeded
from tariff.schedule import Allowance, Limit, Operation, Sum

_COUNTER = re.compile(r"[^/]+/(?P<sum>[a-z_]+)/(?P<asset>[A-Z0-9]+)/(?P<month>\d{4}-\d{2})(?P<day>-\d{2})?", re.ASCII)


class Period(StrEnum):
    """What a limit is for: one operation, or all of a day or month."""

    OPERATION = "operation"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class LimitState:
    """How a limit stands, in smallest units of the reference.

    `frees_at`: when it begins anew, None for what one operation may be worth.
    """

    sum: Sum
    period: Period
    cap: int
    used: int
    frees_at: datetime | None

    @property
    def remaining(self) -> int:
        return max(0, self.cap - self.used)


@dataclass(frozen=True, slots=True)
class AllowanceState:
    """How a month's allowance stands; the used are None where the caps are. Values are in the reference."""

    operation: Operation
    operations: int | None
    operations_used: int | None
    value: int | None
    value_used: int | None
    frees_at: datetime


def month_of(at: datetime) -> str:
    """`2026-11`, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m")


def day_of(at: datetime) -> str:
    """`2026-11-23`, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def month_began(at: datetime) -> datetime:
    """The first instant of the month, in UTC."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def frees_at(period: Period, at: datetime) -> datetime | None:
    """When the day or month that `at` is in is over."""
    at = at.astimezone(UTC)
    match period:
        case Period.OPERATION:
            return None
        case Period.DAY:
            return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        case Period.MONTH:
            return month_began(month_began(at) + timedelta(days=32))


def counter(owner: str, what: Sum, reference: Asset, period: Period, at: datetime) -> str:
    """The name of a limit's counter."""
    when = day_of(at) if period is Period.DAY else month_of(at)
    return f"{owner}/{what}/{reference.code}/{when}"


def free_counters(owner: str, operation: Operation, reference: Asset | None, at: datetime) -> tuple[str, str]:
    """The names of an allowance's counters: of operations, and of value."""
    unit = "-" if reference is None else reference.code
    return f"{owner}/free:{operation}/{month_of(at)}", f"{owner}/free-value:{operation}/{unit}/{month_of(at)}"


def caps(limit: Limit) -> Iterable[tuple[Period, int]]:
    """The caps of a day and a month, those that there are."""
    told = ((Period.DAY, limit.day), (Period.MONTH, limit.month))
    return [(period, cap) for period, cap in told if cap is not None]


def charges(owner: str, what: Sum, limit: Limit, worth: int, reference: Asset, at: datetime) -> tuple[Charge, ...]:
    """What `worth` uses up of a day and a month; the book decides whether it still fits."""
    amount = min(worth, AMOUNT_END - 1)
    return tuple(Charge(counter(owner, what, reference, period, at), amount, cap) for period, cap in caps(limit))


def free_charges(
    owner: str, operation: Operation, allowance: Allowance, worth: int, reference: Asset | None, at: datetime
) -> tuple[Charge, ...]:
    """What one operation uses up of an allowance; the book asks again where it doesn't fit any more."""
    operations, value = free_counters(owner, operation, reference, at)
    found = []
    if allowance.operations is not None:
        found.append(Charge(operations, 1, allowance.operations, may_ask_again=True))
    if allowance.value is not None:
        found.append(Charge(value, min(worth, AMOUNT_END - 1), allowance.value, may_ask_again=True))
    return tuple(found)


def require_operation(what: Sum, limit: Limit, worth: int, tier: str, reference: Asset) -> None:
    """Raise LimitExceeded if one operation is worth more than it may be."""
    if limit.operation is not None and worth > limit.operation:
        raise exceeded(what, Period.OPERATION, tier, reference.code, required=worth, used=0, cap=limit.operation)


def exceeded(
    what: Sum,
    period: Period,
    tier: str,
    reference: str,
    *,
    required: int,
    used: int,
    cap: int,
    until: datetime | None = None,
) -> LimitExceeded:
    """The refusal with its numbers."""
    of = "one operation" if period is Period.OPERATION else f"a {period}"
    end = "" if until is None else f"; it begins anew at {until.isoformat()}"
    return LimitExceeded(
        f"tier {tier} limits {what} to so much of {reference} in {of}, and this would pass that{end}",
        limit=period.value,
        sum=what.value,
        tier=tier,
        asset=reference,
        cap=cap,
        used=used,
        required=required,
        available=max(0, cap - used),
        frees_at=None if until is None else until.isoformat(),
    )


def explained(facts: Mapping[str, object], tier: str) -> LimitExceeded | None:
    """The book's refusal in the words of limits; None where the counter is none of ours."""
    found = _COUNTER.fullmatch(str(facts.get("counter", "")))
    if found is None or found["sum"] not in list(Sum):
        return None
    period = Period.MONTH if found["day"] is None else Period.DAY
    at = datetime.strptime(found["month"] + (found["day"] or "-01"), "%Y-%m-%d").replace(tzinfo=UTC)
    numbers = {name: int(str(facts[name])) for name in ("required", "used", "cap")}
    return exceeded(Sum(found["sum"]), period, tier, found["asset"], until=frees_at(period, at), **numbers)
