"""Own addresses: giving users theirs, enrolling the house's, and telling which of many are ours.

An address is watched from the tx that issues it: the follower asks this table for each block, so there is no list to
refresh. Those that are derived ahead of need (`chain.address_pool`) aren't watched: nobody was told them, and what is
paid to one before it has an owner must not become its next owner's. Indexes never repeat.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, delete, exists, insert, literal, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import insert as insert_or_update
from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import tables
from chain.errors import AddressesDisagree, NoAddressReady, NoKeyAtIndex
from chain.networks import Family
from chain.signing import AddressSource, OwnAddress, OwnKey, Role
from db.types import Instant

_addresses = tables.addresses
_counters = tables.address_counters
_pool = tables.address_pool
_findings = tables.address_findings

_TRIES = 3
"""Indexes in a row that may have no key: not even one will ever be met."""


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

    The next one of the pool; if that's empty, one derived here, at an index that is ours. Locks the pool's row, which
    others pass by, or the counter of indexes until the tx ends. Raises AddressesDisagree while addresses are known not
    to be the signer's or the pool's isn't what `source` derives, and NoAddressReady.
    """
    own = await _take_from_pool(connection, book=book, owner=owner, clock=clock, family=family)
    if own is not None:
        return confirmed(source, own)
    await _refuse_if_disagreeing(connection, family)
    if not source.can_derive:
        raise NoAddressReady("no address is ready: the worker gets them from the signer ahead of need")
    own = await _derive_next(connection, source, family)
    await connection.execute(
        insert(_addresses).values(
            family=family,
            address=own.address,
            role=own.key.role,
            key_index=own.key.index,
            book=book,
            owner=owner,
            issued_at=clock.now(),
        )
    )
    return own


def confirmed(source: AddressSource, own: OwnAddress) -> OwnAddress:
    """The address itself, for whoever is to be told it. Raises AddressesDisagree unless `source` derives the same.

    A source that can't derive has nothing to compare with; then only `chain.address_check` would notice.
    """
    if source.can_derive and source.address(own.key).lower() != own.address:
        raise AddressesDisagree(
            f"{own.key.role} address {own.key.index} is {own.address} in the database, this process derives another:"
            " `onebook doctor` compares keys and addresses with the signer's"
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
        insert_or_update(_addresses)
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


async def _take_from_pool(
    connection: AsyncConnection, *, book: str, owner: str, clock: Clock, family: Family
) -> OwnAddress | None:
    """Move the pool's next row to `owner`, in one statement; None if there is none or addresses disagree."""
    disagreeing = exists().where(_findings.c.family == family, _findings.c.cleared_at.is_(None))
    deposits = (_pool.c.family == family) & (_pool.c.role == Role.DEPOSIT)
    following = (
        select(_pool.c.key_index)
        .where(deposits, ~disagreeing)
        .order_by(_pool.c.key_index)
        .limit(1)
        .with_for_update(skip_locked=True, of=_pool)
        .scalar_subquery()
    )
    taken = delete(_pool).where(deposits, _pool.c.key_index == following).returning(_pool).cte("taken")
    columns = {
        "family": taken.c.family,
        "address": taken.c.address,
        "role": taken.c.role,
        "key_index": taken.c.key_index,
        "book": literal(book),
        "owner": literal(owner),
        "issued_at": type_coerce(literal(clock.now(), Instant()), Instant()),
        "checked_at": taken.c.checked_at,
    }
    moved = insert(_addresses).from_select(list(columns), select(*columns.values())).returning(_addresses)
    row = (await connection.execute(moved)).first()
    return _own(row) if row else None


async def _refuse_if_disagreeing(connection: AsyncConnection, family: Family) -> None:
    open_ = select(_findings.c.role, _findings.c.key_index)
    asked = open_.where(_findings.c.family == family, _findings.c.cleared_at.is_(None)).limit(1)
    found = (await connection.execute(asked)).first()
    if found is not None:
        what = "key" if found.key_index < 0 else f"address {found.key_index}"
        raise AddressesDisagree(
            f"the {found.role} {what} here isn't the signer's, so no address is issued: `onebook doctor` says more"
        )


async def _derive_next(connection: AsyncConnection, source: AddressSource, family: Family) -> OwnAddress:
    for _ in range(_TRIES):
        key = OwnKey(Role.DEPOSIT, await _draw_index(connection, family))
        try:
            return OwnAddress(key, source.address(key).lower())
        except NoKeyAtIndex:
            continue
    raise BrokenInvariant(f"{_TRIES} indexes in a row have no key: what derives them is broken")


async def _draw_index(connection: AsyncConnection, family: Family) -> int:
    """The next index, once. Raises NoAddressReady when the signer reserves them and none is left."""
    drawn = await connection.execute(
        insert_or_update(_counters)
        .values(family=family, role=Role.DEPOSIT, next_index=1)
        .on_conflict_do_update(
            index_elements=[_counters.c.family, _counters.c.role],
            set_={"next_index": _counters.c.next_index + 1},
            where=or_(_counters.c.reserved_until.is_(None), _counters.c.next_index < _counters.c.reserved_until),
        )
        .returning(_counters.c.next_index)
    )
    following = drawn.scalar_one_or_none()
    if following is None:
        raise NoAddressReady("every index that the signer reserved is used; the worker asks it for more")
    return int(following) - 1


def _own(row: Row[Any]) -> OwnAddress:
    return OwnAddress(OwnKey(Role(row.role), row.key_index), row.address)
