"""Own addresses: giving users theirs, enrolling the house's, and telling which of many are ours.

An address is watched from the tx that issues it: the follower asks this table for each block, so there is no list to
refresh. Those that are derived ahead of need (`chain.address_pool`) aren't watched: nobody was told them, and what is
paid to one before it has an owner must not become its next owner's. Indexes never repeat. Deposit addresses are issued
from one generation of the key alone, the one in force: `chain.address_pool` brings it into force. What was issued from
older ones stays watched.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Row,
    ScalarSelect,
    Text,
    and_,
    any_,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import insert as insert_or_update
from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import tables
from chain.errors import AddressesDisagree, NoAddressReady, NoKeyAtIndex
from chain.incarnation import incarnation
from chain.networks import Family
from chain.signing import AddressSource, KeySet, OwnAddress, OwnKey, Role
from db.types import Instant

_addresses = tables.addresses
_counters = tables.address_counters
_pool = tables.address_pool
_findings = tables.address_findings

UNRESERVED = 1_000
"""Indexes from the first one on that may be drawn before the signer was asked to reserve any."""

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

    The next one of the pool; if that's empty, one derived here, at an index that is ours; of the generation in force.
    Locks the pool's row, which others pass by, or the counter of indexes until the tx ends. Raises AddressesDisagree
    while addresses are known not to be the signer's or the pool's isn't what `source` derives; NoAddressReady, also in
    a database that was put back from a backup, until the signer's journal gave it new indexes; and KeyNotRecorded when
    `source` has no key of the generation.
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
            generation=own.key.generation,
            key_index=own.key.index,
            book=book,
            owner=owner,
            issued_at=clock.now(),
        )
    )
    return own


def confirmed(source: AddressSource, own: OwnAddress) -> OwnAddress:
    """The address itself, for whoever is to be told it.

    Raises AddressesDisagree unless `source` derives the same, KeyNotRecorded when it has no key of that generation.

    A source that can't derive has nothing to compare with; then only `chain.address_check` would notice.
    """
    if source.can_derive and source.address(own.key).lower() != own.address:
        raise AddressesDisagree(
            f"{own.key.keys} address {own.key.index} is {own.address} in the database, this process derives another:"
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
        .values(
            family=family,
            address=own.address,
            role=key.role,
            generation=key.generation,
            key_index=key.index,
            issued_at=clock.now(),
        )
        .on_conflict_do_nothing()
    )
    known = await house(connection, key=key, family=family)
    if known != own:
        raise BrokenInvariant(
            f"{key.keys} key {key.index} derives {own.address}, but this database knows it as"
            f" {known.address if known else 'somebody else'}",
            code="foreign_key",
        )
    return own


async def begin_indexes(connection: AsyncConnection, family: Family = Family.EVM, keys: KeySet | None = None) -> None:
    """Write down in which database indexes are drawn, unless that's written: a copy of it is told from it by this.

    `keys` None: those of the first generation.
    """
    of = (keys or KeySet(Role.DEPOSIT))._asdict()
    begun = insert_or_update(_counters).values(family=family, **of, next_index=0, incarnation=incarnation())
    await connection.execute(begun.on_conflict_do_nothing())


async def house(connection: AsyncConnection, *, key: OwnKey, family: Family = Family.EVM) -> OwnAddress | None:
    """The house's address behind `key`, if it was enrolled."""
    named = _addresses.c
    place = (named.role == key.role) & (named.generation == key.generation) & (named.key_index == key.index)
    asked = select(_addresses).where(named.family == family, place, named.owner.is_(None))
    row = (await connection.execute(asked)).first()
    return _own(row) if row else None


async def of_owner(
    connection: AsyncConnection, *, book: str, owner: str, family: Family = Family.EVM
) -> list[OwnAddress]:
    """The deposit addresses of `owner`, oldest first."""
    mine = (_addresses.c.family == family) & (_addresses.c.book == book) & (_addresses.c.owner == owner)
    ordered = select(_addresses).where(mine).order_by(_addresses.c.generation, _addresses.c.key_index)
    rows = await connection.execute(ordered)
    return [_own(row) for row in rows]


