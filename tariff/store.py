"""The only SQL of the tariff: rows to values and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, Text, any_, func, insert, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import Driver
from tariff.tables import tier_changes


@dataclass(frozen=True, slots=True)
class TierChange:
    """A user was put from one tier into another. `by` is the API key (or `command line`) that did it."""

    owner: str
    number: int
    from_tier: str
    to_tier: str
    reason: str
    by: str
    at: datetime


async def find_tiers(driver: Driver, book: str, owners: Sequence[str]) -> dict[str, str]:
    """The tiers of those of these users who were ever put into one."""
    rows = await driver.fetch(
        "SELECT DISTINCT ON (owner) owner, to_tier FROM tariff_tier_changes"
        " WHERE book = $1 AND owner = ANY($2::text[]) ORDER BY owner, number DESC",
        book,
        list(owners),
    )
    return {row["owner"]: row["to_tier"] for row in rows}


async def load_tiers_at(connection: AsyncConnection, book: str, owners: Sequence[str], at: datetime) -> dict[str, str]:
    """The tiers that those of these users had at `at` who were put into one by then."""
    table = tier_changes.c
    asked = (table.book == book) & (table.owner == any_(literal(list(owners), ARRAY(Text)))) & (table.changed_at <= at)
    query = (
        select(table.owner, table.to_tier)
        .where(asked)
        .ext(distinct_on(table.owner))
        .order_by(table.owner, table.number.desc())
    )
    return {row.owner: row.to_tier for row in await connection.execute(query)}


async def load_changes(connection: AsyncConnection, book: str, owner: str) -> list[TierChange]:
    """A user's history, newest first."""
    table = tier_changes.c
    query = select(tier_changes).where(table.book == book, table.owner == owner).order_by(table.number.desc())
    return [
        TierChange(row.owner, row.number, row.from_tier, row.to_tier, row.reason, row.changed_by, row.changed_at)
        for row in await connection.execute(query)
    ]


async def add_change(connection: AsyncConnection, book: str, change: TierChange) -> None:
    """Add a row. Raises UniqueBroken (by the tx) if this number was taken meanwhile."""
    await connection.execute(
        insert(tier_changes).values(
            book=book,
            owner=change.owner,
            number=change.number,
            from_tier=change.from_tier,
            to_tier=change.to_tier,
            reason=change.reason,
            changed_by=change.by,
            changed_at=change.at,
        )
    )


async def count_tiers(connection: AsyncConnection, book: str) -> dict[str, int]:
    """How many users are in each tier that somebody was put into."""
    table = tier_changes.c
    latest = (
        select(table.owner, table.to_tier)
        .where(table.book == book)
        .ext(distinct_on(table.owner))
        .order_by(table.owner, table.number.desc())
        .subquery()
    )
    query = select(latest.c.to_tier, func.count().label("users")).group_by(latest.c.to_tier)
    return {row.to_tier: row.users for row in await connection.execute(query)}
