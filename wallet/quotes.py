"""Quotes: a price that a user may take for half a minute. What it comes to is `exchange.pricing`'s arithmetic."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound, Rejected
from base.ids import new_id
from db.engine import Driver, tx
from db.gathering import Gathering
from exchange import pricing, snapshot_store
from exchange.errors import ExposureReached, OutsideSizes
from exchange.position import fine
from exchange.pricing import Exchange
from exchange.rates import Rates, RateSource
from exchange.terms import Terms
from ledger.accounts import house_account
from ledger.engine import Ledger
from ledger.money import Asset, format_amount
from wallet import conversion_store
from wallet.errors import ExchangeShort
from wallet.resources import Quote, QuoteState

STOCK = "fx"
"""Purpose of the exchange's stock: what the treasurer put there is all that can be sold."""

KEPT = timedelta(days=1)
"""How long a quote that nobody took is kept, and rates by which nothing was converted."""

_PRUNED = 1000
"""Rows looked at in one step at most."""


class Charging(Protocol):
    """Who knows the user's tier and what a conversion costs them."""

    async def tier(self, owner: str) -> str | None:
        """The owner's tier; None where there are none."""
        ...

    async def fee(self, owner: str, asset: Asset, amount: int) -> int:
        """What converting `amount` of the sold asset costs on top at most, in smallest units of it."""
        ...

    async def free(self, owner: str, asset: Asset, amount: int) -> bool:
        """Whether an allowance takes the place of that fee now."""
        ...


