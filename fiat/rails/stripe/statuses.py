"""Stripe's words and ours: every status, balance transaction and webhook object of its API. Pure.

The words are those of Stripe's OpenAPI file of API_VERSION; a test holds these tables against it.
"""

from collections.abc import Mapping
from typing import Any

from fiat.rails.currencies import Counting
from fiat.rails.protocol import (
    DisputeStatus,
    EntryKind,
    ObjectKind,
    PaymentStatus,
    RefundStatus,
    SettlementStatus,
)

Body = Mapping[str, Any]
"""One of Stripe's objects, as it came."""

API_VERSION = "2026-05-27.dahlia"
"""Sent with every request: answers keep this shape whatever version the account or the SDK has."""

PAYMENTS = {
    "requires_payment_method": PaymentStatus.REQUIRES_ACTION,
    "requires_confirmation": PaymentStatus.REQUIRES_ACTION,
    "requires_action": PaymentStatus.REQUIRES_ACTION,
    "processing": PaymentStatus.PROCESSING,
    "requires_capture": PaymentStatus.AUTHORISED,
    "succeeded": PaymentStatus.CAPTURED,
    "canceled": PaymentStatus.CANCELLED,
}
"""`payment_intent.status`. A cancelled one that we gave up because its card declined is FAILED (`reading.payment`)."""

REFUNDS = {
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "succeeded": RefundStatus.COMPLETED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}
"""`refund.status`, which the file describes in words."""

DISPUTES = {
    "warning_needs_response": DisputeStatus.INQUIRY,
    "warning_under_review": DisputeStatus.INQUIRY,
    "warning_closed": DisputeStatus.CLOSED,
    "needs_response": DisputeStatus.OPEN,
    "under_review": DisputeStatus.UNDER_REVIEW,
    "won": DisputeStatus.WON,
    "lost": DisputeStatus.LOST,
    "prevented": DisputeStatus.CLOSED,
}
"""`dispute.status`."""

SETTLEMENTS = {
    "pending": SettlementStatus.SENT,
    "in_transit": SettlementStatus.SENT,
    "paid": SettlementStatus.PAID,
    "failed": SettlementStatus.FAILED,
    "canceled": SettlementStatus.FAILED,
}
"""`payout.status`, which the file describes in words."""

_OTHERS = (
    *("advance", "advance_funding", "anticipation_repayment", "application_fee", "application_fee_refund"),
    *("climate_order_purchase", "climate_order_refund", "connect_collection_transfer", "contribution"),
    *("fee_credit_funding", "inbound_transfer", "inbound_transfer_reversal", "issuing_authorization_hold"),
    *("issuing_authorization_release", "issuing_dispute", "issuing_transaction", "obligation_outbound"),
    *("obligation_reversal_inbound", "payment_failure_refund", "payment_network_reserve_hold"),
    *("payment_network_reserve_release", "payment_reversal", "payment_unreconciled", "payout_minimum_balance_hold"),
    *("payout_minimum_balance_release", "reserve_hold", "reserve_release", "reserve_transaction", "reserved_funds"),
    *("stripe_balance_payment_debit", "stripe_balance_payment_debit_reversal", "topup", "topup_reversal", "transfer"),
    *("transfer_cancel", "transfer_failure", "transfer_refund"),
)

ENTRIES = {
    "charge": EntryKind.PAYMENT,
    "payment": EntryKind.PAYMENT,
    "refund": EntryKind.REFUND,
    "payment_refund": EntryKind.REFUND,
    "refund_failure": EntryKind.REFUND_FAILURE,
    "adjustment": EntryKind.ADJUSTMENT,
    "stripe_fee": EntryKind.FEE,
    "stripe_fx_fee": EntryKind.FEE,
    "tax_fee": EntryKind.FEE,
    "payout": EntryKind.PAYOUT,
    "payout_cancel": EntryKind.PAYOUT_RETURN,
    "payout_failure": EntryKind.PAYOUT_RETURN,
} | dict.fromkeys(_OTHERS, EntryKind.ADJUSTMENT)
"""`balance_transaction.type`. An adjustment may be a dispute's: CATEGORIES says so."""

CATEGORIES = {
    "dispute": EntryKind.DISPUTE,
    "dispute_reversal": EntryKind.DISPUTE_REVERSAL,
}
"""`balance_transaction.reporting_category` of what is a dispute's (stripe.com/docs/reports/reporting-categories)."""

OBJECTS = {
    "payment_intent": ObjectKind.PAYMENT,
    "charge": ObjectKind.PAYMENT,
    "refund": ObjectKind.REFUND,
    "dispute": ObjectKind.DISPUTE,
    "payout": ObjectKind.SETTLEMENT,
    "payment_method": ObjectKind.METHOD,
    "setup_intent": ObjectKind.METHOD,
}
"""`event.data.object.object`; what isn't here is OTHER."""

USUAL = Counting(digits=2, places=2)
CURRENCIES = (
    dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
        Counting(digits=0, places=0),
    )
    | dict.fromkeys(("ISK", "UGX"), Counting(digits=2, places=0))
    | dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), Counting(digits=3, places=2))
)
"""Currencies that aren't counted in hundredths (docs.stripe.com/currencies#zero-decimal, #three-decimal)."""

UNITS_MIN = (
    {"AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50}
    | {"GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50}
    | {"PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50}
)
"""The least charge, in units of the API (docs.stripe.com/currencies#minimum-and-maximum-charge-amounts).

Stripe means it in the account's settlement currency: of others it's about that much, and Stripe itself says no.
"""

UNITS_MAX = 99_999_999
"""Eight digits, but for currencies of little value."""

MORE_DIGITS = frozenset(
    {"CLP", "COP", "GNF", "HUF", "IDR", "INR", "ISK", "JPY", "KRW", "LBP", "MGA", "PYG", "RWF", "UGX", "UZS", "VND"}
)
"""Currencies in which charges have more digits, or may have: Stripe itself says no."""
