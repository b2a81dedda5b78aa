"""Builds the exchange of the settings: where rates come from, its terms, what it holds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.tls import trusted_roots
from chain.evm.price_feed import ChainPriceFeed
from db.engine import tx
from exchange.board import AgreedRates, RateBoard
from exchange.positions import HousePositions, Trade
from exchange.rates_file import RatesFile
from exchange.sources import ChainSource, FeedPair, FileSource, HttpFeed, Source
from exchange.terms import Agreement, Exposure, PairTerms, Terms
from ledger.money import Asset, parse_amount
from wallet import conversion_store
from wiring.exchange_settings import ChainSourceSettings, FileSourceSettings, HttpSourceSettings
from wiring.settings import Settings

if TYPE_CHECKING:
    from wiring.parts import Parts

Rates = RatesFile | AgreedRates


def build_terms(settings: Settings) -> Terms:
    """The terms. Raises InvalidAmount, where `exchange_faults` wasn't asked before."""
    told = settings.exchange
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}

    def units(text: str | None, asset: str) -> int | None:
        return None if text is None else parse_amount(text, assets[asset], least=0)

    return Terms(
        reference=told.reference,
        quote_life=timedelta(seconds=told.quote_seconds),
        spread_basis_points=told.spread_basis_points,
        pairs={(pair.base, pair.quote): PairTerms(pair.spread_basis_points, pair.tiers) for pair in told.pairs},
        agreement=Agreement(
            max_age=timedelta(seconds=told.max_age_seconds),
            sources_min=told.sources_min,
            deviation_basis_points=told.deviation_basis_points,
            jump_basis_points=told.jump_basis_points,
            jump_hold=timedelta(seconds=told.jump_hold_seconds),
        ),
        value_min=units(told.value_min, told.reference) if told.reference else None,
        value_max=units(told.value_max, told.reference) if told.reference else None,
        exposures={
            one.asset: Exposure(units(one.least, one.asset) or 0, units(one.most, one.asset)) for one in told.exposures
        },
    )


def build_rates(settings: Settings, engine: AsyncEngine, clock: Clock) -> Rates:
    """The rates of now: those that the sources agree on, or the rates file's where there are no sources."""
    terms = build_terms(settings)
    if settings.exchange.sources:
        return AgreedRates(engine, book=settings.book, terms=terms, clock=clock)
    return RatesFile(settings.path(settings.rates), clock=clock, tiers=terms.tier_spreads)


def build_board(parts: "Parts", client: httpx.AsyncClient) -> RateBoard:
    """Who asks the sources."""
    told = parts.settings.exchange
    return RateBoard(
        parts.engine,
        book=parts.settings.book,
        sources=build_sources(parts, client),
        terms=build_terms(parts.settings),
        clock=parts.clock,
        entropy=parts.entropy,
        every=timedelta(seconds=told.every_seconds),
    )


def build_sources(parts: "Parts", client: httpx.AsyncClient) -> list[Source]:
    """Every configured source of rates; `client` asks the feeds."""
    sources: list[Source] = []
    for told in parts.settings.exchange.sources:
        match told:
            case FileSourceSettings():
                sources.append(FileSource(told.name, parts.settings.path(told.path)))
            case HttpSourceSettings():
                pairs = [FeedPair(pair.base, pair.quote, pair.rate, pair.as_of) for pair in told.pairs]
                secret = (told.header, told.header_variable) if told.header and told.header_variable else None
                sources.append(HttpFeed(told.name, told.url, pairs, clock=parts.clock, client=client, secret=secret))
            case ChainSourceSettings():
                rpc = parts.nodes[told.network].rpc
                feeds = {(pair.base, pair.quote): ChainPriceFeed(rpc, pair.contract) for pair in told.pairs}
                sources.append(ChainSource(told.name, feeds))
    return sources


def feed_client() -> httpx.AsyncClient:
    """Who asks feeds over HTTP: no proxy of the environment, no redirects."""
    return httpx.AsyncClient(trust_env=False, verify=trusted_roots(), follow_redirects=False)


def build_positions(parts: "Parts") -> HousePositions:
    """What the exchange holds and made."""
    return HousePositions(
        parts.engine,
        ledger=parts.ledger,
        rates=build_rates(parts.settings, parts.engine, parts.clock),
        trades=ConversionTrades(parts.engine, parts.settings.book),
        terms=build_terms(parts.settings),
        clock=parts.clock,
    )


class ConversionTrades:
    """The wallet's conversions as `exchange.positions.Trades`."""

    def __init__(self, engine: AsyncEngine, book: str) -> None:
        self._engine = engine
        self._book = book

    async def trades(self, ids: Sequence[str]) -> Mapping[str, Trade]:
        """What those of these that are conversions were worth."""
        async with tx(self._engine) as connection:
            found = await conversion_store.load_conversions(connection, self._book, list(ids))
        return {
            id: Trade(one.value, one.spread_value, one.rates)
            for id, one in found.items()
            if one.value is not None and one.spread_value is not None
        }
