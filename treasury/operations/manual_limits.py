"""How much a treasurer may move by hand alone, an entry and a day: by asset, and of all by what they are worth. Pure.

What is more needs a second person. So does what nobody knows the worth of now, where a limit is on the worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, tzinfo
from fractions import Fraction

from base.errors import OnebookError
from exchange.rates import Rates
from ledger.commands import Charge
from ledger.money import Asset
from treasury.errors import SecondPersonNeeded

COUNTER = "manual"
"""Begins the names of the book's counters of what was moved by hand."""

WORTH = "worth"
"""What stands in a counter's name before the asset in which all others are counted."""


@dataclass(frozen=True, slots=True)
class ManualLimit:
    """Of one asset, in smallest units. None: as much as the other one lets through."""

    per_entry: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class WorthLimit:
    """Of all assets together, by what they are worth in `reference`, in its smallest units."""

    reference: Asset
    limit: ManualLimit


@dataclass(frozen=True, slots=True)
class ManualLimits:
    """By asset, and by worth. An asset without a limit of its own goes by the worth alone; where there is none on the
    worth but some on other assets, it needs a second treasurer from the first unit on.

    `zone` is where a treasurer's day begins and ends.
    """

    by_asset: Mapping[str, ManualLimit] = field(default_factory=dict)
    zone: tzinfo = UTC
    worth: WorthLimit | None = None

    @property
    def any(self) -> bool:
        return bool(self.by_asset) or self.worth is not None

    def charges(
        self,
        treasurer: str,
        moved: Mapping[str, int],
        *,
        day: date,
        assets: Mapping[str, Asset],
        rates: Rates | OnebookError,
    ) -> tuple[Charge, ...]:
        """What moving so much (smallest units by asset) at once uses up of the treasurer's day.

        `rates` are those of now, or why there are none. Raises SecondPersonNeeded for what is too high by itself, or
        of unknown worth.
        """
        found: list[Charge] = []
        unnamed = ManualLimit() if not self.by_asset or self.worth is not None else ManualLimit(per_entry=0)
        for asset, amount in sorted(moved.items()):
            limit = self.by_asset.get(asset, unnamed)
            found += _charges(limit, f"{COUNTER}/{treasurer}/{asset}/{day.isoformat()}", amount, asset)
        if self.worth is not None:
            reference = self.worth.reference
            amount = _worth(moved, assets, rates, reference)
            counter = f"{COUNTER}/{treasurer}/{WORTH}:{reference.code}/{day.isoformat()}"
            found += _charges(self.worth.limit, counter, amount, reference.code)
        return tuple(found)


def asset_of(counter: object) -> str | None:
    """The asset in which one of these counters counts; None for a counter of something else."""
    parts = str(counter).split("/")
    if len(parts) != 4 or parts[0] != COUNTER:
        return None
    return parts[2].removeprefix(f"{WORTH}:")


def _charges(limit: ManualLimit, counter: str, amount: int, asset: str) -> list[Charge]:
    if limit.per_entry is not None and amount > limit.per_entry:
        raise SecondPersonNeeded(
            "one entry by hand may move less than that without a second treasurer",
            asset=asset,
            required=amount,
            cap=limit.per_entry,
        )
    return [] if limit.per_day is None else [Charge(counter, amount, limit.per_day)]


def _worth(moved: Mapping[str, int], assets: Mapping[str, Asset], rates: Rates | OnebookError, reference: Asset) -> int:
    """What all of it is worth, rounded up: a limit is never passed by a rounding."""
    whole = Fraction(0)
    for code, amount in moved.items():
        if code == reference.code or not amount:
            whole += amount
            continue
        try:
            if isinstance(rates, OnebookError):
                raise rates
            whole += rates.worth(assets[code], amount, reference)
        except OnebookError as unknown:
            raise SecondPersonNeeded(
                f"nobody knows what {code} is worth in {reference.code} now, so it needs a second treasurer:"
                f" {unknown.message}",
                asset=code,
                required=amount,
                because=unknown.code,
            ) from unknown
    return -(-whole.numerator // whole.denominator)
