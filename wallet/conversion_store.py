"""SQL of quotes and conversions."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import Row, delete, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import Driver
from exchange.pricing import Exact, Price
from exchange.ratios import Ratio, stored
from wallet.resources import Conversion, Quote, QuoteState
from wallet.rows import page_of, row_of
from wallet.tables import conversions, quotes

Place = tuple[datetime, str]
"""When a quote expired, and its id: where a walk through them stands."""


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


async def keep_quotes(connection: Driver, book: str, new: Sequence[Quote]) -> None:
    """Keep quotes, all in one statement."""
    rows = [{"book": book, "id": quote.id, **_plain(quote_values(quote))} for quote in new]
    await connection.execute(_KEEP, msgspec.json.encode(rows).decode())


async def load_quotes(connection: Driver, book: str, ids: Sequence[str]) -> dict[str, Quote]:
    """Those of these quotes that are kept."""
    return {row["id"]: _quote(row) for row in await connection.fetch(_LOAD, book, list(ids))}


_COLUMNS = ", ".join(field.name for field in fields(Quote) if field.name != "state")
_KEEP = (
    f"INSERT INTO wallet_quotes (book, {_COLUMNS})"  # noqa: S608 - columns of ours
    f" SELECT book, {_COLUMNS} FROM jsonb_populate_recordset(NULL::wallet_quotes, $1::text::jsonb)"
)
_LOAD = (
    "SELECT kept.*, EXISTS (SELECT FROM wallet_conversions AS done"
    " WHERE done.book = kept.book AND done.quote = kept.id) AS taken FROM unnest($2::text[]) AS wanted(id)"
    " CROSS JOIN LATERAL (SELECT * FROM wallet_quotes WHERE book = $1 AND id = wanted.id LIMIT 1) AS kept"
)


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Whole numbers as texts, since JSON's readers may round them."""
    return {name: str(value) if type(value) is int else value for name, value in values.items()}


def _quote(row: asyncpg.Record) -> Quote:
    num, den, spread = row["price"].split("/")
    lost_num, lost_den = row["lost"].split("/")
    return Quote(
        id=row["id"],
        owner=row["owner"],
        state=QuoteState.USED if row["taken"] else QuoteState.OPEN,
        sell=row["sell"],
        buy=row["buy"],
        sold=int(row["sold"]),
        spread=int(row["spread"]),
        fee=int(row["fee"]),
        bought=int(row["bought"]),
        price=Price(Ratio(int(num), int(den)), int(spread)),
        exact=Exact(row["exact"]),
        lost=Ratio(int(lost_num), int(lost_den)),
        rates=row["rates"],
        rates_as_of=row["rates_as_of"],
        reference=row["reference"],
        value=None if row["value"] is None else int(row["value"]),
        spread_value=None if row["spread_value"] is None else int(row["spread_value"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


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


async def drop_expired(
    connection: AsyncConnection, book: str, before: datetime, *, behind: Place | None, limit: int
) -> tuple[int, int, Place | None]:
    """Of the next quotes behind a place that expired before this, drop those that nobody took.

    How many there were, how many were dropped, and the last one's place (None without any). Taken ones stay for good.
    """
    taken = exists().where(conversions.c.book == quotes.c.book, conversions.c.quote == quotes.c.id)
    query = select(quotes.c.id, quotes.c.expires_at, taken.label("taken")).where(
        quotes.c.book == book, quotes.c.expires_at < before
    )
    if behind is not None:
        query = query.where(tuple_(quotes.c.expires_at, quotes.c.id) > tuple_(*behind))
    rows = (await connection.execute(query.order_by(quotes.c.expires_at, quotes.c.id).limit(limit))).all()
    old = [row.id for row in rows if not row.taken]
    if old:
        await connection.execute(delete(quotes).where(quotes.c.book == book, quotes.c.id.in_(old)))
    return len(rows), len(old), (rows[-1].expires_at, rows[-1].id) if rows else None


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
