"""Stripe's PaymentIntents and Charges: authorise, capture, cancel, declines."""

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.stripe import objects
from railsim.stripe.cards import BY_NUMBER
from railsim.stripe.disputes import Disputes
from railsim.stripe.forms import choice, flag, invalid, metadata, required, text, whole
from railsim.stripe.saved import Saved, card_error
from railsim.stripe.store import DAY, Store

AUTHORIZATION_DAYS = 7
"""After which Stripe cancels what wasn't captured (docs.stripe.com/payments/place-a-hold-on-a-payment-method)."""

METHODS = ("automatic", "automatic_async", "manual")
MINIMUM = 50


class Payments:
    """PaymentIntents by their states; each attempt to pay makes a Charge."""

    def __init__(self, store: Store, saved: Saved, disputes: Disputes) -> None:
        self.store, self.saved, self.disputes = store, saved, disputes

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/payment_intents", self.create),
            Operation("GET", "/v1/payment_intents", self.listed),
            Operation("GET", "/v1/payment_intents/{id}", self.get),
            Operation("POST", "/v1/payment_intents/{id}", self.update),
            Operation("POST", "/v1/payment_intents/{id}/confirm", self.confirm),
            Operation("POST", "/v1/payment_intents/{id}/capture", self.capture),
            Operation("POST", "/v1/payment_intents/{id}/cancel", self.cancel),
            Operation("GET", "/v1/charges", self.list_charges),
            Operation("GET", "/v1/charges/{id}", self.get_charge),
        ]

    def create(self, call: Call) -> Answer:
        store, body = self.store, call.body
        amount = whole(body, "amount")
        if amount is None:
            raise invalid("Missing required param: amount.", param="amount", code="parameter_missing")
        currency = required(body, "currency").lower()
        if len(currency) != 3 or not currency.isalpha():
            raise invalid(f"Invalid currency: {currency}.", param="currency")
        if amount < MINIMUM:
            raise invalid("Amount must be at least $0.50 usd", param="amount", code="amount_too_small")
        method, owner, confirm = text(body, "payment_method"), text(body, "customer"), flag(body, "confirm")
        capture_method = choice(body, "capture_method", METHODS, "automatic_async")
        noted = metadata(body)
        if owner is not None:
            store.get("cus", owner, param="customer")
        made = objects.payment_intent(
            store.new("pi"), store.timeline.seconds(), store.chance.letters(25), amount, currency
        )
        made |= {"customer": owner, "capture_method": capture_method, "metadata": noted}
        made["description"] = text(body, "description")
        made["setup_future_usage"] = text(body, "setup_future_usage")
        if method is not None:
            self._use(made, method)
            made["status"] = "requires_confirmation"
        store.tell("payment_intent.created", store.add("pi", made))
        return self._confirm(made) if confirm else Answer(200, made)

    def get(self, call: Call) -> Answer:
        return Answer(200, self.store.get("pi", call.path["id"]))

    def listed(self, call: Call) -> Answer:
        owner = call.query.get("customer")
        found = (one for one in self.store.tables["pi"].values() if owner in (None, one["customer"]))
        return self.store.listed(call, found, url="/v1/payment_intents")

    def update(self, call: Call) -> Answer:
        made = self.store.get("pi", call.path["id"])
        made["metadata"] |= metadata(call.body)
        if "description" in call.body:
            made["description"] = text(call.body, "description")
        return Answer(200, made)

    def _use(self, made: Json, method: str) -> None:
        found = self.saved.method(method)
        if found["customer"] is not None and found["customer"] != made["customer"]:
            raise invalid(
                "The payment method belongs to a customer: give the same one as customer.", param="payment_method"
            )
        made["payment_method"] = found["id"]

    def confirm(self, call: Call) -> Answer:
        made = self.store.get("pi", call.path["id"])
        if made["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
            raise unexpected(made, "confirm")
        method = text(call.body, "payment_method")
        if method is not None:
            self._use(made, method)
        return self._confirm(made)

    def _confirm(self, made: Json, *, authenticated: bool = False) -> Answer:
        store = self.store
        if made["payment_method"] is None:
            raise invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
                code="payment_intent_unexpected_state",
            )
        method = store.get("pm", made["payment_method"])
        card = BY_NUMBER[store.cards[method["id"]]]
        if card.challenge and not authenticated:
            made["status"] = "requires_action"
            made["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
            store.tell("payment_intent.requires_action", made)
            return Answer(200, made)
        made["next_action"] = None
        charge = store.add("ch", objects.charge(store.new("ch"), store.timeline.seconds(), made, method))
        made["latest_charge"] = charge["id"]
        if card.code:
            refusal = card_error(card)
            assert isinstance(refusal.body, dict)
            self._declined(made, charge, method, refusal.body["error"])
        if made["setup_future_usage"] and made["customer"]:
            self.saved.keep(method, made["customer"])
        made["last_payment_error"] = None
        if made["capture_method"] == "manual":
            made["status"], made["amount_capturable"] = "requires_capture", made["amount"]
            before = store.timeline.seconds() + AUTHORIZATION_DAYS * DAY
            charge["payment_method_details"]["card"]["capture_before"] = before
            store.timeline.after(AUTHORIZATION_DAYS * DAY, lambda: self._expire(made))
            store.tell("charge.succeeded", charge)
            store.tell("payment_intent.amount_capturable_updated", made)
        else:
            self._capture(made, charge, made["amount"])
            store.tell("charge.succeeded", charge)
            store.tell("payment_intent.succeeded", made)
        self._fate(charge)
        return Answer(200, made)

    def _declined(self, made: Json, charge: Json, method: Json, error: Json) -> None:
        decline = error.get("decline_code", error["code"])
        charge |= {
            "paid": False, "status": "failed", "failure_code": error["code"], "failure_message": error["message"],
            "outcome": charge["outcome"] | {
                "network_status": "declined_by_network", "reason": decline, "type": "issuer_declined",
                "seller_message": "The bank did not return any further details with this decline.",
            },
        }  # fmt: skip
        full = {**error, "charge": charge["id"], "payment_method": method}
        made |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": full}
        self.store.tell("charge.failed", charge)
        self.store.tell("payment_intent.payment_failed", made)
        raise Refused(Answer(402, {"error": {**full, "payment_intent": made}}), remembered=True)

    def authenticate(self, id: str) -> Json:
        """The customer has authenticated: the payment goes on. Raises LookupError, ValueError."""
        made = self.store.tables["pi"].get(id)
        if made is None:
            raise LookupError(f"there is no PaymentIntent {id}")
        if made["status"] != "requires_action":
            raise ValueError(f"PaymentIntent {id} is {made['status']}, not requires_action")
        self._confirm(made, authenticated=True)
        return made

    def capture(self, call: Call) -> Answer:
        made = self.store.get("pi", call.path["id"])
        if made["status"] != "requires_capture":
            raise unexpected(made, "capture")
        amount = whole(call.body, "amount_to_capture") or made["amount_capturable"]
        if amount > made["amount_capturable"]:
            raise invalid(
                "The amount to capture is greater than the amount that is capturable.",
                param="amount_to_capture",
                code="amount_too_large",
            )
        charge = self.store.get("ch", made["latest_charge"])
        self._capture(made, charge, amount)
        self.store.tell("charge.captured", charge)
        self.store.tell("payment_intent.succeeded", made)
        self._fate(charge)
        return Answer(200, made)

    def _capture(self, made: Json, charge: Json, amount: int) -> None:
        booked = self.store.book(
            amount=amount, currency=charge["currency"], type="charge", source=charge["id"], category="charge",
            fee=self.store.terms.fee(amount), days=self.store.terms.settle_days, description=made["description"],
        )  # fmt: skip
        charge |= {"captured": True, "amount_captured": amount, "balance_transaction": booked["id"]}
        made |= {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}

    def _fate(self, charge: Json) -> None:
        fate = self.store.fates.get(charge["payment_method"])
        if charge["captured"] and fate in ("dispute", "inquiry"):
            self.disputes.open(charge, charge["amount_captured"], "fraudulent", inquiry=fate == "inquiry")

    def cancel(self, call: Call) -> Answer:
        made = self.store.get("pi", call.path["id"])
        if made["status"] in ("succeeded", "canceled", "processing"):
            raise unexpected(made, "cancel")
        reasons = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
        reason = call.body.get("cancellation_reason") and choice(call.body, "cancellation_reason", reasons, "")
        self._cancel(made, reason)
        return Answer(200, made)

    def _cancel(self, made: Json, reason: str | None) -> None:
        if made["status"] == "requires_capture":
            charge = self.store.get("ch", made["latest_charge"])
            charge |= {"refunded": True, "amount_refunded": charge["amount"]}
        made |= {
            "status": "canceled", "amount_capturable": 0, "canceled_at": self.store.timeline.seconds(),
            "cancellation_reason": reason, "next_action": None,
        }  # fmt: skip
        self.store.tell("payment_intent.canceled", made)

    def _expire(self, made: Json) -> None:
        if made["status"] == "requires_capture":
            self._cancel(made, "automatic")
            self.store.tell("charge.expired", self.store.get("ch", made["latest_charge"]))

    def get_charge(self, call: Call) -> Answer:
        return Answer(200, self.store.get("ch", call.path["id"]))

    def list_charges(self, call: Call) -> Answer:
        intent = call.query.get("payment_intent")
        found = (one for one in self.store.tables["ch"].values() if intent in (None, one["payment_intent"]))
        return self.store.listed(call, found, url="/v1/charges")


def unexpected(made: Json, act: str) -> Refused:
    """Stripe's refusal of an act that an intent's status doesn't allow."""
    refused = invalid(
        f"This PaymentIntent could not be {act}ed because it has a status of {made['status']}.",
        code="payment_intent_unexpected_state",
    )
    assert isinstance(refused.answer.body, dict)
    refused.answer.body["error"]["payment_intent"] = made
    return refused
