"""PayPal's objects as a rail's: payments, refunds, payouts, disputes. Pure; what can't be read is EffectUnknown."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fiat.rails.amounts import Bounds, bounds_of, read_decimal, write_decimal
from fiat.rails.errors import AmountNotPayable, EffectUnknown, RailCorrupt
from fiat.rails.paypal import statuses
from fiat.rails.paypal.refusals import DECLINES
from fiat.rails.paypal.statuses import meaning
from fiat.rails.protocol import (
    Action,
    ActionKind,
    Balance,
    DisputeStatus,
    DisputeTruth,
    Payment,
    PaymentOrder,
    PaymentStatus,
    PayoutStatus,
    PayoutTruth,
    RefundStatus,
    RefundTruth,
)
from ledger.money import Asset, AssetKind

Json = Mapping[str, Any]

WHOLE_ONLY = frozenset({"HUF", "JPY", "TWD"})
"""Currencies of which PayPal takes no decimals (developer.paypal.com, currency codes)."""

CURRENCIES = WHOLE_ONLY | frozenset(
    {"AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "ILS", "MXN", "MYR", "NOK", "NZD", "PHP"}
    | {"PLN", "SEK", "SGD", "THB", "USD"}
)
"""All that it takes."""

DECLINED = "PayPal, or the payer's bank, declined the payment."
GIVEN_UP = "The payment was given up before it was taken."

_OURS = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}", re.ASCII)
_OPEN = (PaymentStatus.CAPTURED, PaymentStatus.PROCESSING)
_FEES = ("DISPUTE_FEE", "DISPUTE_SETTLEMENT_FEE", "CHARGEBACK_FEE")


@contextmanager
def readable(what: str) -> Iterator[None]:
    """A PayPal object that lacks what it must have is an answer that can't be read."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EffectUnknown(f"PayPal's {what} can't be read ({type(error).__name__})") from None


