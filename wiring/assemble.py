"""Building everything from the settings: the parts that all processes share, the services, and the worker's steps.

Each process opens its parts once. The API's parts hold public keys alone; only the worker's ask the signer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock, SystemClock
from base.entropy import Entropy, SystemEntropy
from base.errors import ConfigError, Unavailable
from chain import restores
from chain.address_check import AddressCheck
from chain.address_pool import AddressPool
from chain.addresses import begin_indexes, enrol
from chain.broadcaster import Broadcaster
from chain.checkpoints import Checkpoint
from chain.coin_watch import CoinWatch
from chain.errors import NotYetFollowed
from chain.estimates import NetworkFees
from chain.evm.node import Node
from chain.evm.payees import Payees
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Did, Follower
from chain.foreign_watch import ForeignWatch
from chain.incarnation import incarnation
from chain.networks import Deployment, Network, Registry, TokenDomain
from chain.payout_contract import PayoutContract
from chain.restores import Gate
from chain.screening import Screening
from chain.sender_screening import SenderScreening
from chain.senders import Senders
from chain.signing import OwnKey, Role, Signer
from chain.status import network_status
from chain.token_watch import TokenWatch
from custody.client import SignerClient
from db.engine import create_engine, tx
from fiat.payout_store import note_database
from fiat.payouts import PAYPAL
from fiat.rails.top_ups import TopUps
from identity.service import Identity
from ledger.expiry import HoldExpiry
from ledger.money import Asset, parse_amount
from ledger.sealing import SealBook
from ledger.seals import load_seal_key
from ledger.service import PostgresLedger
from tariff.account_fees import AccountFees
from tariff.desk import Desk
from tariff.schedule import Tariff
from tariff.tiers import Tiers
from treasury.alerts import Alerts
from treasury.approvals import Approvals, PolicyCopy
from treasury.breaks import Breaks
from treasury.credit_lines import CreditLines
from treasury.inflows import Inflows
from treasury.journal_watch import JournalSource, JournalWatch
from treasury.outflows import Outflows
from treasury.positions import Positions
from treasury.reconciliation import Reconciler
from treasury.reversals import Reversals
from treasury.sender_reviews import SenderReviews
from treasury.solvency_epochs import Epochs
from treasury.token_reviews import TokenReviews
from wallet.accounts import Accounts
from wallet.batch_ends import BatchEnds
from wallet.batch_rebuilding import BatchRebuilding
from wallet.batches import Batches, Gatherer
from wallet.bulk import BulkTransfers
from wallet.cancellations import Cancellations
from wallet.conversions import Conversions
from wallet.deposit_addresses import DepositAddresses
from wallet.deposit_reviews import DepositReviews
from wallet.deposits import Deposits
from wallet.fee_previews import FeePreviews
from wallet.history import History
from wallet.holds import Holds
from wallet.order_reading import OrderReading
from wallet.orders import Orders
from wallet.own_gas import OwnGas
from wallet.quotes import Quotes
from wallet.rebuilding import Rebuilding
from wallet.receipts import Receipts
from wallet.receivables import Receivables
from wallet.top_up_orders import TopUpOrders
from wallet.transfers import Fees, Transfers
from wallet.withdrawal_paying import Gathering
from wallet.withdrawal_reviews import WithdrawalReviews
from wallet.withdrawals import Withdrawals
from wiring.approving import WithdrawalApprovals
from wiring.banking import bank_steps, build_bank, build_payout_desk, build_sealing, has_vault
from wiring.chains import Chains
from wiring.checks import book_check, database_check, recovery_check
from wiring.exchange import build_board, build_positions, build_rates, build_terms, feed_client
from wiring.operations import build_adjustments, build_audit_log, build_freezes, build_periods, build_proposals
from wiring.payout_contracts import contract_on, known_contracts, read_policy_copy
from wiring.payouts import Payouts
from wiring.rails import RailServices, build_rails, rail_steps
from wiring.reanchoring import Reanchoring
from wiring.recovering import Recovering
from wiring.recovery_looking import Looking
from wiring.reporting import build_reports
from wiring.screening import build_screening, listed_addresses
from wiring.services import Services
from wiring.settings import Settings
from wiring.signing import CustodySigner, Mandates, SignerKeys, SignerReservations, XpubAddresses
from wiring.solvency import build_epochs
from wiring.sweeps import build_refills, build_sweeping, build_sweeps, cold_addresses, hot_floors
from wiring.tariffs import RatesWorth, TariffCharging, load_tariff

SIGNER_CONNECTIONS_MAX = 8
"""Connections to the signer over which signatures are asked for."""

Step = Callable[[], Awaitable[int]]
"""One bounded piece of background work; returns how many things it moved on."""


ONLY_LOOKING = frozenset(
    {
        "journal",
        "address-pool",
        "address-check",
        "follow",
        "tokens",
        "coins",
        "screening",
        "reconcile",
        "seals",
        "rates",
    }
)
"""Steps that read chain and signer, and write down what they saw. All others wait while payments may be missing."""


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


def build_services(parts: Parts, *, withdrawals: Withdrawals | None = None) -> Services:
    """All services of one book over these parts; `withdrawals` instead of those that the parts make."""
    engine, ledger, clock, entropy = parts.engine, parts.ledger, parts.clock, parts.entropy
    settings, registry = parts.settings, parts.registry
    identity = _identity(parts)
    rates = build_rates(settings, engine, clock)
    fees = Fees(settings.transfer_fee_basis_points)
    quotes = build_quotes(parts)
    withdrawals, rails = withdrawals or _withdrawals(parts), _rails(parts)
    payouts = build_payout_desk(parts, dict.fromkeys(rails.rails.all, rails.ending))
    previews = FeePreviews(
        tariff=parts.terms, fees=fees, withdrawals=withdrawals, payouts=payouts, top_ups=rails.top_ups
    )
    conversions = _conversions(parts, quotes)
    reading = OrderReading(engine, ledger)
    adjustments = build_adjustments(parts)
    transfers = Transfers(
        ledger=ledger, directory=identity, clock=clock, entropy=entropy, fees=fees, tariff=parts.terms
    )
    return Services(
        clock=clock,
        entropy=entropy,
        ledger=ledger,
        identity=identity,
        chains=Chains(engine, registry),
        accounts=Accounts(ledger),
        transfers=transfers,
        bulk_transfers=BulkTransfers(
            ledger=ledger, directory=identity, clock=clock, entropy=entropy, fees=fees, tariff=parts.terms
        ),
        holds=Holds(ledger=ledger, directory=identity, clock=clock, entropy=entropy, fees=fees, tariff=parts.terms),
        quotes=quotes,
        exchange=build_positions(parts),
        rates=rates,
        conversions=conversions,
        orders=Orders(
            ledger=ledger,
            reading=reading,
            quotes=quotes,
            conversions=conversions,
            transfers=transfers,
            withdrawals=withdrawals,
            payouts=payouts,
            previews=previews,
            clock=clock,
            entropy=entropy,
        ),
        order_reading=reading,
        top_up_orders=_top_up_orders(parts, quotes, rails.top_ups),
        deposit_addresses=DepositAddresses(
            engine, book=settings.book, registry=registry, source=parts.addresses, clock=clock
        ),
        deposits=_deposits(parts),
        deposit_reviews=_deposit_reviews(parts),
        withdrawals=withdrawals,
        withdrawal_reviews=_withdrawal_reviews(parts),
        cancellations=Cancellations(engine, ledger=ledger, clock=clock),
        senders=build_senders(parts),
        receipts=Receipts(ledger),
        history=History(ledger),
        positions=build_treasury_positions(parts),
        reports=build_reports(parts),
        alerts=build_alerts(parts),
        adjustments=adjustments,
        proposals=build_proposals(parts, adjustments),
        approvals=build_approvals(parts),
        reconciler=build_reconciler(parts),
        breaks=Breaks(engine, ledger=ledger, clock=clock, entropy=entropy),
        freezes=build_freezes(parts),
        audit_log=build_audit_log(parts),
        epochs=build_command_epochs(parts),
        credit_lines=CreditLines(ledger),
        reversals=Reversals(ledger=ledger, clock=clock, entropy=entropy),
        periods=build_periods(parts),
        tokens=TokenReviews(engine, registry=registry, clock=clock),
        sender_reviews=SenderReviews(engine, registry=registry, clock=clock),
        outflows=_outflows(parts),
        sweeps=build_sweeps(parts),
        refills=build_refills(parts, _withdrawals(parts)),
        bank=build_bank(parts),
        rails=rails,
        payouts=payouts,
        terms=parts.terms,
        tiers=parts.tiers,
        fee_previews=previews,
        recovery=parts.gate,
        checks={"database": database_check(engine), "book": book_check(ledger), "recovery": recovery_check(parts.gate)},
        public_books=settings.public_books,
        public_epochs=settings.solvency.public,
        epochs_published_at=settings.solvency.published_at,
    )


def _top_up_orders(parts: Parts, quotes: Quotes, top_ups: TopUps) -> TopUpOrders:
    """Orders that begin with a payment."""
    return TopUpOrders(
        parts.engine,
        ledger=parts.ledger,
        reading=OrderReading(parts.engine, parts.ledger),
        quotes=quotes,
        conversions=_conversions(parts, quotes),
        top_ups=top_ups,
        clock=parts.clock,
        entropy=parts.entropy,
    )


def _conversions(parts: Parts, quotes: Quotes) -> Conversions:
    return Conversions(parts.engine, ledger=parts.ledger, quotes=quotes, clock=parts.clock, tariff=parts.terms)


def build_quotes(parts: Parts) -> Quotes:
    """Who quotes prices."""
    return Quotes(
        parts.engine,
        ledger=parts.ledger,
        rates=build_rates(parts.settings, parts.engine, parts.clock),
        clock=parts.clock,
        entropy=parts.entropy,
        terms=build_terms(parts.settings),
        charging=TariffCharging(parts.terms),
    )


def build_alerts(parts: Parts) -> Alerts:
    """What somebody has to look at, of this book and its networks."""
    return Alerts(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        payments=_withdrawals(parts),
        reviews=_withdrawal_reviews(parts),
    )


def build_treasury_positions(parts: Parts) -> Positions:
    """What is owed and held, at any moment."""
    return Positions(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        rates=build_rates(parts.settings, parts.engine, parts.clock),
        floors=hot_floors(parts.settings),
        reference=parts.settings.exchange.reference,
        clock=parts.clock,
    )


def build_senders(parts: Parts) -> Senders:
    """The hot addresses that pay withdrawals."""
    return Senders(parts.engine, registry=parts.registry, nodes=parts.nodes, count=parts.settings.hot_senders)


def build_approvals(parts: Parts) -> Approvals:
    """Approvals by the people of our copy of the policy."""
    policy = PolicyCopy(parts.settings.path(parts.settings.policy))
    return Approvals(parts.engine, book=parts.settings.book, policy=policy, clock=parts.clock, entropy=parts.entropy)


def build_approving(parts: Parts) -> WithdrawalApprovals:
    """Who asks them for withdrawals, and hands what they signed to the signer."""
    return WithdrawalApprovals(build_approvals(parts), registry=parts.registry, clock=parts.clock)


def _rails(parts: Parts) -> RailServices:
    """The payment providers' rails, and all that follows what happens there."""
    return build_rails(
        parts.settings,
        parts.engine,
        parts.ledger,
        clock=parts.clock,
        entropy=parts.entropy,
        tariff=parts.terms,
    )


