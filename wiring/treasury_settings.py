"""The settings of treasury: what one person may move by hand, days and months, and how reconciliation goes about it."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel as PydanticModel
from pydantic import BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from base.errors import OnebookError
from ledger.money import Asset, parse_amount
from treasury.break_alerts import AGED_AFTER
from treasury.records import BreakReason
from treasury.timing import USUAL, Timing

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_SPAN = re.compile(r"([1-9][0-9]{0,4})([smhd])", re.ASCII)


def _span(told: object) -> object:
    if isinstance(told, timedelta):
        return told
    found = _SPAN.fullmatch(told) if isinstance(told, str) else None
    if found is None:
        said = "a time above zero, as a whole number and a unit: 30s, 10m, 36h, 90d"
        raise PydanticCustomError("span", said)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


Span = Annotated[timedelta, BeforeValidator(_span)]
"""A time such as `10m`; never none."""


class _Table(PydanticModel):
    """A table of the file: unknown keys are errors, so that a typing mistake can't be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ManualLimitSettings(_Table):
    """How much of an asset one treasurer may move by hand alone: decimal strings of the asset."""

    asset: str
    per_entry: str | None = None
    per_day: str | None = None


class ManualWorthSettings(_Table):
    """The same of all assets together, by what they are worth in `asset`; None: the exchange's reference."""

    asset: str | None = None
    per_entry: str | None = None
    per_day: str | None = None


class TreasurySettings(_Table):
    """`time_zone`: an IANA name; where days and months begin. `proposal_hours`: how long a proposal waits."""

    time_zone: str = "UTC"
    proposal_hours: int = Field(default=72, ge=1, le=24 * 90)
    manual: tuple[ManualLimitSettings, ...] = ()
    manual_worth: ManualWorthSettings | None = None

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            said = "an IANA name such as Europe/Berlin, which this machine knows (packages tzdata)"
            raise PydanticCustomError("time_zone", said) from error
        return name


def treasury_faults(
    told: TreasurySettings, assets: Mapping[str, Asset], reference: str | None, where: Callable[..., str]
) -> Iterator[str]:
    """What `[treasury]` says that the rest of the file doesn't bear. `where`: file and line of a setting."""
    seen: set[str] = set()
    for number, one in enumerate(told.manual):
        place = ("treasury", "manual", number)
        if one.asset not in assets:
            yield f"{where(*place, 'asset')}: there is no asset {one.asset}; add it under [[assets]]"
        elif one.asset in seen:
            yield f"{where(*place, 'asset')}: {one.asset} has a limit already"
        else:
            yield from _unfit(one, assets[one.asset], place, where)
        seen.add(one.asset)
    worth = told.manual_worth
    if worth is None:
        return
    asset, here = worth.asset or reference, where("treasury", "manual_worth")
    if asset is None:
        yield f"{here}: say in which asset: there is no [exchange] reference"
    elif asset not in assets:
        yield f"{here}: there is no asset {asset}; add it under [[assets]]"
    elif worth.per_entry is None and worth.per_day is None:
        yield f"{here}: give per_entry, per_day, or both: without any it limits nothing"
    else:
        yield from _unfit(worth, assets[asset], ("treasury", "manual_worth"), where)


def _unfit(
    limit: ManualLimitSettings | ManualWorthSettings,
    asset: Asset,
    place: tuple[str | int, ...],
    where: Callable[..., str],
) -> Iterator[str]:
    for key in ("per_entry", "per_day"):
        told = getattr(limit, key)
        if told is not None:
            try:
                parse_amount(told, asset, least=0)
            except OnebookError as fault:
                yield f"{where(*place, key)}: {fault.message}"


class ReconciliationSettings(_Table):
    """When the worker compares, how long what it found is kept, and how old a break of each kind may get.

    See `treasury.timing.Timing` for the meaning of each.
    """

    every: Span = USUAL.every
    at_least_every: Span = USUAL.at_least_every
    rails_every: Span = USUAL.rails_every
    unbooked_after: Span = USUAL.unbooked_after
    runs_all: Span = USUAL.runs_all
    runs_kept: Span = USUAL.runs_kept
    samples_all: Span = USUAL.samples_all
    samples_kept: Span = USUAL.samples_kept
    critical_after: dict[str, Span] = Field(default_factory=dict)

    @field_validator("critical_after")
    @classmethod
    def _kinds(cls, told: dict[str, timedelta]) -> dict[str, timedelta]:
        may_wait = [kind.value for kind, age in AGED_AFTER.items() if age]
        for name in told:
            if name not in set(BreakReason):
                said = "there is no kind of break {kind}; there is {known}"
                raise PydanticCustomError("kind", said, {"kind": name, "known": ", ".join(may_wait)})
            if name not in may_wait:
                said = "{kind} is the book disagreeing with itself: it's critical at once, and can't be made to wait"
                raise PydanticCustomError("kind", said, {"kind": name})
        return told

    def timing(self) -> Timing:
        """The same for who reconciles."""
        told: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        own = {BreakReason(name): age for name, age in self.critical_after.items()}
        told["critical_after"] = {**AGED_AFTER, **own}
        return Timing(**told)


def reconciliation_faults(told: ReconciliationSettings, where: Callable[..., str]) -> Iterator[str]:
    """What contradicts itself in `[reconciliation]`."""
    for less, more in (("every", "at_least_every"), ("runs_all", "runs_kept"), ("samples_all", "samples_kept")):
        if getattr(told, less) > getattr(told, more):
            yield f"{where('reconciliation', less)}: {less} is longer than {more}"
