"""Conversions: a quote taken. One entry moves both assets, and the quote is used up in the same tx."""

from dataclasses import asdict, replace

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from exchange.terms import Terms
from ledger.accounts import house_account, user_account
from ledger.asking import decide, decided_before
from ledger.commands import Bound, Group, Post, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Outcome, Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from wallet import conversion_store
from wallet.errors import QuoteExpired, QuoteUsed
from wallet.quotes import STOCK, Quotes, exchange_short, exposure_reached
from wallet.resources import Conversion, QuoteState
from wallet.tables import conversions, quotes

SPREAD = "fx-result"
"""Purpose of what the exchange earned by spreads."""

FEES = "fees"


class Conversions:
    """Exchanges a user's assets with the house's stock."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, quotes: Quotes, clock: Clock, entropy: Entropy) -> None:
        self._engine = engine
        self._ledger = ledger
        self._quotes = quotes
        self._clock = clock
        self._entropy = entropy

    async def convert(self, *, key: RequestKey, owner: str, quote: str) -> Conversion:
        """Take the owner's quote, whole and once.

        Raises NotFound (no such quote of theirs), QuoteExpired, QuoteUsed, ExchangeShort, RequestConflict, and
        RefusedByBook (`insufficient_funds` of the user's, `frozen`).
        """
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(owner, first.subject or ""), replayed=True)
        found = await self._quotes.get(owner, quote)
        now = self._clock.now()
        if found.state is QuoteState.USED:
            raise QuoteUsed("this quote was converted already; ask for a new one", param="quote")
        if now >= found.expires_at:
            raise QuoteExpired(
                "this quote has expired; ask for a new one", param="quote", expired_at=found.expires_at.isoformat()
            )
        conversion = Conversion(
            id=new_id("cnv", self._clock, self._entropy),
            owner=owner,
            quote=found.id,
            sell=found.sell,
            buy=found.buy,
            sold=found.sold,
            spread=found.spread,
            fee=found.fee,
            bought=found.bought,
            rates=found.rates,
            reference=found.reference,
            value=found.value,
            spread_value=found.spread_value,
            created_at=now,
        )
        await self._ledger.ensure_open(*(side for p in conversion_postings(conversion) for side in (p.debit, p.credit)))
        (outcome,) = await self._decide(key, conversion)
        if outcome.replayed:
            return replace(await self.get(owner, outcome.subject or ""), replayed=True)
        return conversion

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

    async def _decide(self, key: RequestKey, conversion: Conversion) -> tuple[Outcome, ...]:
        book = self._ledger.book
        values = {name: value for name, value in asdict(conversion).items() if name not in ("id", "replayed")}
        group = Group(
            (conversion_post(key.id, conversion, self._quotes.terms),),
            (
                Advance(
                    quotes.name,
                    {"book": book, "id": conversion.quote},
                    {"state": QuoteState.OPEN.value},
                    {"state": QuoteState.USED.value},
                ),
                Insert(conversions.name, {"book": book, "id": conversion.id}, values),
            ),
            content=key.content,
        )
        try:
            return await decide(self._ledger, group)
        except RefusedByBook as refusal:
            raise explained(refusal, conversion) from refusal


def conversion_post(id: str, conversion: Conversion, terms: Terms) -> Post:
    """The entry of a conversion, which the exchange's exposures bound."""
    bounds = tuple(
        Bound(house_account(STOCK, asset), least=exposure.least or None, most=exposure.most)
        for asset, exposure in terms.exposures.items()
        if asset in (conversion.sell, conversion.buy)
    )
    return Post(id=id, subject=conversion.id, postings=conversion_postings(conversion), bounds=bounds or msgspec.UNSET)


def conversion_postings(conversion: Conversion) -> tuple[Posting, ...]:
    """What is sold goes to the stock and the spread's part of it to the result, the fee to the fees; then the other."""
    seller, buyer = user_account(conversion.owner, conversion.sell), user_account(conversion.owner, conversion.buy)
    sell, buy = conversion.sell, conversion.buy
    parts = ((STOCK, conversion.sold - conversion.spread), (SPREAD, conversion.spread), (FEES, conversion.fee))
    given = (Posting(seller, house_account(purpose, sell), sell, amount) for purpose, amount in parts if amount)
    return (*given, Posting(house_account(STOCK, buy), buyer, buy, conversion.bought))


def explained(refusal: RefusedByBook, conversion: Conversion) -> Exception:
    """The book's refusal in the words of an exchange, where it has some."""
    if refusal.code == Refused.STALE_STATE:
        return QuoteUsed("this quote was converted already; ask for a new one", param="quote")
    sold, short = house_account(STOCK, conversion.sell), house_account(STOCK, conversion.buy)
    numbers = {name: refusal.facts.get(name) for name in ("required", "available")}
    account = refusal.facts.get("account")
    if account == short and refusal.code in (Refused.INSUFFICIENT_FUNDS, Refused.OUT_OF_BOUNDS):
        return exchange_short(conversion.buy, **numbers)
    if account == sold and refusal.code == Refused.OUT_OF_BOUNDS:
        return exposure_reached(conversion.sell, **numbers)
    return refusal
