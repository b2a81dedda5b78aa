"""Square's webhooks: the signature by the SDK, the event's own age by our clock, then where to look. Nothing is kept.

developer.squareup.com/docs/webhooks/step3validate: `x-square-hmacsha256-signature` is the base64 HMAC-SHA256 of the
notification URL, letter by letter as the subscription has it, and the body. No time is signed beside the body, so
`created_at` in it is what an old one is known by.
"""

import json
from datetime import datetime

from base.ids import is_id
from fiat.rails.errors import RefusalReason, WebhookRefused
from fiat.rails.protocol import CLOCK_SKEW_SECONDS, EVENT_AGE_SECONDS, ObjectKind, RawWebhook, WebhookEvent
from fiat.rails.square.statuses import OBJECTS

HEADER = "x-square-hmacsha256-signature"


def verify(webhook: RawWebhook, *, key: str, url: str, merchant: str | None, now: datetime) -> WebhookEvent:
    """What a webhook says. Raises WebhookRefused. `merchant`: the only one whose events are taken; None: any."""
    from square.utils.webhooks_helper import verify_signature

    header = webhook.headers.get(HEADER)
    if not header:
        raise WebhookRefused(f"no header {HEADER}", reason=RefusalReason.UNSIGNED)
    try:
        body = webhook.body.decode()
        fits = verify_signature(request_body=body, signature_header=header, signature_key=key, notification_url=url)
    except UnicodeError:
        fits = False
    if not fits:
        raise WebhookRefused("the signature doesn't fit the address and the body", reason=RefusalReason.WRONG_SIGNATURE)
    try:
        event = _event(json.loads(webhook.body), merchant=merchant)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WebhookRefused("the body isn't an event of Square's", reason=RefusalReason.MALFORMED) from None
    age = int((now - event.occurred_at).total_seconds())
    if age > EVENT_AGE_SECONDS:
        raise WebhookRefused(f"it happened {age} seconds ago", reason=RefusalReason.TOO_OLD)
    if age < -CLOCK_SKEW_SECONDS:
        raise WebhookRefused(f"it's to happen {-age} seconds from now", reason=RefusalReason.TOO_NEW)
    return event


def _event(told: dict[str, object], *, merchant: str | None) -> WebhookEvent:
    data = told["data"]
    if not isinstance(data, dict):
        raise TypeError("data is no object")
    if merchant is not None and told["merchant_id"] != merchant:
        raise WebhookRefused("it's of another merchant", reason=RefusalReason.FOREIGN)
    kind = OBJECTS.get(str(data.get("type")), ObjectKind.OTHER)
    occurred_at = datetime.fromisoformat(str(told["created_at"]))
    if occurred_at.tzinfo is None:
        raise ValueError("created_at has no zone")
    about = (data.get("object") or {}).get(data.get("type")) or {}
    reference = about.get({ObjectKind.PAYMENT: "reference_id", ObjectKind.REFUND: "reason"}.get(kind))
    return WebhookEvent(
        id=str(told["event_id"]),
        kind=str(told["type"]),
        object_kind=kind,
        object=str(data.get("id") or ""),
        occurred_at=occurred_at,
        reference=reference if isinstance(reference, str) and is_id(reference.partition("_")[0], reference) else None,
    )
