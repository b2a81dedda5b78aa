"""Stripe's refunds: limits, and refunds that pend or fail later."""

from railsim.calls import Answer, Call, Json, Operation
from railsim.stripe import objects
from railsim.stripe.forms import choice, invalid, metadata, text, whole
from railsim.stripe.store import DAY, Store
from railsim.switches import Event

REASONS = ("duplicate", "fraudulent", "requested_by_customer")


class Refunds:
    """Money back to the customer; the fee of the charge stays with Stripe."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/refunds", self.create),
            Operation("GET", "/v1/refunds", self.listed),
            Operation("GET", "/v1/refunds/{id}", self.get),
        ]

    def create(self, call: Call) -> Answer:
        store, charge = self.store, self._charge(call.body)
        reason = call.body.get("reason") and choice(call.body, "reason", REASONS, "")
        noted, left = metadata(call.body), charge["amount_captured"] - charge["amount_refunded"]
        if not charge["captured"]:
            raise invalid("The charge isn't captured: cancel its PaymentIntent instead.", param="charge")
        if charge["disputed"] and not self._may_refund(charge):
            raise invalid(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed"
            )
        if left <= 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        amount = whole(call.body, "amount") or left
        if amount > left:
            raise invalid(
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount"
            )
        made = objects.refund(store.new("re"), store.timeline.seconds(), charge, amount)
        made |= {"reason": reason, "metadata": noted}
        booked = store.book(
            amount=-amount, currency=charge["currency"], type="refund", source=made["id"], category="refund"
        )
        made["balance_transaction"] = booked["id"]
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] >= charge["amount_captured"]
        store.add("re", made)
        self._fate(charge, made)
        store.tell("refund.created", made)
        store.tell("charge.refunded", charge)
        return Answer(200, made)

    def _charge(self, body: Json) -> Json:
        charge, intent = text(body, "charge"), text(body, "payment_intent")
        if charge is not None:
            return self.store.get("ch", charge, param="charge")
        if intent is None:
            raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
        latest = self.store.get("pi", intent, param="payment_intent")["latest_charge"]
        if latest is None:
            raise invalid("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
        return self.store.get("ch", latest)

    def _may_refund(self, charge: Json) -> bool:
        return all(
            one["is_charge_refundable"] for one in self.store.tables["du"].values() if one["charge"] == charge["id"]
        )

    def _fate(self, charge: Json, made: Json) -> None:
        fate, switch = self.store.fates.get(charge["payment_method"]), self.store.planned(Event.REFUND)
        outcome = switch.outcome if switch else {"refund_fails": "failed", "refund_pends": "pending"}.get(fate or "")
        seconds = switch.seconds if switch else DAY
        if outcome == "failed":
            self.store.timeline.after(max(1, seconds), lambda: self.fail(made))
        elif outcome == "pending":
            made["status"] = "pending"
            if seconds:
                self.store.timeline.after(seconds, lambda: self._succeed(made))

    def _succeed(self, made: Json) -> None:
        if made["status"] == "pending":
            made["status"] = "succeeded"
            self.store.tell("refund.updated", made, {"status": "pending"})
            self.store.tell("charge.refund.updated", made, {"status": "pending"})

    def fail(self, made: Json) -> None:
        """The customer's bank sent it back: the money returns to the balance."""
        before = made["status"]
        if before not in ("succeeded", "pending"):
            return
        charge = self.store.get("ch", made["charge"])
        booked = self.store.book(
            amount=made["amount"], currency=made["currency"], type="refund_failure", source=made["id"],
            category="refund_failure",
        )  # fmt: skip
        made |= {
            "status": "failed", "failure_reason": "lost_or_stolen_card", "failure_balance_transaction": booked["id"],
        }  # fmt: skip
        charge["amount_refunded"] -= made["amount"]
        charge["refunded"] = False
        for type in ("refund.updated", "refund.failed", "charge.refund.updated"):
            self.store.tell(type, made, {"status": before})

    def get(self, call: Call) -> Answer:
        return Answer(200, self.store.get("re", call.path["id"]))

    def listed(self, call: Call) -> Answer:
        charge, intent = call.query.get("charge"), call.query.get("payment_intent")
        found = (
            one for one in self.store.tables["re"].values()
            if charge in (None, one["charge"]) and intent in (None, one["payment_intent"])
        )  # fmt: skip
        return self.store.listed(call, found, url="/v1/refunds")