def _rail_steps(parts: Parts) -> dict[str, Step]:
    """Nothing where no provider is configured."""
    rails = _rails(parts)
    return rail_steps(rails) if rails.rails.all else {}


def build_reconciler(parts: Parts) -> Reconciler:
    """Reconciliation of this book with every network's nodes, the bank and payment providers."""
    return Reconciler(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        nodes=parts.nodes,
        banks=[build_bank(parts)],
        surpluses=[_deposit_reviews(parts), _inflows(parts)],
        outflows=_outflows(parts),
        rails=_rails(parts).balances,
        clock=parts.clock,
        entropy=parts.entropy,
    )


def build_command_epochs(parts: Parts) -> Epochs:
    """Epochs of this book, for who can't ask the signer: the worker has addresses sign."""
    return build_epochs(parts, _rails(parts).balances)


def build_reanchoring(parts: Parts, network: str, *, checkpoint: Checkpoint | None = None) -> Reanchoring:
    """Re-anchors this book's `network`. Raises NotOnNetwork."""
    return Reanchoring(
        parts.engine,
        ledger=parts.ledger,
        network=parts.registry.network(network),
        pool=parts.nodes[network],
        deposits=_deposits(parts),
        inflows=_inflows(parts),
        outflows=_outflows(parts),
        clock=parts.clock,
        checkpoint=checkpoint,
    )


