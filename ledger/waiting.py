"""Who waits for the book, what was decided for them, and what they hear when it can't be written. No database here."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from base.errors import OnebookError
from base.tracing import Place
from db.errors import SerializationConflict
from ledger.commands import Group
from ledger.errors import BookBusy, OutcomeUnknown
from ledger.outcomes import Outcome
from ledger.riders import Advance

STRETCH_MAX = 200
"""Commands decided in one go, until a group goes beyond, so that small callers aren't kept waiting behind a bulk."""


@dataclass(eq=False, slots=True)
class Waiting:
    """Groups of one caller, decided next to each other, and where the answer goes. `size` is how many commands.

    `place` is where in a trace the caller is, if it's recorded.
    `lost` is what we decided for this caller and sent in a COMMIT whose answer never came: ids with seq and instant.
    """

    groups: Sequence[Group]
    answer: "asyncio.Future[list[tuple[Outcome, ...]]]"
    size: int
    since: float = field(default_factory=time.monotonic)
    rounds: int = 0
    place: Place | None = None
    lost: dict[str, tuple[int, datetime]] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Decided:
    """What was decided on a caller's groups and isn't committed yet."""

    waiting: Waiting
    outcomes: list[tuple[Outcome, ...]]

    def note_lost(self) -> None:
        """The answer to its COMMIT was lost: remember what would be ours if it took effect after all."""
        new = (o for outcomes in self.outcomes for o in outcomes if o.seq and not o.replayed)
        self.waiting.lost.update((o.id, (o.seq, o.booked_at)) for o in new)


@dataclass(eq=False, slots=True)
class Attempt:
    """How far a tx under the lock came: whether the lock was had, and what went with its COMMIT."""

    has_lock: bool = False
    sent: list[Decided] = field(default_factory=list)


class Overtaken(Exception):
    """Another process wrote to the book first."""


class Overlooked(Exception):
    """A row that may be there already decides on what was decided without looking for it."""


class Contended(Exception):
    """Somebody else's locks stand in the way of a row that rides along; `__cause__` is what the database said."""


def parts_of(groups: Sequence[Group], loop: asyncio.AbstractEventLoop) -> list[Waiting]:
    """A caller's groups in stretches of their own."""
    parts = []
    start, size = 0, 0
    for place, group in enumerate(groups):
        more = len(group.commands)
        if size and size + more > STRETCH_MAX:
            parts.append(Waiting(groups[start:place], loop.create_future(), size))
            start, size = place, 0
        size += more
    parts.append(Waiting(groups[start:], loop.create_future(), size))
    return parts


def compares(waiting: Waiting) -> bool:
    """Whether a row that rides along must be compared, which takes the book's lock first."""
    return any(isinstance(rider, Advance) for group in waiting.groups for rider in group.riders)


def may_have_happened(error: Exception) -> bool:
    """Whether a statement that failed may be committed all the same: its answer was lost, or the server went down."""
    if isinstance(error, Overtaken):
        return False
    state = str(error.facts.get("sqlstate", "")) if isinstance(error, OnebookError) else ""
    return not state or state[:2] in ("08", "57", "58") or state == "40003"


def is_conflict(error: Exception) -> bool:
    """Whether others' work stood in the way: a deadlock, a serialization failure, a lock or a statement timed out."""
    state = error.facts.get("sqlstate") if isinstance(error, OnebookError) else None
    return isinstance(error, SerializationConflict) or state in ("55P03", "57014")


def as_first(decided: Decided) -> list[tuple[Outcome, ...]]:
    """The outcomes; what we had decided for this very caller before a COMMIT whose answer was lost is no replay.

    A command that the caller sent twice is one the second time.
    """
    if not decided.waiting.lost:
        return decided.outcomes
    return [tuple(_as_first(o, decided.waiting.lost) for o in outcomes) for outcomes in decided.outcomes]


def _as_first(outcome: Outcome, lost: dict[str, tuple[int, datetime]]) -> Outcome:
    if not outcome.replayed or lost.get(outcome.id) != (outcome.seq, outcome.booked_at):
        return outcome
    del lost[outcome.id]
    return replace(outcome, replayed=False)


def answer(item: Waiting, outcomes: list[tuple[Outcome, ...]]) -> None:
    if not item.answer.done():
        item.answer.set_result(outcomes)


def answer_error(item: Waiting, error: Exception) -> None:
    """Tell a caller what went wrong with its groups; of others' locks, only that they were in the way."""
    if isinstance(error, Contended):
        answer_failed(item, error)
    elif not item.answer.done():
        item.answer.set_exception(error)


def answer_failed(item: Waiting, error: Exception) -> None:
    """Tell a caller why nothing was written; or, where a COMMIT's answer was lost, that this isn't known."""
    if item.lost:
        error = OutcomeUnknown("the database went away while this was booked; send the same id again", retry_after=1)
    elif isinstance(error, Contended) or is_conflict(error):
        error = BookBusy("others hold what this needs; nothing was written, try again", retry_after=1)
    answer_error(item, error)
