"""Whether this database knows all payouts that were ever handed over. One that was put back from a backup may not.

A rail that has a memory of its own outside of the database (a bank's folder) is compared with it. The memory has a
name, which the database keeps: an empty folder, or another one, isn't taken for a memory of nothing. As long as they
don't agree nothing is handed over, and no payout is given back by hand: it may have been paid.
"""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from db.engine import tx
from fiat import payout_store as store
from fiat.errors import PayoutsHalted
from fiat.payouts import Payout

PREFIX = "mem"

NEWEST = 20
"""Of the batches that the database knows, so many must be in the memory: an older copy of it lacks the newest."""

_RESUME = "See docs/bank.md; once the bank has told what it paid: `onebook bank resume`"


class PayoutMemory(Protocol):
    """What a rail's own side remembers, wherever that is."""

    def identity(self) -> str | None:
        """The memory's name; None where none is there."""
        ...

    def begin(self, name: str) -> str:
        """Give the memory this name, unless it has one; the name that it has then."""
        ...

    def handed_over(self) -> Iterable[str]:
        """Ids of the batches that were handed over."""
        ...


class Ending(Protocol):
    """A rail's word before a payout over it is given up or ended by hand."""

    def ending(self, payout: Payout) -> AbstractAsyncContextManager[None]:
        """Within it nothing of the payout is handed over. Raises what stands against giving the money back."""
        ...


class Remembering:
    """Compares a rail's memory with this database."""

    def __init__(
        self, engine: AsyncEngine, rail: str, memory: PayoutMemory, *, book: str, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._rail = rail
        self._memory = memory
        self._book = book
        self._clock = clock
        self._entropy = entropy

    async def require(self) -> None:
        """Raises PayoutsHalted where memory and database don't know the same.

        Asked each time: a database can be put back while this process runs.
        """
        async with tx(self._engine) as connection:
            kept = await store.load_memory(connection, self._book, self._rail)
            newest = await store.newest_submitted(
                connection, self._book, self._rail, after=kept.through if kept else None, limit=NEWEST
            )
        handed_over = set(self._memory.handed_over())
        unknown = [id for id in newest if id not in handed_over]
        if unknown:
            raise PayoutsHalted(
                f"the memory of what was handed over doesn't know batch {unknown[0]}, which this database knows: it's"
                f" another one, or was emptied, so nobody can tell what else was handed over. {_RESUME}",
                batches=unknown,
            )
        found = self._memory.identity()
        if kept is not None and found != kept.identity:
            what = "isn't there" if found is None else "is another one than this database's"
            raise PayoutsHalted(f"the memory of what was handed over {what}. {_RESUME}", batches=[])
        async with tx(self._engine) as connection:
            known = await store.known_batches(connection, self._book, handed_over)
        lost = sorted(handed_over - known)
        if lost:
            raise PayoutsHalted(
                f"{len(lost)} files were handed over that this database doesn't know, {lost[0]} first: it was put back"
                " from a backup, so payouts that were made would be made again, or given back. See docs/bank.md",
                batches=lost[:20],
            )
        if kept is None:
            await self._keep(None)

    async def accept(self) -> str:
        """Take the memory that is there for this database's, as a person says who compared both with the bank.

        Returns its name. What it knows and the database doesn't halts all the same.
        """
        return await self._keep(self._clock.now())

    async def _keep(self, through: datetime | None) -> str:
        name = self._memory.begin(new_id(PREFIX, self._clock, self._entropy))
        async with tx(self._engine) as connection:
            await store.keep_memory(connection, self._book, self._rail, name, through=through, now=self._clock.now())
        return name