class Reader:
    """Reads by the assets of the book."""

    def __init__(self, assets: Mapping[str, Asset], *, merchant: str) -> None:
        """`assets` by code; a currency outside of it is read with PayPal's own decimals. `merchant`: our account."""
        self._assets = assets
        self._merchant = merchant

    # Amounts

    def asset(self, code: str) -> Asset:
        known = self._assets.get(code)
        return known or Asset(code=code, kind=AssetKind.FIAT, scale=_digits(code))

    def write(self, amount: int, code: str, *, currency: str = "currency_code") -> dict[str, str]:
        """`amount` smallest units as PayPal's money object. Raises AmountNotPayable.

        `currency`: how the API calls the code; Payouts v1 says `currency`.
        """
        require_taken(code)
        return {currency: code, "value": write_decimal(amount, self.asset(code), digits=_digits(code))}

    def money(self, told: Json, *, of: str | None = None) -> tuple[int, str]:
        """Smallest units and asset of a money object. Raises RailCorrupt for another asset than `of`."""
        code = told.get("currency_code") or told["currency"]
        if of is not None and code != of:
            raise RailCorrupt(f"PayPal has an amount in {str(code)[:3]} where everything else is in {of}")
        return read_decimal(told["value"], self.asset(code)), code

    def _sum(self, told: Sequence[Json], of: str) -> int:
        return sum(self.money(one, of=of)[0] for one in told)

    def balances(self, told: Json) -> tuple[Balance, ...]:
        """All of them."""
        with readable("balances"):
            as_of = required_instant(told.get("last_refresh_time") or told["as_of_time"])
            read = [self.money(one["total_balance"], of=one["currency"]) for one in told["balances"]]
            return tuple(Balance(asset=asset, amount=amount, as_of=as_of) for amount, asset in read)

    # Paying in

    def payment(self, order: Json) -> Payment:
        """An order, with the payments inside, as it is now. Raises RailCorrupt where it pays another account than ours.

        The client ID isn't secret: with it anybody can make an order that pays them and carries an id of ours.
        """
        with readable("order"):
            unit = order["purchase_units"][0]
            if unit["payee"]["merchant_id"] != self._merchant:
                raise RailCorrupt(f"PayPal's order {str(order['id'])[:40]} doesn't pay our account {self._merchant}")
            amount, asset = self.money(unit["amount"])
            authorization, capture = authorization_of(order), self._capture_of(order)
            status = _standing(order, authorization, capture)
            captured = status is PaymentStatus.CAPTURED and capture is not None
            code = _why(status, capture)
            return Payment(
                id=order["id"],
                reference=our_reference(unit.get("custom_id")),
                status=status,
                asset=asset,
                amount=amount,
                captured=self.money(capture["amount"], of=asset)[0] if captured and capture else 0,
                fee=self._fee(capture, asset) if captured and capture else None,
                capture_id=capture["id"] if capture is not None and status in _OPEN else None,
                action=_action(order) if status is PaymentStatus.REQUIRES_ACTION else None,
                code=code,
                reason=None if code is None else DECLINED if status is PaymentStatus.FAILED else GIVEN_UP,
                expires_at=instant(authorization.get("expiration_time")) if authorization is not None else None,
            )

    def _capture_of(self, order: Json) -> Json | None:
        """The capture that says what became of the order; a declined one only where there's no other."""
        captures = _payments(order).get("captures", [])
        good = [one for one in captures if meaning(statuses.CAPTURE, one["status"]) is not PaymentStatus.FAILED]
        if len(good) > 1:
            raise RailCorrupt(f"PayPal's order {order['id']} was captured {len(good)} times; once is ours")
        found: Sequence[Json] = good or captures
        return found[-1] if found else None

    def _fee(self, capture: Json, asset: str) -> int | None:
        """PayPal's and a platform's fees of a capture; None while there's no breakdown."""
        told = capture.get("seller_receivable_breakdown")
        if told is None:
            return None
        fees = [told["paypal_fee"]] if "paypal_fee" in told else []
        return self._sum([*fees, *(one["amount"] for one in told.get("platform_fees", []))], asset)

    # Giving back

    def refund(self, told: Json, *, capture: str | None = None) -> RefundTruth:
        """A refund. `capture`: what it gives back, where that's known; else its link `up` says it."""
        with readable("refund"):
            status = meaning(statuses.REFUND, told["status"])
            amount, asset = self.money(told["amount"])
            given_back = told.get("seller_payable_breakdown", {}).get("paypal_fee")
            failed = status is RefundStatus.FAILED
            return RefundTruth(
                id=told["id"],
                reference=our_reference(told.get("custom_id")),
                payment=capture or last_part(_link(told, "up")),
                status=status,
                asset=asset,
                amount=amount,
                fee=-self.money(given_back, of=asset)[0] if given_back is not None and not failed else 0,
                code=_reason(told) or told["status"].lower() if failed else None,
                reason="PayPal couldn't give the payment back." if failed else None,
            )

    # Paying out

    def payout(self, batch: Json) -> PayoutTruth:
        """A batch of one payment, as PayPal shows it."""
        with readable("payout"):
            header, item = batch["batch_header"], batch["items"][0]
            detail = item["payout_item"]
            amount, asset = self.money(detail["amount"])
            status = meaning(statuses.PAYOUT_BATCH, header["batch_status"])
            if status is PayoutStatus.PENDING:
                status = meaning(statuses.PAYOUT_ITEM, item["transaction_status"])
            failed, alone = status is PayoutStatus.FAILED, len(batch["items"]) == 1
            fee = item.get("payout_item_fee")
            return PayoutTruth(
                id=header["payout_batch_id"],
                reference=our_reference(detail.get("sender_item_id")) if alone else None,
                status=status,
                asset=asset,
                amount=amount,
                fee=self.money(fee, of=asset)[0] if fee is not None and not failed else 0,
                code=_payout_code(item, status),
                reason=_PAYOUT_REASONS.get(status),
            )

    # Disputes

    def dispute(self, told: Json) -> DisputeTruth:
        """A dispute with its details."""
        with readable("dispute"):
            amount, asset = self.money(told["dispute_amount"])
            movements = [one for one in told.get("money_movements", []) if one["affected_party"] == "SELLER"]
            taken = [one for one in movements if one["reason"] not in _FEES]
            withdrawn = self._moved(taken, asset)
            outcome = told.get("dispute_outcome", {})
            status = _stage(told, outcome, withdrawn)
            if "money_movements" not in told and status is DisputeStatus.LOST and "amount_refunded" in outcome:
                withdrawn = self.money(outcome["amount_refunded"], of=asset)[0]
            return DisputeTruth(
                id=told["dispute_id"],
                payment=told["disputed_transactions"][0]["seller_transaction_id"],
                status=status,
                asset=asset,
                amount=amount,
                withdrawn=max(withdrawn, 0),
                fee=self._moved([one for one in movements if one["reason"] in _FEES], asset),
                reason=str(told["reason"]).lower() if "reason" in told else None,
                opened_at=required_instant(told["create_time"]),
                respond_by=instant(told.get("seller_response_due_date")),
                payments=self._disputed(told["disputed_transactions"], asset),
            )

    def _disputed(self, told: Sequence[Json], asset: str) -> tuple[tuple[str, int], ...]:
        """Where there are several, the payments by their ids, and what each was of."""
        found: dict[str, int] = {}
        for one in told if len(told) > 1 else ():
            gross = self.money(one["gross_amount"], of=asset)[0] if "gross_amount" in one else 0
            found[one["seller_transaction_id"]] = found.get(one["seller_transaction_id"], 0) + gross
        return tuple(sorted(found.items())) if len(found) > 1 else ()

    def _moved(self, movements: Sequence[Json], asset: str) -> int:
        """What left our balance, less what came back."""
        debits = self._sum([one["amount"] for one in movements if one["type"] == "DEBIT"], asset)
        return debits - self._sum([one["amount"] for one in movements if one["type"] == "CREDIT"], asset)


