"""PayPal's Orders v2: created, approved by the payer, captured or authorised."""

from railsim.calls import Answer, Call, Json, Operation
from railsim.paypal.errors import NOT_APPROVED, refuse_if_asked, refused
from railsim.paypal.payments import Payments
from railsim.paypal.store import Store, amount_of, find, money, shown

DECLINING_NAMES = {
    "CCREJECT-REFUSED": "0500", "CCREJECT-SF": "9500", "CCREJECT-EC": "5400", "CCREJECT-IRC": "5180",
    "CCREJECT-IF": "5120", "CCREJECT-LS": "9520", "CCREJECT-IA": "1330", "CCREJECT-BANK_ERROR": "5100",
    "CCREJECT-CVV_F": "00N7",
}  # fmt: skip
"""Card holders' names that decline, and the processor's code (developer.paypal.com, card testing)."""


class Orders:
    """Orders of one purchase unit."""

    def __init__(self, store: Store, payments: Payments) -> None:
        self.store, self.payments = store, payments

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v2/checkout/orders", self.create),
            Operation("GET", "/v2/checkout/orders/{id}", self.get),
            Operation("POST", "/v2/checkout/orders/{id}/capture", self.capture),
            Operation("POST", "/v2/checkout/orders/{id}/authorize", self.authorize),
        ]

    def create(self, call: Call) -> Answer:
        store, body = self.store, call.body
        intent, units, source = body.get("intent"), body.get("purchase_units"), body.get("payment_source")
        if intent is None:
            raise refused(400, "MISSING_REQUIRED_PARAMETER", field="/intent")
        if intent not in ("CAPTURE", "AUTHORIZE"):
            raise refused(400, "INVALID_PARAMETER_VALUE", field="/intent", value=str(intent))
        if not isinstance(units, list) or not units or not isinstance(units[0], dict):
            raise refused(400, "MISSING_REQUIRED_PARAMETER", field="/purchase_units")
        if len(units) > 1:
            raise refused(400, "NOT_SUPPORTED", field="/purchase_units/1")
        amount, currency = amount_of(units[0].get("amount"), "/purchase_units/@reference_id=='default'/amount")
        if source is not None and call.header("paypal-request-id") is None:
            raise refused(400, "PAYPAL_REQUEST_ID_REQUIRED", field="PayPal-Request-Id")
        id = store.new()
        kept = ("custom_id", "invoice_id", "description", "soft_descriptor")
        unit: Json = {"reference_id": units[0].get("reference_id", "default"), "amount": money(amount, currency)}
        unit |= {"payee": {"merchant_id": store.merchant}} | {name: units[0][name] for name in kept if name in units[0]}
        order: Json = {
            "id": id, "intent": intent, "status": "CREATED", "purchase_units": [unit], "create_time": store.time(),
            "_amount": amount, "_currency": currency, "_source": source, "_return": _return_url(body),
        }  # fmt: skip
        card = source.get("card") if isinstance(source, dict) else None
        if isinstance(card, dict):
            self._pay_by_card(order, card)
        elif source is not None:
            order["status"] = "PAYER_ACTION_REQUIRED"
            order["payment_source"] = {"paypal": {}}
        store.orders[id] = order
        return self.shown(call, order, 201 if order["status"] != "PAYER_ACTION_REQUIRED" else 200)

    def _pay_by_card(self, order: Json, card: Json) -> None:
        """A card in the request pays at once. Declines show in the payment, by the holder's name."""
        number = str(card.get("number", ""))
        if not number.isdigit() or not 13 <= len(number) <= 19:
            raise refused(400, "INVALID_PARAMETER_SYNTAX", field="/payment_source/card/number")
        order["payment_source"] = {"card": {
            "name": str(card.get("name", "")) or "John Doe", "last_digits": number[-4:],
            "brand": "VISA" if number[0] == "4" else "MASTERCARD", "type": "CREDIT",
        }}  # fmt: skip
        self._pay(order, code=DECLINING_NAMES.get(str(card.get("name", ""))))

    def _pay(self, order: Json, *, code: str | None = None) -> None:
        unit = order["purchase_units"][0]
        order["status"], order["update_time"] = "COMPLETED", self.store.time()
        if order["intent"] == "CAPTURE":
            made = self.payments.new_capture(order, order["_amount"], declined=code)
            unit["payments"] = {"captures": [made]}
        else:
            made = self.payments.new_authorization(order, declined=code)
            unit["payments"] = {"authorizations": [made]}
        if made["status"] not in ("DECLINED", "DENIED"):
            self.store.tell("CHECKOUT.ORDER.COMPLETED", "checkout-order", self.full(order), "Checkout Order Completed")

    def get(self, call: Call) -> Answer:
        return Answer(200, self.full(find(self.store.orders, call.path["id"])))

    def approve(self, id: str) -> Json:
        """The payer has approved. Raises LookupError, ValueError."""
        order = self.store.orders.get(id)
        if order is None:
            raise LookupError(f"there is no order {id}")
        if order["status"] not in ("CREATED", "PAYER_ACTION_REQUIRED"):
            raise ValueError(f"order {id} is {order['status']}: only a new one can be approved")
        payer = {
            "name": {"given_name": "Pat", "surname": "Payer"}, "email_address": "payer@example.com",
            "payer_id": self.store.chance.payer_id(), "address": {"country_code": "US"},
        }  # fmt: skip
        wallet = {
            "email_address": payer["email_address"],
            "account_id": payer["payer_id"],
            "account_status": "VERIFIED",
        }
        order |= {"status": "APPROVED", "payer": payer, "payment_source": {"paypal": wallet}}
        self.store.tell("CHECKOUT.ORDER.APPROVED", "checkout-order", self.full(order), "An order has been approved")
        return self.full(order)

    def capture(self, call: Call) -> Answer:
        order = find(self.store.orders, call.path["id"])
        if order["intent"] != "CAPTURE":
            raise refused(422, "ACTION_DOES_NOT_MATCH_INTENT")
        if order["status"] == "COMPLETED":
            raise refused(422, "ORDER_ALREADY_CAPTURED")
        self._check_approved(order, call, " or provide a valid `payment_source` in the request.")
        self._pay(order)
        return self.shown(call, order, 201)

    def authorize(self, call: Call) -> Answer:
        order = find(self.store.orders, call.path["id"])
        if order["intent"] != "AUTHORIZE":
            raise refused(422, "ACTION_DOES_NOT_MATCH_INTENT")
        if order["status"] == "COMPLETED":
            raise refused(422, "ORDER_ALREADY_AUTHORIZED")
        self._check_approved(order, call, ".")
        self._pay(order)
        return self.shown(call, order, 201)

    def _check_approved(self, order: Json, call: Call, ending: str) -> None:
        if order["status"] != "APPROVED":
            raise refused(422, "ORDER_NOT_APPROVED", said=NOT_APPROVED + ending)
        refuse_if_asked(call)

    def full(self, order: Json) -> Json:
        """The order as its representation, with what may be done next."""
        store, path = self.store, f"/v2/checkout/orders/{order['id']}"
        links = [store.link(path, "self")]
        act = "capture" if order["intent"] == "CAPTURE" else "authorize"
        match order["status"]:
            case "CREATED":
                links += [store.link(f"/checkoutnow?token={order['id']}", "approve")]
                links += [store.link(path, "update", "PATCH"), store.link(f"{path}/{act}", act, "POST")]
            case "PAYER_ACTION_REQUIRED":
                links.append(store.link(f"/checkoutnow?token={order['id']}", "payer-action"))
            case "APPROVED":
                links += [store.link(path, "update", "PATCH"), store.link(f"{path}/{act}", act, "POST")]
        unit = dict(order["purchase_units"][0])
        if "payments" in unit:
            unit["payments"] = {
                kind: [self.payments.shown(one, inside=True) for one in made] for kind, made in unit["payments"].items()
            }
        return shown(order) | {"purchase_units": [unit], "links": links}

    def shown(self, call: Call, order: Json, status: int) -> Answer:
        """All of it with `Prefer: return=representation`; else what is minimal, with the payments."""
        full = self.full(order)
        if "representation" in (call.header("prefer") or ""):
            return Answer(status, full)
        short: Json = {
            name: full[name] for name in ("id", "status", "payment_source", "payer", "links") if name in full
        }
        unit = full["purchase_units"][0]
        if "payments" in unit:
            short["purchase_units"] = [{"reference_id": unit["reference_id"], "payments": unit["payments"]}]
        return Answer(status, short)


def _return_url(body: Json) -> str | None:
    for place in (
        body.get("payment_source", {}).get("paypal", {}).get("experience_context"),
        body.get("application_context"),
    ):
        if isinstance(place, dict) and isinstance(place.get("return_url"), str):
            return str(place["return_url"])
    return None
