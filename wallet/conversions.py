"""Conversions: a quote taken. One entry moves both assets, and the quote is used up in the same tx.

The quote fixes the most that its fee may be. Where an allowance covers the conversion, which the book decides with the
entry, there's none.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound, Rejected, Unavailable
from db.engine import tx
from exchange.pricing import Exact
from exchange.terms import Terms as ExchangeTerms
from ledger.accounts import HOUSE, house_account, split_account_id, user_account
from ledger.asking import Before, decide
from ledger.commands import Bound, Charge, Group, Post, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Insert, Rider
from tariff.desk import Desk, Terms, require_accepted
from tariff.pricing import Move
from tariff.schedule import Operation
from wallet import conversion_store
from wallet.errors import PriceMoved, QuoteExpired, QuoteUsed
from wallet.quotes import STOCK, Quotes, exchange_short, exposure_reached
from wallet.resources import Conversion, Quote, QuoteState
from wallet.tables import conversions, quotes

SPREAD = "fx-result"
"""Purpose of what the exchange earned by spreads."""

FEES = "fees"


class Conversions:
    """Exchanges a user's assets with the house's stock."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, quotes: Quotes, clock: Clock, tariff: Desk | None = None
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._quotes = quotes
        self._clock = clock
        self._tariff = tariff or Desk()

    async def convert(self, *, key: RequestKey, owner: str, quote: str, fee_accepted: int | None = None) -> Conversion:
        """Take the owner's quote, whole and once; `fee_accepted`: the highest fee that they take, else the quote's.

        Raises NotFound (no such quote of theirs), QuoteExpired, QuoteUsed, ExchangeShort, ExposureReached,
        FeeAboveAccepted (the quote stays open then), LimitExceeded, LimitUnvalued, RequestConflict, and RefusedByBook
        (`insufficient_funds` of the user's, `frozen`).
        """
        try:
            found = await self._quotes.get(owner, quote)
            now = self._clock.now()
            require_open(found, now)
        except Rejected:
            if (first := await self._first(owner, key)) is not None:
                return first
            raise
        return await self._take(key, conversion_of(found, now), accepted=fee_accepted)

    async def convert_now(
        self,
        *,
        key: RequestKey,
        owner: str,
        sell: str,
        buy: str,
        sell_amount: int | None = None,
        buy_amount: int | None = None,
        limit: int | None = None,
        fee_accepted: int | None = None,
        riding: Callable[[Conversion], Rider] | None = None,
    ) -> Conversion:
        """Convert at the price of now, without asking for it before, as long as it's within `limit`.

        `limit`: the least to be bought for `sell_amount`, or the most to be sold for `buy_amount`, fee and all.
        `riding`: a row that commits with it, or not at all. Raises what `Quotes.create` and `convert` do, PriceMoved.
        """
        try:
            quote = await self._quotes.draw(owner, sell=sell, buy=buy, sell_amount=sell_amount, buy_amount=buy_amount)
        except (Rejected, Unavailable):
            if (first := await self._first(owner, key)) is not None:
                return first
            raise
        row = Insert(quotes.name, {"book": self._ledger.book, "id": quote.id}, conversion_store.quote_values(quote))
        conversion = conversion_of(quote, quote.created_at)
        rows = (row, *(() if riding is None else (riding(conversion),)))

        def check(priced: Conversion) -> None:
            require_within(replace(quote, fee=priced.fee), limit)

        return await self._take(key, conversion, *rows, accepted=fee_accepted, check=check)

    async def _first(self, owner: str, key: RequestKey) -> Conversion | None:
        """What this request came to when it was sent before: what is in the way now may have arisen since."""
        try:
            first = await self._tariff.first(self._ledger, owner, key)
        except RefusedByBook as refusal:
            raise explained(refusal) from refusal
        return None if first is None else replace(await self.get(owner, first.subject or ""), replayed=True)

    async def get(self, owner: str, conversion: str) -> Conversion:
        """The owner's conversion with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await conversion_store.load_conversion(connection, self._ledger.book, conversion)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no conversion {conversion[:40]!r}", param="conversion")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Conversion]:
        """The owner's conversions, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await conversion_store.list_conversions(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )

    async def drawn(self, id: str, conversion: Conversion, *, at_full: bool = False) -> Before:
        """A conversion as what comes first in a group, its command under this id; `at_full`: without any allowance.

        Raises what `convert` does. Where the allowance is used up meanwhile, the book leaves the group undecided
        (`allowance_spent`), so that it can be asked for again at full price.
        """
        terms = await self._tariff.terms(_move(conversion), at_full=at_full or not conversion.fee)
        return await self._at(id, at_price(conversion, terms), terms)

    async def _at(self, id: str, priced: Conversion, terms: Terms) -> Before:
        post = conversion_post(id, priced, self._quotes.terms, terms.charges)
        await self._ledger.ensure_open(*(side for p in post.postings for side in (p.debit, p.credit)))
        return Before((post,), (conversion_row(self._ledger.book, priced),))

    async def _take(
        self,
        key: RequestKey,
        conversion: Conversion,
        *rows: Rider,
        accepted: int | None = None,
        check: Callable[[Conversion], None] = lambda _: None,
    ) -> Conversion:
        """Take it at the terms of now; `check`: what else its owner demands of what it comes to."""

        async def book(terms: Terms) -> Conversion:
            priced = at_price(conversion, terms)
            require_accepted(_move(conversion), priced.fee, accepted)
            check(priced)
            drawn = await self._at(key.id, priced, terms)
            (outcome,) = await decide(self._ledger, Group(drawn.commands, (*rows, *drawn.riders), content=key.content))
            if outcome.replayed:
                return replace(await self.get(conversion.owner, outcome.subject or ""), replayed=True)
            return priced

        try:
            return await self._tariff.at_terms(_move(conversion), book, at_full=not conversion.fee)
        except RefusedByBook as refusal:
            raise explained(refusal) from refusal
        except (Rejected, Unavailable):
            if (first := await self._first(conversion.owner, key)) is not None:
                return first
            raise


