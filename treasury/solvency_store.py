"""SQL of what is owed to users: each one's sum in an asset as COPY writes it, and the book's own sums beside."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import Driver


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


async def copy_owed(raw: Driver, number: int, sums: Sums, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand over each user and what they are owed in an asset: `owner`, a tab, the amount, a newline."""
    query = _OWED if sums.is_added_up else _ADDED_UP  # adding up for a million users takes seconds
    await raw.copy_from_query(query, number, sums.asset, output=take)
