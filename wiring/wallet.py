"""Building what users' movements need: deposits, withdrawals and their batches, conversions, orders, approvals,
and the house's own in- and outflows."""

from collections.abc import Mapping

from base.errors import ConfigError
from chain.checkpoints import Checkpoint
from chain.estimates import NetworkFees
from chain.evm.payees import Payees
from chain.payout_contract import PayoutContract
from chain.senders import Senders
from custody.client import SignerClient
from fiat.rails.top_ups import TopUps
from ledger.money import Asset, parse_amount
from treasury.approvals import Approvals, PolicyCopy
from treasury.inflows import Inflows
from treasury.outflows import Outflows
from wallet.batch_ends import BatchEnds
from wallet.batches import Batches, Gatherer
from wallet.conversions import Conversions
from wallet.deposit_reviews import DepositReviews
from wallet.deposits import Deposits
from wallet.order_reading import OrderReading
from wallet.quotes import Quotes
from wallet.top_up_orders import TopUpOrders
from wallet.transfers import Fees
from wallet.withdrawal_paying import Gathering
from wallet.withdrawal_reviews import WithdrawalReviews
from wallet.withdrawals import Withdrawals
from wiring.approving import WithdrawalApprovals
from wiring.exchange import build_rates, build_terms
from wiring.parts import Parts
from wiring.payout_contracts import contract_on, known_contracts, read_policy_copy
from wiring.payouts import Payouts
from wiring.rails import RailServices, build_rails
from wiring.settings import Settings
from wiring.signing import CustodySigner, Mandates
from wiring.sweeps import cold_addresses
from wiring.tariffs import TariffCharging

SIGNER_CONNECTIONS_MAX = 8
"""Connections to the signer over which signatures are asked for."""


def build_top_up_orders(parts: Parts, quotes: Quotes, top_ups: TopUps) -> TopUpOrders:
    """Orders that begin with a payment."""
    return TopUpOrders(
        parts.engine,
        ledger=parts.ledger,
        reading=OrderReading(parts.engine, parts.ledger),
        quotes=quotes,
        conversions=build_conversions(parts, quotes),
        top_ups=top_ups,
        clock=parts.clock,
        entropy=parts.entropy,
    )


def build_conversions(parts: Parts, quotes: Quotes) -> Conversions:
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


def build_deposits(parts: Parts) -> Deposits:
    return Deposits(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        entropy=parts.entropy,
        screened=parts.screening,
    )


def build_deposit_reviews(parts: Parts) -> DepositReviews:
    return DepositReviews(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        screened=parts.screening,
    )


def build_withdrawal_reviews(parts: Parts) -> WithdrawalReviews:
    return WithdrawalReviews(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        outflows=build_outflows(parts),
        nodes=parts.nodes,
        clock=parts.clock,
    )


def payout_contracts(parts: Parts) -> dict[str, PayoutContract]:
    """By network, the contracts that our copy of the policy names."""
    if not parts.settings.xpubs:
        return {}
    path = parts.settings.path(parts.settings.policy)
    return known_contracts(path, parts.registry.networks.values(), parts.addresses)


def build_batches(parts: Parts, payouts: Mapping[str, PayoutContract], checkpoint: Checkpoint | None) -> Batches:
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


def build_batch_ends(parts: Parts, checkpoint: Checkpoint | None) -> BatchEnds:
    return BatchEnds(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        nodes=parts.nodes,
        clock=parts.clock,
        checkpoint=checkpoint,
    )


def build_withdrawals(
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


def build_inflows(parts: Parts) -> Inflows:
    return Inflows(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        entropy=parts.entropy,
        cold=cold_addresses(parts.settings),
    )


def build_outflows(parts: Parts) -> Outflows:
    return Outflows(
        parts.engine, ledger=parts.ledger, registry=parts.registry, clock=parts.clock, entropy=parts.entropy
    )


def rails_of(parts: Parts) -> RailServices:
    """The payment providers' rails, and all that follows what happens there."""
    return build_rails(
        parts.settings,
        parts.engine,
        parts.ledger,
        clock=parts.clock,
        entropy=parts.entropy,
        tariff=parts.terms,
    )
