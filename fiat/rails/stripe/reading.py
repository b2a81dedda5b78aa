"""Stripe's objects read into ours. Pure.

All raise KeyError, TypeError or ValueError for what isn't Stripe's shape (`Client.reading` makes them EffectUnknown),
and RailMisconfigured for an amount in a currency that is no asset here.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from fiat.rails.currencies import Currencies
from fiat.rails.errors import RailMisconfigured
from fiat.rails.protocol import (
    Action,
    ActionKind,
    Balance,
    DisputeTruth,
    EntryKind,
    Payment,
    PaymentStatus,
    RefundTruth,
    SavedMethod,
    SettlementEntry,
    SettlementTruth,
)
from fiat.rails.stripe.declines import REASONS, public
from fiat.rails.stripe.statuses import CATEGORIES, DISPUTES, ENTRIES, PAYMENTS, REFUNDS, SETTLEMENTS, Body

REFERENCE = "reference"
"""The name in `metadata` under which our own id is kept."""

EXPIRED = frozenset({"automatic", "expired"})
"""`cancellation_reason`s of an authorisation that nobody captured in time."""


def payment(told: Body, currencies: Currencies) -> Payment:
    """A PaymentIntent, best with `latest_charge.balance_transaction` expanded: only then is its fee known."""
    status, error = PAYMENTS[told["status"]], told.get("last_payment_error")
    code = reason = None
    if status is PaymentStatus.CANCELLED:
        given_up = told.get("cancellation_reason")
        if error and given_up is None:
            status, code = PaymentStatus.FAILED, public(error.get("decline_code") or error.get("code"))
        else:
            code = "authorisation_expired" if given_up in EXPIRED else "cancelled"
        reason = REASONS.get(code, "the payment was cancelled")
    charge = told.get("latest_charge")
    expanded = charge if isinstance(charge, dict) else {}
    taken = status is PaymentStatus.CAPTURED
    return Payment(
        id=_id(told["id"]),
        reference=_reference(told),
        status=status,
        asset=told["currency"].upper(),
        amount=currencies.amount(_whole(told["amount"]), told["currency"]),
        captured=currencies.amount(_whole(told["amount_received"]), told["currency"]) if taken else 0,
        fee=_fee_of_charge(expanded, told["currency"], currencies) if taken else None,
        capture_id=_id(expanded.get("id", charge)) if taken and charge else None,
        action=_action(told) if status is PaymentStatus.REQUIRES_ACTION else None,
        code=code,
        reason=reason,
        expires_at=_capture_before(expanded) if status is PaymentStatus.AUTHORISED else None,
    )


def refund(told: Body, currencies: Currencies) -> RefundTruth:
    """A Refund, best with `balance_transaction` and `failure_balance_transaction` expanded: they tell its fee."""
    status = REFUNDS[told["status"] or "pending"]
    booked = [told.get("balance_transaction"), told.get("failure_balance_transaction")]
    return RefundTruth(
        id=_id(told["id"]),
        reference=_reference(told),
        payment=_id(told.get("payment_intent") or told["charge"]),
        status=status,
        asset=told["currency"].upper(),
        amount=currencies.amount(_whole(told["amount"]), told["currency"]),
        fee=_fee((one for one in booked if isinstance(one, dict)), told["currency"], currencies) or 0,
        code=told.get("failure_reason"),
        reason="the card's bank sent the refund back" if told.get("failure_reason") else None,
    )


def dispute(told: Body, currencies: Currencies) -> DisputeTruth:
    """A Dispute. What was withdrawn and its fees are by the balance transactions in it."""
    currency, moved = told["currency"], told["balance_transactions"]
    if foreign := [one["currency"] for one in moved if one["currency"] != currency]:
        raise RailMisconfigured(
            f"dispute {told['id']} in {currency} moved {foreign[0]}: the account converts; let it settle in {currency}"
        )
    due = told["evidence_details"].get("due_by")
    return DisputeTruth(
        id=_id(told["id"]),
        payment=_id(told.get("payment_intent") or told["charge"]),
        status=DISPUTES[told["status"]],
        asset=currency.upper(),
        amount=currencies.amount(_whole(told["amount"]), currency),
        withdrawn=-currencies.amount(sum(_whole(one["amount"]) for one in moved), currency),
        fee=currencies.amount(sum(_whole(one["fee"]) for one in moved), currency),
        reason=told["reason"],
        opened_at=_instant(told["created"]),
        respond_by=None if due is None else _instant(due),
    )


def settlement(told: Body, currencies: Currencies) -> SettlementTruth:
    """A Payout of the balance to the bank account."""
    return SettlementTruth(
        id=_id(told["id"]),
        status=SETTLEMENTS[told["status"]],
        asset=told["currency"].upper(),
        amount=currencies.amount(_whole(told["amount"]), told["currency"]),
        created_at=_instant(told["created"]),
        arrives_on=_instant(told["arrival_date"]).date(),
        descriptor=told.get("statement_descriptor"),
    )


def balances(told: Body, currencies: Currencies) -> tuple[Balance, ...]:
    """A Balance: what can be paid out now, and what only later. Currencies over nothing are left out."""
    sums: dict[str, int] = {}
    for one in [*told["available"], *told["pending"]]:
        sums[one["currency"]] = sums.get(one["currency"], 0) + _whole(one["amount"])
    return tuple(
        Balance(asset=currency.upper(), amount=currencies.amount(sum, currency))
        for currency, sum in sums.items()
        if sum
    )


def entry(told: Body, currencies: Currencies) -> SettlementEntry:
    """A BalanceTransaction."""
    currency, source, kind = told["currency"], told.get("source"), ENTRIES[told["type"]]
    if kind is EntryKind.ADJUSTMENT:
        kind = CATEGORIES.get(told["reporting_category"], kind)
    return SettlementEntry(
        id=_id(told["id"]),
        kind=kind,
        object=source["id"] if isinstance(source, dict) else source,
        gross=currencies.amount(_whole(told["amount"]), currency),
        fee=currencies.amount(_whole(told["fee"]), currency),
        net=currencies.amount(_whole(told["net"]), currency),
        at=_instant(told["created"]),
    )


def method(told: Body, customer: str) -> SavedMethod:
    """A PaymentMethod of type card."""
    card = told["card"]
    return SavedMethod(
        token=_id(told["id"]),
        customer=customer,
        brand=card["brand"],
        last4=card["last4"],
        expires_year=_whole(card["exp_year"]),
        expires_month=_whole(card["exp_month"]),
    )


def _action(told: Body) -> Action | None:
    redirect = (told.get("next_action") or {}).get("redirect_to_url")
    if redirect:
        return Action(ActionKind.REDIRECT, redirect["url"])
    secret = told.get("client_secret")
    return None if secret is None else Action(ActionKind.CLIENT_SECRET, secret)


def _fee_of_charge(charge: Body, currency: str, currencies: Currencies) -> int | None:
    booked = charge.get("balance_transaction")
    return _fee([booked], currency, currencies) if isinstance(booked, dict) else None


def _fee(booked: Iterable[Body], currency: str, currencies: Currencies) -> int | None:
    """The fees of balance transactions; None where the account converted into another currency: it can't be told."""
    told = list(booked)
    if any(one["currency"] != currency for one in told):
        return None
    return currencies.amount(sum(_whole(one["fee"]) for one in told), currency)


def _capture_before(charge: Body) -> datetime | None:
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    before = card.get("capture_before")
    return None if before is None else _instant(before)


def _reference(told: Body) -> str | None:
    found = (told.get("metadata") or {}).get(REFERENCE)
    return found if isinstance(found, str) else None


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("an id is missing")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("a whole number is missing")
    return value


def _instant(value: object) -> datetime:
    return datetime.fromtimestamp(_whole(value), UTC)
