"""How old a break may get; what is told of those that stand: one alert per kind, one per waiting proposal. Pure.

A break that two people have accounted for raises no alert until a cycle, or its date, says otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from treasury.break_records import Resolution
from treasury.records import Break, BreakReason

Ages = Mapping[BreakReason, timedelta]
"""By kind, how old a break may get."""

AGED_AFTER: Ages = {
    BreakReason.COUNTER_DRIFT: timedelta(0),
    BreakReason.UNBALANCED: timedelta(0),
    BreakReason.HOLD_DRIFT: timedelta(0),
    BreakReason.JOURNAL_DIFFERS: timedelta(0),
    BreakReason.POSITION_DIFFERS: timedelta(0),
    BreakReason.CHAIN_DIFFERS: timedelta(hours=1),
    BreakReason.FOREIGN_OUTFLOW: timedelta(hours=1),
    BreakReason.UNBOOKED: timedelta(hours=1),
    BreakReason.RAIL_DIFFERS: timedelta(days=1),
    BreakReason.SURPLUS: timedelta(days=1),
    BreakReason.BANK_DIFFERS: timedelta(days=2),
    BreakReason.STATEMENT_OVERLAP: timedelta(days=2),
    BreakReason.STATEMENT_GAP: timedelta(days=3),
    BreakReason.NO_STATEMENT: timedelta(days=3),
}
"""How long each kind may stand before it's critical, where the settings don't say otherwise. The book disagreeing with
itself is critical at once, whatever they say."""

TOLD_MAX = 200
"""Breaks of one kind that an alert counts."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The unexplained breaks of one kind."""

    reason: BreakReason
    count: int
    oldest: Break
    aged: bool

    @property
    def text(self) -> str:
        """What it is, what may be behind the oldest, and where to look."""
        more = " or more" if self.count >= TOLD_MAX else ""
        breaks = "1 break" if self.count == 1 else f"{self.count}{more} breaks"
        place = self.oldest.account or "all accounts"
        cause = f"; perhaps {self.oldest.causes[0].code}" if self.oldest.causes else ""
        owner = "nobody looks after it" if self.oldest.owner is None else f"{self.oldest.owner} looks after it"
        return f"{breaks} unexplained, the oldest {self.oldest.id} on {place}{cause}; {owner}: `onebook breaks list`"


def aged(entry: Break, now: datetime, after: Ages = AGED_AFTER) -> bool:
    """Whether it stands, unexplained, for longer than its kind may (`after`)."""
    unexplained = entry.resolved_at is None and not entry.explained(now)
    return unexplained and entry.age(now) >= after[entry.reason]


def standing(breaks: Iterable[Break], now: datetime, after: Ages = AGED_AFTER) -> Iterator[Standing]:
    """By kind, what nobody has accounted for; `breaks` come the oldest first."""
    kinds: dict[BreakReason, list[Break]] = {}
    for entry in breaks:
        if entry.resolved_at is None and not entry.explained(now):
            kinds.setdefault(entry.reason, []).append(entry)
    for reason, found in kinds.items():
        yield Standing(reason, len(found), found[0], any(aged(entry, now, after) for entry in found))


def wanted(resolution: Resolution) -> str:
    """What is told of a proposal that waits."""
    return (
        f"{resolution.proposed_by} proposes how to resolve {resolution.break_id}; another treasurer confirms it:"
        f" `onebook breaks confirm {resolution.id}`"
    )
