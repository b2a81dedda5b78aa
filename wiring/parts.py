"""What the services of one process are built from: database, book, nodes, addresses, tariff.

Each process opens them once.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock, SystemClock
from base.entropy import Entropy, SystemEntropy
from base.errors import ConfigError
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.networks import Deployment, Network, Registry, TokenDomain
from chain.restores import Gate
from chain.screening import Screening
from db.engine import create_engine
from identity.service import Identity
from ledger.money import Asset, parse_amount
from ledger.service import PostgresLedger
from tariff.desk import Desk
from tariff.schedule import Tariff
from tariff.tiers import Tiers
from wiring.exchange import build_rates
from wiring.screening import build_screening
from wiring.settings import Settings
from wiring.signing import XpubAddresses
from wiring.tariffs import RatesWorth, load_tariff


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the services of one process are built from. `nodes` and `screening`: by network."""

    settings: Settings
    engine: AsyncEngine
    ledger: PostgresLedger
    registry: Registry
    nodes: Mapping[str, Pool]
    addresses: XpubAddresses
    clock: Clock
    entropy: Entropy
    screening: Mapping[str, Screening] = field(default_factory=dict)

    @cached_property
    def tariff(self) -> Tariff:
        """Fees, limits and tiers as the file tells them. Raises TariffInvalid."""
        return load_tariff(self.settings)

    @cached_property
    def tiers(self) -> Tiers:
        """Which of them each user is in."""
        return Tiers(self.engine, book=self.settings.book, tariff=self.tariff, clock=self.clock)

    @cached_property
    def terms(self) -> Desk:
        """What operations cost and use up."""
        rates = build_rates(self.settings, self.engine, self.clock)
        return Desk(self.tariff, ledger=self.ledger, tiers=self.tiers, worth=RatesWorth(rates), clock=self.clock)

    @cached_property
    def gate(self) -> Gate:
        """Tells whether anything may move: not in a database that was put back from a backup."""
        return Gate(self.engine, clock=self.clock)


@asynccontextmanager
async def open_parts(settings: Settings, *, name: str) -> AsyncIterator[Parts]:
    """The parts of a process called `name`, closed at the end. Connects to nothing yet. Raises ConfigError."""
    if settings.database_url is None:
        raise ConfigError("there is no database: set database_url (ONEBOOK_DATABASE_URL)", code="no_database")
    clock, entropy = SystemClock(), SystemEntropy()
    async with AsyncExitStack() as stack:
        engine = create_engine(
            settings.database_url.get_secret_value(), pool_size=settings.database_pool, application_name=name
        )
        stack.push_async_callback(engine.dispose)
        registry = build_registry(settings)
        nodes = {}
        for network in registry.networks.values():
            endpoints = [HttpRpc(url) for url in network.rpc_urls]
            for endpoint in endpoints:
                stack.push_async_callback(endpoint.close)
            nodes[network.name] = Pool(network, [Node(network, endpoint) for endpoint in endpoints])
        ledger = PostgresLedger(engine, clock=clock, book=settings.book, entropy=entropy)
        stack.push_async_callback(ledger.aclose)
        yield Parts(
            settings=settings,
            engine=engine,
            ledger=ledger,
            registry=registry,
            nodes=nodes,
            addresses=XpubAddresses(settings.xpubs),
            clock=clock,
            entropy=entropy,
            screening=build_screening(settings, nodes),
        )


def build_registry(settings: Settings) -> Registry:
    """Networks and deployments as configured. Raises ConfigError."""
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    networks = [
        Network(
            name=network.name,
            chain_id=network.chain_id,
            rpc_urls=network.rpc_urls,
            native_asset=network.native_asset,
            spendable_depth=network.spendable_depth,
            final_depth=network.final_depth,
            genesis_hash=network.genesis_hash,
            start_height=network.start_height,
            max_fee_per_gas_cap=network.max_fee_per_gas_cap,
            encoding=network.encoding,
            traces=network.traces,
            balances_per_block=network.balances_per_block,
            replace_after_seconds=network.replace_after_seconds,
        )
        for network in settings.networks
    ]
    deployments = []
    for number, place in enumerate(settings.deployments):
        if place.asset not in assets:
            where = settings.where("deployments", number, "asset")
            raise ConfigError(f"{where}: there is no asset {place.asset}; add it under [[assets]]", param="asset")
        asset = assets[place.asset]
        minimum = parse_amount(place.deposit_minimum, asset) if place.deposit_minimum else 1
        deployments.append(
            Deployment(
                asset=place.asset,
                network=place.network,
                contract=place.contract,
                decimals=place.decimals,
                deposit_minimum=minimum,
                quirks=frozenset(place.quirks),
                domain=TokenDomain(**place.authorisation.model_dump()) if place.authorisation else None,
            )
        )
    return Registry(networks, deployments)


def build_identity(parts: Parts) -> Identity:
    settings = parts.settings
    return Identity(
        engine=parts.engine,
        book=settings.book,
        clock=parts.clock,
        entropy=parts.entropy,
        rate_per_minute=settings.requests_per_minute,
    )
