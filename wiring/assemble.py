"""Building everything from the settings: the parts that all processes share, the services, and the worker's steps.

Each process opens its parts once. The API's parts hold public keys alone; only the worker's ask the signer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock, SystemClock
from base.entropy import Entropy, SystemEntropy
from base.errors import ConfigError
from chain.address_check import AddressCheck
from chain.address_pool import AddressPool
from chain.addresses import enrol
from chain.broadcaster import Broadcaster
from chain.checkpoints import Checkpoint
from chain.errors import NotYetFollowed
from chain.estimates import NetworkFees
from chain.evm.node import Node
from chain.evm.rpc import HttpRpc
from chain.follower import Did, Follower
from chain.networks import Deployment, Network, Registry
from chain.signing import OwnAddress, OwnKey, Role, Signer
from chain.status import network_status
from custody.client import SignerClient
from custody.derivation import Role as CustodyRole
from db.engine import create_engine, tx
from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from identity.service import Identity
from ledger.expiry import HoldExpiry
from ledger.money import Asset, parse_amount
from ledger.sealing import SealBook
from ledger.seals import load_seal_key
from ledger.service import PostgresLedger
from treasury.adjustments import Adjustments
from treasury.approvals import Approvals, PolicyCopy
from treasury.credit_lines import CreditLines
from treasury.freezes import Freezes
from treasury.inflows import Inflows
from treasury.periods import Periods
from treasury.positions import Positions
from treasury.reconciliation import Reconciler
from treasury.reversals import Reversals
from wallet.accounts import Accounts
from wallet.bulk import BulkTransfers
from wallet.conversions import Conversions
from wallet.deposit_addresses import DepositAddresses
from wallet.deposits import Deposits
from wallet.history import History
from wallet.holds import Holds
from wallet.quotes import Quotes
from wallet.rates_file import RatesFile
from wallet.receipts import Receipts
from wallet.receivables import Receivables
from wallet.transfers import Fees, Transfers
from wallet.withdrawals import Withdrawals
from wiring.chains import Chains
from wiring.checks import book_check, database_check
from wiring.services import Services
from wiring.settings import Settings
from wiring.signing import CustodySigner, SignerKeys, SignerReservations, XpubAddresses

Step = Callable[[], Awaitable[int]]
"""One bounded piece of background work; returns how many things it moved on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the services of one process are built from. `nodes`: by network, the first one leads."""

    settings: Settings
    engine: AsyncEngine
    ledger: PostgresLedger
    registry: Registry
    nodes: Mapping[str, tuple[Node, ...]]
    addresses: XpubAddresses
    clock: Clock
    entropy: Entropy


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
            nodes[network.name] = tuple(Node(network, endpoint) for endpoint in endpoints)
        ledger = PostgresLedger(engine, clock=clock, book=settings.book, entropy=entropy)
        stack.push_async_callback(ledger.aclose)
        yield Parts(
            settings=settings,
            engine=engine,
            ledger=ledger,
            registry=registry,
            nodes=nodes,
            addresses=XpubAddresses(_xpubs(settings)),
            clock=clock,
            entropy=entropy,
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
        )
        for network in settings.networks
    ]
    deployments = []
    for place in settings.deployments:
        if place.asset not in assets:
            raise ConfigError(f"deployments: there is no asset {place.asset}; add it under [[assets]]", param="asset")
        asset = assets[place.asset]
        minimum = parse_amount(place.deposit_minimum, asset) if place.deposit_minimum else 1
        deployments.append(
            Deployment(
                asset=place.asset,
                network=place.network,
                contract=place.contract,
                decimals=place.decimals,
                deposit_minimum=minimum,
            )
        )
    return Registry(networks, deployments)


def build_services(parts: Parts) -> Services:
    """All services of one book over these parts."""
    engine, ledger, clock, entropy = parts.engine, parts.ledger, parts.clock, parts.entropy
    settings, registry = parts.settings, parts.registry
    identity = _identity(parts)
    rates = RatesFile(settings.path(settings.rates), clock=clock)
    fees = Fees(settings.transfer_fee_basis_points)
    quotes = Quotes(engine, ledger=ledger, rates=rates, clock=clock, entropy=entropy)
    return Services(
        clock=clock,
        entropy=entropy,
        ledger=ledger,
        identity=identity,
        chains=Chains(engine, registry),
        accounts=Accounts(ledger),
        transfers=Transfers(
            ledger=ledger,
            directory=identity,
            clock=clock,
            entropy=entropy,
            fees=fees,
        ),
        bulk_transfers=BulkTransfers(ledger=ledger, directory=identity, clock=clock, entropy=entropy, fees=fees),
        holds=Holds(ledger=ledger, directory=identity, clock=clock, entropy=entropy, fees=fees),
        quotes=quotes,
        conversions=Conversions(engine, ledger=ledger, quotes=quotes, clock=clock, entropy=entropy),
        deposit_addresses=DepositAddresses(
            engine, book=settings.book, registry=registry, source=parts.addresses, clock=clock
        ),
        deposits=_deposits(parts),
        withdrawals=_withdrawals(parts),
        receipts=Receipts(ledger),
        history=History(ledger),
        positions=Positions(ledger),
        adjustments=Adjustments(engine, ledger=ledger, clock=clock, entropy=entropy),
        approvals=build_approvals(parts),
        reconciler=build_reconciler(parts),
        freezes=Freezes(ledger),
        credit_lines=CreditLines(ledger),
        reversals=Reversals(ledger=ledger, clock=clock, entropy=entropy),
        periods=Periods(ledger),
        bank=build_bank(parts),
        checks={"database": database_check(engine), "book": book_check(ledger)},
        public_books=settings.public_books,
    )


def build_approvals(parts: Parts) -> Approvals:
    """Approvals by the people of our copy of the policy."""
    policy = PolicyCopy(parts.settings.path(parts.settings.policy))
    return Approvals(parts.engine, book=parts.settings.book, policy=policy, clock=parts.clock, entropy=parts.entropy)


def build_bank(parts: Parts) -> BankRail:
    """The bank rail over our configured accounts."""
    accounts = [BankAccount(name=bank.name, iban=bank.iban, asset=bank.asset) for bank in parts.settings.bank_accounts]
    return BankRail(parts.engine, parts.ledger, clock=parts.clock, entropy=parts.entropy, accounts=accounts)


def build_reconciler(parts: Parts) -> Reconciler:
    """Reconciliation of this book with every network's first node and the bank."""
    return Reconciler(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        nodes={name: nodes[0] for name, nodes in parts.nodes.items()},
        banks=[build_bank(parts)],
        clock=parts.clock,
        entropy=parts.entropy,
    )