def build_payouts(parts: Parts, network: str) -> Payouts:
    """The payout contract of `network`. Raises NotOnNetwork, ConfigError where the policy names none."""
    known, settings = parts.registry.network(network), parts.settings
    path = settings.path(settings.policy)
    contract = contract_on(read_policy_copy(path), known, parts.addresses)
    if contract is None:
        raise ConfigError(
            f"{path} names no payout contract on {network} (chain {known.chain_id}): [[contracts]] and its rules are"
            " in docs/batches.md",
            code="no_payout_contract",
        )
    told = next((one for one in settings.payouts if one.network == network), None)
    return Payouts(
        parts.engine,
        book=settings.book,
        network=known,
        node=parts.nodes[network],
        contract=contract,
        deployer=parts.addresses.address(contract.deployer),
        terms=told.terms if told is not None and told.batches else None,
        clock=parts.clock,
        entropy=parts.entropy,
    )


def build_journal_watch(parts: Parts, journal: JournalSource) -> JournalWatch:
    """Compares the signer's journal with what this database knows of it."""
    return JournalWatch(parts.engine, journal=journal, clock=parts.clock)


async def look_at_journal(parts: Parts, *, seconds: float = 2.0) -> None:
    """Halt this database if the signer's journal, where it can be asked, has payments that aren't known here.

    Who can't ask relies on the worker, which looks again and again.
    """
    if not parts.settings.networks or not parts.settings.xpubs:
        return
    client = SignerClient(parts.settings.path(parts.settings.signer_socket), seconds=seconds)
    try:
        await build_journal_watch(parts, client).look()
    except Unavailable:
        return
    finally:
        await client.close()


