"""Stripe's disputes: opened, answered with evidence, won, lost, accepted."""

from railsim.calls import Answer, Call, Json, Operation
from railsim.stripe import objects
from railsim.stripe.forms import flag, invalid
from railsim.stripe.store import DAY, Store

DUE_DAYS = 9
OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
    "duplicate", "fraudulent", "general", "incorrect_account_details", "insufficient_funds", "product_not_received",
    "product_unacceptable", "subscription_canceled", "unrecognized",
)  # fmt: skip


class Disputes:
    """A dispute takes amount and fee out of the balance when it opens; won, the amount comes back."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/disputes", self.listed),
            Operation("GET", "/v1/disputes/{id}", self.get),
            Operation("POST", "/v1/disputes/{id}", self.update),
            Operation("POST", "/v1/disputes/{id}/close", self.close),
        ]

    def open(self, charge: Json, amount: int, reason: str, *, inquiry: bool = False) -> Json:
        """A dispute, or an inquiry, that moves no money. Raises ValueError."""
        store = self.store
        if not charge["captured"] or charge["disputed"]:
            raise ValueError(f"charge {charge['id']} isn't captured, or it's disputed already")
        left = charge["amount_captured"] - charge["amount_refunded"]
        if not 0 < amount <= left:
            raise ValueError(f"1 to {left} of charge {charge['id']} can be disputed, not {amount}")
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason: {', '.join(REASONS)}")
        now = store.timeline.seconds()
        status = "warning_needs_response" if inquiry else "needs_response"
        made = objects.dispute(store.new("du"), now, charge, amount, reason, status, now + DUE_DAYS * DAY)
        charge["disputed"] = True
        store.add("du", made)
        if not inquiry:
            self._withdraw(made)
        store.tell("charge.dispute.created", made)
        if not inquiry:
            store.tell("charge.dispute.funds_withdrawn", made)
        store.timeline.after(DUE_DAYS * DAY, lambda: self._due(made))
        return made

    def _withdraw(self, made: Json) -> None:
        made["balance_transactions"].append(self.store.book(
            amount=-made["amount"], currency=made["currency"], type="adjustment", source=made["id"],
            category="dispute", fee=self.store.terms.dispute_fee,
            description=f"Chargeback withdrawal for {made['charge']}",
        ))  # fmt: skip

    def _due(self, made: Json) -> None:
        if made["status"] in ("needs_response", "warning_needs_response"):
            made["evidence_details"]["past_due"] = True
            self.end(made, won=False)

    def end(self, made: Json, *, won: bool) -> Json:
        """The bank has decided. Raises ValueError if it had already."""
        if made["status"] not in OPEN:
            raise ValueError(f"dispute {made['id']} has ended: {made['status']}")
        before = made["status"]
        inquiry = before.startswith("warning")
        made["status"] = "warning_closed" if inquiry else "won" if won else "lost"
        if won and not inquiry:
            fee = self.store.terms.dispute_fee if self.store.terms.dispute_fee_returned else 0
            made["balance_transactions"].append(self.store.book(
                amount=made["amount"], currency=made["currency"], type="adjustment", source=made["id"],
                category="dispute_reversal", fee=-fee, description=f"Chargeback reversal for {made['charge']}",
            ))  # fmt: skip
            self.store.tell("charge.dispute.funds_reinstated", made)
        if inquiry:
            self.store.get("ch", made["charge"])["disputed"] = False
        self.store.tell("charge.dispute.closed", made, {"status": before})
        return made

    def get(self, call: Call) -> Answer:
        return Answer(200, self.store.get("du", call.path["id"]))

    def listed(self, call: Call) -> Answer:
        charge, intent = call.query.get("charge"), call.query.get("payment_intent")
        found = (
            one for one in self.store.tables["du"].values()
            if charge in (None, one["charge"]) and intent in (None, one["payment_intent"])
        )  # fmt: skip
        return self.store.listed(call, found, url="/v1/disputes")

    def update(self, call: Call) -> Answer:
        """Evidence. As in Stripe's test mode, `winning_evidence` wins and `losing_evidence` loses."""
        made = self.store.get("du", call.path["id"])
        given = call.body.get("evidence") or {}
        if not isinstance(given, dict) or not set(given) <= set(objects.EVIDENCE_FIELDS):
            raise invalid("Received unknown parameter in evidence.", param="evidence", code="parameter_unknown")
        if made["status"] not in OPEN:
            raise invalid("This dispute is already closed.")
        made["evidence"] |= given
        made["evidence_details"]["has_evidence"] = bool(given) or made["evidence_details"]["has_evidence"]
        if "submit" not in call.body or flag(call.body, "submit"):
            made["evidence_details"]["submission_count"] += 1
            made["status"] = made["status"].replace("needs_response", "under_review")
        self.store.tell("charge.dispute.updated", made)
        told = made["evidence"]["uncategorized_text"]
        if made["status"].endswith("under_review") and told in ("winning_evidence", "losing_evidence"):
            self.end(made, won=told == "winning_evidence")
        return Answer(200, made)

    def close(self, call: Call) -> Answer:
        made = self.store.get("du", call.path["id"])
        if made["status"] not in OPEN:
            raise invalid("This dispute is already closed.")
        return Answer(200, self.end(made, won=False))
