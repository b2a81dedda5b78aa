"""The sandbox's own record: its objects as JSON documents, and the events that it has to send. Apart from ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from db.engine import tx
from fiat.rails.protocol import ObjectKind
from fiat.rails.tables import sandbox_events, sandbox_objects

Document = dict[str, Any]
"""An object of the sandbox's, with its `id` and `seq`."""

_PREFIXES = {"payment": "sbp", "refund": "sbr", "dispute": "sbd", "settlement": "sbs", "payout": "sbo"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event that waits to be sent."""

    id: str
    seq: int
    kind: str
    object_kind: str
    subject: str
    reference: str | None
    at: datetime

    @property
    def body(self) -> dict[str, object]:
        """What is sent of it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "object_kind": self.object_kind,
            "object": self.subject,
            "reference": self.reference,
            "at": self.at.isoformat(),
        }


class Record:
    """Opens sessions on one book's sandbox, one at a time over all processes."""

    def __init__(self, engine: AsyncEngine, *, book: str, clock: Clock) -> None:
        self._engine = engine
        self._book = book
        self._clock = clock

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """All or nothing: what is done in it is kept at its end."""
        async with tx(self._engine) as connection:
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
            await connection.execute(lock, {"name": f"sandbox:{self._book}"})
            yield Session(connection, self._book, self._clock.now())


class Session:
    """Reads and writes documents, within one tx."""

    def __init__(self, connection: AsyncConnection, book: str, now: datetime) -> None:
        self._connection = connection
        self._book = book
        self._now = now

    async def add(self, kind: str, document: Document) -> Document:
        """Keep a new one, and give it its id."""
        seq = await self._next(sandbox_objects)
        document |= {"id": f"{_PREFIXES[kind]}_{seq}", "seq": seq}
        row = {"book": self._book, "id": document["id"], "seq": seq, "kind": kind, "reference": document["reference"]}
        await self._connection.execute(insert(sandbox_objects).values(**row, document=document))
        return document

    async def save(self, kind: str, document: Document) -> None:
        is_it = self._is(kind) & (sandbox_objects.c.id == document["id"])
        await self._connection.execute(update(sandbox_objects).where(is_it).values(document=document))

    async def load(self, kind: str, id: str) -> Document | None:
        query = select(sandbox_objects.c.document).where(self._is(kind), sandbox_objects.c.id == id)
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def by_reference(self, kind: str, reference: str) -> Document | None:
        query = select(sandbox_objects.c.document).where(self._is(kind), sandbox_objects.c.reference == reference)
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def all(self, kind: str, *, after: int = 0, limit: int | None = None) -> list[Document]:
        query = select(sandbox_objects.c.document).where(self._is(kind), sandbox_objects.c.seq > after)
        query = query.order_by(sandbox_objects.c.seq).limit(limit)
        return list((await self._connection.execute(query)).scalars())

    def kind_of(self, document: Document) -> str:
        prefix = document["id"].partition("_")[0]
        return next(kind for kind, known in _PREFIXES.items() if known == prefix)

    async def tell(self, kind: str, object_kind: ObjectKind, object: str, reference: str | None) -> None:
        """Have an event sent."""
        seq = await self._next(sandbox_events)
        await self._connection.execute(
            insert(sandbox_events).values(
                book=self._book,
                id=f"evt_{seq}",
                seq=seq,
                kind=kind,
                object_kind=object_kind.value,
                object=object,
                reference=reference,
                at=self._now,
            )
        )

    async def unsent(self, *, limit: int) -> list[Event]:
        """Events that weren't sent yet, the oldest first."""
        c = sandbox_events.c
        query = select(c.id, c.seq, c.kind, c.object_kind, c.object, c.reference, c.at)
        query = query.where(c.book == self._book, ~c.sent).order_by(c.seq).limit(limit)
        return [Event(*row) for row in await self._connection.execute(query)]

    async def sent(self, events: "list[Event]") -> None:
        c = sandbox_events.c
        is_it = (c.book == self._book) & c.id.in_([event.id for event in events])
        await self._connection.execute(update(sandbox_events).where(is_it).values(sent=True))

    async def _next(self, table: Table) -> int:
        query = select(func.coalesce(func.max(table.c.seq), 0) + 1).where(table.c.book == self._book)
        return int((await self._connection.execute(query)).scalar_one())

    def _is(self, kind: str) -> Any:
        return (sandbox_objects.c.book == self._book) & (sandbox_objects.c.kind == kind)
