"""Periods: what took effect before an instant is closed, so that nothing is dated back into what was reported.

What stands open in a period is told first. It can be closed all the same, by two people: what stood open stays with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.asking import decide, decided_before
from ledger.commands import ClosePeriod
from ledger.engine import Ledger
from ledger.errors import BookCorrupt
from ledger.requests import RequestKey
from treasury.errors import PeriodUnfit
from treasury.notes import note
from treasury.operations import period_store as store
from treasury.operations.acts import Noted, unnoted
from treasury.operations.period_names import Period, last_day, named_period
from treasury.operations.period_store import ClosedPeriod

ID_PREFIX = "per"


class Periods:
    """Closes periods of the book's effective time; `zone` is where days and months begin."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, clock: Clock, entropy: Entropy, zone: tzinfo = UTC
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        self._zone = zone

    def named(self, name: str) -> Period:
        """The period of a month or day. Raises PeriodUnfit."""
        return named_period(name, self._zone)

    async def closed_until(self) -> datetime | None:
        """The first open instant; None before a period was closed."""
        return await self._ledger.closed_until()

    async def open_items(self, until: datetime) -> tuple[dict[str, str], ...]:
        """What isn't settled at the period's end: `item` says what, `detail` which."""
        day = last_day(until, self._zone)
        async with tx(self._engine) as connection:
            standing = await store.load_standing(connection, self._ledger.book, until=until, day=day)
        return tuple(dict(item) for item in store.items_of(standing, until=until))

    async def close(
        self,
        *,
        key: RequestKey,
        treasurer: str,
        period: Period,
        reason: str,
        confirmed_by: str | None = None,
        in_spite_of: Sequence[Mapping[str, str]] = (),
        noted: Noted = unnoted,
    ) -> ClosedPeriod:
        """Close everything before its `until`, for good: what comes later with an earlier date takes effect then.

        A second treasurer (`confirmed_by`) may have it closed though these items stand open in it, and no more. Raises
        ReasonMissing, PeriodUnfit (`period_open_items`), RequestConflict, RefusedByBook (`effective_in_future`,
        `period_closed`).
        """
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(first.subject or ""), replayed=True)
        said = note(treasurer, reason, confirmed_by=confirmed_by)
        is_over = period.until <= self._clock.now()  # else the book refuses, whatever stands open
        open_items = await self.open_items(period.until) if is_over else ()
        borne = in_spite_of if confirmed_by is not None else ()
        if store.beyond(open_items, borne):
            raise PeriodUnfit(
                "something stands open in that period", code="period_open_items", open_items=list(open_items)
            )
        closed = ClosedPeriod(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            command=key.id,
            name=period.name,
            until=period.until,
            closed_at=self._clock.now(),
            closed_by=treasurer,
            confirmed_by=confirmed_by,
            reason=said["reason"],
            open_items=open_items,
        )
        command = ClosePeriod(id=key.id, subject=closed.id, until=period.until, metadata=said)
        group = noted(closed.id).group(command, store.added(self._ledger.book, closed), content=key.content)
        *_, outcome = await decide(self._ledger, group)
        return replace(await self.get(outcome.subject or ""), replayed=outcome.replayed)

    async def get(self, period: str) -> ClosedPeriod:
        """One that was closed. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await store.load_period(connection, self._ledger.book, period)
        if found is None:
            raise NotFound(f"there is no closed period {period[:40]!r}", param="period")
        (placed,) = await self._placed([found])
        return placed

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[ClosedPeriod]:
        """Those that were closed, the latest first, behind the id `before`."""
        end = None if before is None else (await self.get(before)).until
        async with tx(self._engine) as connection:
            found = await store.list_periods(connection, self._ledger.book, before=end, limit=limit)
        return await self._placed(found)

    async def holding(self, at: datetime) -> ClosedPeriod | None:
        """The closed period in which `at` lies."""
        async with tx(self._engine) as connection:
            return await store.period_over(connection, self._ledger.book, at)

    async def _placed(self, found: list[ClosedPeriod]) -> list[ClosedPeriod]:
        """With the places of their commands in the book."""
        seqs = {outcome.id: outcome.seq for outcome in await self._ledger.outcomes(*(one.command for one in found))}
        if missing := [one.id for one in found if one.command not in seqs]:
            raise BookCorrupt(f"the book closed none of {', '.join(missing)}")
        return [replace(one, seq=seqs[one.command]) for one in found]
