"""How the worker takes up what is due at providers: a bounded piece, of some rails at a time."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sqlalchemy import Row, Table

from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import BATCH, Desk


async def look_at_due(
    desk: Desk,
    table: Table,
    look: Callable[[Row[Any]], Awaitable[None]],
    *,
    rails: Collection[str] = (),
    but: Collection[str] = (),
) -> int:
    """Look at rows that are due, of `rails` (all if none is named) but these; how many were looked at.

    It ends with their lease: where a provider is silent, what is left is due again by then.
    """
    looked, until = 0, desk.leased()
    async with tx(desk.engine) as connection:
        rows = await store.claim(
            connection, table, desk.book, rails=rails, but=but, now=desk.clock.now(), until=until, limit=BATCH
        )
    for row in rows:
        if desk.clock.now() >= until:
            break
        await look(row)
        looked += 1
    return looked
