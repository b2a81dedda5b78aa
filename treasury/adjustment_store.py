"""SQL of adjustments."""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from treasury.records import Adjustment
from treasury.tables import adjustments


async def load_adjustment(connection: AsyncConnection, book: str, adjustment: str) -> Adjustment | None:
    query = select(adjustments).where(adjustments.c.book == book, adjustments.c.id == adjustment)
    row = (await connection.execute(query)).first()
    return None if row is None else _adjustment(row)


async def list_adjustments(
    connection: AsyncConnection, book: str, *, before: str | None, limit: int
) -> list[Adjustment]:
    """Adjustments, newest first, those older than the id `before`."""
    query = select(adjustments).where(adjustments.c.book == book).order_by(adjustments.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(adjustments.c.id < before)
    return [_adjustment(row) for row in await connection.execute(query)]


def _adjustment(row: Row[Any]) -> Adjustment:
    return Adjustment(
        id=row.id,
        treasurer=row.treasurer,
        source=row.source,
        target=row.target,
        asset=row.asset,
        amount=row.amount,
        reason=row.reason,
        evidence=row.evidence,
        created_at=row.created_at,
    )
