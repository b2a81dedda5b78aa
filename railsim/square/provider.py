"""Square as a whole: access token, idempotency keys in bodies, signatures."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import timedelta

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.idempotency import Keys
from railsim.money import Terms
from railsim.provider import Provider, World
from railsim.square.payments import Payments
from railsim.square.saved import Saved
from railsim.square.settlement import Disputes, Settlement
from railsim.square.store import Store, error, refused

KEYED = ("/v2/payments", "/v2/refunds", "/v2/cards", "/v2/customers", "/v2/payments/{id}")
KEY_REQUIRED = ("/v2/payments", "/v2/refunds", "/v2/cards", "/v2/payments/{id}")
KEY_LENGTH_MAX = {"/v2/payments": 45, "/v2/payments/{id}": 45}


class Square(Provider):
    """Idempotency by `idempotency_key` in the body: the same body gets the first answer again, declines too; another
    body is refused with `IDEMPOTENCY_KEY_REUSED`. Keys don't expire."""

    name = "square"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.terms = Terms(basis_points=290, fixed=30, dispute_fee=0, dispute_fee_returned=True, settle_days=1)
        self.access_token = f"EAAAl{self.chance.letters(59)}"
        self.signature_key = self.chance.letters(22)
        self.keys = Keys(world.timeline, timedelta(days=36_500))
        self.store = Store(world, self.terms)
        self.saved = Saved(self.store)
        self.payments = Payments(self.store, self.saved)
        self.disputes = Disputes(self.store)
        self.settlement = Settlement(self.store)

    def operations(self) -> Sequence[Operation]:
        return [
            one for part in (self.payments, self.disputes, self.settlement, self.saved) for one in part.operations()
        ]

    def parse(self, call: Call) -> None:
        if not call.raw:
            return
        try:
            body = json.loads(call.raw)
        except ValueError as bad:
            raise refused(400, "EXPECTED_JSON_BODY", "The request body is not valid JSON.") from bad
        if not isinstance(body, dict):
            raise refused(400, "EXPECTED_OBJECT", "Expected an object value.")
        call.body = body

    def answer(self, call: Call, operation: Operation) -> Answer:
        kind, _, token = (call.header("authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token.encode(), self.access_token.encode()):
            return refused(401, "UNAUTHORIZED", "This request could not be authorized.").answer
        try:
            self.parse(call)
            key = self._key(call, operation)
        except Refused as refusal:
            return refusal.answer
        if key is None:
            return self._do(call, operation)[0]
        known = self.keys.find(key)
        if known is not None:
            if known.fingerprint != _fingerprint(call):
                detail = "Different request parameters used for the same idempotency_key."
                return refused(400, "IDEMPOTENCY_KEY_REUSED", detail, field="idempotency_key").answer
            return known.answer
        given, remembered = self._do(call, operation)
        if remembered:
            self.keys.keep_as(key, _fingerprint(call), given)
        return given

    def _do(self, call: Call, operation: Operation) -> tuple[Answer, bool]:
        try:
            return operation.handler(call).copied(), True
        except Refused as refusal:
            return refusal.answer.copied(), refusal.remembered

    def _key(self, call: Call, operation: Operation) -> str | None:
        if call.method not in ("POST", "PUT") or operation.path not in KEYED:
            return None
        key = call.body.get("idempotency_key")
        if key is None and operation.path not in KEY_REQUIRED:
            return None
        if not isinstance(key, str) or not key:
            raise refused(400, "MISSING_REQUIRED_PARAMETER", "Field must be set", field="idempotency_key")
        most = KEY_LENGTH_MAX.get(operation.path, 192)
        if len(key) > most:
            detail = f"Field must not be greater than {most} in length"
            raise refused(400, "VALUE_TOO_LONG", detail, field="idempotency_key")
        return f"{operation.path}\0{key}"

    def failure(self, call: Call, status: int) -> Answer:
        match status:
            case 404:
                said = error("NOT_FOUND", "API endpoint for URL path and HTTP method is not found.")
            case 429:
                said = error("RATE_LIMITED", "Too many requests.")
            case _:
                said = error("INTERNAL_SERVER_ERROR", "An internal error has occurred.")
        return Answer(status, {"errors": [said]})

    def secrets(self) -> Json:
        return {
            "access_token": self.access_token, "location_id": self.store.location, "merchant_id": self.store.merchant,
            "webhook_signature_key": self.signature_key,
        }  # fmt: skip

    def sign(self, body: bytes, url: str, *, badly: bool) -> dict[str, str]:
        """HMAC-SHA256 over the notification URL and the body."""
        key = self.signature_key + ("x" if badly else "")
        made = hmac.new(key.encode(), url.encode() + body, hashlib.sha256).digest()
        return {"x-square-hmacsha256-signature": base64.b64encode(made).decode()}

    def open_dispute(self, payment: str, *, amount: int | None, reason: str | None) -> Json:
        return self.disputes.open(payment, amount, reason)

    def end_dispute(self, dispute: str, *, won: bool) -> Json:
        return self.disputes.decide(dispute, won=won)

    def settle(self, *, everything: bool) -> Json | None:
        return self.settlement.settle(everything=everything)


def _fingerprint(call: Call) -> str:
    """The body as it means, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(call.body, sort_keys=True).encode()).hexdigest()
