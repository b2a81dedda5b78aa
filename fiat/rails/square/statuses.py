"""Square's words and ours: every status, balance activity and webhook object of its API. Pure.

The words are those of Square's OpenAPI file of API_VERSION; a test holds these tables against it.
"""

from fiat.rails.currencies import Counting
from fiat.rails.protocol import DisputeStatus, EntryKind, ObjectKind, PaymentStatus, RefundStatus, SettlementStatus

API_VERSION = "2025-08-20"
"""Sent with every request (`Square-Version`): answers keep this shape whatever version the SDK has."""

PAYMENTS = {
    "APPROVED": PaymentStatus.AUTHORISED,
    "PENDING": PaymentStatus.PROCESSING,
    "COMPLETED": PaymentStatus.CAPTURED,
    "CANCELED": PaymentStatus.CANCELLED,
    "FAILED": PaymentStatus.FAILED,
}
"""`Payment.status`, which the file describes in words."""

REFUNDS = {
    "PENDING": RefundStatus.PENDING,
    "APPROVED": RefundStatus.PENDING,
    "COMPLETED": RefundStatus.COMPLETED,
    "REJECTED": RefundStatus.FAILED,
    "FAILED": RefundStatus.FAILED,
}
"""`PaymentRefund.status`, which the file describes in words, and the older enum RefundStatus."""

DISPUTES = {
    "INQUIRY_EVIDENCE_REQUIRED": DisputeStatus.INQUIRY,
    "INQUIRY_PROCESSING": DisputeStatus.INQUIRY,
    "INQUIRY_CLOSED": DisputeStatus.CLOSED,
    "EVIDENCE_REQUIRED": DisputeStatus.OPEN,
    "PROCESSING": DisputeStatus.UNDER_REVIEW,
    "WON": DisputeStatus.WON,
    "LOST": DisputeStatus.LOST,
    "ACCEPTED": DisputeStatus.LOST,
}
"""`DisputeState`."""

WITHDRAWN = frozenset({DisputeStatus.OPEN, DisputeStatus.UNDER_REVIEW, DisputeStatus.LOST})
"""While a dispute is so, Square holds or has taken its amount: it lists no movements by dispute."""

SETTLEMENTS = {
    "SENT": SettlementStatus.SENT,
    "PAID": SettlementStatus.PAID,
    "FAILED": SettlementStatus.FAILED,
}
"""`PayoutStatus`."""

_FEES = (
    *("FEE", "DEPOSIT_FEE", "DEPOSIT_FEE_REVERSED", "TAX_ON_FEE", "PAID_SERVICE_FEE", "PAID_SERVICE_FEE_REFUND"),
    *("PROCESSING_FEE", "PROCESSING_FEE_REFUND", "UNDO_PROCESSING_FEE_REFUND", "SUBSCRIPTION_FEE"),
    *("SUBSCRIPTION_FEE_PAID_REFUND", "SUBSCRIPTION_FEE_REFUND", "GIFT_CARD_LOAD_FEE", "GIFT_CARD_LOAD_FEE_REFUND"),
    *("UNDO_GIFT_CARD_LOAD_FEE_REFUND", "FREE_PROCESSING", "THIRD_PARTY_FEE", "THIRD_PARTY_FEE_REFUND"),
    *("LOCAL_OFFERS_FEE",),
)

_OTHERS = (
    *("ADJUSTMENT", "APP_FEE_REFUND", "APP_FEE_REVENUE", "AUTOMATIC_SAVINGS", "AUTOMATIC_SAVINGS_REVERSED"),
    *("ESCHEATMENT", "HOLD_ADJUSTMENT", "INITIAL_BALANCE_CHANGE", "MONEY_TRANSFER", "MONEY_TRANSFER_REVERSAL"),
    *("OTHER", "OTHER_ADJUSTMENT", "REDEMPTION_CODE", "RELEASE_ADJUSTMENT", "RESERVE_HOLD", "RESERVE_RELEASE"),
    *("SQUARE_CAPITAL_PAYMENT", "SQUARE_CAPITAL_REVERSED_PAYMENT", "AUTOMATIC_BITCOIN_CONVERSIONS"),
    *("AUTOMATIC_BITCOIN_CONVERSIONS_REVERSED", "CREDIT_CARD_REPAYMENT", "CREDIT_CARD_REPAYMENT_REVERSED"),
    *("LOCAL_OFFERS_CASHBACK", "PERCENTAGE_PROCESSING_ENROLLMENT", "PERCENTAGE_PROCESSING_DEACTIVATION"),
    *("PERCENTAGE_PROCESSING_REPAYMENT", "PERCENTAGE_PROCESSING_REPAYMENT_REVERSED", "BALANCE_FOLDERS_TRANSFER"),
    *("BALANCE_FOLDERS_TRANSFER_REVERSED", "GIFT_CARD_POOL_TRANSFER", "GIFT_CARD_POOL_TRANSFER_REVERSED"),
    *("SQUARE_PAYROLL_TRANSFER", "SQUARE_PAYROLL_TRANSFER_REVERSED"),
)

ENTRIES = (
    {
        "CHARGE": EntryKind.PAYMENT,
        "REFUND": EntryKind.REFUND,
        "DISPUTE": EntryKind.DISPUTE,
        "OPEN_DISPUTE": EntryKind.DISPUTE,
        "PAYOUT": EntryKind.PAYOUT,
        "RETURNED_PAYOUT": EntryKind.PAYOUT_RETURN,
    }
    | dict.fromkeys(_FEES, EntryKind.FEE)
    | dict.fromkeys(_OTHERS, EntryKind.ADJUSTMENT)
)
"""`ActivityType` of a payout's entry."""

REVERSALS = {
    EntryKind.REFUND: EntryKind.REFUND_FAILURE,
    EntryKind.DISPUTE: EntryKind.DISPUTE_REVERSAL,
}
"""What an entry is that has the type of one of these, and gives instead of taking."""

OBJECTS = {
    "payment": ObjectKind.PAYMENT,
    "refund": ObjectKind.REFUND,
    "dispute": ObjectKind.DISPUTE,
    "payout": ObjectKind.SETTLEMENT,
    "card": ObjectKind.METHOD,
}
"""`data.type` of a webhook; what isn't here is OTHER."""

USUAL = Counting(digits=2, places=2)
CURRENCIES = {"JPY": Counting(digits=0, places=0)}
"""Currencies of Square's countries that aren't counted in hundredths
(developer.squareup.com/docs/build-basics/working-with-monetary-amounts)."""
