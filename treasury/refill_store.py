"""Rows of refill requests, and what the chain's rows say the hot address is to pay: the only SQL of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.signing import Role
from chain.transaction_states import OPEN, WaitingFor
from db.types import Amount
from treasury.inflow_store import inflow_of
from treasury.records import Inflow, InflowState
from treasury.sweep_records import Refill, RefillState
from treasury.tables import adjustments, inflows, refills

_STANDING = [RefillState.OPEN, RefillState.ARRIVED]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the hot address is still to pay of one asset, in chain units. `short`: a payment waits for it."""

    amount: int
    short: bool


async def load_wanted(connection: AsyncConnection, network: str, contract: str | None) -> Wanted:
    """Payments from the hot address that aren't mined yet; of the native coin with the most that gas may take."""
    own = chain.transactions.c
    open_ = and_(own.network == network, own.sender_role == Role.HOT, own.state.in_(OPEN), own.block_hash.is_(None))
    of_asset = own.contract.is_not_distinct_from(contract)
    amount = select(func.coalesce(func.sum(own.amount, type_=Amount()), 0, type_=Amount())).where(open_, of_asset)
    total = int((await connection.execute(amount)).scalar_one())
    short = and_(own.waiting_for == WaitingFor.FUNDS, of_asset)
    if contract is None:
        fees = select(func.coalesce(func.sum(own.fee_wei_max, type_=Amount()), 0, type_=Amount())).where(open_)
        total += int((await connection.execute(fees)).scalar_one())
        short = or_(short, own.waiting_for == WaitingFor.GAS)
    waits = bool((await connection.execute(select(exists().where(open_, short)))).scalar_one())
    return Wanted(total, waits)


async def insert_refill(connection: AsyncConnection, book: str, refill: Refill) -> bool:
    """A request; False where there is one for this network and asset."""
    values = {name: getattr(refill, name) for name in Refill.__dataclass_fields__}
    made = await connection.execute(insert(refills).values(book=book, **values).on_conflict_do_nothing())
    return bool(made.rowcount)


async def load_standing(connection: AsyncConnection, book: str, network: str, asset: str) -> Refill | None:
    """The request for this network and asset that isn't closed."""
    query = select(refills).where(
        refills.c.book == book,
        refills.c.network == network,
        refills.c.asset == asset,
        refills.c.state.in_(_STANDING),
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _refill(row)


async def load_all_standing(connection: AsyncConnection, book: str) -> list[Refill]:
    """Every request that isn't closed, oldest first."""
    query = select(refills).where(refills.c.book == book, refills.c.state.in_(_STANDING)).order_by(refills.c.id)
    return [_refill(row) for row in await connection.execute(query)]


async def load_refill(connection: AsyncConnection, book: str, refill: str) -> Refill | None:
    row = (await connection.execute(select(refills).where(refills.c.book == book, refills.c.id == refill))).first()
    return None if row is None else _refill(row)


async def list_refills(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Refill]:
    """Requests, newest first, those older than the id `before`."""
    query = select(refills).where(refills.c.book == book)
    if before is not None:
        query = query.where(refills.c.id < before)
    rows = await connection.execute(query.order_by(refills.c.id.desc()).limit(limit))
    return [_refill(row) for row in rows]


async def change_refill(
    connection: AsyncConnection, book: str, refill: Refill, *, now: datetime, **columns: object
) -> bool:
    """Change a request unless somebody else moved it on; whether it was changed."""
    mine = and_(refills.c.book == book, refills.c.id == refill.id, refills.c.state == refill.state)
    changed = await connection.execute(update(refills).where(mine).values({**columns, "updated_at": now}))
    return bool(changed.rowcount)


async def load_arrivals(connection: AsyncConnection, book: str, refill: Refill) -> list[Inflow]:
    """What came to the hot address of the request's asset since it was made, and closed no other; oldest first."""
    taken = refills.alias()
    query = select(inflows).where(
        inflows.c.book == book,
        inflows.c.network == refill.network,
        inflows.c.asset == refill.asset,
        inflows.c.role == Role.HOT,
        inflows.c.state == InflowState.BOOKED,
        inflows.c.booked_at >= refill.created_at,
        ~exists().where(taken.c.book == book, taken.c.inflow == inflows.c.id, taken.c.id != refill.id),
    )
    return [inflow_of(row) for row in await connection.execute(query.order_by(inflows.c.id))]


async def is_named(connection: AsyncConnection, book: str, inflow: str) -> bool:
    """Whether an adjustment names this inflow as its evidence."""
    query = select(exists().where(adjustments.c.book == book, adjustments.c.evidence == inflow))
    return bool((await connection.execute(query)).scalar_one())


def _refill(row: Row[Any]) -> Refill:
    values = {name: getattr(row, name) for name in Refill.__dataclass_fields__ if name != "state"}
    return Refill(**values, state=RefillState(row.state))
