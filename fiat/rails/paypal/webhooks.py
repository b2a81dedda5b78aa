"""PayPal's webhooks: whether one is PayPal's and ours, and what it says to look at.

The signature is RSA-SHA256 (PKCS#1 v1.5) over `transmission id|transmission time|webhook id|CRC-32 of the body`, so a
webhook for another app fails it too. PayPal sends an event again for three days, and doesn't say whether a repeat has
a new transmission time; so that time may be as old as an event (EVENT_AGE_SECONDS). A repeat has no second effect: the
inbox knows the event's id, and what happens is read again at PayPal.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from fiat.rails.errors import RefusalReason, WebhookRefused
from fiat.rails.paypal.account import PayPalAccount
from fiat.rails.paypal.certificates import Certificates
from fiat.rails.paypal.reading import order_of, our_reference, required_instant
from fiat.rails.protocol import CLOCK_SKEW_SECONDS, EVENT_AGE_SECONDS, ObjectKind, RawWebhook, WebhookEvent

ALGORITHM = "SHA256withRSA"

HEADER_LENGTH_MAX = 1000
_HEADERS = ("paypal-auth-algo", "paypal-cert-url", "paypal-transmission-id", "paypal-transmission-sig")
_TIME = "paypal-transmission-time"

KINDS: Mapping[str, ObjectKind] = MappingProxyType(
    {
        "CHECKOUT.ORDER.APPROVED": ObjectKind.PAYMENT,
        "CHECKOUT.ORDER.COMPLETED": ObjectKind.PAYMENT,
        "CHECKOUT.ORDER.VOIDED": ObjectKind.PAYMENT,
        "CHECKOUT.PAYMENT-APPROVAL.REVERSED": ObjectKind.PAYMENT,
        "PAYMENT.AUTHORIZATION.CREATED": ObjectKind.PAYMENT,
        "PAYMENT.AUTHORIZATION.DENIED": ObjectKind.PAYMENT,
        "PAYMENT.AUTHORIZATION.VOIDED": ObjectKind.PAYMENT,
        "PAYMENT.CAPTURE.COMPLETED": ObjectKind.PAYMENT,
        "PAYMENT.CAPTURE.DECLINED": ObjectKind.PAYMENT,
        "PAYMENT.CAPTURE.DENIED": ObjectKind.PAYMENT,
        "PAYMENT.CAPTURE.PENDING": ObjectKind.PAYMENT,
        "PAYMENT.CAPTURE.REFUNDED": ObjectKind.REFUND,
        "PAYMENT.REFUND.PENDING": ObjectKind.REFUND,
        "PAYMENT.REFUND.FAILED": ObjectKind.REFUND,
        "PAYMENT.PAYOUTSBATCH.DENIED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTSBATCH.PROCESSING": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTSBATCH.SUCCESS": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.BLOCKED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.CANCELED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.DENIED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.FAILED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.HELD": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.REFUNDED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.RETURNED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.SUCCEEDED": ObjectKind.PAYOUT,
        "PAYMENT.PAYOUTS-ITEM.UNCLAIMED": ObjectKind.PAYOUT,
        "CUSTOMER.DISPUTE.CREATED": ObjectKind.DISPUTE,
        "CUSTOMER.DISPUTE.RESOLVED": ObjectKind.DISPUTE,
        "CUSTOMER.DISPUTE.UPDATED": ObjectKind.DISPUTE,
    }
)
"""The events that an app subscribes to, and what each is about. Any other is OTHER.

