"""Queues: the rows of a table that wait for something, how many there are, and since when the oldest does.

A package names its own (`QUEUES` in its `backlog.py`); `load_waiting` looks at them, each by one query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ColumnElement, TextClause, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows for which `waits` holds, an SQL condition; `since`: when a row began to wait.

    It's text, without parameters, so that PostgreSQL sees that an index of just such rows answers it.

    `place` (a network, rail or account) and `state` tell them apart, where there's anything to tell apart.
    """

    name: str
    book: Column[str]
    since: Column[datetime]
    waits: TextClause
    place: Column[str] | None = None
    state: Column[str] | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one queue, at one place and in one state; "" where a queue knows none. `oldest`: None if none."""

    queue: str
    place: str
    state: str
    count: int
    oldest: datetime | None


async def load_waiting(connection: AsyncConnection, queues: Iterable[Queue], book: str) -> list[Waiting]:
    """What waits now. Of an empty queue one line that says so."""
    found = []
    for queue in queues:
        place, state = _told(queue.place).label("place"), _told(queue.state).label("state")
        counted, oldest = func.count().label("waiting"), func.min(queue.since).label("oldest")
        query = select(place, state, counted, oldest).where(queue.book == book, queue.waits)
        rows = list(await connection.execute(query.group_by(place, state).order_by(place, state)))
        found += [Waiting(queue.name, row.place, row.state, row.waiting, row.oldest) for row in rows]
        if not rows:
            found.append(Waiting(queue.name, "", "", 0, None))
    return found


def _told(column: Column[str] | None) -> ColumnElement[str]:
    return func.coalesce(column, "") if column is not None else literal("")
