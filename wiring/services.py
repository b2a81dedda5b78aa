"""The services of one book, side by side: what the edges (API, command line, demo) are handed. No construction here."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from base.clock import Clock
from base.entropy import Entropy
from chain.restores import Gate
from chain.senders import Senders
from exchange.positions import HousePositions
from fiat.bank.service import BankRail
from fiat.payout_desk import PayoutDesk
from identity.service import Identity
from ledger.engine import Ledger
from tariff.desk import Desk
from tariff.tiers import Tiers
from treasury.adjustments import Adjustments
from treasury.alerts import Alerts
from treasury.approvals import Approvals
from treasury.break_alerts import Ages
from treasury.breaks import Breaks
from treasury.credit_lines import CreditLines
from treasury.freezes import Freezes
from treasury.operations.audit_log import AuditLog
from treasury.outflows import Outflows
from treasury.periods import Periods
from treasury.positions import Positions
from treasury.proposals import Proposals
from treasury.reconciliation import Reconciler
from treasury.refills import Refills
from treasury.reports.service import Reports
from treasury.reversals import Reversals
from treasury.sender_reviews import SenderReviews
from treasury.solvency_epochs import Epochs
from treasury.sweeps import Sweeps
from treasury.token_reviews import TokenReviews
from wallet.accounts import Accounts
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
from wallet.quotes import Quotes
from wallet.receipts import Receipts
from wallet.top_up_orders import TopUpOrders
from wallet.transfers import Transfers
from wallet.withdrawal_reviews import WithdrawalReviews
from wallet.withdrawals import Withdrawals
from wiring.chains import Chains
from wiring.exchange import Rates
from wiring.rails import RailServices

Check = Callable[[], Awaitable[str | None]]
"""Looks at one thing that the service needs: None when it's well, else a sentence. It may also raise or hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a request may need. `public_books`: the page at `/` shows the house's totals to anybody.

    `public_epochs`: whether anybody may read epochs; `epochs_published_at`: the address where everybody does, if set.
    """

    clock: Clock
    entropy: Entropy
    ledger: Ledger
    identity: Identity
    chains: Chains
    bank: BankRail
    rails: RailServices
    payouts: PayoutDesk
    terms: Desk
    tiers: Tiers
    fee_previews: FeePreviews
    accounts: Accounts
    transfers: Transfers
    bulk_transfers: BulkTransfers
    holds: Holds
    quotes: Quotes
    conversions: Conversions
    orders: Orders
    order_reading: OrderReading
    top_up_orders: TopUpOrders
    exchange: HousePositions
    rates: Rates
    deposit_addresses: DepositAddresses
    deposits: Deposits
    deposit_reviews: DepositReviews
    withdrawals: Withdrawals
    withdrawal_reviews: WithdrawalReviews
    cancellations: Cancellations
    senders: Senders
    receipts: Receipts
    history: History
    positions: Positions
    reports: Reports
    alerts: Alerts
    adjustments: Adjustments
    approvals: Approvals
    reconciler: Reconciler
    break_ages: Ages
    breaks: Breaks
    proposals: Proposals
    epochs: Epochs
    freezes: Freezes
    audit_log: AuditLog
    credit_lines: CreditLines
    reversals: Reversals
    periods: Periods
    tokens: TokenReviews
    sender_reviews: SenderReviews
    outflows: Outflows
    sweeps: Sweeps
    refills: Refills
    recovery: Gate
    checks: Mapping[str, Check] = field(default_factory=dict)
    public_books: bool = False
    public_epochs: bool = True
    epochs_published_at: str | None = None