_PAYOUT_REASONS: Mapping[PayoutStatus, str] = {
    PayoutStatus.UNCLAIMED: "PayPal waits for the receiver to accept it; after 30 days it comes back.",
    PayoutStatus.FAILED: "PayPal didn't pay it.",
    PayoutStatus.RETURNED: "It came back to PayPal's sender.",
}


def require_taken(code: str) -> None:
    """Raises AmountNotPayable for a currency that PayPal doesn't take."""
    if code not in CURRENCIES:
        raise AmountNotPayable(f"PayPal doesn't take {code}", param="asset", asset=code)


def bounds(asset: Asset) -> Bounds:
    """What PayPal takes of an asset: it publishes decimals alone. Raises AmountNotPayable for another currency."""
    require_taken(asset.code)
    digits = _digits(asset.code)
    return bounds_of(asset, digits=digits, places=digits)


def declined(order: PaymentOrder, id: str, issue: str) -> Payment:
    """A payment that PayPal declined for good."""
    return Payment(
        id=id,
        reference=order.reference,
        status=PaymentStatus.FAILED,
        asset=order.asset,
        amount=order.amount,
        code=issue.lower(),
        reason=DECLINES[issue],
    )


def cancelled(payment: Payment) -> Payment:
    """A payment that we gave up."""
    return Payment(
        id=payment.id,
        reference=payment.reference,
        status=PaymentStatus.CANCELLED,
        asset=payment.asset,
        amount=payment.amount,
        code="voided",
        reason=GIVEN_UP,
    )


def our_reference(told: object) -> str | None:
    """An id of ours in a field that anybody may fill; None for whatever else stands there."""
    return told if isinstance(told, str) and _OURS.fullmatch(told) else None


def authorization_of(order: Json) -> Json | None:
    """The latest authorization of an order."""
    found = _payments(order).get("authorizations", [])
    return found[-1] if found else None


