"""Square's payments and refunds: paid at once or completed later, refunds that end later."""

import re

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.square.saved import Saved
from railsim.square.store import Store, amount_of, error, find, money, refused, shown
from railsim.switches import Event

DAY = 86_400
DELAY_DAYS = 7
"""Until what isn't completed is cancelled, for cards that weren't present."""

REFUND_SECONDS = 60
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


class Payments:
    """Payments by card, and their refunds."""

    def __init__(self, store: Store, saved: Saved) -> None:
        self.store, self.saved = store, saved

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v2/payments", self.create),
            Operation("GET", "/v2/payments", self.listed),
            Operation("POST", "/v2/payments/cancel", self.cancel_by_key),
            Operation("GET", "/v2/payments/{id}", self.get),
            Operation("PUT", "/v2/payments/{id}", self.update),
            Operation("POST", "/v2/payments/{id}/complete", self.complete),
            Operation("POST", "/v2/payments/{id}/cancel", self.cancel),
            Operation("POST", "/v2/refunds", self.refund),
            Operation("GET", "/v2/refunds", self.list_refunds),
            Operation("GET", "/v2/refunds/{id}", self.get_refund),
        ]

    def create(self, call: Call) -> Answer:
        store, body = self.store, call.body
        amount = amount_of(body, "amount_money")
        assert amount is not None
        location = body.get("location_id", store.location)
        if location != store.location:
            raise refused(404, "NOT_FOUND", f"Location `{location}` not found", field="location_id")
        owner = body.get("customer_id")
        if owner is not None:
            find(store.customers, owner, "customer")
        source = self.saved.source(body.get("source_id"), "source_id")
        autocomplete, action = body.get("autocomplete", True), body.get("delay_action", "CANCEL")
        if action not in ("CANCEL", "COMPLETE"):
            raise refused(400, "INVALID_ENUM_VALUE", "delay_action is CANCEL or COMPLETE.", field="delay_action")
        delay = _seconds(body.get("delay_duration"))
        made: Json = {
            "id": store.chance.letters(36), "created_at": store.time(), "updated_at": store.time(),
            "amount_money": money(amount), "status": "APPROVED", "delay_duration": f"PT{delay // 3600}H",
            "source_type": "CARD", "location_id": location, "order_id": store.chance.letters(26),
            "total_money": money(amount), "approved_money": money(amount), "delay_action": action,
            "delayed_until": store.time(seconds=delay), "version_token": store.chance.letters(44),
            "capabilities": ["EDIT_AMOUNT_UP", "EDIT_AMOUNT_DOWN"],
            "application_details": {"square_product": "ECOMMERCE_API", "application_id": "sandbox-railsim"},
            "card_details": {
                "status": "AUTHORIZED", "entry_method": "KEYED", "cvv_status": "CVV_ACCEPTED",
                "avs_status": "AVS_ACCEPTED", "auth_result_code": store.chance.capitals(6),
                "statement_description": "SQ *ONEBOOK",
                "card": {
                    "card_brand": source.brand, "last_4": source.last_4, "exp_month": 12, "exp_year": 2034,
                    "card_type": "CREDIT", "prepaid_type": "NOT_PREPAID", "bin": "453275",
                    "fingerprint": f"sq-1-{source.last_4}",
                },
                "card_payment_timeline": {"authorized_at": store.time()},
            },
            "_refunded": 0, "_amount": amount, "_disputed": False, "_key": body.get("idempotency_key"),
        }  # fmt: skip
        made |= {
            name: body[name] for name in ("customer_id", "reference_id", "note", "buyer_email_address") if name in body
        }
        store.payments[made["id"]] = made
        if source.code is not None:
            self._fail(made, source.code, source.detail)
        store.tell("payment.created", "payment", made)
        if autocomplete:
            self._complete(made)
        else:
            store.timeline.after(delay, lambda: self._delayed(made))
        return Answer(200, {"payment": shown(made)})

    def _fail(self, made: Json, code: str, detail: str) -> None:
        """A declined payment exists, FAILED, and the answer is an error that shows it."""
        said = error(code, detail)
        made["card_details"] |= {"status": "FAILED", "errors": [said]}
        made["card_details"]["card_payment_timeline"] = {}
        made |= {"status": "FAILED", "capabilities": [], "approved_money": money(0)}
        self.store.tell("payment.created", "payment", made)
        raise Refused(Answer(400, {"errors": [said], "payment": shown(made)}), remembered=True)

    def _complete(self, made: Json) -> None:
        store = self.store
        fee = store.terms.fee(made["_amount"])
        made |= {
            "status": "COMPLETED", "receipt_number": made["id"][:4],
            "processing_fee": [{"effective_at": store.time(), "type": "INITIAL", "amount_money": money(fee)}],
        }  # fmt: skip
        made["card_details"]["status"] = "CAPTURED"
        made["card_details"]["card_payment_timeline"]["captured_at"] = store.time()
        self._changed(made)
        store.book(
            type="CHARGE", gross=made["_amount"], fee=fee, details={"payment_id": made["id"]},
            field="type_charge_details", days=store.terms.settle_days,
        )  # fmt: skip

    def _changed(self, made: Json) -> None:
        self.store.touch(made)
        made["version_token"] = self.store.chance.letters(44)
        self.store.tell("payment.updated", "payment", made)

    def _delayed(self, made: Json) -> None:
        if made["status"] == "APPROVED":
            (self._complete if made["delay_action"] == "COMPLETE" else self._cancel)(made)

    def get(self, call: Call) -> Answer:
        return Answer(200, {"payment": shown(find(self.store.payments, call.path["id"], "payment"))})

    def listed(self, call: Call) -> Answer:
        begin, end = call.query.get("begin_time", ""), call.query.get("end_time", "9")
        found = [one for one in self.store.payments.values() if begin <= one["created_at"] < end]
        return self.store.listed(call, found, field="payments")

    def update(self, call: Call) -> Answer:
        """Another amount for what isn't completed yet: never more than was approved."""
        made = find(self.store.payments, call.path["id"], "payment")
        told = call.body.get("payment")
        if not isinstance(told, dict):
            raise refused(400, "MISSING_REQUIRED_PARAMETER", "Field must be set", field="payment")
        self._check_version(made, told)
        self._check_approved(made)
        amount = amount_of(told, "amount_money")
        assert amount is not None
        if amount > made["approved_money"]["amount"]:
            raise refused(400, "AMOUNT_TOO_HIGH", "The amount is more than was approved.", field="payment.amount_money")
        made |= {"amount_money": money(amount), "total_money": money(amount), "_amount": amount}
        self._changed(made)
        return Answer(200, {"payment": shown(made)})

    def complete(self, call: Call) -> Answer:
        made = find(self.store.payments, call.path["id"], "payment")
        self._check_version(made, call.body)
        self._check_approved(made)
        self._complete(made)
        return Answer(200, {"payment": shown(made)})

    def cancel(self, call: Call) -> Answer:
        made = find(self.store.payments, call.path["id"], "payment")
        self._check_approved(made)
        self._cancel(made)
        return Answer(200, {"payment": shown(made)})

    def cancel_by_key(self, call: Call) -> Answer:
        """Cancel what an idempotency key made, if it made anything: for callers that got no answer."""
        key = call.body.get("idempotency_key")
        for made in self.store.payments.values():
            if key is not None and made["_key"] == key and made["status"] == "APPROVED":
                self._cancel(made)
        return Answer(200, {})

    def _check_version(self, made: Json, told: Json) -> None:
        token = told.get("version_token")
        if token is not None and token != made["version_token"]:
            raise refused(409, "CONFLICT", "The version token doesn't match the payment's.", field="version_token")

    def _check_approved(self, made: Json) -> None:
        if made["status"] != "APPROVED":
            detail = f"Payment {made['id']} is in a terminal state {made['status']}, not APPROVED."
            raise refused(400, "BAD_REQUEST", detail)

    def _cancel(self, made: Json) -> None:
        made |= {"status": "CANCELED", "approved_money": money(0), "capabilities": []}
        made["card_details"]["status"] = "VOIDED"
        made["card_details"]["card_payment_timeline"]["voided_at"] = self.store.time()
        self._changed(made)

    # refunds

    def refund(self, call: Call) -> Answer:
        store, body = self.store, call.body
        amount = amount_of(body, "amount_money")
        assert amount is not None
        if not isinstance(body.get("payment_id"), str):
            raise refused(400, "MISSING_REQUIRED_PARAMETER", "Field must be set", field="payment_id")
        payment = find(store.payments, body["payment_id"], "payment")
        left = payment["_amount"] - payment["_refunded"]
        if payment["status"] == "APPROVED":
            raise refused(400, "REFUND_ERROR_PAYMENT_NEEDS_COMPLETION", "The payment must be completed first.")
        if payment["status"] != "COMPLETED":
            raise refused(400, "PAYMENT_NOT_REFUNDABLE", f"A payment that is {payment['status']} can't be refunded.")
        if payment["_disputed"]:
            raise refused(400, "PAYMENT_NOT_REFUNDABLE_DUE_TO_DISPUTE", "The payment is disputed.")
        if amount > left:
            detail = f"The requested refund amount exceeds the amount available to refund ({left})."
            raise refused(400, "REFUND_AMOUNT_INVALID", detail, field="amount_money.amount")
        made: Json = {
            "id": f"{payment['id']}_{store.chance.letters(43)}", "status": "PENDING", "amount_money": money(amount),
            "payment_id": payment["id"], "order_id": store.chance.letters(26), "created_at": store.time(),
            "updated_at": store.time(), "location_id": store.location, "destination_type": "CARD", "_amount": amount,
        } | {name: body[name] for name in ("reason",) if name in body}  # fmt: skip
        payment["_refunded"] += amount
        payment.setdefault("refund_ids", []).append(made["id"])
        payment["refunded_money"] = money(payment["_refunded"])
        self._changed(payment)
        store.refunds[made["id"]] = made
        made["_entry"] = store.book(
            type="REFUND", gross=-amount, fee=0, field="type_refund_details",
            details={"payment_id": payment["id"], "refund_id": made["id"]},
        )  # fmt: skip
        store.tell("refund.created", "refund", made)
        switch = store.planned(Event.REFUND)
        outcome, seconds = (switch.outcome, switch.seconds) if switch else ("", 0)
        if outcome == "failed":
            store.timeline.after(seconds or REFUND_SECONDS, lambda: self._fail_refund(made, payment))
        elif outcome != "pending" or seconds:
            store.timeline.after(seconds or REFUND_SECONDS, lambda: self._complete_refund(made))
        return Answer(200, {"refund": shown(made)})

    def _complete_refund(self, made: Json) -> None:
        made["status"] = "COMPLETED"
        self.store.touch(made)
        self.store.tell("refund.updated", "refund", made)

    def _fail_refund(self, made: Json, payment: Json) -> None:
        """The money comes back to the balance, and may be refunded again."""
        made["status"] = "FAILED"
        self.store.touch(made)
        payment["_refunded"] -= made["_amount"]
        payment["refunded_money"] = money(payment["_refunded"])
        self._changed(payment)
        self.store.book(
            type="ADJUSTMENT", gross=made["_amount"], fee=0, field="type_refund_details",
            details={"payment_id": payment["id"], "refund_id": made["id"]},
        )  # fmt: skip
        self.store.tell("refund.updated", "refund", made)

    def get_refund(self, call: Call) -> Answer:
        return Answer(200, {"refund": shown(find(self.store.refunds, call.path["id"], "refund"))})

    def list_refunds(self, call: Call) -> Answer:
        status = call.query.get("status")
        begin, end = call.query.get("begin_time", ""), call.query.get("end_time", "9")
        found = [
            one for one in self.store.refunds.values()
            if status in (None, one["status"]) and begin <= one["created_at"] < end
        ]  # fmt: skip
        return self.store.listed(call, found, field="refunds")


def _seconds(duration: object) -> int:
    """Seconds of an RFC 3339 duration such as `P3D` or `PT36H`; of none, Square's default."""
    if duration is None:
        return DELAY_DAYS * DAY
    matched = _DURATION.fullmatch(str(duration))
    parts = [int(part or 0) for part in matched.groups()] if matched else []
    if not any(parts):
        raise refused(400, "INVALID_VALUE", "delay_duration is a duration such as PT36H.", field="delay_duration")
    return parts[0] * DAY + parts[1] * 3_600 + parts[2] * 60 + parts[3]