class Nothing:
    """Charges nothing, whoever it is."""

    async def tier(self, owner: str) -> str | None:
        """No tiers."""
        return None

    async def fee(self, owner: str, asset: Asset, amount: int) -> int:
        """No fee."""
        return 0

    async def free(self, owner: str, asset: Asset, amount: int) -> bool:
        """No allowance."""
        return False


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
        terms: Terms | None = None,
        charging: Charging | None = None,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._rates = rates
        self._clock = clock
        self._entropy = entropy
        self.terms = terms or Terms()
        self._charging = charging or Nothing()
        self._new: Gathering[Quote, bool] = Gathering(engine, self._keep)
        self._kept: Gathering[str, Quote] = Gathering(engine, self._load)
        self._quotes_through: conversion_store.Place | None = None
        self._rates_from: datetime | None = None

    async def create(
        self, owner: str, *, sell: str, buy: str, sell_amount: int | None = None, buy_amount: int | None = None
    ) -> Quote:
        """A quote for selling `sell_amount`, or for buying `buy_amount`: exactly one of them, in smallest units.

        Raises what `draw` does.
        """
        quote = await self.draw(owner, sell=sell, buy=buy, sell_amount=sell_amount, buy_amount=buy_amount)
        await self._new.ask(quote)
        return quote

    async def draw(
        self, owner: str, *, sell: str, buy: str, sell_amount: int | None = None, buy_amount: int | None = None
    ) -> Quote:
        """The same, kept nowhere yet.

        Raises Rejected (not exactly one amount), UnknownAsset, NoRate, AmountTooSmall, OutsideSizes, ExchangeShort,
        ExposureReached, RatesTooOld, RateUnavailable.
        """
        sold_asset, bought_asset = await self._ledger.asset(sell), await self._ledger.asset(buy)
        rates = await self._rates.current()
        tier = await self._charging.tier(owner)
        price = rates.price(sold_asset, bought_asset, tier=tier)
        match sell_amount, buy_amount:
            case int(), None:
                exchange = pricing.sell(price, sell_amount)
            case None, int():
                exchange = pricing.buy(price, buy_amount)
            case _:
                raise Rejected("give either sell_amount or buy_amount", code="one_amount", param="sell_amount")
        value, spread_value = await self._valued(rates, sold_asset, bought_asset, exchange)
        await self._check_stock(sell, buy, exchange)
        now = self._clock.now()
        return Quote(
            id=new_id("quo", self._clock, self._entropy),
            owner=owner,
            state=QuoteState.OPEN,
            sell=sell,
            buy=buy,
            sold=exchange.sold,
            spread=exchange.spread,
            fee=await self._charging.fee(owner, sold_asset, exchange.sold),
            bought=exchange.bought,
            price=price,
            exact=exchange.exact,
            lost=exchange.lost,
            rates=rates.id,
            rates_as_of=rates.as_of,
            reference=self.terms.reference,
            value=value,
            spread_value=spread_value,
            created_at=now,
            expires_at=now + self.terms.quote_life,
        )

    async def sellable(self, owner: str, asset: str, total: int) -> int:
        """The most that can be sold for `total`, the fee on top included. 0 where the fee alone is more."""
        sold_asset = await self._ledger.asset(asset)
        least, most = 0, total
        while least < most:  # what is sold with its fee grows with what is sold
            middle = (least + most + 1) // 2
            if middle + await self._charging.fee(owner, sold_asset, middle) <= total:
                least = middle
            else:
                most = middle - 1
        return least

    async def is_free(self, quote: Quote) -> bool:
        """Whether taking it now would cost no fee, since its owner's allowance covers it."""
        open_with_a_fee = quote.fee and quote.state is QuoteState.OPEN
        return bool(open_with_a_fee) and await self.sells_free(quote.owner, quote.sell, quote.sold)

    async def sells_free(self, owner: str, asset: str, amount: int) -> bool:
        """Whether selling so much now would cost no fee where others pay one."""
        return await self._charging.free(owner, await self._ledger.asset(asset), amount)

    async def get(self, owner: str, quote: str) -> Quote:
        """The owner's quote with this id. Raises NotFound, also for somebody else's."""
        found = await self._kept.ask(quote)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no quote {quote[:40]!r}", param="quote")
        return found

    async def step(self) -> int:
        """Drop quotes that nobody took and rates by which nothing was converted; how many.

        What stays isn't looked at again and again: quotes are walked through once, where a whole page counts as done;
        of rates, which stand as long as the quotes by them, one page in a step, from the oldest on and round again.
        """
        before, book = self._clock.now() - KEPT, self._ledger.book
        async with tx(self._engine) as connection:
            looked, dropped, place = await conversion_store.drop_expired(
                connection, book, before, behind=self._quotes_through, limit=_PRUNED
            )
            old = await snapshot_store.ids_before(connection, book, before, behind=self._rates_from, limit=_PRUNED)
            ids = [id for id, _ in old]
            unused = sorted(set(ids) - await conversion_store.rates_in_use(connection, book, ids)) if ids else []
            if unused:
                await snapshot_store.drop(connection, book, unused)
        self._quotes_through = place or self._quotes_through
        self._rates_from = old[-1][1] if len(old) == _PRUNED else None
        return looked if looked == _PRUNED else dropped + len(unused)

    async def aclose(self) -> None:
        """Let the connections go, once those who wait have their answers."""
        await self._new.aclose()
        await self._kept.aclose()

    async def _keep(self, raw: Driver, new: Sequence[Quote]) -> dict[Quote, bool]:
        await conversion_store.keep_quotes(raw, self._ledger.book, new)
        return dict.fromkeys(new, True)

    async def _load(self, raw: Driver, ids: Sequence[str]) -> dict[str, Quote]:
        return await conversion_store.load_quotes(raw, self._ledger.book, ids)

    # What a conversion is worth, and whether the exchange wants it

    async def _valued(
        self, rates: Rates, sold: Asset, bought: Asset, exchange: Exchange
    ) -> tuple[int | None, int | None]:
        """What was exchanged and the spread are worth in thousandths of the reference's smallest unit.

        Both sides are worth the same to the house: what one of them says that is in the reference, else the bought.
        Raises OutsideSizes, NoRate.
        """
        if self.terms.reference is None:
            return None, None
        reference = await self._ledger.asset(self.terms.reference)
        self._check_sizes(rates.worth(sold, exchange.sold, reference), reference)
        if sold.code == reference.code:
            value = Fraction(exchange.sold - exchange.spread)
        else:
            value = rates.worth(bought, exchange.bought, reference)
        return fine(value), fine(rates.worth(sold, exchange.spread, reference))

    def _check_sizes(self, worth: Fraction, reference: Asset) -> None:
        least, most = self.terms.value_min, self.terms.value_max
        if (least is None or worth >= least) and (most is None or worth <= most):
            return
        bounds = {"value_min": least, "value_max": most}
        told = {name: format_amount(bound, reference) for name, bound in bounds.items() if bound is not None}
        value = format_amount(worth.numerator // worth.denominator, reference)
        small = least is not None and worth < least
        raise OutsideSizes(
            f"this conversion is worth {value} {reference.code}, {'less' if small else 'more'} than one may be",
            param="sell_amount",
            value=value,
            reference=reference.code,
            **told,
        )

    async def _check_stock(self, sell: str, buy: str, exchange: Exchange) -> None:
        """Don't quote what couldn't be converted now. Raises ExchangeShort, ExposureReached."""
        accounts = await self._ledger.named(house_account(STOCK, sell), house_account(STOCK, buy))
        given = accounts.get(house_account(STOCK, buy))
        least = self.terms.exposures[buy].least if buy in self.terms.exposures else 0
        available = max(0, given.available - least) if given else 0
        if exchange.bought > available:
            raise exchange_short(buy, required=exchange.bought, available=available)
        if sell in self.terms.exposures and (most := self.terms.exposures[sell].most) is not None:
            held = accounts[house_account(STOCK, sell)].balance if house_account(STOCK, sell) in accounts else 0
            taken = exchange.sold - exchange.spread
            if held + taken > most:
                raise exposure_reached(sell, required=taken, available=max(0, most - held))


def exchange_short(asset: str, *, required: object, available: object) -> ExchangeShort:
    return ExchangeShort(
        f"the exchange has not enough {asset} now; try a smaller amount or later",
        asset=asset,
        required=required,
        available=available,
    )


def exposure_reached(asset: str, *, required: object, available: object) -> ExposureReached:
    return ExposureReached(
        f"the exchange takes no more {asset} than this now; try a smaller amount or later",
        asset=asset,
        required=required,
        available=available,
    )
