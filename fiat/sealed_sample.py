"""Whether a vault opens what is sealed in a database: the ids of all keys that sealed, and some rows at random."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Column, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from base.errors import OnebookError
from fiat.personal import Vault, key_of
from fiat.rails.tables import payment_methods, webhooks
from fiat.tables import lines, payouts

_SEALED: tuple[tuple[Table, Column[bytes]], ...] = (
    (lines, lines.c.personal),
    (payouts, payouts.c.recipient),
    (payment_methods, payment_methods.c.personal),
    (webhooks, webhooks.c.body_sealed),
)
_HEAD_BYTES = 5
"""Form and key id, with which every sealed value begins (`fiat.personal`)."""


@dataclass(slots=True)
class Opened:
    """How many rows are sealed, how many were tried, and the first of those that don't open, each with why."""

    sealed: int = 0
    tried: int = 0
    closed: list[str] = field(default_factory=list)


async def try_to_open(connection: AsyncConnection, vault: Vault | None, *, book: str, most: int) -> Opened:
    """Open at most `most` rows of each table, all where there are no more, and one of each key that sealed there.

    `vault` None: there is no key at all.
    """
    found = Opened()
    for table, column in _SEALED:
        here = (table.c.book == book) & column.is_not(None)
        count = (await connection.execute(select(func.count()).select_from(table).where(here))).scalar_one()
        found.sealed += count
        if not count:
            continue
        head = func.substring(column, 1, _HEAD_BYTES)
        keys = await connection.scalars(select(head).distinct().where(here))
        drawn: dict[str, bytes] = {}
        for query, limit in [*((here & (head == key), 1) for key in keys), (here, most)]:
            asked = select(table.c.id, column.label("sealed")).where(query).order_by(func.random()).limit(limit)
            drawn |= {row.id: bytes(row.sealed) for row in await connection.execute(asked)}
        found.tried += len(drawn)
        for row, sealed in sorted(drawn.items()):
            found.closed += _why_closed(vault, sealed, book=book, table=table.name, row=row)
    return found


def _why_closed(vault: Vault | None, sealed: bytes, *, book: str, table: str, row: str) -> Iterator[str]:
    try:
        if vault is None:
            yield f"{table} {row} was sealed by key {key_of(sealed).hex()}, and there is no key"
        else:
            vault.open(sealed, book=book, table=table, row=row)
    except OnebookError as problem:
        yield f"{table} {row}: {problem.message}"
