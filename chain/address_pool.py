"""The pool: deposit addresses derived ahead of need, at indexes that the signer's journal gave to this database.

First indexes are reserved, in blocks; then some are drawn, in a tx of their own; then they're derived and put down. Who
is killed in between loses indexes, which are never used by anybody: they're plenty, and one used twice would give two
owners one address. Several workers at once draw different ones. Issuing is `chain.addresses.issue`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_update
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import tables
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.errors import NoKeyAtIndex
from chain.networks import Family
from chain.signing import AddressSource, KeyHolder, OwnKey, Reserver, Role
from chain.transaction_store import journal_head
from db.engine import tx

RESERVED_AT_ONCE = 1_000
"""Indexes in a block that the signer's journal gives."""

READY = 1_000
"""Addresses that a full pool holds. Nothing is done as long as it's at least half full."""

DERIVED_AT_ONCE = 250
"""Addresses of one step: some 15 ms of a processor."""

_counters = tables.address_counters
_pool = tables.address_pool


@dataclass(frozen=True, slots=True)
class Indexes:
    """A counter of indexes: the next to draw, and where ours end. `reserved_until` None: nobody reserves them."""

    next_index: int
    reserved_until: int | None

    @property
    def left(self) -> int:
        """Indexes that are reserved and not drawn."""
        return 0 if self.reserved_until is None else max(0, self.reserved_until - self.next_index)

    def with_block(self, first: int, count: int) -> "Indexes":
        """After the signer has reserved `count` from `first`.

        What lies between our end and `first` was given to somebody else (or to us, and we were killed before we wrote
        it down), so it's passed over with all that we have left below it. A block that begins within what was drawn
        counts from there on.
        """
        end = first + count
        if self.reserved_until is not None and end <= self.reserved_until:
            return self  # an answer that came late: a later block is written down already
        ours_end = self.next_index if self.reserved_until is None else self.reserved_until
        return Indexes(max(self.next_index, first) if first > ours_end else self.next_index, end)


class AddressPool:
    """Keeps the pool of deposit addresses full. `reserver` None: the signer has no journal of indexes to ask."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        source: AddressSource,
        keys: KeyHolder | None,
        reserver: Reserver | None,
        clock: Clock,
        family: Family = Family.EVM,
        full: int = READY,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._engine = engine
        self._source = source
        self._keys = keys
        self._reserver = reserver
        self._clock = clock
        self._family = family
        self._full = full
        self._checkpoint = checkpoint or NoCheckpoint()

    async def step(self) -> int:
        """Reserve a block, or derive some addresses; the number of either. 0: the pool is full enough.

        Raises SignerRefused when the policy's highest index is reached, SignerUnavailable.
        """
        indexes, ready = await self._standing()
        if 2 * ready >= self._full:
            return 0
        wanted = min(self._full - ready, DERIVED_AT_ONCE)
        if self._reserver is not None and indexes.left < wanted:
            return await self._reserve(self._reserver)
        first = await self._draw(wanted)
        if first is None:
            return 0  # another was faster; the next step looks again
        self._checkpoint.reached("addresses.drawn")
        derived = await self._derive(range(first, first + wanted))
        await self._put(derived)
        return len(derived)

    async def _standing(self) -> tuple[Indexes, int]:
        """The counter, and how many addresses are ready."""
        async with tx(self._engine) as connection:
            row = (await connection.execute(select(_counters).where(*self._counter()))).first()
            ready = select(func.count()).where(_pool.c.family == self._family, _pool.c.role == Role.DEPOSIT)
            count = (await connection.execute(ready)).scalar_one()
        return Indexes(row.next_index, row.reserved_until) if row else Indexes(0, None), count

    async def _reserve(self, reserver: Reserver) -> int:
        async with tx(self._engine) as connection:
            highest = await journal_head(connection)
        first = await reserver.reserve(Role.DEPOSIT, count=RESERVED_AT_ONCE, highest=highest)
        self._checkpoint.reached("addresses.reserved")
        begun = insert_or_update(_counters).values(family=self._family, role=Role.DEPOSIT, next_index=0)
        async with tx(self._engine) as connection:
            await connection.execute(begun.on_conflict_do_nothing())
            locked = select(_counters).where(*self._counter()).with_for_update()
            row = (await connection.execute(locked)).one()
            before = Indexes(row.next_index, row.reserved_until)
            after = before.with_block(first, RESERVED_AT_ONCE)
            await connection.execute(
                update(_counters)
                .where(*self._counter())
                .values(next_index=after.next_index, reserved_until=after.reserved_until)
            )
            if after.next_index > before.next_index:  # passed over: so is what was derived below
                below = (_pool.c.family == self._family, _pool.c.role == Role.DEPOSIT)
                await connection.execute(delete(_pool).where(*below, _pool.c.key_index < after.next_index))
        return RESERVED_AT_ONCE

    async def _draw(self, count: int) -> int | None:
        """The first of `count` indexes in a row, ours from now on; None if there aren't so many."""
        end = _counters.c.next_index + count
        fits = or_(_counters.c.reserved_until.is_(None), end <= _counters.c.reserved_until)
        drawn = (
            insert_or_update(_counters)
            .values(family=self._family, role=Role.DEPOSIT, next_index=count)
            .on_conflict_do_update(
                index_elements=[_counters.c.family, _counters.c.role], set_={"next_index": end}, where=fits
            )
            .returning(_counters.c.next_index)
        )
        async with tx(self._engine) as connection:
            following = (await connection.execute(drawn)).scalar_one_or_none()
        return None if following is None else int(following) - count

    async def _derive(self, indexes: range) -> Mapping[int, str]:
        """Each index's address: by our public keys, or by the signer where they can't tell it."""
        if not self._source.can_derive:
            if self._keys is None:
                return {}
            told = await self._keys.addresses(Role.DEPOSIT, first=indexes.start, count=len(indexes))
            return {index: address.lower() for index, address in zip(indexes, told, strict=True)}
        derived: dict[int, str] = {}
        for index in indexes:
            try:
                derived[index] = self._source.address(OwnKey(Role.DEPOSIT, index)).lower()
            except NoKeyAtIndex:
                continue
        return derived

    async def _put(self, derived: Mapping[int, str]) -> None:
        now = self._clock.now()
        rows = [
            {
                "family": self._family,
                "role": Role.DEPOSIT,
                "key_index": index,
                "address": address,
                "derived_at": now,
            }
            for index, address in derived.items()
        ]
        async with tx(self._engine) as connection:
            if rows:
                await connection.execute(insert(_pool), rows)
            self._checkpoint.reached("addresses.derived")

    def _counter(self) -> tuple[ColumnElement[bool], ...]:
        return (_counters.c.family == self._family, _counters.c.role == Role.DEPOSIT)