def refunds_of(order: Json) -> list[Json]:
    """The refunds that an order's payment has."""
    return list(_payments(order).get("refunds", []))


def with_capture(order: Json, capture: Json) -> Json:
    """The order as it is once it has this capture: PayPal's own list may lag behind."""
    unit, payments = order["purchase_units"][0], _payments(order)
    others = [one for one in payments.get("captures", []) if one["id"] != capture["id"]]
    unit = {**unit, "payments": {**payments, "captures": [*others, capture]}}
    return {**order, "purchase_units": [unit]}


def order_of(payment: Json) -> str | None:
    """The order that a capture or an authorization belongs to; None where it doesn't say."""
    related = payment.get("supplementary_data", {}).get("related_ids", {})
    if isinstance(related.get("order_id"), str):
        return str(related["order_id"])
    up = next((one["href"] for one in payment.get("links", []) if one.get("rel") == "up"), "")
    return last_part(up) if "/checkout/orders/" in up else None


def last_part(url: str) -> str:
    """The id with which an address ends."""
    return url.partition("?")[0].rstrip("/").rpartition("/")[2]


def instant(told: object) -> datetime | None:
    """A moment (RFC 3339), in UTC; None where none is told. Raises ValueError."""
    return None if told is None else required_instant(told)


def required_instant(told: object) -> datetime:
    moment = datetime.fromisoformat(str(told))
    if moment.tzinfo is None:
        raise ValueError("a moment without its zone")
    return moment.astimezone(UTC)


def _digits(code: str) -> int:
    return 0 if code in WHOLE_ONLY else 2


def _payments(order: Json) -> Json:
    told = order["purchase_units"][0].get("payments", {})
    assert isinstance(told, Mapping)
    return told


def _standing(order: Json, authorization: Json | None, capture: Json | None) -> PaymentStatus:
    if capture is not None:
        return meaning(statuses.CAPTURE, capture["status"])
    if authorization is not None:
        return meaning(statuses.AUTHORIZATION, authorization["status"])
    return meaning(statuses.ORDER, order["status"])


def _why(status: PaymentStatus, capture: Json | None) -> str | None:
    if status is PaymentStatus.CANCELLED:
        return "voided"
    if status is not PaymentStatus.FAILED:
        return None
    processor = (capture or {}).get("processor_response", {}).get("response_code")
    return f"processor_{processor}" if processor else "declined"


def _action(order: Json) -> Action:
    found = {one["rel"]: one["href"] for one in order.get("links", [])}
    return Action(ActionKind.REDIRECT, found.get("payer-action") or found["approve"])


def _link(told: Json, rel: str) -> str:
    return str({one["rel"]: one["href"] for one in told.get("links", [])}[rel])


def _reason(told: Json) -> str | None:
    reason = told.get("status_details", {}).get("reason")
    return str(reason).lower() if reason else None


def _payout_code(item: Json, status: PayoutStatus) -> str | None:
    if status not in _PAYOUT_REASONS:
        return None
    name = item.get("errors", {}).get("name")
    return str(name).lower() if name else str(item["transaction_status"]).lower()


def _stage(told: Json, outcome: Json, withdrawn: int) -> DisputeStatus:
    status = meaning(statuses.DISPUTE, told["status"])
    if told["status"] == "RESOLVED":
        decided = meaning(statuses.OUTCOME, outcome.get("outcome_code", "NONE"))
        paid_by_us = outcome.get("outcome_code") == "RESOLVED_WITH_PAYOUT" and withdrawn > 0
        return DisputeStatus.LOST if paid_by_us else decided
    stage = told.get("dispute_life_cycle_stage", "CHARGEBACK")
    if stage not in statuses.STAGE_IS_INQUIRY:
        raise EffectUnknown(f"PayPal has a stage of disputes that isn't known here: {str(stage)[:40]!r}")
    return DisputeStatus.INQUIRY if statuses.STAGE_IS_INQUIRY[stage] else status
