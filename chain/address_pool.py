"""The pool: deposit addresses derived ahead of need, at indexes that the signer's journal gave to this database.

First indexes are reserved, in blocks; then some are drawn, in a tx of their own; then they're derived and put down. Who
is killed in between loses indexes, which are never used by anybody: they're plenty, and one used twice would give two
owners one address. So does a database that was put back from a backup: whatever it knows of may have an owner. Several
workers at once draw different ones. Issuing is `chain.addresses.issue`.

After a rotation the pool brings the new generation into force, once both know it: we, by the public key that the
operator recorded, and the signer, by the same one. With the first block of its indexes its counter begins, and what
older generations had ready is dropped. There is no way back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_update
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import addresses, tables
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.errors import KeyNotRecorded, NoKeyAtIndex
from chain.incarnation import incarnation
from chain.networks import Family
from chain.signing import AddressSource, KeyHolder, KeySet, OwnKey, Reserver, Role
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

    def restored(self, first: int, count: int) -> "Indexes":
        """After the signer has reserved `count` from `first` for a database that was put back: only these are ours.

        Not those that may have been drawn before the signer was asked for the first time.
        """
        return Indexes(max(self.next_index, first, min(addresses.UNRESERVED, first + count)), first + count)

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
    """Keeps the pool of deposit addresses full, from the generation of the key that is in force.

    `fingerprints` are those of the public keys that the operator recorded (SHA-256). `reserver` None: the signer has no
    journal of indexes to ask, and no newer generation comes into force.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        source: AddressSource,
        fingerprints: Mapping[KeySet, bytes],
        keys: KeyHolder | None,
        reserver: Reserver | None,
        clock: Clock,
        family: Family = Family.EVM,
        full: int = READY,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._engine = engine
        self._source = source
        self._fingerprints = fingerprints
        self._keys = keys
        self._reserver = reserver
        self._clock = clock
        self._family = family
        self._full = full
        self._checkpoint = checkpoint or NoCheckpoint()

    async def step(self) -> int:
        """Reserve a block, or derive some addresses; the number of either. 0: the pool is full enough.

        Raises SignerRefused when the policy's highest index is reached, SignerUnavailable, KeyNotRecorded when the
        generation in force isn't among those recorded.
        """
        keys, indexes, ready, is_ours = await self._standing()
        if self._reserver is not None and (newer := await self._newer_than(keys)) is not None:
            return await self._reserve(self._reserver, newer)
        if keys not in self._fingerprints:
            raise KeyNotRecorded(f"addresses come from {keys}, which isn't recorded: put its public key under [xpubs]")
        if not is_ours:
            return 0 if self._reserver is None else await self._reserve(self._reserver, keys)
        if 2 * ready >= self._full:
            return 0
        wanted = min(self._full - ready, DERIVED_AT_ONCE)
        if self._reserver is not None and indexes.left < wanted:
            return await self._reserve(self._reserver, keys)
        first = await self._draw(keys, wanted)
        if first is None:
            return 0  # another was faster; the next step looks again
        self._checkpoint.reached("addresses.drawn")
        derived = await self._derive(keys, range(first, first + wanted))
        await self._put(keys, derived)
        return len(derived)

    async def _standing(self) -> tuple[KeySet, Indexes, int, bool]:
        """The keys in force, their counter, how many of their addresses are ready, and whether both are this
        incarnation's of the database."""
        async with tx(self._engine) as connection:
            keys = await addresses.in_force(connection, self._family)
            row = (await connection.execute(self._counted(keys))).first()
            ready = select(func.count()).select_from(_pool).where(*self._of(_pool, keys))
            count = (await connection.execute(ready)).scalar_one()
        if row is None:
            return keys, Indexes(0, None), count, True
        return keys, Indexes(row.next_index, row.reserved_until), count, row.is_ours

    async def _newer_than(self, keys: KeySet) -> KeySet | None:
        """The newest generation that is recorded and that the signer holds too, if it isn't in force yet."""
        newer = {one: mark for one, mark in self._fingerprints.items() if one.role is Role.DEPOSIT and one > keys}
        if not newer or self._keys is None:
            return None
        held = await self._keys.fingerprints()
        return max((one for one, mark in newer.items() if held.get(one) == mark), default=None)

    async def _reserve(self, reserver: Reserver, keys: KeySet) -> int:
        """Have a block of indexes given to us. The first of a generation brings it into force."""
        async with tx(self._engine) as connection:
            highest = await journal_head(connection)
        first = await reserver.reserve(keys, count=RESERVED_AT_ONCE, highest=highest)
        self._checkpoint.reached("addresses.reserved")
        async with tx(self._engine) as connection:
            await addresses.begin_indexes(connection, self._family, keys)
            row = (await connection.execute(self._counted(keys).with_for_update())).one()
            before = Indexes(row.next_index, row.reserved_until)
            change = before.with_block if row.is_ours else before.restored
            after = change(first, RESERVED_AT_ONCE)
            await connection.execute(
                update(_counters)
                .where(*self._of(_counters, keys))
                .values(next_index=after.next_index, reserved_until=after.reserved_until, incarnation=incarnation())
            )
            stale = _pool.c.generation < keys.generation
            if after.next_index > before.next_index or not row.is_ours:  # passed over: so is what was derived below
                stale |= and_(_pool.c.generation == keys.generation, _pool.c.key_index < after.next_index)
            dropped = delete(_pool).where(_pool.c.family == self._family, _pool.c.role == keys.role, stale)
            await connection.execute(dropped)
        return RESERVED_AT_ONCE

    async def _draw(self, keys: KeySet, count: int) -> int | None:
        """The first of `count` indexes in a row, ours from now on; None if there aren't so many."""
        end = _counters.c.next_index + count
        fits = and_(
            _counters.c.incarnation == incarnation(),
            or_(_counters.c.reserved_until.is_(None), end <= _counters.c.reserved_until),
        )
        drawn = (
            insert_or_update(_counters)
            .values(family=self._family, **keys._asdict(), next_index=count, incarnation=incarnation())
            .on_conflict_do_update(index_elements=_counters.primary_key, set_={"next_index": end}, where=fits)
            .returning(_counters.c.next_index)
        )
        async with tx(self._engine) as connection:
            following = (await connection.execute(drawn)).scalar_one_or_none()
        return None if following is None else int(following) - count

    async def _derive(self, keys: KeySet, indexes: range) -> Mapping[int, str]:
        """Each index's address: by our public keys, or by the signer where they can't tell it."""
        if not self._source.can_derive:
            if self._keys is None:
                return {}
            told = await self._keys.addresses(keys, first=indexes.start, count=len(indexes))
            return {index: address.lower() for index, address in zip(indexes, told, strict=True)}
        derived: dict[int, str] = {}
        for index in indexes:
            try:
                derived[index] = self._source.address(OwnKey(keys.role, index, keys.generation)).lower()
            except NoKeyAtIndex:
                continue
        return derived

    async def _put(self, keys: KeySet, derived: Mapping[int, str]) -> None:
        now = self._clock.now()
        rows = [
            {
                "family": self._family,
                **keys._asdict(),
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

    def _counted(self, keys: KeySet) -> Select[Any]:
        is_ours = func.coalesce(_counters.c.incarnation == incarnation(), False)
        return select(_counters, is_ours.label("is_ours")).where(*self._of(_counters, keys))

    def _of(self, table: Table, keys: KeySet) -> tuple[ColumnElement[bool], ...]:
        """A row of `table` is of these keys."""
        return table.c.family == self._family, table.c.role == keys.role, table.c.generation == keys.generation
