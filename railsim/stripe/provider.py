"""Stripe as a whole: keys, forms, idempotency, events, signatures."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import timedelta

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.idempotency import Keys, fingerprint
from railsim.money import Terms
from railsim.provider import Provider, World
from railsim.stripe.disputes import Disputes
from railsim.stripe.forms import parse_form
from railsim.stripe.payments import Payments
from railsim.stripe.refunds import Refunds
from railsim.stripe.saved import Saved
from railsim.stripe.settlement import Settlement
from railsim.stripe.store import Store

KEYS_LIVE = timedelta(hours=24)
"""At least how long Stripe keeps idempotency keys of API v1 (docs.stripe.com/api/idempotent_requests)."""


class Stripe(Provider):
    """Idempotency as documented: POSTs only; same key with other parameters is a 400; an answer is remembered once
    the work began (a 500 or a decline too, a refused parameter not); a replay is marked `Idempotent-Replayed`."""

    name = "stripe"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.terms = Terms(basis_points=290, fixed=30, dispute_fee=1_500, dispute_fee_returned=False)
        self.api_key = f"sk_test_{self.chance.letters(24)}"
        self.webhook_secret = f"whsec_{self.chance.letters(32)}"
        self.keys = Keys(world.timeline, KEYS_LIVE)
        self.store = Store(world, self.terms)
        self.disputes = Disputes(self.store)
        self.saved = Saved(self.store)
        self.payments = Payments(self.store, self.saved, self.disputes)
        self.refunds = Refunds(self.store)
        self.settlement = Settlement(self.store)

    def operations(self) -> Sequence[Operation]:
        parts = (self.payments, self.refunds, self.disputes, self.settlement, self.saved)
        return [
            *(one for part in parts for one in part.operations()),
            Operation("GET", "/v1/events", self.list_events),
            Operation("GET", "/v1/events/{id}", lambda call: Answer(200, self.store.get("evt", call.path["id"]))),
        ]

    def list_events(self, call: Call) -> Answer:
        wanted = call.query.get("types") or ([call.query["type"]] if "type" in call.query else None)
        found = (one for one in self.store.tables["evt"].values() if wanted is None or one["type"] in wanted)
        return self.store.listed(call, found, url="/v1/events")

    def parse(self, call: Call) -> None:
        call.body = parse_form(call.raw.decode("utf-8", "replace"))

    def parse_query(self, text: str) -> Json:
        return parse_form(text)

    def answer(self, call: Call, operation: Operation) -> Answer:
        request = f"req_{self.chance.letters(14)}"
        key = call.header("idempotency-key") if call.method == "POST" else None
        marks = {
            "request-id": request,
            "stripe-version": call.header("stripe-version") or "",
            "stripe-should-retry": "false",
        }
        if key is not None:
            marks["idempotency-key"] = key
        if not self._knows(call.header("authorization")):
            return error(401, "invalid_request_error", "Invalid API Key provided.").copied(**marks)
        known = self.keys.find(key) if key is not None else None
        if known is not None:
            if known.fingerprint != fingerprint(call):
                return error(
                    400, "idempotency_error",
                    f"Keys for idempotent requests can only be used with the same parameters they were first used with."
                    f" Try using a key other than '{key}' if you meant to execute a different request.",
                ).copied(**marks)  # fmt: skip
            return known.answer.copied(**{"idempotent-replayed": "true", "request-id": request})
        return self._do(call, operation, key, request, marks)

    def _do(self, call: Call, operation: Operation, key: str | None, request: str, marks: dict[str, str]) -> Answer:
        self.store.request = {"id": request, "idempotency_key": key}
        try:
            self.parse(call)
            asked = call.query.get("expand") or call.body.get("expand") or []
            given = self.store.expanded(operation.handler(call), list(asked)).copied(**marks)
            remembered = True
        except Refused as refused:
            given, remembered = refused.answer.copied(**marks), refused.remembered
        finally:
            self.store.request = {"id": None, "idempotency_key": None}
        if key is not None and remembered:
            self.keys.keep(key, call, given)
        return given

    def _knows(self, authorization: str | None) -> bool:
        kind, _, rest = (authorization or "").partition(" ")
        if kind.lower() == "basic":
            try:
                rest = base64.b64decode(rest).decode().partition(":")[0]
            except ValueError:
                return False
        return hmac.compare_digest(rest.encode(), self.api_key.encode())

    def failure(self, call: Call, status: int) -> Answer:
        marks = {"request-id": f"req_{self.chance.letters(14)}"}
        match status:
            case 404:
                said = f"Unrecognized request URL ({call.method}: {call.target})."
                return error(404, "invalid_request_error", said).copied(**marks)
            case 429:
                return error(429, "invalid_request_error", "Too many requests.", code="rate_limit").copied(**marks)
            case _:
                return error(status, "api_error", "An unexpected error occurred.").copied(**marks)

    def secrets(self) -> Json:
        return {"api_key": self.api_key, "webhook_secret": self.webhook_secret}

    def sign(self, body: bytes, url: str, *, badly: bool) -> dict[str, str]:
        """`Stripe-Signature`: HMAC-SHA256 over `t.body`, scheme v1 (docs.stripe.com/webhooks#verify-manually)."""
        at = self.timeline.seconds()
        secret = self.webhook_secret + ("x" if badly else "")
        v1 = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return {"stripe-signature": f"t={at},v1={v1}"}

    def open_dispute(self, payment: str, *, amount: int | None, reason: str | None) -> Json:
        charges = self.store.tables["ch"]
        intent = self.store.tables["pi"].get(payment)
        charge = charges.get(str(intent["latest_charge"]) if intent else payment)
        if charge is None:
            raise LookupError(f"there is no payment {payment}")
        whole = charge["amount_captured"] - charge["amount_refunded"]
        return self.disputes.open(charge, whole if amount is None else amount, reason or "fraudulent")

    def end_dispute(self, dispute: str, *, won: bool) -> Json:
        if dispute not in self.store.tables["du"]:
            raise LookupError(f"there is no dispute {dispute}")
        return self.disputes.end(self.store.tables["du"][dispute], won=won)

    def customer_acts(self) -> dict[str, Callable[[str], Json]]:
        return {"authenticate": self.payments.authenticate}

    def settle(self, *, everything: bool) -> Json | None:
        made = self.settlement.settle(everything=everything)
        return {"payouts": [one["id"] for one in made]} if made else None


def error(status: int, type: str, message: str, *, code: str | None = None) -> Answer:
    return Answer(status, {"error": {"type": type, "message": message} | ({"code": code} if code else {})})
