"""SQL of snapshots: what sources said, and what was believed of it."""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange.agreeing import Snapshot
from exchange.tables import snapshots

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Snapshot).decode


async def add(connection: AsyncConnection, book: str, snapshot: Snapshot) -> None:
    row = {"book": book, "id": snapshot.id, "at": snapshot.at, "content": _encode(snapshot)}
    await connection.execute(insert(snapshots).values(row))


async def latest(connection: AsyncConnection, book: str, *, by: datetime) -> Snapshot | None:
    """The newest one of those made by then. One from later is a clock's mistake, and tells nothing until its time."""
    made = (snapshots.c.book == book) & (snapshots.c.at <= by)
    query = select(snapshots.c.content).where(made).order_by(snapshots.c.at.desc()).limit(1)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else _decode(bytes(found))


async def load(connection: AsyncConnection, book: str, snapshot: str) -> Snapshot | None:
    query = select(snapshots.c.content).where(snapshots.c.book == book, snapshots.c.id == snapshot)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else _decode(bytes(found))


async def ids_before(
    connection: AsyncConnection, book: str, before: datetime, *, behind: datetime | None = None, limit: int
) -> list[tuple[str, datetime]]:
    """Snapshots older than `before` and not older than `behind`, oldest first, each with its instant.

    Not the last one of its hour: by it what stood then is valued for good (`exchange.past`).
    """
    later = snapshots.alias("later")
    hour = func.date_trunc("hour", snapshots.c.at, "UTC")
    same_hour = exists().where(
        later.c.book == book, later.c.at > snapshots.c.at, later.c.at < hour + timedelta(hours=1)
    )
    query = select(snapshots.c.id, snapshots.c.at).where(snapshots.c.book == book, snapshots.c.at < before, same_hour)
    if behind is not None:
        query = query.where(snapshots.c.at >= behind)
    rows = await connection.execute(query.order_by(snapshots.c.at, snapshots.c.id).limit(limit))
    return [(row.id, row.at) for row in rows]


async def drop(connection: AsyncConnection, book: str, ids: list[str]) -> None:
    await connection.execute(delete(snapshots).where(snapshots.c.book == book, snapshots.c.id.in_(ids)))