async def in_force(connection: AsyncConnection, family: Family = Family.EVM) -> KeySet:
    """The keys that deposit addresses are issued from: those that have a counter, of the highest generation."""
    return KeySet(Role.DEPOSIT, (await connection.execute(select(_in_force(family)))).scalar_one())


async def own_among(connection: AsyncConnection, family: Family, addresses: Collection[str]) -> frozenset[str]:
    """Those of `addresses` that are our own."""
    if not addresses:
        return frozenset()
    ours = (_addresses.c.family == family) & (_addresses.c.address == any_(literal(list(addresses), ARRAY(Text))))
    rows = await connection.execute(select(_addresses.c.address).where(ours))
    return frozenset(rows.scalars())


async def _take_from_pool(
    connection: AsyncConnection, *, book: str, owner: str, clock: Clock, family: Family
) -> OwnAddress | None:
    """Move the pool's next row to `owner`, in one statement; None if there is none or addresses disagree.

    Rows of older generations are left where they are: the pool drops them.
    """
    disagreeing = exists().where(_findings.c.family == family, _findings.c.cleared_at.is_(None))
    newest = _pool.c.generation == _in_force(family)
    deposits = (_pool.c.family == family) & (_pool.c.role == Role.DEPOSIT) & newest
    following = (
        select(_pool.c.key_index)
        .where(deposits, ~disagreeing, _drawn_here(family))
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
        "generation": taken.c.generation,
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
    open_ = select(_findings)
    asked = open_.where(_findings.c.family == family, _findings.c.cleared_at.is_(None)).limit(1)
    found = (await connection.execute(asked)).first()
    if found is not None:
        what = "key" if found.key_index < 0 else f"address {found.key_index}"
        keys = KeySet(Role(found.role), found.generation)
        raise AddressesDisagree(
            f"the {keys} {what} here isn't the signer's, so no address is issued: `onebook doctor` says more"
        )


async def _derive_next(connection: AsyncConnection, source: AddressSource, family: Family) -> OwnAddress:
    for _ in range(_TRIES):
        key = await _draw(connection, family)
        try:
            return OwnAddress(key, source.address(key).lower())
        except NoKeyAtIndex:
            continue
    raise BrokenInvariant(f"{_TRIES} indexes in a row have no key: what derives them is broken")


async def _draw(connection: AsyncConnection, family: Family) -> OwnKey:
    """The next key of the generation in force, once.

    Raises NoAddressReady when the signer reserves indexes and none is left.
    """
    first = select(literal(family), literal(Role.DEPOSIT), _in_force(family), literal(1), incarnation())
    drawn = await connection.execute(
        insert_or_update(_counters)
        .from_select(["family", "role", "generation", "next_index", "incarnation"], first)
        .on_conflict_do_update(
            index_elements=_counters.primary_key,
            set_={"next_index": _counters.c.next_index + 1},
            where=and_(
                _counters.c.incarnation == incarnation(),
                _counters.c.next_index < func.coalesce(_counters.c.reserved_until, UNRESERVED),
            ),
        )
        .returning(_counters.c.next_index, _counters.c.generation)
    )
    following = drawn.one_or_none()
    if following is None:
        raise NoAddressReady("no index that the signer reserved for this database is left; the worker asks it for more")
    return OwnKey(Role.DEPOSIT, following.next_index - 1, following.generation)


def _in_force(family: Family) -> ScalarSelect[int]:
    """The highest generation that indexes are drawn from; before any was drawn, the first."""
    deposits = (_counters.c.family == family) & (_counters.c.role == Role.DEPOSIT)
    return select(func.coalesce(func.max(_counters.c.generation), 1)).where(deposits).scalar_subquery()


def _drawn_here(family: Family) -> ColumnElement[bool]:
    """The indexes that this database knows of are its own: it wasn't put back from a backup since."""
    mine = (_counters.c.family == family) & (_counters.c.role == Role.DEPOSIT)
    in_force = _counters.c.generation == _in_force(family)
    return exists().where(mine, in_force, _counters.c.incarnation == incarnation())


def _own(row: Row[Any]) -> OwnAddress:
    return OwnAddress(OwnKey(Role(row.role), row.key_index, row.generation), row.address)
