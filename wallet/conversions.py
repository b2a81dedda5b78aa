"""Conversions: a quote taken. One entry moves both assets, and the quote is used up in the same tx."""

from dataclasses import asdict, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.asking import decide, decided_before
from ledger.commands import Group, Post, Posting
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Outcome, Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from wallet import conversion_store
from wallet.errors import ExchangeShort, QuoteExpired, QuoteUsed
from wallet.quotes import Quotes
from wallet.resources import Conversion, QuoteState
from wallet.tables import conversions, quotes

STOCK = "fx"
"""Purpose of the exchange's stock: what the treasurer put there is all that can be sold."""

SPREAD = "fx-result"


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
            bought=found.bought,
            created_at=now,
        )
        await self._ledger.ensure_open(*(side for p in _postings(conversion) for side in (p.debit, p.credit)))
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
            (Post(id=key.id, subject=conversion.id, postings=_postings(conversion)),),
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
            raise _explained(refusal, conversion) from refusal


def _postings(conversion: Conversion) -> tuple[Posting, ...]:
    seller, buyer = user_account(conversion.owner, conversion.sell), user_account(conversion.owner, conversion.buy)
    postings = [
        Posting(seller, house_account(STOCK, conversion.sell), conversion.sell, conversion.sold - conversion.spread)
    ]
    if conversion.spread:
        postings.append(Posting(seller, house_account(SPREAD, conversion.sell), conversion.sell, conversion.spread))
    postings.append(Posting(house_account(STOCK, conversion.buy), buyer, conversion.buy, conversion.bought))
    return tuple(postings)


def _explained(refusal: RefusedByBook, conversion: Conversion) -> Exception:
    """The book's refusal in the words of an exchange, where it has some."""
    if refusal.code == Refused.STALE_STATE:
        return QuoteUsed("this quote was converted already; ask for a new one", param="quote")
    short = house_account(STOCK, conversion.buy)
    if refusal.code == Refused.INSUFFICIENT_FUNDS and refusal.facts.get("account") == short:
        return ExchangeShort(
            f"the exchange has not enough {conversion.buy} now; try a smaller amount or later",
            asset=conversion.buy,
            required=refusal.facts.get("required"),
            available=refusal.facts.get("available"),
        )
    return refusal
