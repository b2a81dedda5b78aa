"""SQL of quotes and conversions."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange.pricing import Exact, Price
from exchange.ratios import Ratio, stored
from wallet.resources import Conversion, Quote, QuoteState
from wallet.rows import page_of, row_of
from wallet.tables import conversions, quotes


def quote_values(quote: Quote) -> dict[str, object]:
    """The columns of a quote's row besides book and id. Whether it was taken, its conversion's row says."""
    kept = (field.name for field in fields(quote) if field.name not in ("id", "state"))
    values = {name: getattr(quote, name) for name in kept}
    price = f"{stored(quote.price.ratio)}/{quote.price.spread_basis_points}"
    return values | {"price": price, "lost": stored(quote.lost), "exact": quote.exact.value}


def conversion_values(conversion: Conversion) -> dict[str, object]:
    """The columns of a conversion's row besides book and id."""
    kept = (field.name for field in fields(conversion) if field.name not in ("id", "replayed"))
    return {name: getattr(conversion, name) for name in kept}


async def insert_quote(connection: AsyncConnection, book: str, quote: Quote) -> None:
    await connection.execute(insert(quotes).values(book=book, id=quote.id, **quote_values(quote)))


async def load_quote(connection: AsyncConnection, book: str, quote: str) -> Quote | None:
    taken = exists().where(conversions.c.book == quotes.c.book, conversions.c.quote == quotes.c.id)
    query = select(quotes, taken.label("taken")).where(quotes.c.book == book, quotes.c.id == quote)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    num, den, spread = row.price.split("/")
    lost_num, lost_den = row.lost.split("/")
    values = {field.name: row._mapping[field.name] for field in fields(Quote) if field.name != "state"}
    values["state"] = QuoteState.USED if row.taken else QuoteState.OPEN
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
    """Drop quotes that nobody took and that expired before this; how many."""
    taken = exists().where(conversions.c.book == quotes.c.book, conversions.c.quote == quotes.c.id)
    old = (
        select(quotes.c.id)
        .where(quotes.c.book == book, quotes.c.expires_at < before, ~taken)
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
