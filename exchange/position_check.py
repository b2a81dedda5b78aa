"""The exchange's positions against their moves, and against the book: what is kept, computed once more.

Few moves are computed anew each time. Of many only those that came since are, and all once an hour: what was altered
among the old ones shows then, or when everything is asked for.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from db.engine import tx
from exchange.position import FINE, MoveKind, Position, move
from exchange.positions import EARNED, STOCK
from exchange.tables import moves, positions
from ledger.accounts import house_account
from ledger.reading import book_number, load_balance_through

ANEW_MAX = 5_000
"""Moves that are computed anew each time; of more, only those that came since."""

ANEW_EVERY = timedelta(hours=1)
"""How often all are, however many."""

BOOKED = "booked"
"""Names the quantity that the book has, against the one that is kept."""


@dataclass(frozen=True, slots=True)
class KeptDiffers:
    """A figure of an asset's position: `quantity`, `cost`, `realised`, `earned`, or `booked` (what is kept against the
    book's balance). Numbers are in `parts` of the smallest unit of `unit`."""

    asset: str
    figure: str
    unit: str
    parts: int
    expected: int
    found: int


@dataclass(slots=True)
class _Carried:
    """An asset's position as its moves come to it, through the last of them."""

    position: Position = field(default_factory=Position)
    seq: int = 0
    line: int = 0
    count: int = 0


class PositionCheck:
    """Compares one book's positions. Remembers what their moves came to, so that many cost little."""

    def __init__(self, engine: AsyncEngine, *, book: str, clock: Clock) -> None:
        self._engine = engine
        self._book = book
        self._clock = clock
        self._carried: dict[str, _Carried] = {}
        self._anew_at: datetime | None = None

    async def differences(self, *, whole: bool) -> tuple[int, list[KeptDiffers]]:
        """How many positions there are, and each figure that isn't what it must be. `whole`: from the first move on."""
        now = self._clock.now()
        few = sum(one.count for one in self._carried.values()) <= ANEW_MAX
        if whole or few or self._anew_at is None or now - self._anew_at >= ANEW_EVERY:
            self._carried, self._anew_at = {}, now
        async with tx(self._engine) as connection:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            async for row in _moves(connection, self._book, self._carried):
                carried = self._carried.setdefault(row.asset, _Carried())
                carried.position = move(carried.position, MoveKind(row.kind), row.quantity, row.value)
                carried.seq, carried.line, carried.count = row.seq, row.line, carried.count + 1
            query = select(positions).where(positions.c.book == self._book).order_by(positions.c.asset)
            kept = (await connection.execute(query)).all()
            number = await book_number(connection, self._book) if kept else 0
            found: list[KeptDiffers] = []
            for row in kept:
                booked = [
                    await load_balance_through(connection, number, house_account(purpose, row.asset), row.through_seq)
                    for purpose in (STOCK, EARNED)
                ]
                found += _compare(row, self._carried.get(row.asset, _Carried()).position, sum(booked))
        return len(kept), found


async def _moves(connection: AsyncConnection, book: str, carried: dict[str, _Carried]) -> AsyncIterator[Row[Any]]:
    """Moves that aren't in what is carried, each asset's in their order."""
    of = moves.c
    order = (of.seq, of.line)
    new = select(moves).where(of.book == book, of.asset.not_in(list(carried))).order_by(*order)
    behind = [
        select(moves).where(of.book == book, of.asset == asset, tuple_(*order) > (one.seq, one.line)).order_by(*order)
        for asset, one in carried.items()
    ]
    for query in (new, *behind):
        async for row in await connection.stream(query):
            yield row


def _compare(row: Row[Any], computed: Position, booked: int) -> list[KeptDiffers]:
    """What is kept of an asset, against its moves and against the book's balance of stock and earnings."""
    asset, reference = row.asset, row.reference
    figures = [
        KeptDiffers(asset, "quantity", asset, 1, computed.quantity, int(row.quantity)),
        KeptDiffers(asset, BOOKED, asset, 1, booked, int(row.quantity)),
        KeptDiffers(asset, "cost", reference, FINE, computed.cost, int(row.cost)),
        KeptDiffers(asset, "realised", reference, FINE, computed.realised, int(row.realised)),
        KeptDiffers(asset, "earned", reference, FINE, computed.earned, int(row.earned)),
    ]
    return [one for one in figures if one.expected != one.found]
