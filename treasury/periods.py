"""Periods: what took effect before an instant is closed, so that nothing is dated back into what was reported."""

from dataclasses import dataclass
from datetime import datetime

from ledger.asking import decide
from ledger.commands import ClosePeriod, Group
from ledger.engine import Ledger
from ledger.requests import RequestKey
from treasury.notes import note


@dataclass(frozen=True, slots=True)
class PeriodClosed:
    """All effective time before `until` was closed at `closed_at`."""

    until: datetime
    closed_at: datetime
    replayed: bool = False


class Periods:
    """Closes periods of the book's effective time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def closed_until(self) -> datetime | None:
        """The first open instant; None before a period was closed."""
        return await self._ledger.closed_until()

    async def close(self, *, key: RequestKey, treasurer: str, until: datetime, reason: str) -> PeriodClosed:
        """Close everything before `until`, for good: what comes later with an earlier date takes effect at `until`.

        Raises ReasonMissing, RequestConflict, RefusedByBook (`effective_in_future`, `period_closed`).
        """
        command = ClosePeriod(id=key.id, until=until, metadata=note(treasurer, reason))
        (outcome,) = await decide(self._ledger, Group((command,), content=key.content))
        return PeriodClosed(until=until, closed_at=outcome.booked_at, replayed=outcome.replayed)
