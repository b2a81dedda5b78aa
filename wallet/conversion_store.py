"""SQL of quotes and conversions."""

from typing import Any

from sqlalchemy import Row, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from exchange.rates import Price, Ratio
from wallet.resources import Conversion, Quote, QuoteState
from wallet.rows import page_of, row_of
from wallet.tables import conversions, quotes


async def insert_quote(connection: AsyncConnection, book: str, quote: Quote) -> None:
    await connection.execute(
        insert(quotes).values(
            book=book,
            id=quote.id,
            owner=quote.owner,
            state=quote.state,
            sell=quote.sell,
            buy=quote.buy,
            sold=quote.sold,
            spread=quote.spread,
            bought=quote.bought,
            price=f"{ratio_text(quote.price.ratio)}/{quote.price.spread_basis_points}",
            rates_as_of=quote.rates_as_of,
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )
    )


async def load_quote(connection: AsyncConnection, book: str, quote: str) -> Quote | None:
    row = await row_of(connection, quotes, book, quote)
    if row is None:
        return None
    num, den, spread = row.price.split("/")
    return Quote(
        id=row.id,
        owner=row.owner,
        state=QuoteState(row.state),
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        price=Price(Ratio(int(num), int(den)), int(spread)),
        rates_as_of=row.rates_as_of,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


async def load_conversion(connection: AsyncConnection, book: str, conversion: str) -> Conversion | None:
    row = await row_of(connection, conversions, book, conversion)
    return None if row is None else _conversion(row)


async def list_conversions(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Conversion]:
    query = page_of(conversions, book, owner, before=before, after=after, limit=limit)
    return [_conversion(row) for row in await connection.execute(query)]


def ratio_text(ratio: Ratio) -> str:
    """A ratio as it's stored: exact at any length."""
    return f"{ratio.num}/{ratio.den}"


def _conversion(row: Row[Any]) -> Conversion:
    return Conversion(
        id=row.id,
        owner=row.owner,
        quote=row.quote,
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        created_at=row.created_at,
    )
