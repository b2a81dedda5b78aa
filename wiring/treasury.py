"""Building what the house proves and does for itself: alerts, positions, reconciliation, epochs."""

from exchange.position_check import PositionCheck
from treasury.alerts import Alerts
from treasury.positions import Positions
from treasury.reconciliation import Reconciler
from treasury.solvency_epochs import Epochs
from wiring.banking import build_bank
from wiring.exchange import build_rates
from wiring.parts import Parts
from wiring.solvency import build_epochs
from wiring.sweeps import hot_floors
from wiring.wallet import (
    build_deposit_reviews,
    build_inflows,
    build_outflows,
    build_withdrawal_reviews,
    build_withdrawals,
    rails_of,
)


def build_alerts(parts: Parts) -> Alerts:
    """What somebody has to look at, of this book and its networks."""
    return Alerts(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        clock=parts.clock,
        payments=build_withdrawals(parts),
        reviews=build_withdrawal_reviews(parts),
        break_ages=parts.settings.reconciliation.timing().critical_after,
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


def build_reconciler(parts: Parts) -> Reconciler:
    """Reconciliation of this book with every network's nodes, the bank and payment providers."""
    return Reconciler(
        parts.engine,
        ledger=parts.ledger,
        registry=parts.registry,
        nodes=parts.nodes,
        banks=[build_bank(parts)],
        surpluses=[build_deposit_reviews(parts), build_inflows(parts)],
        outflows=build_outflows(parts),
        rails=rails_of(parts).balances,
        exchange=PositionCheck(parts.engine, book=parts.settings.book, clock=parts.clock),
        clock=parts.clock,
        entropy=parts.entropy,
        timing=parts.settings.reconciliation.timing(),
    )


def build_command_epochs(parts: Parts) -> Epochs:
    """Epochs of this book, for who can't ask the signer: the worker has addresses sign."""
    return build_epochs(parts, rails_of(parts).balances)
