"""What Square's error codes mean: final for the payer, our fault, later, or unknown. Pure.

The codes are `ErrorCode` of Square's OpenAPI file; a test holds MEANINGS against it. What only helps a fraudster to
know is told as `generic_decline`: whatever isn't in REASONS.
"""

from enum import Enum


class Meaning(Enum):
    DECLINED = "declined"
    REFUSED = "refused"
    LATER = "later"
    UNKNOWN = "unknown"


GENERIC = "generic_decline"

REASONS = {
    GENERIC: "the card was declined; use another one, or ask its bank",
    "card_expired": "the card has expired",
    "invalid_expiration": "the card's expiry date is wrong",
    "cvv_failure": "the card's security code is wrong",
    "verify_cvv_failure": "the card's security code is wrong",
    "address_verification_failure": "the card's postal code is wrong",
    "verify_avs_failure": "the card's postal code is wrong",
    "invalid_postal_code": "the card's postal code is wrong",
    "insufficient_funds": "the card has too little on it",
    "gift_card_available_amount": "the card has too little on it",
    "transaction_limit": "the card's limit is reached",
    "payment_limit_exceeded": "the amount is above what this rail takes",
    "amount_too_high": "the amount is above what this rail takes",
    "value_too_low": "the amount is below what this rail takes",
    "pan_failure": "the card's number is wrong",
    "card_not_supported": "the card can't be used for this kind of payment",
    "unsupported_card_brand": "the card can't be used for this kind of payment",
    "card_declined_verification_required": "the card's bank asks for a confirmation; enter the card again",
    "card_token_expired": "the card's token has expired; enter the card again",
    "card_token_used": "the card's token was used already; enter the card again",
    "source_expired": "the card's token has expired; enter the card again",
    "source_used": "the card's token was used already; enter the card again",
    "method_missing": "this rail takes a payment only with the token of its own card form",
    "method_not_from_form": "this rail takes only the token of its own payment form, or a saved method",
    "refund_amount_invalid": "more is to be refunded than is left of the payment",
    "payment_not_refundable": "the payment can't be refunded any more",
    "payment_not_refundable_due_to_dispute": "the payment is disputed: it can't be refunded",
    "refund_declined": "the card's bank declined the refund",
}
"""Reason codes that a payer may see, and what they're told."""

_DECLINED = (
    *("CARD_EXPIRED", "INVALID_EXPIRATION", "INVALID_EXPIRATION_YEAR", "INVALID_EXPIRATION_DATE", "BAD_EXPIRATION"),
    *("EXPIRATION_FAILURE", "UNSUPPORTED_CARD_BRAND", "INVALID_ENCRYPTED_CARD", "INVALID_CARD", "INVALID_CARD_DATA"),
    *("GENERIC_DECLINE", "CVV_FAILURE", "ADDRESS_VERIFICATION_FAILURE", "INVALID_ACCOUNT", "INSUFFICIENT_FUNDS"),
    *("CARDHOLDER_INSUFFICIENT_PERMISSIONS", "TRANSACTION_LIMIT", "VOICE_FAILURE", "PAN_FAILURE"),
    *("CARD_NOT_SUPPORTED", "READER_DECLINED", "INVALID_PIN", "MISSING_PIN", "INVALID_POSTAL_CODE"),
    *("PAYMENT_LIMIT_EXCEEDED", "GIFT_CARD_AVAILABLE_AMOUNT", "ACCOUNT_UNUSABLE", "BUYER_REFUSED_PAYMENT"),
    *("CARD_TOKEN_EXPIRED", "CARD_TOKEN_USED", "AMOUNT_TOO_HIGH", "REFUND_AMOUNT_INVALID", "PAYMENT_NOT_REFUNDABLE"),
    *("PAYMENT_NOT_REFUNDABLE_DUE_TO_DISPUTE", "REFUND_DECLINED", "SOURCE_USED", "SOURCE_EXPIRED", "CARD_MISMATCH"),
    *("CARD_DECLINED", "VERIFY_CVV_FAILURE", "VERIFY_AVS_FAILURE", "CARD_DECLINED_CALL_ISSUER", "VALUE_TOO_LOW"),
    *("CARD_DECLINED_VERIFICATION_REQUIRED", "CHIP_INSERTION_REQUIRED", "ALLOWABLE_PIN_TRIES_EXCEEDED"),
    *("RESERVATION_DECLINED", "CARD_PRESENCE_REQUIRED", "PLAID_ERROR", "PLAID_ERROR_ITEM_LOGIN_REQUIRED"),
    *("DELAYED_TRANSACTION_EXPIRED", "DELAYED_TRANSACTION_CANCELED", "DELAYED_TRANSACTION_FAILED"),
    *("MANUALLY_ENTERED_PAYMENT_NOT_SUPPORTED", "UNSUPPORTED_ENTRY_METHOD", "UNSUPPORTED_INSTRUMENT_TYPE"),
    *("UNSUPPORTED_SOURCE_TYPE",),
)

_LATER = ("RATE_LIMITED", "CONFLICT", "REFUND_ALREADY_PENDING", "PLAID_ERROR_RATE_LIMIT")

