"""The rate board: asks all sources in turn, and tells every process what is believed of what they said."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError
from base.ids import new_id
from db.engine import tx
from exchange import snapshot_store
from exchange.agreeing import Reading, Snapshot, rates_of, take_snapshot
from exchange.errors import RatesTooOld
from exchange.rates import AHEAD, Rates
from exchange.sources import Source
from exchange.terms import Terms

SOURCE_SECONDS = 10.0
"""Longest wait for one source, whatever it is."""

CACHED = timedelta(seconds=1)
"""How long a process goes by the snapshot that it read last."""


class RateBoard:
    """Asks the sources every `every`; the worker's step. Several workers may: each snapshot follows the last one."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        sources: Sequence[Source],
        terms: Terms,
        clock: Clock,
        entropy: Entropy,
        every: timedelta,
    ) -> None:
        self._engine = engine
        self._book = book
        self._sources = sources
        self._terms = terms
        self._clock = clock
        self._entropy = entropy
        self._every = every

    async def step(self) -> int:
        """Ask all sources if it's time; how many snapshots were made (0 or 1)."""
        async with tx(self._engine) as connection:
            before = await snapshot_store.latest(connection, self._book, by=self._clock.now() + AHEAD)
        if before is not None and self._clock.now() - before.at < self._every:
            return 0
        answers = await asyncio.gather(*(self._ask(source) for source in self._sources))
        told = zip(self._sources, answers, strict=True)
        readings = [one for found in answers if not isinstance(found, str) for one in found]
        failed = {source.name: found for source, found in told if isinstance(found, str)}
        if before is not None:  # what a source said last still counts until it's too old
            readings += [one for one in before.readings if one.source in failed]
        snapshot = take_snapshot(
            new_id("rts", self._clock, self._entropy),
            readings,
            now=self._clock.now(),
            rule=self._terms.agreement,
            before=before,
            failed=failed,
        )
        async with tx(self._engine) as connection:
            await snapshot_store.add(connection, self._book, snapshot)
        return 1

    async def _ask(self, source: Source) -> list[Reading] | str:
        """What it says, or why it says nothing. One source's failure is no other's."""
        try:
            return await asyncio.wait_for(source.read(), SOURCE_SECONDS)
        except TimeoutError:
            return f"no answer within {SOURCE_SECONDS:.0f} s"
        except OnebookError as error:
            return error.message


class AgreedRates:
    """What is believed now, as the newest snapshot tells it."""

    def __init__(self, engine: AsyncEngine, *, book: str, terms: Terms, clock: Clock) -> None:
        self._engine = engine
        self._book = book
        self._terms = terms
        self._clock = clock
        self._known: Rates | None = None
        self._until = clock.now()

    async def current(self) -> Rates:
        """The rates now. Raises RatesTooOld where no source was ever asked; single pairs may be unknown."""
        now = self._clock.now()
        if self._known is None or not now < self._until <= now + CACHED:
            snapshot = await self.snapshot()
            if snapshot is None:
                raise RatesTooOld("no source of rates was asked yet: the worker asks them")
            self._known, self._until = rates_of(snapshot, now=now, terms=self._terms), now + CACHED
        return self._known

    async def at(self, when: datetime) -> Rates:
        """The rates that could be used then, by the newest snapshot of that time. Raises RatesTooOld without one."""
        async with tx(self._engine) as connection:
            snapshot = await snapshot_store.latest(connection, self._book, by=when)
        if snapshot is None:
            raise RatesTooOld(f"no rates are kept of {when.isoformat()} or before")
        return rates_of(snapshot, now=when, terms=self._terms)

    async def snapshot(self, id: str | None = None) -> Snapshot | None:
        """The newest snapshot, or the one with this id; None where there is none."""
        async with tx(self._engine) as connection:
            if id is None:
                return await snapshot_store.latest(connection, self._book, by=self._clock.now() + AHEAD)
            return await snapshot_store.load(connection, self._book, id)