async def refuse_lost_tiers(parts: Parts) -> None:
    """Raise TariffInvalid if users are in tiers that the tariff hasn't. A database that's away is asked at each use."""
    try:
        await parts.tiers.require_known()
    except Unavailable:
        return


@asynccontextmanager
async def open_recovering(
    parts: Parts, journal: JournalSource, *, checkpoint: Checkpoint | None = None
) -> AsyncIterator[Recovering]:
    """Recovers this book's database from the signer's journal. At the end the followers' locks are let go."""
    async with open_steps(parts, None) as steps:
        following = {name: step for name, step in steps.items() if _only_looks(name) and ":" in name}
        withdrawals = Rebuilding(
            parts.engine,
            ledger=parts.ledger,
            registry=parts.registry,
            rates=build_rates(parts.settings, parts.engine, parts.clock),
            clock=parts.clock,
        )
        batches = BatchRebuilding(
            parts.engine,
            ledger=parts.ledger,
            registry=parts.registry,
            withdrawals=withdrawals,
            clock=parts.clock,
            checkpoint=checkpoint,
        )
        yield Recovering(
            parts.engine,
            registry=parts.registry,
            addresses=parts.addresses,
            looking=Looking(
                parts.engine,
                book=parts.settings.book,
                registry=parts.registry,
                addresses=parts.addresses,
                journal=journal,
                withdrawals=withdrawals,
                batches=batches,
                directory=_identity(parts),
            ),
            withdrawals=withdrawals,
            batches=batches,
            following=following,
            booking={**following, "deposits": _deposits(parts).step, "inflows": _inflows(parts).step},
            clock=parts.clock,
            entropy=parts.entropy,
            checkpoint=checkpoint,
        )


