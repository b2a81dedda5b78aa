"""What Stripe's refusals mean: final for the payer, our fault, later, or unknown. Pure.

Codes: docs.stripe.com/error-codes and docs.stripe.com/declines/codes. What only helps a fraudster to know
(`stolen_card`, `lost_card`, `fraudulent` ...) is told as `generic_decline`, as is whatever else isn't in REASONS.
"""

GENERIC = "generic_decline"

REASONS = {
    GENERIC: "the card was declined; use another one, or ask its bank",
    "insufficient_funds": "the card has too little on it",
    "expired_card": "the card has expired",
    "incorrect_cvc": "the card's security code is wrong",
    "invalid_cvc": "the card's security code is wrong",
    "incorrect_number": "the card's number is wrong",
    "invalid_number": "the card's number is wrong",
    "invalid_expiry_month": "the card's expiry date is wrong",
    "invalid_expiry_year": "the card's expiry date is wrong",
    "incorrect_zip": "the card's postal code is wrong",
    "incorrect_postal_code": "the card's postal code is wrong",
    "processing_error": "the card's bank couldn't be reached; try again later",
    "issuer_not_available": "the card's bank couldn't be reached; try again later",
    "try_again_later": "the card's bank couldn't be reached; try again later",
    "authentication_required": "the card's bank asks for a confirmation; pay without a saved card",
    "payment_intent_authentication_failure": "the card's bank didn't confirm the payer",
    "setup_intent_authentication_failure": "the card's bank didn't confirm the payer",
    "card_not_supported": "the card can't be used for this kind of payment",
    "currency_not_supported": "the card can't be used in this currency",
    "card_velocity_exceeded": "the card's limit is reached",
    "withdrawal_count_limit_exceeded": "the card's limit is reached",
    "amount_too_small": "the amount is below what this rail takes",
    "amount_too_large": "the amount is above what this rail takes",
    "token_already_used": "the card's token was used already; enter the card again",
    "charge_exceeds_transaction_limit": "the amount is above what this rail takes",
    "charge_exceeds_source_limit": "the amount is above what this rail takes",
    "authorisation_expired": "the authorisation has expired",
    "charge_already_refunded": "the payment was refunded already",
    "charge_disputed": "the payment is disputed: it can't be refunded",
    "charge_not_refundable": "the payment can't be refunded any more",
    "refund_too_large": "more is to be refunded than is left of the payment",
}
"""Reason codes that a payer may see, and what they're told."""

FINAL = {
    "amount_too_small": "amount_too_small",
    "amount_too_large": "amount_too_large",
    "charge_exceeds_transaction_limit": "charge_exceeds_transaction_limit",
    "charge_exceeds_source_limit": "charge_exceeds_source_limit",
    "token_already_used": "token_already_used",
    "invalid_charge_amount": "amount_too_large",
    "charge_expired_for_capture": "authorisation_expired",
    "capture_charge_authorization_expired": "authorisation_expired",
    "charge_already_refunded": "charge_already_refunded",
    "charge_disputed": "charge_disputed",
    "refund_disputed_payment": "charge_disputed",
    "charge_not_refundable": "charge_not_refundable",
}
"""Codes of `invalid_request_error` that no second try and no operator can help: Declined, with this reason code."""

LATER = frozenset(
    {
        *("rate_limit", "lock_timeout", "payment_intent_rate_limit_exceeded"),
        *("balance_insufficient", "insufficient_funds", "payout_reconciliation_not_ready", "token_in_use"),
    }
)
"""Codes of `invalid_request_error` after which the same may be asked again: nothing happened."""

MOVED_ON = frozenset(
    {"payment_intent_unexpected_state", "charge_already_captured", "intent_invalid_state", "status_transition_invalid"}
)
"""Codes that say that the object isn't where we thought: it's read again instead."""


def public(code: str | None) -> str:
    """The reason code that may be shown, for Stripe's own."""
    return code if code in REASONS else GENERIC
