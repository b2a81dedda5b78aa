"""What our own records say about an address that is to be paid: whose it is, who was paid, who paid. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal_column, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.networks import Family
from chain.signing import OwnAddress, OwnKey, Role
from wallet.recipients import Held, likeness
from wallet.tables import deposits, withdrawals
from wallet.withdrawal_states import UNPAID

TWINS_MAX = 5
"""Known addresses that look like the asked one; one is enough to warn of."""


@dataclass(frozen=True, slots=True)
class Dealings:
    """What `owner` had to do with an address. `paid`: they paid it, or are about to. `twins`: known ones like it."""

    paid: bool
    twins: tuple[str, ...]


async def load_held(connection: AsyncConnection, family: Family, address: str) -> Held | None:
    """What we have at `address` (lower-case hex): the house's, a user's, or one that nobody was given yet."""
    own, pool = chain.addresses.c, chain.address_pool.c
    row = (
        await connection.execute(select(chain.addresses).where(own.family == family, own.address == address))
    ).first()
    if row is not None:
        return Held(_own(row), row.book, row.owner)
    row = (
        await connection.execute(select(chain.address_pool).where(pool.family == family, pool.address == address))
    ).first()
    return None if row is None else Held(_own(row), pooled=True)


async def load_dealings(
    connection: AsyncConnection, book: str, owner: str, address: str, *, since: datetime
) -> Dealings:
    """`owner`'s payments to `address`, ever, and the addresses like it that they paid or, `since`, received from."""
    paid, came = withdrawals.c, deposits.c
    theirs: tuple[ColumnElement[bool], ...] = (paid.book == book, paid.owner == owner, paid.state.not_in(UNPAID))
    alike = select(paid.address).where(*theirs, *_like(paid.address, address))
    senders = select(came.sender).where(
        came.book == book, came.owner == owner, came.seen_at >= since, *_like(came.sender, address)
    )
    others = union_all(
        alike.where(paid.address != address).distinct().limit(TWINS_MAX),
        senders.where(came.sender != address).distinct().limit(TWINS_MAX),
    )
    twins = tuple((await connection.execute(others)).scalars())
    found = await connection.execute(alike.where(paid.address == address).limit(1))
    return Dealings(paid=found.first() is not None, twins=twins)


def _own(row: Row[Any]) -> OwnAddress:
    return OwnAddress(OwnKey(Role(row.role), row.key_index, row.generation), row.address)


def _like(column: Any, address: str) -> tuple[ColumnElement[bool], ...]:
    """Begins and ends like `address`, in the words of the tables' own indexes."""
    head, tail = likeness(address)
    first: ColumnElement[int] = literal_column(str(len(head)))
    last: ColumnElement[int] = literal_column(str(len(tail)))
    return func.left(column, first) == head, func.right(column, last) == tail
