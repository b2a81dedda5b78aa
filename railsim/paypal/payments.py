"""PayPal's Payments v2: captures, authorizations, refunds."""

from railsim.calls import Answer, Call, Json, Operation
from railsim.paypal.errors import refuse_if_asked, refused
from railsim.paypal.store import Store, amount_of, find, money, shown
from railsim.switches import Event

DAY = 86_400
AUTHORIZATION_DAYS = 29
OVERAGE_PERCENT, OVERAGE_MAX = 115, 7_500
"""All captures of an authorization together: 115% of it, at most 75.00 more."""

PENDING_DAYS = 3


class Payments:
    """What orders make, and what becomes of it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v2/payments/captures/{id}", self.get_capture),
            Operation("POST", "/v2/payments/captures/{id}/refund", self.refund),
            Operation("GET", "/v2/payments/authorizations/{id}", self.get_authorization),
            Operation("POST", "/v2/payments/authorizations/{id}/capture", self.capture_authorization),
            Operation("POST", "/v2/payments/authorizations/{id}/void", self.void),
            Operation("GET", "/v2/payments/refunds/{id}", self.get_refund),
        ]

    # captures

    def new_capture(
        self, order: Json, amount: int, *, declined: str | None = None, final: bool = True,
        authorization: str | None = None,
    ) -> Json:  # fmt: skip
        store, currency = self.store, order["_currency"]
        fee = store.terms.fee(amount)
        made: Json = {
            "id": store.new(), "status": "COMPLETED", "amount": money(amount, currency), "final_capture": final,
            "disbursement_mode": "INSTANT", "create_time": store.time(), "update_time": store.time(),
            "seller_protection": {
                "status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"],
            },
            "seller_receivable_breakdown": {
                "gross_amount": money(amount, currency), "paypal_fee": money(fee, currency),
                "net_amount": money(amount - fee, currency),
            },
            "_amount": amount, "_currency": currency, "_refunded": 0, "_order": order["id"],
            "_authorization": authorization, "_disputed": False,
        }  # fmt: skip
        unit = order["purchase_units"][0]
        made |= {name: unit[name] for name in ("custom_id", "invoice_id") if name in unit}
        switch = None if declined else store.planned(Event.CHARGE)
        store.captures[made["id"]] = made
        if declined is not None:
            made |= {"status": "DECLINED", "processor_response": {"response_code": declined}}
            del made["seller_receivable_breakdown"]
            self._tell("PAYMENT.CAPTURE.DECLINED", "capture", made, "A payment capture was declined")
        elif switch is not None:
            made |= {"status": "PENDING", "status_details": {"reason": "PENDING_REVIEW"}}
            self._tell("PAYMENT.CAPTURE.PENDING", "capture", made, "Payment pending")
            store.timeline.after(switch.seconds or PENDING_DAYS * DAY, lambda: self._complete(made))
        else:
            self._tell_completed(made)
        return made

    def _complete(self, made: Json) -> None:
        if made["status"] == "PENDING":
            made["status"], made["update_time"] = "COMPLETED", self.store.time()
            del made["status_details"]
            self._tell_completed(made)

    def _tell_completed(self, made: Json) -> None:
        summary = f"Payment completed for {made['amount']['value']} {made['amount']['currency_code']}"
        self._tell("PAYMENT.CAPTURE.COMPLETED", "capture", made, summary)

    def get_capture(self, call: Call) -> Answer:
        return Answer(200, self.shown(find(self.store.captures, call.path["id"])))

    # authorizations

    def new_authorization(self, order: Json, *, declined: str | None = None) -> Json:
        store, amount, currency = self.store, order["_amount"], order["_currency"]
        made: Json = {
            "id": store.new(), "status": "CREATED", "amount": money(amount, currency), "create_time": store.time(),
            "update_time": store.time(), "expiration_time": store.time(seconds=AUTHORIZATION_DAYS * DAY),
            "seller_protection": {
                "status": "ELIGIBLE", "dispute_categories": ["ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"],
            },
            "_amount": amount, "_currency": currency, "_captured": 0, "_order": order["id"],
            "_until": store.timeline.seconds() + AUTHORIZATION_DAYS * DAY,
        }  # fmt: skip
        unit = order["purchase_units"][0]
        made |= {name: unit[name] for name in ("custom_id", "invoice_id") if name in unit}
        store.authorizations[made["id"]] = made
        if declined is not None:
            made |= {"status": "DENIED", "_processor": declined}
            self._tell("PAYMENT.AUTHORIZATION.DENIED", "authorization", made, "A payment authorization was denied")
        else:
            store.timeline.after(AUTHORIZATION_DAYS * DAY, lambda: self._expire(made))
            self._tell("PAYMENT.AUTHORIZATION.CREATED", "authorization", made, "A payment authorization was created")
        return made

    def _expire(self, made: Json) -> None:
        if made["status"] in ("CREATED", "PENDING"):
            made["status"], made["update_time"] = "VOIDED", self.store.time()
            self._tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", made, "A payment authorization was voided")

    def get_authorization(self, call: Call) -> Answer:
        return Answer(200, self.shown(find(self.store.authorizations, call.path["id"])))

    def capture_authorization(self, call: Call) -> Answer:
        made = find(self.store.authorizations, call.path["id"])
        given = call.body.get("amount")
        left = made["_amount"] - made["_captured"]
        amount, currency = amount_of(given, "/amount") if given is not None else (left, made["_currency"])
        limit = made["_amount"] + min(made["_amount"] * (OVERAGE_PERCENT - 100) // 100, OVERAGE_MAX)
        if self.store.timeline.seconds() >= made["_until"]:
            raise refused(422, "AUTHORIZATION_EXPIRED")
        if made["status"] in ("VOIDED", "DENIED"):
            raise refused(422, "AUTHORIZATION_VOIDED")
        if made["status"] == "CAPTURED":
            raise refused(422, "AUTHORIZATION_ALREADY_CAPTURED")
        if currency != made["_currency"]:
            raise refused(422, "AUTH_CAPTURE_CURRENCY_MISMATCH", field="/amount/currency_code")
        if amount <= 0 or made["_captured"] + amount > limit:
            raise refused(422, "MAX_CAPTURE_AMOUNT_EXCEEDED", field="/amount/value")
        refuse_if_asked(call)
        final = bool(call.body.get("final_capture", False))
        order = self.store.orders[made["_order"]]
        made["_captured"] += amount
        whole = final or made["_captured"] >= made["_amount"]
        made |= {"status": "CAPTURED" if whole else "PARTIALLY_CAPTURED", "update_time": self.store.time()}
        capture = self.new_capture(order, amount, final=final, authorization=made["id"])
        order["purchase_units"][0]["payments"].setdefault("captures", []).append(capture)
        return self.minimal(call, capture, 201)

    def void(self, call: Call) -> Answer:
        made = find(self.store.authorizations, call.path["id"])
        if made["status"] == "VOIDED":
            raise refused(422, "PREVIOUSLY_VOIDED")
        if made["status"] in ("CAPTURED", "PARTIALLY_CAPTURED"):
            raise refused(422, "PREVIOUSLY_CAPTURED")
        made |= {"status": "VOIDED", "update_time": self.store.time()}
        self._tell("PAYMENT.AUTHORIZATION.VOIDED", "authorization", made, "A payment authorization was voided")
        if "representation" in (call.header("prefer") or ""):
            return Answer(200, self.shown(made))
        return Answer(204)

    # refunds

    def refund(self, call: Call) -> Answer:
        capture = find(self.store.captures, call.path["id"])
        given, left = call.body.get("amount"), capture["_amount"] - capture["_refunded"]
        amount, currency = amount_of(given, "/amount") if given is not None else (left, capture["_currency"])
        if capture["_disputed"]:
            raise refused(422, "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK")
        if capture["status"] == "REFUNDED":
            raise refused(422, "CAPTURE_FULLY_REFUNDED")
        if capture["status"] == "PENDING":
            raise refused(422, "PENDING_CAPTURE")
        if capture["status"] not in ("COMPLETED", "PARTIALLY_REFUNDED"):
            raise refused(422, "REFUND_NOT_ALLOWED")
        if currency != capture["_currency"]:
            raise refused(422, "REFUND_CAPTURE_CURRENCY_MISMATCH", field="/amount/currency_code")
        if amount > left:
            raise refused(422, "REFUND_AMOUNT_EXCEEDED", field="/amount/value")
        refuse_if_asked(call)
        return self.minimal(call, self._new_refund(capture, amount, call.body), 201)

    def _new_refund(self, capture: Json, amount: int, body: Json) -> Json:
        store, currency = self.store, capture["_currency"]
        made: Json = {
            "id": store.new(), "status": "COMPLETED", "amount": money(amount, currency), "create_time": store.time(),
            "update_time": store.time(),
            "seller_payable_breakdown": {
                "gross_amount": money(amount, currency), "paypal_fee": money(0, currency),
                "net_amount": money(amount, currency),
                "total_refunded_amount": money(capture["_refunded"] + amount, currency),
            },
            "_amount": amount, "_currency": currency, "_capture": capture["id"],
        }  # fmt: skip
        made |= {name: body[name] for name in ("invoice_id", "custom_id", "note_to_payer") if name in body}
        store.refunds[made["id"]] = made
        store.orders[capture["_order"]]["purchase_units"][0]["payments"].setdefault("refunds", []).append(made)
        self._count_refunded(capture, amount)
        switch = store.planned(Event.REFUND)
        if switch is not None:
            made |= {"status": "PENDING", "status_details": {"reason": "ECHECK"}}
            end = self._fail_refund if switch.outcome == "failed" else self._complete_refund
            if switch.outcome == "failed" or switch.seconds:
                store.timeline.after(switch.seconds or PENDING_DAYS * DAY, lambda: end(made))
            self._tell("PAYMENT.REFUND.PENDING", "refund", made, "A refund is pending")
        else:
            self._tell(
                "PAYMENT.CAPTURE.REFUNDED", "refund", made, f"A {amount_text(made)} capture payment was refunded"
            )
        return made

    def _count_refunded(self, capture: Json, amount: int) -> None:
        capture["_refunded"] += amount
        whole, none = capture["_refunded"] >= capture["_amount"], capture["_refunded"] == 0
        capture["status"] = "REFUNDED" if whole else "COMPLETED" if none else "PARTIALLY_REFUNDED"
        capture["update_time"] = self.store.time()

    def _complete_refund(self, made: Json) -> None:
        if made["status"] == "PENDING":
            made |= {"status": "COMPLETED", "update_time": self.store.time()}
            del made["status_details"]
            self._tell(
                "PAYMENT.CAPTURE.REFUNDED", "refund", made, f"A {amount_text(made)} capture payment was refunded"
            )

    def _fail_refund(self, made: Json) -> None:
        if made["status"] == "PENDING":
            made |= {"status": "FAILED", "update_time": self.store.time()}
            self._count_refunded(self.store.captures[made["_capture"]], -made["_amount"])
            self._tell("PAYMENT.REFUND.FAILED", "refund", made, "A refund failed")

    def get_refund(self, call: Call) -> Answer:
        return Answer(200, self.shown(find(self.store.refunds, call.path["id"])))

    # how they look

    def shown(self, made: Json, *, inside: bool = False) -> Json:
        """A payment; `inside` an order without what only the payment's own resource has."""
        store = self.store
        if made["id"] in store.captures:
            path = f"/v2/payments/captures/{made['id']}"
            links = [store.link(path, "self"), store.link(f"{path}/refund", "refund", "POST")]
            related = {"order_id": made["_order"]}
            if made["_authorization"]:
                related["authorization_id"] = made["_authorization"]
                links.append(store.link(f"/v2/payments/authorizations/{made['_authorization']}", "up"))
            else:
                links.append(store.link(f"/v2/checkout/orders/{made['_order']}", "up"))
        elif made["id"] in store.authorizations:
            path = f"/v2/payments/authorizations/{made['id']}"
            links = [store.link(path, "self"), store.link(f"{path}/capture", "capture", "POST")]
            links += [
                store.link(f"{path}/void", "void", "POST"),
                store.link(f"/v2/checkout/orders/{made['_order']}", "up"),
            ]
            related = {"order_id": made["_order"]}
        else:
            links = [store.link(f"/v2/payments/refunds/{made['id']}", "self")]
            links.append(store.link(f"/v2/payments/captures/{made['_capture']}", "up"))
            return shown(made) | {"links": links}
        extra = {"supplementary_data": {"related_ids": related}, "payee": {"merchant_id": store.merchant}}
        return shown(made) | ({} if inside else extra) | {"links": links}

    def minimal(self, call: Call, made: Json, status: int) -> Answer:
        full = self.shown(made)
        if "representation" in (call.header("prefer") or ""):
            return Answer(status, full)
        return Answer(
            status, {name: full[name] for name in ("id", "status", "status_details", "links") if name in full}
        )

    def _tell(self, type: str, kind: str, made: Json, summary: str) -> None:
        self.store.tell(type, kind, self.shown(made), summary)


def amount_text(made: Json) -> str:
    return f"{made['amount']['value']} {made['amount']['currency_code']}"