def build_signer(settings: Settings) -> CustodySigner:
    """The signer, by its socket; only answers of the configured keys are accepted."""
    return CustodySigner(SignerClient(settings.path(settings.signer_socket), xpubs=_xpubs(settings)))


@asynccontextmanager
async def open_steps(
    parts: Parts, signer: Signer | None, *, checkpoint: Checkpoint | None = None
) -> AsyncIterator[dict[str, Step]]:
    """The worker's steps by name, in the order in which value flows through them. At the end their locks are let go."""
    steps: dict[str, Step] = {}
    async with AsyncExitStack() as stack:
        if signer is not None and parts.settings.xpubs:
            asking = SignerClient(parts.settings.path(parts.settings.signer_socket))
            stack.push_async_callback(asking.close)
            steps |= _address_steps(parts, asking, checkpoint)
        for network in parts.registry.networks.values():
            follower = Follower(
                engine=parts.engine, network=network, nodes=parts.nodes[network.name], clock=parts.clock
            )
            stack.push_async_callback(follower.close)
            steps[f"follow:{network.name}"] = _follow(follower)
        steps["holds"] = HoldExpiry(parts.ledger).step
        if parts.registry.networks:
            steps["deposits"] = _deposits(parts).step
            steps["inflows"] = _inflows(parts).step
            steps["receivables"] = Receivables(parts.ledger).step
            steps["withdrawals"] = _withdrawals(parts, checkpoint).step
        for network in parts.registry.networks.values():
            if signer is not None:
                steps[f"broadcast:{network.name}"] = _broadcast(parts, network, signer, checkpoint)
        if (sealing := _sealing(parts)) is not None:
            steps["seals"] = sealing.step
        yield steps


async def prepare_book(settings: Settings, *, report: Callable[[str], None]) -> None:
    """Migrate the database; make the book, its assets, and the house's own addresses known. Again is harmless."""
    from db.migrate import migrate  # here, since only who installs or starts the service needs alembic

    owner_url = settings.database_owner_url or settings.database_url
    if owner_url is None:
        raise ConfigError("there is no database to prepare: set database_url", code="no_database")
    await migrate(owner_url.get_secret_value(), report=report)
    async with open_parts(settings, name="onebook prepare") as parts:
        await parts.ledger.create_book()
        for asset in settings.assets:
            await parts.ledger.register_asset(Asset(asset.code, asset.kind, asset.scale))
        if settings.networks and settings.xpubs:
            async with tx(parts.engine) as connection:
                for role in (Role.HOT, Role.GAS):
                    await enrol(connection, parts.addresses, key=OwnKey(role, 0), clock=parts.clock)


