"""Stripe's webhooks: the signature by the SDK, the age by our clock, then where to look. Nothing is kept.

docs.stripe.com/webhooks#verify-official-libraries: `Stripe-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body">`, with
one v1 per secret while a secret is being rolled. The SDK compares in constant time. Its own age check asks the machine
for the time, so it's switched off, and the age is checked here.
"""

import json
from datetime import UTC, datetime, timedelta

from fiat.rails.errors import RefusalReason, WebhookRefused
from fiat.rails.protocol import CLOCK_SKEW_SECONDS, WEBHOOK_AGE_SECONDS, ObjectKind, RawWebhook, WebhookEvent
from fiat.rails.stripe.reading import REFERENCE
from fiat.rails.stripe.statuses import OBJECTS, Body

HEADER = "stripe-signature"


def verify(webhook: RawWebhook, *, secret: str, live: bool, now: datetime) -> WebhookEvent:
    """What a webhook says. Raises WebhookRefused. `live`: the mode of our key; the other mode's events are foreign."""
    import stripe

    header = webhook.headers.get(HEADER)
    if not header:
        raise WebhookRefused(f"no header {HEADER}", reason=RefusalReason.UNSIGNED)
    try:
        stripe.WebhookSignature.verify_header(webhook.body, header, secret)
    except (stripe.SignatureVerificationError, UnicodeError, ValueError, TypeError):  # the last: not ASCII
        raise WebhookRefused("the signature doesn't fit the body", reason=RefusalReason.WRONG_SIGNATURE) from None
    _require_fresh(header, now)
    try:
        return _event(json.loads(webhook.body), live=live)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise WebhookRefused("the body isn't an event of Stripe's", reason=RefusalReason.MALFORMED) from None


def _require_fresh(header: str, now: datetime) -> None:
    stamp = next(int(value) for name, _, value in (part.partition("=") for part in header.split(",")) if name == "t")
    age = int(now.timestamp()) - stamp
    if age > WEBHOOK_AGE_SECONDS:
        raise WebhookRefused(f"it was signed {age} seconds ago", reason=RefusalReason.TOO_OLD)
    if age < -CLOCK_SKEW_SECONDS:
        raise WebhookRefused(f"it was signed {-age} seconds from now", reason=RefusalReason.TOO_NEW)


def _event(told: Body, *, live: bool) -> WebhookEvent:
    if told["object"] != "event":
        raise ValueError("not an event")
    if told["livemode"] is not live or told.get("account"):
        raise WebhookRefused("it's of another account, or of the other mode", reason=RefusalReason.FOREIGN)
    about = told["data"]["object"]
    kind = OBJECTS.get(about["object"], ObjectKind.OTHER)
    source = about.get("id") or ""
    if about["object"] == "charge":
        source = about.get("payment_intent") or source
    reference = (about.get("metadata") or {}).get(REFERENCE)
    return WebhookEvent(
        id=str(told["id"]),
        kind=str(told["type"]),
        object_kind=kind,
        object=str(source),
        occurred_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(told["created"])),
        reference=str(reference) if reference and kind in (ObjectKind.PAYMENT, ObjectKind.REFUND) else None,
    )
