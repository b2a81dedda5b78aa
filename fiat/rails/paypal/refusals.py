"""What PayPal's refusals (HTTP 4xx) mean, by their `issue`. Pure. PayPal's texts are left out: they may name people."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from base.errors import OnebookError
from fiat.rails.errors import Declined, EffectUnknown, RateLimited, RefusedByProvider

_OTHER_MEANS = "PayPal declined the payment; choose another way to pay there, or ask PayPal."
_ACCOUNT = "PayPal can't use this account for the payment; ask PayPal."
_ENDED = "This payment's time is over; start a new one."

DECLINES: Mapping[str, str] = MappingProxyType(
    {
        # Payments
        "INSTRUMENT_DECLINED": _OTHER_MEANS,
        "TRANSACTION_REFUSED": _OTHER_MEANS,
        "PAYER_CANNOT_PAY": _OTHER_MEANS,
        "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING": _OTHER_MEANS,
        "CARD_BRAND_NOT_SUPPORTED": _OTHER_MEANS,
        "REFERENCED_CARD_EXPIRED": _OTHER_MEANS,
        "DECLINED_DUE_TO_RELATED_TXN": _OTHER_MEANS,
        "COMPLIANCE_VIOLATION": _OTHER_MEANS,
        "TRANSACTION_BLOCKED_BY_PAYEE": _OTHER_MEANS,
        "PAYEE_BLOCKED_TRANSACTION": _OTHER_MEANS,
        "DOMESTIC_TRANSACTION_REQUIRED": "PayPal takes this payment only from the receiver's own country.",
        "TRANSACTION_LIMIT_EXCEEDED": "The amount is above what PayPal lets this account pay.",
        "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED": "Too many attempts at this payment; start a new one.",
        "PAYER_ACCOUNT_LOCKED_OR_CLOSED": _ACCOUNT,
        "PAYER_ACCOUNT_RESTRICTED": _ACCOUNT,
        "AUTHORIZATION_DENIED": _OTHER_MEANS,
        "AUTHORIZATION_VOIDED": _ENDED,
        "AUTHORIZATION_EXPIRED": _ENDED,
        "ORDER_EXPIRED": _ENDED,
        # Refunds
        "CAPTURE_FULLY_REFUNDED": "All of this payment was given back already.",
        "REFUND_AMOUNT_EXCEEDED": "More than what is left of this payment.",
        "REFUND_AMOUNT_TOO_LOW": "The amount is below what PayPal gives back.",
        "PARTIAL_REFUND_NOT_ALLOWED": "PayPal gives this payment back only as a whole.",
        "MAX_NUMBER_OF_REFUNDS_EXCEEDED": "PayPal takes no further refund of this payment.",
        "REFUND_NOT_ALLOWED": "PayPal doesn't give this payment back.",
        "REFUND_TIME_LIMIT_EXCEEDED": "PayPal's time for giving this payment back is over.",
        "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": "The payment is disputed; the dispute decides.",
        "TRANSACTION_DISPUTED": "The payment is disputed; the dispute decides.",
        # Payouts
        "RECEIVER_INVALID": "PayPal doesn't know how to pay this receiver: give an e-mail address or a payer id.",
    }
)
"""Final refusals, and what is told to who pays or is paid. Whatever isn't here or below is our fault."""

LATER = frozenset({"REFUND_FAILED_INSUFFICIENT_FUNDS", "PENDING_CAPTURE", "INSUFFICIENT_FUNDS"})
"""Nothing happened, and trying again later can help: our balance there is too small, the capture isn't through."""

UNDER_WAY = frozenset({"PREVIOUS_REQUEST_IN_PROGRESS", "ORDER_COMPLETION_IN_PROGRESS"})
"""An earlier call under the same key hasn't ended."""

ALREADY = frozenset(
    {
        "ORDER_ALREADY_CAPTURED",
        "ORDER_ALREADY_AUTHORIZED",
        "ORDER_COMPLETED_OR_VOIDED",
        "ORDER_NOT_APPROVED",
        "PAYER_ACTION_REQUIRED",
        "AUTHORIZATION_ALREADY_CAPTURED",
        "MAX_CAPTURE_COUNT_EXCEEDED",
        "PREVIOUSLY_CAPTURED",
        "PREVIOUSLY_VOIDED",
    }
)
"""The object isn't where we thought: what it is now is read again."""


class Refusal(Exception):
    """An HTTP 4xx. `issues`: what's wrong, by PayPal's names; `links`: addresses by their `rel`."""

    def __init__(self, *, status: int, name: str, issues: frozenset[str], fields: frozenset[str], debug: str) -> None:
        super().__init__(status, name)
        self.status = status
        self.name = name
        self.issues = issues
        self.fields = fields
        self.debug = debug
        self.links: Mapping[str, str] = {}

    @property
    def decline(self) -> str | None:
        """The issue that makes it final, in the order of DECLINES."""
        return next((issue for issue in DECLINES if issue in self.issues), None)

    def as_error(self) -> OnebookError:
        """The same as a rail's error."""
        if (decline := self.decline) is not None:
            return Declined(DECLINES[decline], reason_code=decline.lower())
        if self.status == 409 or self.status == 408 or self.issues & UNDER_WAY:
            return EffectUnknown(f"PayPal is still at it: {self}")
        if self.issues & LATER:
            return RateLimited(f"PayPal can't do it now: {self}")
        return RefusedByProvider(f"PayPal refused it: {self}")

    def __str__(self) -> str:
        said = ", ".join(sorted(self.issues - {self.name})[:5]) or "no issue named"
        where = f" at {', '.join(sorted(self.fields)[:5])}" if self.fields else ""
        return f"HTTP {self.status} {self.name} ({said}{where}; PayPal's debug id {self.debug})"


def read_refusal(status: int, body: Any, debug: str | None) -> Refusal:
    """The refusal that an answer with HTTP 4xx is. `body` may be anything."""
    told = body if isinstance(body, dict) else {}
    details = [one for one in _list(told.get("details")) if isinstance(one, dict)]
    name = _word(told.get("name") or told.get("error"))
    issues = {_word(one.get("issue")) for one in details} | {name}
    fields = {_word(one.get("field")) for one in details if one.get("field")}
    if name == "VALIDATION_ERROR" and any(field.endswith("receiver") for field in fields):
        issues.add("RECEIVER_INVALID")
    if any("sender_batch_id already exists" in str(one.get("issue")) for one in details):
        issues.add("DUPLICATE_SENDER_BATCH_ID")
    made = Refusal(
        status=status,
        name=name,
        issues=frozenset(issues - {""}),
        fields=frozenset(fields),
        debug=_word(told.get("debug_id")) or debug or "unknown",
    )
    links = [*_list(told.get("links")), *(link for one in details for link in _list(one.get("link")))]
    made.links = {str(one.get("rel")): str(one.get("href")) for one in links if isinstance(one, dict)}
    return made


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    """A name as PayPal writes them; a sentence isn't one, and isn't kept."""
    text = str(value or "")
    return text if len(text) <= 80 and " " not in text and "@" not in text else ""