_UNKNOWN = (
    *("INTERNAL_SERVER_ERROR", "REQUEST_TIMEOUT", "BAD_GATEWAY", "SERVICE_UNAVAILABLE", "TEMPORARY_ERROR"),
    *("GATEWAY_TIMEOUT",),
)

_REFUSED = (
    *("UNAUTHORIZED", "ACCESS_TOKEN_EXPIRED", "ACCESS_TOKEN_REVOKED", "CLIENT_DISABLED", "FORBIDDEN"),
    *("INSUFFICIENT_SCOPES", "APPLICATION_DISABLED", "V1_APPLICATION", "V1_ACCESS_TOKEN"),
    *("CARD_PROCESSING_NOT_ENABLED", "MERCHANT_SUBSCRIPTION_NOT_FOUND", "BAD_REQUEST", "MISSING_REQUIRED_PARAMETER"),
    *("INCORRECT_TYPE", "INVALID_TIME", "INVALID_TIME_RANGE", "INVALID_VALUE", "INVALID_CURSOR"),
    *("UNKNOWN_QUERY_PARAMETER", "CONFLICTING_PARAMETERS", "EXPECTED_JSON_BODY", "INVALID_SORT_ORDER"),
    *("VALUE_REGEX_MISMATCH", "VALUE_TOO_SHORT", "VALUE_TOO_LONG", "VALUE_TOO_HIGH", "VALUE_EMPTY"),
    *("ARRAY_LENGTH_TOO_LONG", "ARRAY_LENGTH_TOO_SHORT", "ARRAY_EMPTY", "EXPECTED_BOOLEAN", "EXPECTED_INTEGER"),
    *("EXPECTED_FLOAT", "EXPECTED_STRING", "EXPECTED_OBJECT", "EXPECTED_ARRAY", "EXPECTED_MAP"),
    *("EXPECTED_BASE64_ENCODED_BYTE_ARRAY", "INVALID_ARRAY_VALUE", "INVALID_ENUM_VALUE", "INVALID_CONTENT_TYPE"),
    *("INVALID_FORM_VALUE", "CUSTOMER_NOT_FOUND", "ONE_INSTRUMENT_EXPECTED", "NO_FIELDS_SET"),
    *("TOO_MANY_MAP_ENTRIES", "MAP_KEY_LENGTH_TOO_SHORT", "MAP_KEY_LENGTH_TOO_LONG", "CUSTOMER_MISSING_NAME"),
    *("CUSTOMER_MISSING_EMAIL", "INVALID_PAUSE_LENGTH", "INVALID_DATE", "UNSUPPORTED_COUNTRY"),
    *("UNSUPPORTED_CURRENCY", "APPLE_TTP_PIN_TOKEN", "PAYMENT_AMOUNT_MISMATCH", "CURRENCY_MISMATCH"),
    *("INSUFFICIENT_PERMISSIONS", "INVALID_LOCATION", "MISSING_ACCOUNT_TYPE", "INVALID_FEES"),
    *("DELAYED_TRANSACTION_CAPTURED", "REFUND_ERROR_PAYMENT_NEEDS_COMPLETION"),
    *("INSUFFICIENT_PERMISSIONS_FOR_REFUND", "UNSUPPORTED_LOYALTY_REWARD_TIER", "LOCATION_MISMATCH"),
    *("ORDER_UNPAID_NOT_RETURNABLE", "IDEMPOTENCY_KEY_REUSED", "UNEXPECTED_VALUE", "SANDBOX_NOT_SUPPORTED"),
    *("INVALID_EMAIL_ADDRESS", "INVALID_PHONE_NUMBER", "CHECKOUT_EXPIRED", "BAD_CERTIFICATE"),
    *("INVALID_SQUARE_VERSION_FORMAT", "API_VERSION_INCOMPATIBLE", "UNKNOWN_BODY_PARAMETER", "NOT_FOUND"),
    *("APPLE_PAYMENT_PROCESSING_CERTIFICATE_HASH_NOT_FOUND", "METHOD_NOT_ALLOWED", "NOT_ACCEPTABLE", "GONE"),
    *("REQUEST_ENTITY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "UNPROCESSABLE_ENTITY", "NOT_IMPLEMENTED"),
)

MEANINGS = (
    dict.fromkeys(_DECLINED, Meaning.DECLINED)
    | dict.fromkeys(_LATER, Meaning.LATER)
    | dict.fromkeys(_UNKNOWN, Meaning.UNKNOWN)
    | dict.fromkeys(_REFUSED, Meaning.REFUSED)
)
"""Every code. One that isn't here is Square's newer one: its category decides (`meaning`)."""


def meaning(code: str, category: str) -> Meaning:
    """What an error of a 4xx answer means."""
    known = MEANINGS.get(code)
    if known is not None:
        return known
    return Meaning.DECLINED if category in ("PAYMENT_METHOD_ERROR", "REFUND_ERROR") else Meaning.REFUSED


def public(code: str) -> str:
    """The reason code that may be shown, for Square's own."""
    return code.lower() if code.lower() in REASONS else GENERIC
