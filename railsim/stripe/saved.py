"""Stripe's customers, PaymentMethods and SetupIntents: saved cards."""

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.stripe import objects
from railsim.stripe.cards import BY_NAME, BY_NUMBER, DECLINED_TEXTS, TestCard
from railsim.stripe.forms import choice, flag, invalid, metadata, required, text, whole
from railsim.stripe.store import Store


class Saved:
    """Who pays, with what."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/customers", self.create_customer),
            Operation("GET", "/v1/customers", self.list_customers),
            Operation("GET", "/v1/customers/{id}", self.get_customer),
            Operation("GET", "/v1/customers/{id}/payment_methods", self.list_methods_of),
            Operation("POST", "/v1/payment_methods", self.create_method),
            Operation("GET", "/v1/payment_methods", self.list_methods),
            Operation("GET", "/v1/payment_methods/{id}", self.get_method),
            Operation("POST", "/v1/payment_methods/{id}/attach", self.attach),
            Operation("POST", "/v1/payment_methods/{id}/detach", self.detach),
            Operation("POST", "/v1/setup_intents", self.create_setup),
            Operation("GET", "/v1/setup_intents/{id}", self.get_setup),
            Operation("POST", "/v1/setup_intents/{id}/confirm", self.confirm_setup),
            Operation("POST", "/v1/setup_intents/{id}/cancel", self.cancel_setup),
        ]

    # customers

    def create_customer(self, call: Call) -> Answer:
        made = objects.customer(self.store.new("cus"), self.store.timeline.seconds())
        for name in ("description", "email", "name", "phone"):
            made[name] = text(call.body, name)
        made["metadata"] = metadata(call.body)
        self.store.tell("customer.created", self.store.add("cus", made))
        return Answer(200, made)

    def get_customer(self, call: Call) -> Answer:
        return Answer(200, self.store.get("cus", call.path["id"]))

    def list_customers(self, call: Call) -> Answer:
        email = call.query.get("email")
        found = (one for one in self.store.tables["cus"].values() if email in (None, one["email"]))
        return self.store.listed(call, found, url="/v1/customers")

    # payment methods

    def method(self, id: str, *, param: str = "payment_method") -> Json:
        """A PaymentMethod; a test one such as `pm_card_visa` makes a new one, as Stripe does."""
        card = BY_NAME.get(id)
        return self.store.get("pm", id, param=param) if card is None else self._made(card, 12, 2034)

    def _made(self, card: TestCard, month: int, year: int) -> Json:
        shown = objects.card_of(card, f"railsim{card.number[-9:]}", month, year)
        made = self.store.add("pm", objects.payment_method(self.store.new("pm"), self.store.timeline.seconds(), shown))
        self.store.cards[made["id"]] = card.number
        if card.fate:
            self.store.fates[made["id"]] = card.fate
        return made

    def create_method(self, call: Call) -> Answer:
        if required(call.body, "type") != "card":
            raise invalid("The simulator knows PaymentMethods of type card only.", param="type")
        given = call.body.get("card")
        if not isinstance(given, dict):
            raise invalid("Missing required param: card.", param="card", code="parameter_missing")
        if "token" in given:
            card = BY_NAME.get(given["token"])
            if card is None:
                raise invalid(f"No such token: '{given['token']}'", param="card[token]", code="resource_missing")
            return Answer(200, self._made(card, 12, 2034))
        card = BY_NUMBER.get(str(given.get("number", "")).replace(" ", ""))
        if card is None:
            raise Refused(Answer(402, {"error": {
                "type": "card_error", "code": "incorrect_number", "param": "number",
                "message": "Your card number is incorrect.",
            }}))  # fmt: skip
        month, year = whole(given, "exp_month", most=12), whole(given, "exp_year", least=1970, most=2099)
        if month is None or year is None:
            raise invalid("Missing required param: card[exp_month] and card[exp_year].", param="card[exp_month]")
        return Answer(200, self._made(card, month, year))

    def get_method(self, call: Call) -> Answer:
        return Answer(200, self.store.get("pm", call.path["id"]))

    def list_methods(self, call: Call) -> Answer:
        return self._methods(call, call.query.get("customer"), "/v1/payment_methods")

    def list_methods_of(self, call: Call) -> Answer:
        owner = self.store.get("cus", call.path["id"])["id"]
        return self._methods(call, owner, f"/v1/customers/{owner}/payment_methods")

    def _methods(self, call: Call, owner: str | None, url: str) -> Answer:
        kind = call.query.get("type")
        found = [
            one for one in self.store.tables["pm"].values()
            if owner is not None and one["customer"] == owner and kind in (None, one["type"])
        ]  # fmt: skip
        return self.store.listed(call, found, url=url)

    def attach(self, call: Call) -> Answer:
        method = self.method(call.path["id"], param="id")
        owner = self.store.get("cus", required(call.body, "customer"), param="customer")
        self.keep(method, owner["id"])
        return Answer(200, method)

    def keep(self, method: Json, owner: str) -> None:
        """Attach a card to a customer. Cards that always decline can't be."""
        card = BY_NUMBER[self.store.cards[method["id"]]]
        if not card.attachable:
            raise Refused(card_error(card), remembered=True)
        if method["customer"] not in (None, owner):
            raise invalid(
                "The payment method you provided has already been attached to a customer.", param="payment_method"
            )
        if method["customer"] is None:
            method["customer"] = owner
            self.store.tell("payment_method.attached", method)

    def detach(self, call: Call) -> Answer:
        method = self.store.get("pm", call.path["id"])
        if method["customer"] is None:
            raise invalid("The payment method you provided is not attached to a customer.", param="payment_method")
        before, method["customer"] = method["customer"], None
        self.store.tell("payment_method.detached", method, {"customer": before})
        return Answer(200, method)

    # setup intents

    def create_setup(self, call: Call) -> Answer:
        store = self.store
        given = text(call.body, "payment_method")
        owner = text(call.body, "customer")
        if owner is not None:
            store.get("cus", owner, param="customer")
        made = objects.setup_intent(store.new("seti"), store.timeline.seconds(), store.chance.letters(25))
        made["customer"], made["metadata"] = owner, metadata(call.body)
        made["description"] = text(call.body, "description")
        made["usage"] = choice(call.body, "usage", ("off_session", "on_session"), "off_session")
        if given is not None:
            made["payment_method"] = self.method(given)["id"]
            made["status"] = "requires_confirmation"
        store.tell("setup_intent.created", store.add("seti", made))
        return self._confirm(made) if flag(call.body, "confirm") else Answer(200, made)

    def get_setup(self, call: Call) -> Answer:
        return Answer(200, self.store.get("seti", call.path["id"]))

    def confirm_setup(self, call: Call) -> Answer:
        made = self.store.get("seti", call.path["id"])
        given = text(call.body, "payment_method")
        if given is not None:
            made["payment_method"] = self.method(given)["id"]
        return self._confirm(made)

    def _confirm(self, made: Json) -> Answer:
        if made["status"] in ("succeeded", "canceled"):
            raise invalid(
                f"You cannot confirm this SetupIntent because it has already {made['status']}.",
                code="setup_intent_unexpected_state",
            )
        if made["payment_method"] is None:
            raise invalid("You cannot confirm this SetupIntent because it's missing a payment method.",
                          code="setup_intent_unexpected_state")  # fmt: skip
        method = self.store.get("pm", made["payment_method"])
        card = BY_NUMBER[self.store.cards[method["id"]]]
        if card.code and not card.attachable:
            refusal = card_error(card)
            assert isinstance(refusal.body, dict)
            made["status"], made["payment_method"] = "requires_payment_method", None
            made["last_setup_error"] = {**refusal.body["error"], "payment_method": method}
            self.store.tell("setup_intent.setup_failed", made)
            raise Refused(Answer(402, {"error": {**refusal.body["error"], "setup_intent": made}}), remembered=True)
        made["status"], made["last_setup_error"] = "succeeded", None
        if made["customer"]:
            self.keep(method, made["customer"])
        self.store.tell("setup_intent.succeeded", made)
        return Answer(200, made)

    def cancel_setup(self, call: Call) -> Answer:
        made = self.store.get("seti", call.path["id"])
        if made["status"] in ("succeeded", "canceled"):
            raise invalid(
                f"You cannot cancel this SetupIntent because it has a status of {made['status']}.",
                code="setup_intent_unexpected_state",
            )
        made["status"], made["cancellation_reason"] = "canceled", text(call.body, "cancellation_reason")
        self.store.tell("setup_intent.canceled", made)
        return Answer(200, made)


def card_error(card: TestCard) -> Answer:
    """Stripe's 402 for a card that declines."""
    code = card.code or "card_declined"
    known = card.decline_code if card.decline_code in DECLINED_TEXTS else code
    error: Json = {
        "type": "card_error", "code": code, "message": DECLINED_TEXTS.get(str(known), "Your card was declined."),
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
    }  # fmt: skip
    if card.decline_code:
        error["decline_code"] = card.decline_code
    return Answer(402, {"error": error})