async def first_operator_key(settings: Settings) -> str:
    """A new operator key's secret, for whoever installs; shown once."""
    async with open_parts(settings, name="onebook init") as parts:
        return (await _identity(parts).create_operator_key()).secret


def _xpubs(settings: Settings) -> dict[CustodyRole, str]:
    return {CustodyRole(role): xpub for role, xpub in settings.xpubs.items()}


def _identity(parts: Parts) -> Identity:
    settings = parts.settings
    return Identity(
        engine=parts.engine,
        book=settings.book,
        clock=parts.clock,
        entropy=parts.entropy,
        rate_per_minute=settings.requests_per_minute,
    )


def _sealing(parts: Parts) -> SealBook | None:
    """What seals the book; None for an installation without a key for it, which `onebook doctor` tells."""
    settings = parts.settings
    path = settings.path(settings.seal_key)
    if not path.exists():
        return None
    key, folder = load_seal_key(path), settings.path(settings.seals)
    return SealBook(parts.engine, book=settings.book, key=key, folder=folder, clock=parts.clock)


def _deposits(parts: Parts) -> Deposits:
    return Deposits(
        parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock, entropy=parts.entropy
    )


def _inflows(parts: Parts) -> Inflows:
    return Inflows(parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock, entropy=parts.entropy)


def _withdrawals(parts: Parts, checkpoint: Checkpoint | None = None) -> Withdrawals:
    settings = parts.settings
    return Withdrawals(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        fees=NetworkFees({name: nodes[0] for name, nodes in parts.nodes.items()}),
        rates=RatesFile(settings.path(settings.rates), clock=parts.clock),
        clock=parts.clock,
        entropy=parts.entropy,
        minimums={
            (place.network, place.asset): parse_amount(
                place.withdrawal_minimum, _asset_of(settings, place.asset), param="withdrawal_minimum"
            )
            for place in settings.deployments
            if place.withdrawal_minimum
        },
        checkpoint=checkpoint,
    )


def _asset_of(settings: Settings, code: str) -> Asset:
    found = next(asset for asset in settings.assets if asset.code == code)
    return Asset(found.code, found.kind, found.scale)


def _address_steps(parts: Parts, asking: SignerClient, checkpoint: Checkpoint | None) -> dict[str, Step]:
    """Deposit addresses derived ahead of need, and all our addresses compared with the signer's own derivation."""
    keys = SignerKeys(asking)
    check = AddressCheck(parts.engine, keys=keys, fingerprints=parts.addresses.fingerprints, clock=parts.clock)
    steps: dict[str, Step] = {"address-check": check.step}
    if Role.DEPOSIT not in parts.addresses.fingerprints:
        return steps
    pool = AddressPool(
        parts.engine,
        source=parts.addresses,
        keys=keys,
        reserver=SignerReservations(asking),
        clock=parts.clock,
        checkpoint=checkpoint,
    )
    return {"address-pool": pool.step} | steps


def _follow(follower: Follower) -> Step:
    async def step() -> int:
        progress = await follower.step()
        return int(progress.did in (Did.ADVANCED, Did.WENT_BACK))

    return step


def _broadcast(parts: Parts, network: Network, signer: Signer, checkpoint: Checkpoint | None) -> Step:
    broadcaster = Broadcaster(
        engine=parts.engine,
        network=network,
        nodes=parts.nodes[network.name],
        signer=signer,
        clock=parts.clock,
        checkpoint=checkpoint,
    )
    senders = [OwnKey(Role.HOT, 0), OwnKey(Role.GAS, 0)]

    async def step() -> int:
        if senders and not await _is_followed(parts, network):
            return 0
        while senders:  # before a sender's first payment its nonces are begun where the chain says; once per process
            await broadcaster.enrol(OwnAddress(senders[-1], parts.addresses.address(senders[-1])))
            senders.pop()
        return len((await broadcaster.step()).states)

    return step


async def _is_followed(parts: Parts, network: Network) -> bool:
    async with tx(parts.engine) as connection:
        try:
            await network_status(connection, network)
        except NotYetFollowed:
            return False
    return True
