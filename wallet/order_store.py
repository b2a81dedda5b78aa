"""SQL of orders."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from wallet.order_states import Order, OrderKind, OrderState
from wallet.rows import page_of, row_of
from wallet.tables import orders

_NOT_KEPT = ("following", "replayed")


def values_of(order: Order) -> dict[str, object]:
    """The columns of an order's row besides book and id."""
    kept = (field.name for field in fields(order) if field.name not in ("id", *_NOT_KEPT))
    values = {name: getattr(order, name) for name in kept}
    return values | {"kind": order.kind.value, "state": order.state.value}


async def load(connection: AsyncConnection, book: str, order: str) -> Order | None:
    row = await row_of(connection, orders, book, order)
    return None if row is None else _order(row)


async def by_request(connection: AsyncConnection, book: str, request: str) -> Order | None:
    """The order whose following command, or whose top-up's, has this id."""
    query = select(orders).where(orders.c.book == book, orders.c.request == request)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _order(row)


async def page(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Order]:
    query = page_of(orders, book, owner, before=before, after=after, limit=limit)
    return [_order(row) for row in await connection.execute(query)]


async def claim(connection: AsyncConnection, book: str, *, now: datetime, until: datetime, limit: int) -> list[Order]:
    """Orders that are due, taken up until then: nobody else looks at them meanwhile."""
    due = (
        select(orders.c.id)
        .where(orders.c.book == book, orders.c.due_at <= now)
        .order_by(orders.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    change = update(orders).where(orders.c.book == book, orders.c.id.in_(due)).values(due_at=until).returning(orders)
    return [_order(row) for row in await connection.execute(change)]


async def change(connection: AsyncConnection, book: str, order: Order, values: Mapping[str, object]) -> bool:
    """Change an order if it's as it was read; whether it was."""
    is_it = (orders.c.book == book) & (orders.c.id == order.id) & (orders.c.revision == order.revision)
    done = await connection.execute(update(orders).where(is_it).values(**values, revision=order.revision + 1))
    return bool(done.rowcount)


def _order(row: Row[Any]) -> Order:
    values = {field.name: row._mapping[field.name] for field in fields(Order) if field.name not in _NOT_KEPT}
    return Order(**values | {"kind": OrderKind(row.kind), "state": OrderState(row.state)})
