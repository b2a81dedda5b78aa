"""SQL of what is owed to users: each one's sum in an asset as COPY writes it, the book's own sums; and of epochs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from db.engine import Driver
from treasury.tables import solvency_epochs


@dataclass(frozen=True, slots=True)
class Sums:
    """One asset of a book: users who have an account, what is owed to them, and what they owe us on credit lines.

    `is_added_up`: no user has several accounts of it, whose balances would have to be added up.
    """

    asset: str
    users: int
    owed: int
    receivable: int
    is_added_up: bool = True


_SUMS = text(
    """
    SELECT asset, count(*) AS accounts, count(DISTINCT owner) AS users,
           sum(greatest(credits_posted::numeric - debits_posted::numeric, 0))::text AS owed,
           sum(greatest(debits_posted::numeric - credits_posted::numeric, 0))::text AS receivable
      FROM ledger_accounts WHERE book = :book AND owner <> 'house' GROUP BY asset ORDER BY asset
    """
)

_BESIDE = text(
    """
    SELECT asset,
           sum(CASE WHEN purpose LIKE 'in-transit:%' THEN credits_posted::numeric - debits_posted::numeric ELSE 0 END)
               ::text AS in_transit,
           sum(CASE WHEN purpose IN ('suspense', 'quarantine')
               THEN credits_posted::numeric - debits_posted::numeric ELSE 0 END)::text AS unassigned
      FROM ledger_accounts WHERE book = :book AND owner = 'house' GROUP BY asset
    """
)

_USERS = "FROM ledger_accounts WHERE book = $1 AND asset = $2::text AND owner <> 'house'"

_OWED = f"SELECT owner, greatest(credits_posted::numeric - debits_posted::numeric, 0) {_USERS}"

_ADDED_UP = f"""
    SELECT owner, sum(greatest(credits_posted::numeric - debits_posted::numeric, 0)) {_USERS} GROUP BY owner
"""
"""Held money is posted still, so it counts. What one account owes lowers nothing that is owed on another."""


async def load_sums(connection: AsyncConnection, number: int) -> list[Sums]:
    """What the book's own counters add up to, per asset."""
    rows = await connection.execute(_SUMS, {"book": number})
    return [Sums(row.asset, row.users, int(row.owed), int(row.receivable), row.accounts == row.users) for row in rows]


async def load_beside(connection: AsyncConnection, number: int) -> dict[str, tuple[int, int]]:
    """What the house owes to somebody who is in no list, by asset: in transit, and in suspense or quarantine."""
    rows = await connection.execute(_BESIDE, {"book": number})
    return {row.asset: (int(row.in_transit), int(row.unassigned)) for row in rows}


async def copy_owed(raw: Driver, number: int, sums: Sums, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand over each user and what they are owed in an asset: `owner`, a tab, the amount, a newline."""
    query = _OWED if sums.is_added_up else _ADDED_UP  # adding up for a million users takes seconds
    await raw.copy_from_query(query, number, sums.asset, output=take)


async def load_block_hash(connection: AsyncConnection, network: str, number: int) -> str | None:
    """The hash of the live block at a height."""
    block = chain.blocks.c
    query = select(block.block_hash).where(block.network == network, block.number == number, ~block.orphaned)
    return (await connection.execute(query)).scalar_one_or_none()


# Epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """An epoch as it's kept: `command` states its digest in the book, `statement` is the text that this is over.

    `seal` is the JSON of how a seal covers the command, once one does.
    """

    book: str
    number: int
    digest: str
    command: str
    statement: str
    asked_by: str | None
    made_at: datetime
    controls_at: datetime | None
    seal: str | None


async def last_number(connection: AsyncConnection, book: str) -> int:
    """The number of a book's latest epoch; 0 before the first."""
    query = select(func.max(solvency_epochs.c.number)).where(solvency_epochs.c.book == book)
    return (await connection.execute(query)).scalar_one() or 0


async def load_epoch(connection: AsyncConnection, book: str, number: int | None) -> EpochRow | None:
    """The epoch of this number, without one the latest."""
    which = () if number is None else (solvency_epochs.c.number == number,)
    rows = await _epochs(connection, book, *which, limit=1)
    return next(iter(rows), None)


async def load_epochs(connection: AsyncConnection, book: str, *, before: int | None, limit: int) -> list[EpochRow]:
    """Epochs, the latest first, those with a lower number than `before`."""
    which = () if before is None else (solvency_epochs.c.number < before,)
    return await _epochs(connection, book, *which, limit=limit)


async def load_unfinished(connection: AsyncConnection, book: str, *, limit: int) -> list[EpochRow]:
    """The latest epochs that addresses are still to sign, or that no seal covers yet."""
    lacks = or_(solvency_epochs.c.controls_at.is_(None), solvency_epochs.c.seal.is_(None))
    return await _epochs(connection, book, lacks, limit=limit)


async def note_controls(connection: AsyncConnection, book: str, number: int, *, now: datetime) -> None:
    """Every address that is to sign was asked."""
    await connection.execute(update(solvency_epochs).where(*_this(book, number)).values(controls_at=now))


async def note_seal(connection: AsyncConnection, book: str, number: int, seal: str) -> None:
    """A seal covers the epoch's command."""
    await connection.execute(update(solvency_epochs).where(*_this(book, number)).values(seal=seal))


def _this(book: str, number: int) -> tuple[ColumnElement[bool], ...]:
    return solvency_epochs.c.book == book, solvency_epochs.c.number == number


async def _epochs(connection: AsyncConnection, book: str, *which: ColumnElement[bool], limit: int) -> list[EpochRow]:
    query = select(solvency_epochs).where(solvency_epochs.c.book == book, *which)
    ordered = query.order_by(solvency_epochs.c.number.desc()).limit(limit)
    return [_epoch(row) for row in await connection.execute(ordered)]


def _epoch(row: Row[Any]) -> EpochRow:
    return EpochRow(
        book=row.book,
        number=row.number,
        digest=row.digest,
        command=row.command,
        statement=row.statement,
        asked_by=row.asked_by,
        made_at=row.made_at,
        controls_at=row.controls_at,
        seal=row.seal,
    )
