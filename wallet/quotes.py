"""Quotes: a price that a user may take for half a minute. What it comes to is `exchange.pricing`'s arithmetic."""

from datetime import timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, Rejected
from base.ids import new_id
from db.engine import tx
from exchange import pricing
from exchange.rates import Rates
from ledger.engine import Ledger
from wallet import conversion_store
from wallet.resources import Quote, QuoteState

QUOTE_SECONDS = 30
"""How long a quote stands."""


class RateSource(Protocol):
    """Where rates come from: a file now, a feed later."""

    def current(self) -> Rates:
        """The rates now. Raises InvalidRates and RatesTooOld."""
        ...


class Quotes:
    """Makes quotes from the rates and keeps them."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        rates: RateSource,
        clock: Clock,
        entropy: Entropy,
        seconds: int = QUOTE_SECONDS,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._rates = rates
        self._clock = clock
        self._entropy = entropy
        self._seconds = seconds

    async def create(
        self, owner: str, *, sell: str, buy: str, sell_amount: int | None = None, buy_amount: int | None = None
    ) -> Quote:
        """A quote for selling `sell_amount`, or for buying `buy_amount`: exactly one of them, in smallest units.

        Raises Rejected (not exactly one amount), UnknownAsset, NoRate, AmountTooSmall, RatesTooOld.
        """
        sold_asset, bought_asset = await self._ledger.asset(sell), await self._ledger.asset(buy)
        rates = self._rates.current()
        price = rates.price(sold_asset, bought_asset)
        match sell_amount, buy_amount:
            case int(), None:
                exchange = pricing.sell(price, sell_amount)
            case None, int():
                exchange = pricing.buy(price, buy_amount)
            case _:
                raise Rejected("give either sell_amount or buy_amount", code="one_amount", param="sell_amount")
        now = self._clock.now()
        quote = Quote(
            id=new_id("quo", self._clock, self._entropy),
            owner=owner,
            state=QuoteState.OPEN,
            sell=sell,
            buy=buy,
            sold=exchange.sold,
            spread=exchange.spread,
            bought=exchange.bought,
            price=price,
            rates_as_of=rates.as_of,
            created_at=now,
            expires_at=now + timedelta(seconds=self._seconds),
        )
        async with tx(self._engine) as connection:
            await conversion_store.insert_quote(connection, self._ledger.book, quote)
        return quote

    async def get(self, owner: str, quote: str) -> Quote:
        """The owner's quote with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await conversion_store.load_quote(connection, self._ledger.book, quote)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no quote {quote[:40]!r}", param="quote")
        return found
