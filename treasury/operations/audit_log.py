"""The audit log: who did what, when, on what, why, and what came of it; sealed row by row in the book's sequence.

An act that is a command of the book is booked in one group with its row. Any other is noted before it's done, and how
it ended is noted afterwards: nothing is done that the log doesn't tell of.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError, Rejected
from base.ids import new_id
from db.engine import tx
from ledger.asking import Before, decide
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.requests import RequestKey, worker_id
from treasury.operations import audit_store as store
from treasury.operations.acts import ID_PREFIX, Act, Actor, ActOutcome, Noted

CHECKED_AT_ONCE = 1_000
"""Rows that are compared with their records in one query."""

DIFFERENCES_MAX = 1_000
"""Differences that one check names; more of them, and the log as a whole isn't to be believed."""


@dataclass(frozen=True, slots=True)
class LogDifference:
    """A row (by its id) that isn't what was sealed: `altered`, `missing` (deleted), or `unsealed` (put there since)."""

    row: str
    what: str


@dataclass(slots=True)
class Doing:
    """An act beside the book that is under way; what is only known at its end is set on it."""

    subject: str | None
    detail: str | None = None


class AuditLog:
    """Notes acts, lists them, and finds rows that were altered behind its back."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy

    def act(
        self,
        actor: Actor,
        action: str,
        *,
        subject: str | None = None,
        reason_code: str | None = None,
        reason: str | None = None,
        request: str | None = None,
        detail: str | None = None,
    ) -> Act:
        """An act as of now, noted nowhere yet."""
        id = new_id(ID_PREFIX, self._clock, self._entropy)
        return Act(
            id=id,
            act=id,
            at=self._clock.now(),
            actor=actor,
            action=action,
            subject=subject,
            reason_code=reason_code,
            reason=None if reason is None else reason.strip(),
            request=request,
            detail=detail,
        )

    @asynccontextmanager
    async def booking(self, act: Act, key: RequestKey) -> AsyncIterator[Noted]:
        """For an act that is a command of the book under `key`: hand what's yielded to the service that books it.

        What is refused is noted by itself, and raised on.
        """
        try:
            yield partial(self._booked, act, key)
        except Rejected as refusal:
            await self.note(replace(act, outcome=ActOutcome.REFUSED, detail=refusal.code))
            raise

    @asynccontextmanager
    async def doing(self, act: Act) -> AsyncIterator[Doing]:
        """For an act beside the book: noted before, and how it ended after. What it raises is raised on."""
        await self.note(replace(act, outcome=ActOutcome.BEGUN))
        doing = Doing(act.subject, act.detail)
        try:
            yield doing
        except OnebookError as error:
            ended = ActOutcome.REFUSED if isinstance(error, Rejected) else ActOutcome.FAILED
            await self._end(act, doing, ended, error.code)
            raise
        await self._end(act, doing, ActOutcome.DONE, doing.detail)

    async def note(self, act: Act) -> None:
        """Book a row about what is no command of the book. Raises Unavailable."""
        sealed = act.alone(self._ledger.book)
        await decide(self._ledger, Group(sealed.commands, sealed.riders))

    async def recent(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Act]:
        """Rows, newest first (with `after`: the next behind it, oldest first). `actor`: a key's or a user's id.

        `since` is inclusive, `until` exclusive.
        """
        async with tx(self._engine) as connection:
            return await store.list_acts(
                connection,
                self._ledger.book,
                actor=actor,
                action=action,
                subject=subject,
                since=since,
                until=until,
                before=before,
                after=after,
                limit=limit,
            )

    async def differences(self) -> list[LogDifference]:
        """Rows that aren't what the book's records sealed, by id; `onebook audit` vouches for the records."""
        found: list[LogDifference] = []
        after = ""
        while len(found) < DIFFERENCES_MAX:
            async with tx(self._engine) as connection:
                page = await store.load_sealed(connection, self._ledger.book, after=after, limit=CHECKED_AT_ONCE)
            for row, act, digests in page:
                if act is None:
                    found.append(LogDifference(row, "missing"))
                elif not digests:
                    found.append(LogDifference(row, "unsealed"))
                elif set(digests) != {act.digest()}:
                    found.append(LogDifference(row, "altered"))
            if len(page) < CHECKED_AT_ONCE:
                break
            after = page[-1][0]
        return found

    def _booked(self, act: Act, key: RequestKey, subject: str | None) -> Before:
        return replace(act, subject=subject or act.subject).sealed(
            self._ledger.book, worker_id(f"audit-log:{key.id}", 1)
        )

    async def _end(self, act: Act, doing: Doing, outcome: ActOutcome, detail: str | None) -> None:
        row = replace(
            act,
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            at=self._clock.now(),
            subject=doing.subject,
            outcome=outcome,
            detail=detail,
        )
        await self.note(row)
