"""What a simulated provider's own objects say, added up without anything of ours: the model of random histories."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from railsim.house import House
from railsim.money import from_text

Json = dict[str, Any]
OPEN_OR_LOST = {"EVIDENCE_REQUIRED", "PROCESSING", "LOST", "ACCEPTED"}


@dataclass(frozen=True, slots=True)
class Paid:
    """One payment by which the provider took something. `reference` is our top-up's id."""

    source: str
    reference: str
    amount: int


@dataclass
class Truth:
    """Amounts in cents. `refunds` and `disputes` by the provider's ids: of which payment, and how much was taken."""

    balance: int
    """What the provider owes the merchant."""
    on_its_way: int = 0
    """What it has sent to the merchant's bank, and what didn't come back."""
    paid: list[Paid] = field(default_factory=list)
    refunds: dict[str, tuple[str, int]] = field(default_factory=dict)
    disputes: dict[str, tuple[str, int]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    """How disputes stand: `open`, `won` or `lost`."""

    def of_users(self, owner_of: dict[str, str], moved: dict[str, int]) -> dict[str, int]:
        """What each user must have, less what they must owe."""
        owners = {one.source: owner_of[one.reference] for one in self.paid}
        sums = Counter(moved)
        for one in self.paid:
            sums[owners[one.source]] += one.amount
        for payment, amount in [*self.refunds.values(), *self.disputes.values()]:
            sums[owners[payment]] -= amount
        return dict(sums)


def truth_of(house: House, name: str) -> Truth:
    """All that this provider knows of money."""
    return {"stripe": _stripe, "square": _square, "paypal": _paypal}[name](house)


def payable(house: House, name: str) -> list[str]:
    """Payments that wait for their payer."""
    if name == "stripe":
        return [one["id"] for one in house.stripe.store.tables["pi"].values() if one["status"] == "requires_action"]
    if name == "paypal":
        new = ("CREATED", "PAYER_ACTION_REQUIRED")
        return [one["id"] for one in house.paypal.store.orders.values() if one["status"] in new]
    return []


def open_disputes(house: House, name: str) -> list[str]:
    """Disputes that aren't decided."""
    return [id for id, state in truth_of(house, name).ended.items() if state == "open"]


def _stripe(house: House) -> Truth:
    tables = house.stripe.store.tables
    found = Truth(balance=sum(one["net"] for one in tables["txn"].values()))
    found.on_its_way = sum(one["amount"] for one in tables["po"].values() if one["status"] != "failed")
    for one in tables["pi"].values():
        if one["amount_received"]:
            found.paid.append(Paid(one["id"], one["metadata"]["reference"], one["amount_received"]))
    for one in tables["re"].values():
        if one["status"] != "failed":
            found.refunds[one["id"]] = one["payment_intent"], one["amount"]
    for one in tables["du"].values():
        back = sum(booked["amount"] for booked in one["balance_transactions"])
        found.disputes[one["id"]] = one["payment_intent"], -back
        found.ended[one["id"]] = one["status"] if one["status"] in ("won", "lost") else "open"
    return found


def _square(house: House) -> Truth:
    store = house.square.store
    found = Truth(balance=sum(one["_net"] for one in store.entries if not one["payout_id"]))
    found.on_its_way = sum(one["amount_money"]["amount"] for one in store.payouts.values() if one["status"] != "FAILED")
    for one in store.payments.values():
        if one["status"] == "COMPLETED":
            found.paid.append(Paid(one["id"], one["reference_id"], one["_amount"]))
    for one in store.refunds.values():
        if one["status"] != "FAILED":
            found.refunds[one["id"]] = one["payment_id"], one["_amount"]
    for one in store.disputes.values():
        found.disputes[one["id"]] = one["_payment"], one["_amount"] if one["state"] in OPEN_OR_LOST else 0
        found.ended[one["id"]] = {"WON": "won", "LOST": "lost"}.get(one["state"], "open")
    return found


def _paypal(house: House) -> Truth:
    store, found = house.paypal.store, Truth(balance=0)
    for one in store.captures.values():
        if one["status"] not in ("PENDING", "DECLINED", "FAILED"):
            found.balance += _cents(one["seller_receivable_breakdown"]["net_amount"])
            found.paid.append(Paid(one["id"], one["custom_id"], one["_amount"]))
    for one in store.refunds.values():
        if one["status"] == "COMPLETED":
            found.balance -= one["_amount"]
        if one["status"] != "FAILED":
            found.refunds[one["id"]] = one["_capture"], one["_amount"]
    for id, one in store.disputes.items():
        moved = Counter[str]()
        for movement in one["money_movements"]:
            moved[movement["reason"]] += _cents(movement["amount"]) * (1 if movement["type"] == "DEBIT" else -1)
        found.balance -= sum(moved.values())
        found.disputes[id] = one["_capture"], moved["DISPUTE_SETTLEMENT"]
        outcome = one.get("dispute_outcome", {}).get("outcome_code")
        found.ended[id] = "open" if outcome is None else "won" if outcome == "RESOLVED_SELLER_FAVOUR" else "lost"
    return found


def _cents(told: dict[str, str]) -> int:
    found = from_text(told["value"], told["currency_code"])
    assert found is not None
    return found