`PAYMENT.CAPTURE.REVERSED` isn't among them: a reversal is a dispute's money, and its dispute tells it.
"""

_Where = tuple[str, str | None]


class Webhooks:
    """Verifies webhooks of one account."""

    def __init__(self, account: PayPalAccount, certificates: Certificates) -> None:
        self._account = account
        self._certificates = certificates

    async def verify(self, webhook: RawWebhook, *, now: datetime) -> WebhookEvent:
        """As `Rail.verify`."""
        headers = webhook.headers
        told = [headers.get(name, "") for name in (*_HEADERS, _TIME)]
        if not all(told):
            raise WebhookRefused("the webhook lacks PayPal's signature", reason=RefusalReason.UNSIGNED)
        if max(map(len, told)) > HEADER_LENGTH_MAX:
            raise WebhookRefused("the webhook's headers are too long", reason=RefusalReason.MALFORMED)
        algorithm, url, id, signature, time = told
        _require_in_time(time, now)
        if algorithm != ALGORITHM:
            raise _unsigned(f"is signed by another method than {ALGORITHM}")
        key = await self._certificates.key(url, now=now)
        signed = f"{id}|{time}|{self._account.webhook_id}|{zlib.crc32(webhook.body)}"
        _require_signed(key, signature, signed.encode())
        return _event(webhook.body)


def _require_in_time(time: str, now: datetime) -> None:
    try:
        sent_at = required_instant(time)
    except ValueError:
        raise WebhookRefused("the webhook's time can't be read", reason=RefusalReason.MALFORMED) from None
    if now - sent_at > timedelta(seconds=EVENT_AGE_SECONDS):
        raise WebhookRefused("the webhook was sent longer ago than PayPal tries", reason=RefusalReason.TOO_OLD)
    if sent_at - now > timedelta(seconds=CLOCK_SKEW_SECONDS):
        raise WebhookRefused("the webhook's time is ahead of our clock", reason=RefusalReason.TOO_NEW)


def _require_signed(key: RSAPublicKey, signature: str, signed: bytes) -> None:
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        raise _unsigned("wasn't signed so: its body was changed, or it's for another webhook id") from None


def _event(body: bytes) -> WebhookEvent:
    try:
        told = json.loads(body)
        kind, resource = told["event_type"], told.get("resource", {})
        object_kind = KINDS.get(kind, ObjectKind.OTHER)
        object, reference = _WHERE[object_kind](resource)
        if not object and object_kind is not ObjectKind.OTHER:
            raise KeyError("id")
        return WebhookEvent(
            id=_text(told["id"]),
            kind=_text(kind),
            object_kind=object_kind,
            object=object,
            occurred_at=required_instant(told["create_time"]),
            reference=our_reference(reference),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise WebhookRefused(
            "the webhook is PayPal's, but its event can't be read", reason=RefusalReason.MALFORMED
        ) from None


def _payment(resource: Mapping[str, Any]) -> _Where:
    """An order, or a capture or an authorization of one."""
    units = resource.get("purchase_units")
    if units:
        return _text(resource["id"]), units[0].get("custom_id")
    if "order_id" in resource:  # an approval that was taken back
        return _text(resource["order_id"]), None
    return order_of(resource) or _text(resource["id"]), resource.get("custom_id")


def _refund(resource: Mapping[str, Any]) -> _Where:
    return _text(resource["id"]), resource.get("custom_id")


def _payout(resource: Mapping[str, Any]) -> _Where:
    """A batch, or the item of one: what is followed is the batch."""
    if "batch_header" in resource:
        header = resource["batch_header"]
        return _text(header["payout_batch_id"]), header["sender_batch_header"].get("sender_batch_id")
    return _text(resource["payout_batch_id"]), resource.get("payout_item", {}).get("sender_item_id")


def _dispute(resource: Mapping[str, Any]) -> _Where:
    return _text(resource["dispute_id"]), None


def _other(resource: object) -> _Where:
    return "", None


_WHERE: Mapping[ObjectKind, Callable[[Any], _Where]] = {
    ObjectKind.PAYMENT: _payment,
    ObjectKind.REFUND: _refund,
    ObjectKind.PAYOUT: _payout,
    ObjectKind.DISPUTE: _dispute,
    ObjectKind.OTHER: _other,
}


def _text(told: object) -> str:
    """An id or a name. Raises TypeError for anything else."""
    if not isinstance(told, str) or not 0 < len(told) <= 255:
        raise TypeError("no id")
    return told


def _unsigned(why: str) -> WebhookRefused:
    return WebhookRefused(f"the webhook {why}", reason=RefusalReason.WRONG_SIGNATURE)
