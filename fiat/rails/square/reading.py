"""Square's objects read into ours. Pure.

All raise KeyError, TypeError, ValueError or AttributeError for what isn't Square's shape (`Client.reading` makes them
EffectUnknown: the SDK builds its models without checking them), and RailMisconfigured for an amount in a currency that
is no asset here.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from base.ids import is_id
from fiat.rails.currencies import Currencies
from fiat.rails.protocol import (
    DisputeTruth,
    EntryKind,
    Payment,
    PaymentStatus,
    RefundStatus,
    RefundTruth,
    SavedMethod,
    SettlementEntry,
    SettlementTruth,
)
from fiat.rails.square.declines import REASONS, public
from fiat.rails.square.statuses import DISPUTES, ENTRIES, PAYMENTS, REFUNDS, REVERSALS, SETTLEMENTS, WITHDRAWN

if TYPE_CHECKING:
    from square.types.card import Card
    from square.types.dispute import Dispute
    from square.types.payment import Payment as SquarePayment
    from square.types.payment_refund import PaymentRefund
    from square.types.payout import Payout
    from square.types.payout_entry import PayoutEntry

DETAILS = (
    ("type_refund_details", "refund_id"),
    ("type_dispute_details", "dispute_id"),
    ("type_open_dispute_details", "dispute_id"),
    ("type_charge_details", "payment_id"),
    ("type_fee_details", "payment_id"),
    ("type_hold_adjustment_details", "payment_id"),
    ("type_deposit_fee_details", "payout_id"),
    ("type_deposit_fee_reversed_details", "payout_id"),
)
"""Where an entry names the object that it's about."""


def payment(told: "SquarePayment", currencies: Currencies) -> Payment:
    """A Payment. Its amount is what was approved at first: capturing a part lowers `amount_money`."""
    status = PAYMENTS[_text(told.status)]
    code = reason = None
    if status is PaymentStatus.FAILED:
        errors = told.card_details.errors if told.card_details is not None else None
        code = public(str(errors[0].code)) if errors else public("")
        reason = REASONS[code]
    elif status is PaymentStatus.CANCELLED:
        code, reason = "cancelled", "the payment was cancelled"
    units, currency = _money(told.amount_money)
    approved = _money(told.approved_money)[0] if told.approved_money is not None else 0
    taken = status is PaymentStatus.CAPTURED
    return Payment(
        id=_text(told.id),
        reference=told.reference_id,
        status=status,
        asset=currency,
        amount=currencies.amount(max(units, approved), currency),
        captured=currencies.amount(_money(told.total_money or told.amount_money)[0], currency) if taken else 0,
        fee=_fees(told.processing_fee, currency, currencies) if taken and told.processing_fee else None,
        code=code,
        reason=reason,
        expires_at=_instant(told.delayed_until)
        if status is PaymentStatus.AUTHORISED and told.delayed_until is not None
        else None,
    )


def refund(told: "PaymentRefund", currencies: Currencies) -> RefundTruth:
    """A PaymentRefund. Our own id is in its reason: Square gives back no other field of a refund."""
    status = REFUNDS[told.status or "PENDING"]
    units, currency = _money(told.amount_money)
    failed = status is RefundStatus.FAILED
    return RefundTruth(
        id=_text(told.id),
        reference=told.reason if told.reason is not None and is_id("ref", told.reason) else None,
        payment=_text(told.payment_id),
        status=status,
        asset=currency,
        amount=currencies.amount(units, currency),
        fee=_fees(told.processing_fee, currency, currencies) if told.processing_fee else 0,
        code=told.status.lower() if failed and told.status is not None else None,
        reason="the refund didn't reach the card" if failed else None,
    )


def dispute(told: "Dispute", currencies: Currencies) -> DisputeTruth:
    """A Dispute. What was withdrawn follows from its state; Square charges no fee for it."""
    status = DISPUTES[_text(told.state)]
    units, currency = _money(told.amount_money)
    amount = currencies.amount(units, currency)
    paid = told.disputed_payment
    if paid is None:
        raise TypeError("a dispute names no payment")
    return DisputeTruth(
        id=_text(told.id or told.dispute_id),
        payment=_text(paid.payment_id),
        status=status,
        asset=currency,
        amount=amount,
        withdrawn=amount if status in WITHDRAWN else 0,
        reason=None if told.reason is None else str(told.reason).lower(),
        opened_at=_instant(told.created_at),
        respond_by=None if told.due_at is None else _instant(told.due_at),
    )


def settlement(told: "Payout", currencies: Currencies) -> SettlementTruth:
    """A Payout. `end_to_end_id` is what the bank's statement line may carry."""
    units, currency = _money(told.amount_money)
    return SettlementTruth(
        id=_text(told.id),
        status=SETTLEMENTS[_text(told.status)],
        asset=currency,
        amount=currencies.amount(units, currency),
        created_at=_instant(told.created_at),
        arrives_on=None if told.arrival_date is None else date.fromisoformat(told.arrival_date),
        descriptor=told.end_to_end_id,
    )


def entry(told: "PayoutEntry", currencies: Currencies) -> SettlementEntry:
    """A PayoutEntry. Its fee is what its net lacks of its gross, whatever sign Square writes it with."""
    (gross, currency), (net, _) = _money(told.gross_amount_money), _money(told.net_amount_money)
    kind, about = ENTRIES[_text(told.type)], _about(told)
    if kind is EntryKind.ADJUSTMENT and told.type_refund_details is not None and gross > 0:
        kind = EntryKind.REFUND_FAILURE
    elif gross > 0:
        kind = REVERSALS.get(kind, kind)
    return SettlementEntry(
        id=_text(told.id),
        kind=kind,
        object=about,
        gross=currencies.amount(gross, currency),
        fee=currencies.amount(gross - net, currency),
        net=currencies.amount(net, currency),
        at=_instant(told.effective_at),
    )


def method(told: "Card") -> SavedMethod:
    """A Card on file."""
    return SavedMethod(
        token=_text(told.id),
        customer=told.customer_id,
        brand=str(told.card_brand or "other").lower(),
        last4=told.last4,
        expires_year=told.exp_year,
        expires_month=told.exp_month,
    )


def _about(told: "PayoutEntry") -> str | None:
    for details, name in DETAILS:
        found = getattr(getattr(told, details), name, None)
        if found is not None:
            return _text(found)
    return None


def _fees(fees: Iterable[Any], currency: str, currencies: Currencies) -> int:
    return currencies.amount(sum(_money(one.amount_money)[0] for one in fees), currency)


def _money(value: Any) -> tuple[int, str]:
    """Units and currency of a Money."""
    if type(value.amount) is not int:
        raise TypeError("an amount is missing")
    return value.amount, _text(value.currency)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a text is missing")
    return value


def _instant(value: object) -> datetime:
    """RFC 3339, as Square writes it. Raises ValueError without a zone."""
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None:
        raise ValueError("an instant has no zone")
    return found
