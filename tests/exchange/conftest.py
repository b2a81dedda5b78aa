"""An exchange on a real database: a book with its stock, sources that the test holds, terms that it sets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import ManualClock
from base.entropy import Entropy
from exchange.agreeing import Reading
from exchange.board import AgreedRates, RateBoard
from exchange.errors import SourceFailed
from exchange.positions import HousePositions
from exchange.ratios import of_fraction, stored
from exchange.terms import Agreement, Terms
from ledger.accounts import house_account, user_account
from ledger.service import PostgresLedger
from tariff.desk import Desk
from tariff.schedule import EMPTY, Tariff
from tests.wallet.conftest import ALICE, ASSETS, BOB, fund
from wallet.conversions import Conversions
from wallet.quotes import Quotes
from wiring.exchange import ConversionTrades
from wiring.tariffs import RatesWorth, TariffCharging

TERMS = Terms(
    reference="USD",
    agreement=Agreement(max_age=timedelta(seconds=60), sources_min=1, deviation_basis_points=100),
    spread_basis_points=50,
)


@dataclass
class HeldSource:
    """A source whose prices, in USD, the test holds; None: it's down."""

    name: str
    clock: ManualClock
    prices: dict[str, str] | None = field(default_factory=dict)

    async def read(self) -> list[Reading]:
        if self.prices is None:
            raise SourceFailed("it's down")
        now = self.clock.now()
        return [
            Reading(self.name, asset, "USD", stored(of_fraction(Fraction(rate))), now)
            for asset, rate in self.prices.items()
        ]


@dataclass
class Exchange:
    """Everything put together over one database."""

    engine: AsyncEngine
    ledger: PostgresLedger
    clock: ManualClock
    entropy: Entropy
    source: HeldSource
    other: HeldSource
    terms: Terms
    tariff: Tariff = EMPTY

    def desk(self) -> Desk:
        """A process's view of the tariff."""
        return Desk(self.tariff, ledger=self.ledger, worth=RatesWorth(self.rates), clock=self.clock)

    @property
    def board(self) -> RateBoard:
        return RateBoard(
            self.engine,
            book=self.ledger.book,
            sources=[self.source, self.other],
            terms=self.terms,
            clock=self.clock,
            entropy=self.entropy,
            every=timedelta(seconds=10),
        )

    @property
    def rates(self) -> AgreedRates:
        return AgreedRates(self.engine, book=self.ledger.book, terms=self.terms, clock=self.clock)

    @property
    def quotes(self) -> Quotes:
        return Quotes(
            self.engine,
            ledger=self.ledger,
            rates=self.rates,
            clock=self.clock,
            entropy=self.entropy,
            terms=self.terms,
            charging=TariffCharging(self.desk()),
        )

    @property
    def conversions(self) -> Conversions:
        return Conversions(self.engine, ledger=self.ledger, quotes=self.quotes, clock=self.clock, tariff=self.desk())

    @property
    def positions(self) -> HousePositions:
        return HousePositions(
            self.engine,
            ledger=self.ledger,
            rates=self.rates,
            trades=ConversionTrades(self.engine, self.ledger.book),
            terms=self.terms,
            clock=self.clock,
        )

    def change(self, **terms: Any) -> None:
        self.terms = replace(self.terms, **terms)

    async def tell(self, **prices: str) -> None:
        """Both sources tell these prices from now on, and were just asked."""
        self.source.prices = dict(prices)
        self.other.prices = dict(prices)
        self.clock.advance(timedelta(seconds=10))
        assert await self.board.step() == 1

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance


@asynccontextmanager
async def opened(database, clock, entropy) -> AsyncIterator[Exchange]:
    engine = database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    for owner in (ALICE, BOB):
        await fund(ledger, user_account(owner, "USD"), 10_000_00, name=f"{owner} dollars")
        await fund(ledger, user_account(owner, "ETH"), 10 * 10**18, name=f"{owner} ether")
    await fund(ledger, house_account("fx", "USD"), 20_000_00, name="dollars")
    await fund(ledger, house_account("fx", "ETH"), 10 * 10**18, name="ether")
    sources = HeldSource("a", clock), HeldSource("b", clock)
    exchange = Exchange(engine, ledger, clock, entropy, *sources, TERMS)
    await exchange.tell(ETH="2500", EUR="1.1")
    yield exchange


@pytest.fixture
async def exchange(database, clock, entropy) -> AsyncIterator[Exchange]:
    """Alice and Bob have 10,000 USD and 10 ETH each, the exchange 20,000 USD and 10 ETH; an ETH is 2,500 USD."""
    async with opened(database, clock, entropy) as made:
        yield made
