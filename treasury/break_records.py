"""What people do about a break, as values: how it's to be resolved, and its history. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ResolutionKind(StrEnum):
    ENTRY = "entry"
    """The book is wrong: an entry brings it to what is there."""
    ACCEPTANCE = "acceptance"
    """Nothing is wrong: it's a matter of time, until a date."""


class ResolutionState(StrEnum):
    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    OVERTAKEN = "overtaken"
    """The break was gone before anybody confirmed it."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """How one treasurer wants a break resolved, and what another one said.

    `expected` and `found` are the break's as they were then: another difference isn't confirmed. An entry moves
    `amount` smallest units between the break's account and the house's `against`; `entry` is its command. An acceptance
    ends at `until`. `decided_by` is None while it's proposed, and where a cycle has overtaken it.
    """

    id: str
    break_id: str
    kind: ResolutionKind
    state: ResolutionState
    expected: int
    found: int
    reason: str
    proposed_by: str
    proposed_at: datetime
    against: str | None = None
    amount: int | None = None
    until: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    entry: str | None = None
    replayed: bool = False

    @property
    def difference(self) -> int:
        """The break's, when this was proposed."""
        return self.found - self.expected


class HistoryKind(StrEnum):
    """What a line of a break's history tells of."""

    OPENED = "opened"
    OWNED = "owned"
    NOTED = "noted"
    PROPOSED = "proposed"
    WITHDRAWN = "withdrawn"
    POSTED = "posted"
    ACCEPTED = "accepted"
    LAPSED = "lapsed"
    STILL_THERE = "still_there"
    """A cycle sees it, whole or in part, although it was accounted for."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One thing that happened to a break: the nth, from 1. `by` is None where a cycle or the clock did it."""

    number: int
    at: datetime
    by: str | None
    kind: HistoryKind
    words: str
