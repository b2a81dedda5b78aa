"""What the wallet's SQL shares: rows by id and as values, and a page of an owner's rows.

Lists are keyset: newest first, or oldest first when `after` is given; keys are ids, which sort by time.
"""

from typing import Any

from sqlalchemy import Row, Select, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from wallet.resources import Deposit, DepositState

LIMIT_MAX = 500
"""Rows of one page at most."""


async def row_of(connection: AsyncConnection, table: Table, book: str, row_id: str) -> Row[Any] | None:
    return (await connection.execute(select(table).where(table.c.book == book, table.c.id == row_id))).first()


def page_of(
    table: Table, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> Select[tuple[Any, ...]]:
    query = select(table).where(table.c.book == book, table.c.owner == owner)
    if before is not None:
        query = query.where(table.c.id < before)
    if after is not None:
        query = query.where(table.c.id > after)
    order = table.c.id.asc() if after is not None else table.c.id.desc()
    return query.order_by(order).limit(max(1, min(limit, LIMIT_MAX)))


def read_deposit(row: Row[Any]) -> Deposit:
    """A row of deposits as a value."""
    return Deposit(
        id=row.id,
        owner=row.owner,
        state=DepositState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        contract=row.contract,
        chain_amount=row.chain_amount,
        sender=row.sender,
        address=row.address,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        entry=row.entry,
        seen_at=row.seen_at,
        updated_at=row.updated_at,
    )
