"""Whether this database knows all that the signer has signed for it. One that was put back from a backup may not.

Told by its incarnation, which is another one after a restore, and by the signer's journal, which has what the backup
hasn't (`treasury.journal_watch`). As long as something may be missing nothing is reserved, signed, sent or spent, until
`onebook recover` has rebuilt it. A database whose keys were never used has no row here, and nothing to recover.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain import tables
from chain.errors import NeedsRecovery
from chain.incarnation import incarnation
from chain.transaction_store import journal_head
from db.engine import tx

FRESH = timedelta(seconds=1)
"""How long a gate relies on what it has seen: less than any database needs to be put back."""

RESTORED = "the database was put back from a backup"

_restores = tables.restores
_counters = tables.address_counters


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing moves; `since` None where nobody wrote down when it began."""

    why: str
    since: datetime | None


async def begin(connection: AsyncConnection, *, now: datetime) -> None:
    """Write down which database this is, unless that's written. What addresses were drawn in counts as older."""
    drawn_in = select(_counters.c.incarnation).order_by(_counters.c.generation).limit(1).scalar_subquery()
    begun = insert(_restores).values(incarnation=func.coalesce(drawn_in, incarnation()), updated_at=now)
    await connection.execute(begun.on_conflict_do_nothing())


async def halt(connection: AsyncConnection) -> Halt | None:
    """Why this database must be recovered first; None if it needn't be."""
    asked = select(_restores, (_restores.c.incarnation == incarnation()).label("is_here"))
    row = (await connection.execute(asked)).first()
    if row is None or (row.is_here and row.missing is None):
        return None
    return Halt(row.missing or RESTORED, row.missing_since)


async def require(connection: AsyncConnection) -> None:
    """Raise NeedsRecovery while payments may have been forgotten."""
    _raise_if(await halt(connection))


async def through(connection: AsyncConnection) -> tuple[int, bytes] | None:
    """The row of the signer's journal, by (sequence, hash), through which this database knows all there is.

    Every attempt is stored before the signer is asked, so all rows before an answer that is stored are known.
    """
    row = (await connection.execute(select(_restores.c.sequence, _restores.c.head))).first()
    recovered = None if row is None or row.sequence is None else (row.sequence, bytes(row.head))
    return max((known for known in (recovered, await journal_head(connection)) if known is not None), default=None)


async def note_missing(connection: AsyncConnection, what: str, *, now: datetime) -> None:
    """Halt: the journal has what this database hasn't. The first reason stays."""
    row = {"incarnation": incarnation(), "missing": what, "missing_since": now, "updated_at": now}
    noted = insert(_restores).values(**row)
    change = {"missing": what, "missing_since": now, "updated_at": now}
    await connection.execute(
        noted.on_conflict_do_update(
            index_elements=_restores.primary_key, set_=change, where=_restores.c.missing.is_(None)
        )
    )


async def settled(connection: AsyncConnection, journal: tuple[int, bytes], *, now: datetime) -> None:
    """All that was signed through this row of the journal is known here: the halt ends."""
    sequence, head = journal
    row = {"incarnation": incarnation(), "sequence": sequence, "head": head, "updated_at": now}
    change = {**row, "missing": None, "missing_since": None}
    known = insert(_restores).values(**row)
    await connection.execute(known.on_conflict_do_update(index_elements=_restores.primary_key, set_=change))


async def recovered_through(connection: AsyncConnection) -> int:
    """The row through which recoveries of this very database dealt with everything; 0 before any."""
    found = select(func.max(_restores.c.sequence))
    return int((await connection.execute(found)).scalar() or 0)


class Gate:
    """Tells one process whether it may go on, looking anew at most once in a second."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._looking = asyncio.Lock()
        self._seen: tuple[datetime, Halt | None] | None = None

    async def halt(self) -> Halt | None:
        """Why nothing may move now. Raises what `db.errors` says of the database."""
        if (seen := self._fresh()) is not None:
            return seen[1]
        async with self._looking:
            if (seen := self._fresh()) is not None:
                return seen[1]
            return await self.look()

    async def look(self) -> Halt | None:
        """The same, asked of the database now."""
        now, self._seen = self._clock.now(), None
        async with tx(self._engine) as connection:
            found = await halt(connection)
        self._seen = now, found
        return found

    async def require(self) -> None:
        """Raise NeedsRecovery while nothing may move."""
        _raise_if(await self.halt())

    def guard(self, step: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
        """`step`, which does nothing while nothing may move."""

        async def guarded() -> int:
            return 0 if await self.halt() is not None else await step()

        return guarded

    def _fresh(self) -> tuple[datetime, Halt | None] | None:
        seen = self._seen
        return seen if seen is not None and timedelta(0) <= self._clock.now() - seen[0] < FRESH else None


def _raise_if(found: Halt | None) -> None:
    if found is not None:
        raise NeedsRecovery(f"{found.why}: nothing moves until the operator has run `onebook recover`")
