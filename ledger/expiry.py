"""Expiry as an entry: a worker's step books the end of holds whose time has come.

Until that entry what is held stays held; nobody can settle or void it any more. A settlement that was booked before the
time came has won, and the expiry is refused and remembered; two workers at once end each hold once.
"""

from functools import partial

from ledger.asking import work
from ledger.commands import Expire, Group, alone
from ledger.engine import Ledger
from ledger.requests import worker_id

HOLDS_MAX = 500
"""Holds that one step ends at most."""


class HoldExpiry:
    """Ends the due holds of one book."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def step(self) -> int:
        """End what is due, the earliest first; returns how many holds ended now."""
        due = await self._ledger.due_holds(limit=HOLDS_MAX)
        made = await self._ledger.outcomes(*due) if due else []
        refusals = await work(self._ledger, *(partial(_expire, hold.id, hold.subject) for hold in made))
        return refusals.count(None)


def _expire(hold: str, subject: str | None, attempt: int) -> Group:
    """The end of a hold, under the hold's own subject: its receipt shows it."""
    return alone(Expire(id=worker_id(f"expire:{hold}", attempt), hold=hold, subject=subject))
