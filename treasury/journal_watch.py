"""Whether the signer's journal has payments that this database hasn't: then it was put back, and is halted.

A step that looks when it's time to, from the row on through which all is known; cheap, since an attempt is stored
before the signer is asked, and the stored answers say how far the journal was seen. Once a halt is noted, only
`onebook recover` ends it. That a journal is behind is the signer's own affair: it refuses by itself.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import ARRAY, Text, any_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain import restores
from chain import tables as chain
from chain.transaction_states import WITHOUT_NONCE
from custody.client import SignerStatus
from custody.journal_file import GENESIS, Head, Row
from custody.signed_subjects import SignedSubject, SubjectReading
from db.engine import tx

EVERY: Final = timedelta(seconds=2)
"""How often the journal is looked at."""

ROWS_AT_ONCE: Final = 200
_ROUNDS: Final = 50
"""Answers that one look takes at most; the next one goes on."""

NAMED: Final = 3
"""Missing payments that are named; the others are counted."""


class JournalSource(Protocol):
    """Who can be asked for the signer's journal."""

    async def status(self) -> SignerStatus:
        """How far it goes. Raises SignerUnavailable."""
        ...

    async def rows(self, *, first: int, count: int) -> list[Row]:
        """Rows from a sequence on, none at its end. Raises SignerUnavailable."""
        ...


class JournalWatch:
    """Looks, and halts the database that has forgotten."""

    def __init__(self, engine: AsyncEngine, *, journal: JournalSource, clock: Clock) -> None:
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._looked_at: datetime | None = None
        self._seen: Head | None = None
        self._known: Head | None = None

    async def step(self) -> int:
        """Look, if it's time to; 1 if something was found missing. Raises what the signer's client does."""
        now = self._clock.now()
        if self._looked_at is not None and now - self._looked_at < EVERY:
            return 0
        found = await self.look()
        self._looked_at = now
        return int(found)

    async def look(self) -> bool:
        """Whether rows that weren't looked at yet have something that's missing here, which then is noted."""
        async with tx(self._engine) as connection:
            through = await restores.through(connection)
        known = None if through is None else Head(*through)
        if self._known is not None and (known is None or known.sequence < self._known.sequence):
            self._seen = None  # the database was put back beneath us: what was looked at is worth nothing any more
        self._known = known
        reading = SubjectReading(await self._start(known))
        if (await self._journal.status()).sequence <= reading.head.sequence:
            return False
        for _ in range(_ROUNDS):
            rows = await self._journal.rows(first=reading.head.sequence + 1, count=ROWS_AT_ONCE)
            for row in rows:
                reading.take(row)
            if not rows or reading.flaw is not None:
                break
        async with tx(self._engine) as connection:
            missing = await forgotten(connection, reading.subjects.values())
            if missing:
                await restores.note_missing(connection, _sentence(missing), now=self._clock.now())
        self._seen = reading.head
        return bool(missing)

    async def _start(self, known: Head | None) -> Head:
        """The row through which all is known: by the database, or by an earlier look at this very journal."""
        for head in sorted({head for head in (known, self._seen) if head is not None}, reverse=True):
            rows = await self._journal.rows(first=head.sequence, count=1)
            if rows and rows[0].hash == head.hash:
                return head
        return Head(0, GENESIS)


async def forgotten(connection: AsyncConnection, subjects: Collection[SignedSubject]) -> list[SignedSubject]:
    """Those of which the database has not all attempts that were signed, whole or in part."""
    known = await _highest_attempts(connection, [one.subject for one in subjects])
    return [one for one in subjects if one.attempts[-1].attempt > known.get(one.subject, 0)]


async def _highest_attempts(connection: AsyncConnection, subjects: Sequence[str]) -> Mapping[str, int]:
    own, tried = chain.transactions.c, chain.attempts.c
    asked = (
        select(own.subject, func.max(tried.attempt))
        .join(chain.transactions, own.id == tried.transaction_id)
        .where(own.state.not_in(WITHOUT_NONCE), own.subject == any_(literal(list(subjects), ARRAY(Text))))
        .group_by(own.subject)
    )
    return {row[0]: row[1] for row in await connection.execute(asked)}


def _sentence(missing: Sequence[SignedSubject]) -> str:
    names = ", ".join(one.subject for one in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return f"the signer's journal has payments that this database hasn't ({names}{more})"
