"""How much a treasurer may move by hand alone: an entry, a day. What is more needs a second one. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, tzinfo

from ledger.commands import Charge
from treasury.errors import SecondPersonNeeded

COUNTER = "manual"
"""Begins the names of the book's counters of what was moved by hand."""


@dataclass(frozen=True, slots=True)
class ManualLimit:
    """Of one asset, in smallest units. None: as much as the other one lets through."""

    per_entry: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class ManualLimits:
    """By asset. Where any asset has a limit, one that has none needs a second treasurer from the first unit on.

    `zone` is where a treasurer's day begins and ends.
    """

    by_asset: Mapping[str, ManualLimit] = field(default_factory=dict)
    zone: tzinfo = UTC

    def charges(self, treasurer: str, asset: str, amount: int, day: date) -> tuple[Charge, ...]:
        """What an entry of `amount` uses up of the treasurer's day. Raises SecondPersonNeeded for one that is too high
        by itself."""
        if not self.by_asset:
            return ()
        limit = self.by_asset.get(asset, ManualLimit(per_entry=0))
        if limit.per_entry is not None and amount > limit.per_entry:
            raise SecondPersonNeeded(
                "one entry by hand may move less than that without a second treasurer",
                asset=asset,
                required=amount,
                cap=limit.per_entry,
            )
        if limit.per_day is None:
            return ()
        return (Charge(f"{COUNTER}/{treasurer}/{asset}/{day.isoformat()}", amount, limit.per_day),)
