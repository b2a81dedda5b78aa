"""PayPal's statuses and what each means here: one table for each enumeration of its official files. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from fiat.rails.errors import EffectUnknown
from fiat.rails.protocol import DisputeStatus, PaymentStatus, PayoutStatus, RefundStatus

Meaning = TypeVar("Meaning", bound=StrEnum)

ORDER: Mapping[str, PaymentStatus] = MappingProxyType(
    {
        "CREATED": PaymentStatus.REQUIRES_ACTION,
        "PAYER_ACTION_REQUIRED": PaymentStatus.REQUIRES_ACTION,
        "SAVED": PaymentStatus.APPROVED,
        "APPROVED": PaymentStatus.APPROVED,
        "COMPLETED": PaymentStatus.PROCESSING,  # the payments inside say more; without one it's waited for
        "VOIDED": PaymentStatus.CANCELLED,
    }
)
"""`order_status`, where the order has no payment inside."""

AUTHORIZATION: Mapping[str, PaymentStatus] = MappingProxyType(
    {
        "CREATED": PaymentStatus.AUTHORISED,
        "PENDING": PaymentStatus.PROCESSING,
        "DENIED": PaymentStatus.FAILED,
        "VOIDED": PaymentStatus.CANCELLED,
        "CAPTURED": PaymentStatus.PROCESSING,  # the capture says more
        "PARTIALLY_CAPTURED": PaymentStatus.PROCESSING,  # likewise
        "EXPIRED": PaymentStatus.CANCELLED,  # in PayPal's pages, not in the file
    }
)
"""`authorization_status`, where there is no capture of it."""

CAPTURE: Mapping[str, PaymentStatus] = MappingProxyType(
    {
        "COMPLETED": PaymentStatus.CAPTURED,
        "PARTIALLY_REFUNDED": PaymentStatus.CAPTURED,
        "REFUNDED": PaymentStatus.CAPTURED,
        "PENDING": PaymentStatus.PROCESSING,
        "DECLINED": PaymentStatus.FAILED,
        "FAILED": PaymentStatus.FAILED,
    }
)
"""`capture_status`."""

REFUND: Mapping[str, RefundStatus] = MappingProxyType(
    {
        "PENDING": RefundStatus.PENDING,
        "COMPLETED": RefundStatus.COMPLETED,
        "FAILED": RefundStatus.FAILED,
        "CANCELLED": RefundStatus.FAILED,
    }
)
"""`refund_status`."""

PAYOUT_ITEM: Mapping[str, PayoutStatus] = MappingProxyType(
    {
        "PENDING": PayoutStatus.PENDING,
        "ONHOLD": PayoutStatus.PENDING,
        "UNCLAIMED": PayoutStatus.UNCLAIMED,
        "SUCCESS": PayoutStatus.PAID,
        "FAILED": PayoutStatus.FAILED,
        "BLOCKED": PayoutStatus.FAILED,
        "RETURNED": PayoutStatus.RETURNED,
        "REFUNDED": PayoutStatus.RETURNED,
        "REVERSED": PayoutStatus.RETURNED,
        "NEW": PayoutStatus.PENDING,  # in PayPal's pages, not in the file; as is the next
        "DENIED": PayoutStatus.FAILED,
    }
)
"""`transaction_enum`: one payment of a batch."""

PAYOUT_BATCH: Mapping[str, PayoutStatus] = MappingProxyType(
    {
        "PENDING": PayoutStatus.PENDING,
        "PROCESSING": PayoutStatus.PENDING,
        "SUCCESS": PayoutStatus.PENDING,  # all was processed; what became of each, its item says
        "DENIED": PayoutStatus.FAILED,
        "CANCELED": PayoutStatus.FAILED,
        "NEW": PayoutStatus.PENDING,
    }
)
"""`batch_enum`: FAILED goes for every item inside, whatever the item says."""

DISPUTE: Mapping[str, DisputeStatus] = MappingProxyType(
    {
        "OPEN": DisputeStatus.OPEN,
        "WAITING_FOR_SELLER_RESPONSE": DisputeStatus.OPEN,
        "WAITING_FOR_BUYER_RESPONSE": DisputeStatus.UNDER_REVIEW,
        "UNDER_REVIEW": DisputeStatus.UNDER_REVIEW,
        "OTHER": DisputeStatus.UNDER_REVIEW,
        "RESOLVED": DisputeStatus.CLOSED,  # the outcome says more
    }
)
"""A dispute's `status` behind the stage of an inquiry."""

STAGE_IS_INQUIRY: Mapping[str, bool] = MappingProxyType(
    {"INQUIRY": True, "CHARGEBACK": False, "PRE_ARBITRATION": False, "ARBITRATION": False}
)
"""`dispute_lifecycle_stage`: an inquiry is between buyer and seller, and moves no money."""

OUTCOME: Mapping[str, DisputeStatus] = MappingProxyType(
    {
        "RESOLVED_SELLER_FAVOUR": DisputeStatus.WON,
        "DENIED": DisputeStatus.WON,  # the buyer's claim was
        "RESOLVED_BUYER_FAVOUR": DisputeStatus.LOST,
        "ACCEPTED": DisputeStatus.LOST,  # by the seller
        "RESOLVED_WITH_PAYOUT": DisputeStatus.WON,  # PayPal paid; if we did, what was withdrawn makes it LOST
        "CANCELED_BY_BUYER": DisputeStatus.CLOSED,
        "NONE": DisputeStatus.CLOSED,
    }
)
"""`outcome_code` of a RESOLVED dispute."""


def meaning(table: Mapping[str, Meaning], status: object) -> Meaning:
    """What PayPal's word means. Raises EffectUnknown for a new one: nobody guesses what it did to money."""
    if not isinstance(status, str) or status not in table:
        raise EffectUnknown(f"PayPal has a status that isn't known here: {str(status)[:40]!r}")
    return table[status]