def build_signer(settings: Settings, *, mandates: Mandates | None = None) -> CustodySigner:
    """The signer, by its socket; only answers of the configured keys are accepted. `mandates`: what people approved.

    It's asked over several connections at once: for each sender in order, for several side by side.
    """
    socket = settings.path(settings.signer_socket)
    count = min(settings.hot_senders, SIGNER_CONNECTIONS_MAX)
    clients = (SignerClient(socket, xpubs=settings.xpubs) for _ in range(count))
    return CustodySigner(*clients, mandates=mandates)


def build_own_signer(parts: Parts) -> CustodySigner:
    """The signer, which is handed what people approved."""
    return build_signer(parts.settings, mandates=build_approving(parts))


@asynccontextmanager
async def open_steps(
    parts: Parts, signer: CustodySigner | None, *, checkpoint: Checkpoint | None = None
) -> AsyncIterator[dict[str, Step]]:
    """The worker's steps by name, in the order in which value flows through them. At the end their locks are let go."""
    steps: dict[str, Step] = {}
    payouts = _payout_contracts(parts)
    batches = _batches(parts, payouts, checkpoint)
    async with AsyncExitStack() as stack:
        if signer is not None and parts.settings.xpubs:
            asking = SignerClient(parts.settings.path(parts.settings.signer_socket))
            stack.push_async_callback(asking.close)
            steps["journal"] = build_journal_watch(parts, asking).step
            steps |= _address_steps(parts, asking, checkpoint)
        for network in parts.registry.networks.values():
            follower = Follower(
                engine=parts.engine,
                network=network,
                nodes=parts.nodes[network.name],
                clock=parts.clock,
                payouts=[payouts[network.name].address] if network.name in payouts else [],
            )
            stack.push_async_callback(follower.close)
            steps[f"follow:{network.name}"] = _follow(follower)
            if parts.registry.tokens(network.name):
                steps[f"tokens:{network.name}"] = _token_watch(parts, network).step
            if parts.registry.by_contract(network.name, None):
                nodes = parts.nodes[network.name]
                watch = CoinWatch(parts.engine, network=network, nodes=nodes, clock=parts.clock)
                steps[f"coins:{network.name}"] = watch.step
            steps[f"foreign:{network.name}"] = _foreign_watch(parts, network).step
            if network.name in parts.screening:
                steps[f"screening:{network.name}"] = _sender_screening(parts, network).step
        steps["holds"] = HoldExpiry(parts.ledger).step
        steps["freezes"] = build_freezes(parts).step
        steps |= bank_steps(parts)
        steps |= _rail_steps(parts)
        if any(tier.account_fee for tier in parts.tariff.tiers.values()):
            steps["account-fees"] = AccountFees(
                parts.engine, ledger=parts.ledger, tariff=parts.tariff, people=_identity(parts), clock=parts.clock
            ).step
        steps["receivables"] = Receivables(parts.ledger).step
        if parts.settings.exchange.sources:
            steps["rates"] = build_board(parts, await stack.enter_async_context(feed_client())).step
        steps["quotes"] = build_quotes(parts).step
        steps["orders"] = _top_up_orders(parts, build_quotes(parts), _rails(parts).top_ups).step
        steps["exchange"] = build_positions(parts).step
        if parts.registry.networks:
            steps["deposits"] = _deposits(parts).step
            steps["inflows"] = _inflows(parts).step
            steps["outflows"] = _outflows(parts).step
            steps["batches"] = batches.step
            steps["withdrawals"] = _withdrawals(parts, checkpoint, gathering=batches).step
            steps["batch-ends"] = _batch_ends(parts, checkpoint).step
            steps["own-gas"] = OwnGas(
                parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock
            ).step
            steps["refills"] = build_refills(parts, _withdrawals(parts)).step
        for network in parts.registry.networks.values():
            if signer is not None:
                if parts.registry.by_contract(network.name, None):
                    steps[f"sweeps:{network.name}"] = build_sweeping(parts, network, signer, checkpoint).step
                steps[f"broadcast:{network.name}"] = _broadcast(parts, network, signer, checkpoint)
        steps["reconcile"] = build_reconciler(parts).step
        if (sealing := _sealing(parts)) is not None:
            steps["seals"] = sealing.step
        epochs = build_epochs(parts, _rails(parts).balances, signer=signer)
        steps["solvency"], steps["solvency-ends"] = epochs.step, epochs.end_step
        yield {name: step if _only_looks(name) else parts.gate.guard(step) for name, step in steps.items()}