def _move(conversion: Conversion) -> Move:
    return Move(conversion.owner, Operation.CONVERSION, conversion.sell, conversion.sold)


def at_price(conversion: Conversion, terms: Terms) -> Conversion:
    """Without its fee where an allowance covers it; else as its quote says, whatever the tariff is by now."""
    return replace(conversion, fee=0) if terms.free else conversion


def require_open(quote: Quote, now: datetime) -> None:
    """Raises QuoteUsed, QuoteExpired."""
    if quote.state is QuoteState.USED:
        raise QuoteUsed("this quote was converted already; ask for a new one", param="quote")
    if now >= quote.expires_at:
        raise QuoteExpired(
            "this quote has expired; ask for a new one", param="quote", expired_at=quote.expires_at.isoformat()
        )


def conversion_of(quote: Quote, now: datetime) -> Conversion:
    """What taking a quote comes to. Its id is the quote's own, so that two can't both be kept."""
    return Conversion(
        id=f"cnv{quote.id[3:]}",
        owner=quote.owner,
        quote=quote.id,
        sell=quote.sell,
        buy=quote.buy,
        sold=quote.sold,
        spread=quote.spread,
        fee=quote.fee,
        bought=quote.bought,
        rates=quote.rates,
        reference=quote.reference,
        value=quote.value,
        spread_value=quote.spread_value,
        created_at=now,
    )


def conversion_row(book: str, conversion: Conversion) -> Insert:
    """The row that commits with it."""
    return Insert(conversions.name, {"book": book, "id": conversion.id}, conversion_store.conversion_values(conversion))


def require_within(quote: Quote, limit: int | None) -> None:
    """Raises PriceMoved where the price of now is worse than the owner accepts."""
    if limit is None:
        return
    if quote.exact is Exact.SELL and quote.bought < limit:
        raise PriceMoved(
            "this buys less now than you accept",
            param="buy_at_least",
            asset=quote.buy,
            required=limit,
            available=quote.bought,
        )
    if quote.exact is Exact.BUY and quote.total > limit:
        raise PriceMoved(
            "this costs more now than you accept",
            param="sell_at_most",
            asset=quote.sell,
            required=quote.total,
            available=limit,
        )


def conversion_post(id: str, conversion: Conversion, terms: ExchangeTerms, charges: tuple[Charge, ...] = ()) -> Post:
    """The entry of a conversion, which the exchange's exposures bound. `charges`: what it uses up of limits."""
    bounds = tuple(
        Bound(house_account(STOCK, asset), least=exposure.least or None, most=exposure.most)
        for asset, exposure in terms.exposures.items()
        if asset in (conversion.sell, conversion.buy)
    )
    return Post(
        id=id,
        subject=conversion.id,
        postings=conversion_postings(conversion),
        bounds=bounds or msgspec.UNSET,
        charges=charges,
    )


def conversion_postings(conversion: Conversion) -> tuple[Posting, ...]:
    """What is sold goes to the stock and the spread's part of it to the result, the fee to the fees; then the other."""
    seller, buyer = user_account(conversion.owner, conversion.sell), user_account(conversion.owner, conversion.buy)
    sell, buy = conversion.sell, conversion.buy
    parts = ((STOCK, conversion.sold - conversion.spread), (SPREAD, conversion.spread), (FEES, conversion.fee))
    given = (Posting(seller, house_account(purpose, sell), sell, amount) for purpose, amount in parts if amount)
    return (*given, Posting(house_account(STOCK, buy), buyer, buy, conversion.bought))


def explained(refusal: RefusedByBook) -> Exception:
    """The book's refusal in the words of an exchange, where it has some."""
    if refusal.code == Refused.DUPLICATE_ROW:
        return QuoteUsed("this quote was converted already; ask for a new one", param="quote")
    if refusal.code not in (Refused.INSUFFICIENT_FUNDS, Refused.OUT_OF_BOUNDS):
        return refusal
    owner, purpose, asset = split_account_id(str(refusal.facts["account"]))
    if (owner, purpose) != (HOUSE, STOCK):
        return refusal
    numbers = {name: refusal.facts.get(name) for name in ("required", "available")}
    return exposure_reached(asset, **numbers) if "most" in refusal.facts else exchange_short(asset, **numbers)
