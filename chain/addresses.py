"""Own addresses: giving users theirs, enrolling the house's, and telling which of many are ours.

An address is watched from the tx that issues it: the follower asks this table for each block, so there is no list to
refresh. Indexes never repeat; one that was drawn in a tx that failed is given to the next.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import tables
from chain.networks import Family
from chain.signing import AddressSource, OwnAddress, OwnKey, Role

_addresses = tables.addresses
_counters = tables.address_counters


async def issue(
    connection: AsyncConnection,
    source: AddressSource,
    *,
    book: str,
    owner: str,
    clock: Clock,
    family: Family = Family.EVM,
) -> OwnAddress:
    """Give `owner` a fresh deposit address, in the caller's tx; it is watched from its commit on.

    Takes the lock on the counter of deposit addresses until the tx ends.
    """
    key = OwnKey(Role.DEPOSIT, await _draw_index(connection, family))
    own = OwnAddress(key, source.address(key).lower())
    await connection.execute(
        insert(_addresses).values(
            family=family,
            address=own.address,
            role=key.role,
            key_index=key.index,
            book=book,
            owner=owner,
            issued_at=clock.now(),
        )
    )
    return own


async def enrol(
    connection: AsyncConnection, source: AddressSource, *, key: OwnKey, clock: Clock, family: Family = Family.EVM
) -> OwnAddress:
    """Make a house key's address (hot or gas) known as our own; again is the same.

    Raises BrokenInvariant when another address stands there: the keys aren't those that this database knew.
    """
    own = OwnAddress(key, source.address(key).lower())
    await connection.execute(
        insert(_addresses)
        .values(family=family, address=own.address, role=key.role, key_index=key.index, issued_at=clock.now())
        .on_conflict_do_nothing()
    )
    known = await house(connection, key=key, family=family)
    if known != own:
        raise BrokenInvariant(
            f"{key.role} key {key.index} derives {own.address}, but this database knows it as"
            f" {known.address if known else 'somebody else'}",
            code="foreign_key",
        )
    return own


async def house(connection: AsyncConnection, *, key: OwnKey, family: Family = Family.EVM) -> OwnAddress | None:
    """The house's address behind `key`, if it was enrolled."""
    place = (_addresses.c.family == family) & (_addresses.c.role == key.role) & (_addresses.c.key_index == key.index)
    row = (await connection.execute(select(_addresses).where(place, _addresses.c.owner.is_(None)))).first()
    return _own(row) if row else None


async def of_owner(
    connection: AsyncConnection, *, book: str, owner: str, family: Family = Family.EVM
) -> list[OwnAddress]:
    """The deposit addresses of `owner`, oldest first."""
    mine = (_addresses.c.family == family) & (_addresses.c.book == book) & (_addresses.c.owner == owner)
    rows = await connection.execute(select(_addresses).where(mine).order_by(_addresses.c.key_index))
    return [_own(row) for row in rows]


async def own_among(connection: AsyncConnection, family: Family, addresses: Collection[str]) -> frozenset[str]:
    """Those of `addresses` that are our own."""
    if not addresses:
        return frozenset()
    ours = (_addresses.c.family == family) & _addresses.c.address.in_(addresses)
    rows = await connection.execute(select(_addresses.c.address).where(ours))
    return frozenset(rows.scalars())


async def _draw_index(connection: AsyncConnection, family: Family) -> int:
    drawn = await connection.execute(
        insert(_counters)
        .values(family=family, role=Role.DEPOSIT, next_index=1)
        .on_conflict_do_update(
            index_elements=[_counters.c.family, _counters.c.role], set_={"next_index": _counters.c.next_index + 1}
        )
        .returning(_counters.c.next_index)
    )
    return int(drawn.scalar_one()) - 1


def _own(row: Row[Any]) -> OwnAddress:
    return OwnAddress(OwnKey(Role(row.role), row.key_index), row.address)
