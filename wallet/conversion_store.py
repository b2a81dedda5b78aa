"""SQL of quotes and conversions."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange.pricing import Exact, Price
from exchange.ratios import Ratio, stored
from wallet.resources import Conversion, Quote, QuoteState
from wallet.rows import page_of, row_of
from wallet.tables import conversions, quotes


async def insert_quote(connection: AsyncConnection, book: str, quote: Quote) -> None:
    values = {field.name: getattr(quote, field.name) for field in fields(quote)}
    values["price"] = f"{stored(quote.price.ratio)}/{quote.price.spread_basis_points}"
    values["lost"] = stored(quote.lost)
    await connection.execute(insert(quotes).values(book=book, **values))


async def load_quote(connection: AsyncConnection, book: str, quote: str) -> Quote | None:
    row = await row_of(connection, quotes, book, quote)
    if row is None:
        return None
    num, den, spread = row.price.split("/")
    lost_num, lost_den = row.lost.split("/")
    values = {field.name: row._mapping[field.name] for field in fields(Quote)}
    values["state"] = QuoteState(row.state)
    values["price"] = Price(Ratio(int(num), int(den)), int(spread))
    values["exact"] = Exact(row.exact)
    values["lost"] = Ratio(int(lost_num), int(lost_den))
    return Quote(**values)


async def load_conversion(connection: AsyncConnection, book: str, conversion: str) -> Conversion | None:
    row = await row_of(connection, conversions, book, conversion)
    return None if row is None else _conversion(row)


async def load_conversions(connection: AsyncConnection, book: str, ids: list[str]) -> dict[str, Conversion]:
    """Those with these ids."""
    query = select(conversions).where(conversions.c.book == book, conversions.c.id.in_(ids))
    return {row.id: _conversion(row) for row in await connection.execute(query)}


async def list_conversions(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Conversion]:
    query = page_of(conversions, book, owner, before=before, after=after, limit=limit)
    return [_conversion(row) for row in await connection.execute(query)]


async def drop_expired(connection: AsyncConnection, book: str, before: datetime, *, limit: int) -> int:
    """Drop open quotes that expired before this; how many."""
    old = (
        select(quotes.c.id)
        .where(quotes.c.book == book, quotes.c.state == QuoteState.OPEN, quotes.c.expires_at < before)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await connection.execute(delete(quotes).where(quotes.c.book == book, quotes.c.id.in_(old)))).rowcount


async def rates_in_use(connection: AsyncConnection, book: str, ids: list[str]) -> set[str]:
    """Those of these snapshots of rates by which something was converted, or by which a quote stands."""
    found: set[str] = set()
    for table in (conversions, quotes):
        query = select(table.c.rates).where(table.c.book == book, table.c.rates.in_(ids)).distinct()
        found.update((await connection.execute(query)).scalars())
    return found


def _conversion(row: Row[Any]) -> Conversion:
    return Conversion(
        **{field.name: row._mapping[field.name] for field in fields(Conversion) if field.name != "replayed"}
    )
