"""A payout as PayPal takes it: a batch with this one payment in it, both under our id. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from fiat.rails.errors import Declined
from fiat.rails.paypal.refusals import DECLINES
from fiat.rails.protocol import PayoutOrder, PayoutStatus, PayoutTruth

PATH = "/v1/payments/payouts"

NOTE_LENGTH_MAX = 1000
"""Characters of a note that aren't ASCII; of those that are, PayPal takes 4,000."""

RECEIVER_LENGTH_MAX = 127

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PAYER_ID = re.compile(r"[A-Z0-9]{13}", re.ASCII)
_INVALID = "RECEIVER_INVALID"


def request(order: PayoutOrder, amount: Mapping[str, str]) -> Mapping[str, Any]:
    """The body that asks for it. Raises Declined for a receiver that PayPal can't know."""
    item = {
        "recipient_type": _recipient_type(order.destination),
        "receiver": order.destination,
        "amount": amount,
        "sender_item_id": order.reference,
    }
    if order.note:
        item["note"] = order.note[:NOTE_LENGTH_MAX]
    return {"sender_batch_header": {"sender_batch_id": order.reference}, "items": [item]}


def begun(
    order: PayoutOrder, batch: str, *, status: PayoutStatus = PayoutStatus.PENDING, code: str | None = None
) -> PayoutTruth:
    """What is known of it from the answer to asking alone."""
    return PayoutTruth(
        id=batch,
        reference=order.reference,
        status=status,
        asset=order.asset,
        amount=order.amount,
        code=None if code is None else code.lower(),
        reason=None if code is None else DECLINES[code],
    )


def _recipient_type(destination: str) -> str:
    if len(destination) <= RECEIVER_LENGTH_MAX:
        if _EMAIL.fullmatch(destination):
            return "EMAIL"
        if _PAYER_ID.fullmatch(destination):
            return "PAYPAL_ID"
    raise Declined(DECLINES[_INVALID], reason_code=_INVALID.lower())