def _only_looks(name: str) -> bool:
    """Whether a step goes on in a database that must be recovered first: it reads, and moves nothing."""
    return name.partition(":")[0] in ONLY_LOOKING


def house_keys(settings: Settings) -> list[OwnKey]:
    """The keys of the house's own addresses: those that pay withdrawals, and the one that pays gas."""
    return [*(OwnKey(Role.HOT, index) for index in range(settings.hot_senders)), OwnKey(Role.GAS, 0)]


async def prepare_book(settings: Settings, *, report: Callable[[str], None]) -> None:
    """Migrate the database; make the book, its assets, and the house's own addresses known. Again is harmless.

    Raises ConfigError.
    """
    listed_addresses(settings)  # without a readable list nothing starts
    from db.migrate import migrate  # here, since only who installs or starts the service needs alembic

    owner_url = settings.database_owner_url or settings.database_url
    if owner_url is None:
        raise ConfigError("there is no database to prepare: set database_url", code="no_database")
    await migrate(owner_url.get_secret_value(), report=report)
    async with open_parts(settings, name="onebook prepare") as parts:
        await parts.ledger.create_book()
        for asset in settings.assets:
            await parts.ledger.register_asset(Asset(asset.code, asset.kind, asset.scale))
        if has_vault(settings):
            await build_sealing(parts).seal_in_clear()
        if settings.rails.paypal is not None:
            async with tx(parts.engine) as connection:
                await note_database(connection, settings.book, PAYPAL, incarnation(), now=parts.clock.now())
        if settings.networks and settings.xpubs:
            async with tx(parts.engine) as connection:
                for key in house_keys(settings):
                    await enrol(connection, parts.addresses, key=key, clock=parts.clock)
                for role in (Role.HOT, Role.GAS):
                    await enrol(connection, parts.addresses, key=OwnKey(role, 0), clock=parts.clock)
                await restores.begin(connection, now=parts.clock.now())
                await begin_indexes(connection)


async def first_operator_key(settings: Settings) -> str:
    """A new operator key's secret, for whoever installs; shown once."""
    async with open_parts(settings, name="onebook init") as parts:
        return (await _identity(parts).create_operator_key()).secret


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
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        entropy=parts.entropy,
        screened=parts.screening,
    )


def _deposit_reviews(parts: Parts) -> DepositReviews:
    return DepositReviews(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        screened=parts.screening,
    )


def _inflows(parts: Parts) -> Inflows:
    return Inflows(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        entropy=parts.entropy,
        cold=cold_addresses(parts.settings),
    )


def _outflows(parts: Parts) -> Outflows:
    return Outflows(
        parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock, entropy=parts.entropy
    )


def _withdrawal_reviews(parts: Parts) -> WithdrawalReviews:
    return WithdrawalReviews(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        outflows=_outflows(parts),
        nodes=parts.nodes,
        clock=parts.clock,
    )


def _payout_contracts(parts: Parts) -> dict[str, PayoutContract]:
    """By network, the contracts that our copy of the policy names."""
    if not parts.settings.xpubs:
        return {}
    path = parts.settings.path(parts.settings.policy)
    return known_contracts(path, parts.registry.networks.values(), parts.addresses)


def _batches(parts: Parts, payouts: Mapping[str, PayoutContract], checkpoint: Checkpoint | None) -> Batches:
    return Batches(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        gatherers={
            told.network: Gatherer(terms=told.terms, contract=payouts[told.network], node=parts.nodes[told.network])
            for told in parts.settings.payouts
            if told.batches and told.network in payouts
        },
        senders=build_senders(parts),
        clock=parts.clock,
        entropy=parts.entropy,
        checkpoint=checkpoint,
    )


