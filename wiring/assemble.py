"""All services of one book, as the API has them.

The API's parts hold public keys alone; only the worker's ask the signer.
"""

from treasury.breaks import Breaks
from treasury.sender_reviews import SenderReviews
from treasury.token_reviews import TokenReviews
from wallet.accounts import Accounts
from wallet.bulk import BulkTransfers
from wallet.cancellations import Cancellations
from wallet.deposit_addresses import DepositAddresses
from wallet.fee_previews import FeePreviews
from wallet.history import History
from wallet.holds import Holds
from wallet.order_reading import OrderReading
from wallet.orders import Orders
from wallet.receipts import Receipts
from wallet.transfers import Fees, Transfers
from wallet.withdrawals import Withdrawals
from wiring.banking import build_bank, build_payout_desk
from wiring.chains import Chains
from wiring.checks import book_check, database_check, recovery_check
from wiring.exchange import build_positions, build_rates
from wiring.operations import build_audit_log, build_by_hand, build_freezes
from wiring.parts import Parts, build_identity
from wiring.reporting import build_reports
from wiring.services import Services
from wiring.sweeps import build_refills, build_sweeps
from wiring.treasury import (
    build_alerts,
    build_command_epochs,
    build_reconciler,
    build_treasury_positions,
)
from wiring.wallet import (
    build_approvals,
    build_conversions,
    build_deposit_reviews,
    build_deposits,
    build_outflows,
    build_quotes,
    build_senders,
    build_top_up_orders,
    build_withdrawal_reviews,
    build_withdrawals,
    rails_of,
)


def build_services(parts: Parts, *, withdrawals: Withdrawals | None = None) -> Services:
    """All services of one book over these parts; `withdrawals` instead of those that the parts make."""
    engine, ledger, clock, entropy = parts.engine, parts.ledger, parts.clock, parts.entropy
    settings, registry = parts.settings, parts.registry
    identity = build_identity(parts)
    rates = build_rates(settings, engine, clock)
    fees = Fees(settings.transfer_fee_basis_points)
    quotes = build_quotes(parts)
    withdrawals, rails = withdrawals or build_withdrawals(parts), rails_of(parts)
    payouts = build_payout_desk(parts, dict.fromkeys(rails.rails.all, rails.ending))
    previews = FeePreviews(
        tariff=parts.terms, fees=fees, withdrawals=withdrawals, payouts=payouts, top_ups=rails.top_ups
    )
    conversions = build_conversions(parts, quotes)
    reading = OrderReading(engine, ledger)
    by_hand = build_by_hand(parts)
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
        top_up_orders=build_top_up_orders(parts, quotes, rails.top_ups),
        deposit_addresses=DepositAddresses(
            engine, book=settings.book, registry=registry, source=parts.addresses, clock=clock
        ),
        deposits=build_deposits(parts),
        deposit_reviews=build_deposit_reviews(parts),
        withdrawals=withdrawals,
        withdrawal_reviews=build_withdrawal_reviews(parts),
        cancellations=Cancellations(engine, ledger=ledger, clock=clock),
        senders=build_senders(parts),
        receipts=Receipts(ledger),
        history=History(ledger),
        positions=build_treasury_positions(parts),
        reports=build_reports(parts),
        alerts=build_alerts(parts),
        adjustments=by_hand.adjustments,
        proposals=by_hand.proposals,
        approvals=build_approvals(parts),
        reconciler=build_reconciler(parts),
        break_ages=settings.reconciliation.timing().critical_after,
        breaks=Breaks(engine, ledger=ledger, clock=clock, entropy=entropy),
        freezes=build_freezes(parts),
        audit_log=build_audit_log(parts),
        epochs=build_command_epochs(parts),
        credit_lines=by_hand.credit_lines,
        reversals=by_hand.reversals,
        periods=by_hand.periods,
        tokens=TokenReviews(engine, registry=registry, clock=clock),
        sender_reviews=SenderReviews(engine, registry=registry, clock=clock),
        outflows=build_outflows(parts),
        sweeps=build_sweeps(parts),
        refills=build_refills(parts, build_withdrawals(parts)),
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