def _batch_ends(parts: Parts, checkpoint: Checkpoint | None) -> BatchEnds:
    return BatchEnds(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        nodes=parts.nodes,
        clock=parts.clock,
        checkpoint=checkpoint,
    )


def _withdrawals(
    parts: Parts, checkpoint: Checkpoint | None = None, *, gathering: Gathering | None = None
) -> Withdrawals:
    settings = parts.settings
    return Withdrawals(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        fees=NetworkFees(parts.nodes, clock=parts.clock),
        rates=build_rates(settings, parts.engine, parts.clock),
        senders=build_senders(parts),
        clock=parts.clock,
        entropy=parts.entropy,
        minimums=_withdrawal_bounds(settings, "withdrawal_minimum"),
        maximums=_withdrawal_bounds(settings, "withdrawal_maximum"),
        screening=parts.screening,
        payees=Payees(parts.nodes),
        source=parts.addresses,
        transfer_fees=Fees(settings.transfer_fee_basis_points),
        tariff=parts.terms,
        gathering=gathering,
        approving=build_approving(parts),
        checkpoint=checkpoint,
    )


def _withdrawal_bounds(settings: Settings, setting: str) -> dict[tuple[str, str], int]:
    """By (network, asset), in smallest units; only what is set."""
    told = ((place, getattr(place, setting)) for place in settings.deployments)
    return {
        (place.network, place.asset): parse_amount(amount, _asset_of(settings, place.asset), param=setting)
        for place, amount in told
        if amount
    }


def _asset_of(settings: Settings, code: str) -> Asset:
    found = next(asset for asset in settings.assets if asset.code == code)
    return Asset(found.code, found.kind, found.scale)


def _address_steps(parts: Parts, asking: SignerClient, checkpoint: Checkpoint | None) -> dict[str, Step]:
    """Deposit addresses derived ahead of need, and all our addresses compared with the signer's own derivation."""
    keys = SignerKeys(asking)
    check = AddressCheck(parts.engine, keys=keys, fingerprints=parts.addresses.fingerprints, clock=parts.clock)
    steps: dict[str, Step] = {"address-check": check.step}
    if not any(recorded.role is Role.DEPOSIT for recorded in parts.addresses.fingerprints):
        return steps
    pool = AddressPool(
        parts.engine,
        source=parts.addresses,
        fingerprints=parts.addresses.fingerprints,
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


def _token_watch(parts: Parts, network: Network) -> TokenWatch:
    return TokenWatch(
        parts.engine,
        network=network,
        tokens=parts.registry.tokens(network.name),
        reader=parts.nodes[network.name].tokens,
        clock=parts.clock,
    )


def _foreign_watch(parts: Parts, network: Network) -> ForeignWatch:
    return ForeignWatch(
        parts.engine,
        network=network,
        contracts=parts.registry.tokens(network.name),
        nodes=parts.nodes[network.name],
        clock=parts.clock,
    )


def _sender_screening(parts: Parts, network: Network) -> SenderScreening:
    return SenderScreening(
        parts.engine,
        network=network,
        tokens=parts.registry.tokens(network.name),
        screening=parts.screening[network.name],
        node=parts.nodes[network.name],
        clock=parts.clock,
    )


def _broadcast(parts: Parts, network: Network, signer: Signer, checkpoint: Checkpoint | None) -> Step:
    broadcaster = Broadcaster(
        engine=parts.engine,
        network=network,
        nodes=[parts.nodes[network.name]],
        signer=signer,
        clock=parts.clock,
        checkpoint=checkpoint,
    )
    senders = house_keys(parts.settings)

    async def step() -> int:
        if senders and not await _is_followed(parts, network):
            return 0
        while senders:  # before a sender's first payment its nonces are begun where the chain says; once per process
            async with tx(parts.engine) as connection:
                own = await enrol(connection, parts.addresses, key=senders[-1], clock=parts.clock)
            await broadcaster.enrol(own)
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
