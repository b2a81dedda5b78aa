"""PayPal as a whole: tokens, request ids, the payer's page, signatures."""

import base64
import copy
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import parse_qsl

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.idempotency import Keys
from railsim.money import Terms
from railsim.paypal.disputes import Disputes
from railsim.paypal.errors import NAMES, refused
from railsim.paypal.notifications import Notifications
from railsim.paypal.orders import Orders
from railsim.paypal.payments import Payments
from railsim.paypal.payouts import Payouts
from railsim.paypal.reporting import Reporting
from railsim.paypal.store import Store
from railsim.provider import Provider, World

TOKEN_SECONDS = 32_400
ORDER_KEYS_LIVE, PAYMENT_KEYS_LIVE = timedelta(hours=6), timedelta(days=45)
OPEN_PATHS = ("/v1/oauth2/token", "/checkoutnow", "/v1/notifications/certs/")


class PayPal(Provider):
    """Idempotency by `PayPal-Request-Id`: the same id at the same path does nothing again and answers with what the
    resource is by now (an order's creation with 200 then). Refusals aren't kept. The body isn't compared."""

    name = "paypal"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.terms = Terms(basis_points=349, fixed=49, dispute_fee=1_500, dispute_fee_returned=False, payout_fee=25)
        self.client_id = f"A{self.chance.letters(79)}"
        self.client_secret = f"E{self.chance.letters(79)}"
        self.tokens: dict[str, int] = {}
        self.order_keys = Keys(world.timeline, ORDER_KEYS_LIVE)
        self.payment_keys = Keys(world.timeline, PAYMENT_KEYS_LIVE)
        self.store = Store(world, self.terms, lambda: self.url)
        self.payments = Payments(self.store)
        self.orders = Orders(self.store, self.payments)
        self.payouts = Payouts(self.store)
        self.disputes = Disputes(self.store)
        self.notifications = Notifications(self.store)
        self.reporting = Reporting(self.store)

    def operations(self) -> Sequence[Operation]:
        parts = (self.orders, self.payments, self.payouts, self.disputes, self.notifications, self.reporting)
        return [
            Operation("POST", "/v1/oauth2/token", self.token),
            Operation("GET", "/checkoutnow", self.checkout),
            Operation("GET", self.notifications.certificate_path, self.notifications.certificate),
            *(one for part in parts for one in part.operations()),
        ]

    def token(self, call: Call) -> Answer:
        """OAuth 2.0 client credentials (RFC 6749, 4.4)."""
        kind, _, rest = (call.header("authorization") or "").partition(" ")
        expected = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode())
        if kind.lower() != "basic" or not hmac.compare_digest(rest.encode(), expected):
            return Answer(401, {"error": "invalid_client", "error_description": "Client Authentication failed"})
        form = dict(parse_qsl(call.raw.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            said = "unsupported grant_type" if "grant_type" in form else "grant_type is missing"
            return Answer(400, {"error": "unsupported_grant_type", "error_description": said})
        token = f"A21AA{self.chance.letters(92)}"
        self.tokens[token] = self.timeline.seconds() + TOKEN_SECONDS
        return Answer(200, {
            "scope": "https://uri.paypal.com/services/payments/payment", "access_token": token, "token_type": "Bearer",
            "app_id": "APP-80W284485P519543T", "expires_in": TOKEN_SECONDS,
            "nonce": f"{self.store.time()}{self.chance.letters(43)}",
        })  # fmt: skip

    def checkout(self, call: Call) -> Answer:
        """The page that a payer is sent to: here everybody approves at once."""
        try:
            order = self.store.orders[str(call.query.get("token"))]
            self.orders.approve(order["id"])
        except (KeyError, ValueError) as error:
            return Answer(400, {"error": str(error)})
        if order["_return"]:
            mark = "&" if "?" in order["_return"] else "?"
            payer = f"token={order['id']}&PayerID={order['payer']['payer_id']}"
            return Answer(302, None, {"location": f"{order['_return']}{mark}{payer}"})
        return Answer(200, {"approved": order["id"]})

    def parse(self, call: Call) -> None:
        if not call.raw or not (call.header("content-type") or "").startswith("application/json"):
            return
        try:
            body = json.loads(call.raw)
        except ValueError as error:
            raise refused(400, "MALFORMED_REQUEST_JSON", field="/") from error
        if not isinstance(body, dict):
            raise refused(400, "MALFORMED_REQUEST_JSON", field="/")
        call.body = body

    def answer(self, call: Call, operation: Operation) -> Answer:
        debug = self.chance.hexadecimal(13)
        marks = {"paypal-debug-id": debug}
        try:
            if not operation.path.startswith(OPEN_PATHS):
                self._authenticate(call)
            self.parse(call)
            request_id = call.header("paypal-request-id") if call.method == "POST" else None
            if request_id is None:
                return operation.handler(call).copied(**marks)
            keys = self.order_keys if operation.path.startswith("/v2/checkout") else self.payment_keys
            key = f"{call.target}\0{request_id}"
            known = keys.find(key)
            if known is not None:
                return self._again(call, operation, known.answer).copied(**marks)
            given = operation.handler(call)
            keys.keep(key, call, given)
            return given.copied(**marks)
        except Refused as refusal:
            body = refusal.answer.body
            if isinstance(body, dict) and "name" in body:
                body = {**body, "debug_id": debug}
            return Answer(refusal.answer.status, body, refusal.answer.headers).copied(**marks)

    def _again(self, call: Call, operation: Operation, first: Answer) -> Answer:
        """The resource of the first answer as it is by now."""
        told = json.loads(first.rendered() or b"{}")
        status = 200 if first.status == 201 and operation.path.startswith("/v2/checkout") else first.status
        if operation.path.startswith("/v2/checkout"):
            return self.orders.shown(call, self.store.orders[told["id"]], status)
        for table in (self.store.captures, self.store.refunds, self.store.authorizations):
            if told.get("id") in table:
                return self.payments.minimal(call, table[told["id"]], status)
        return copy.copy(first)

    def _authenticate(self, call: Call) -> None:
        kind, _, token = (call.header("authorization") or "").partition(" ")
        if kind.lower() != "bearer" or self.tokens.get(token, 0) <= self.timeline.seconds():
            body = {"error": "invalid_token", "error_description": "The token passed in was not found in the system"}
            if call.target.startswith("/v2/"):
                name, message = NAMES[401]
                body = {"name": name, "message": message}
            else:
                body |= {"name": "AUTHENTICATION_FAILURE", "message": NAMES[401][1]}
            raise Refused(Answer(401, body))

    def failure(self, call: Call, status: int) -> Answer:
        name, message = NAMES.get(status, NAMES[500])
        debug = self.chance.hexadecimal(13)
        link = {"href": "https://developer.paypal.com/", "rel": "information_link", "method": "GET"}
        body = {"name": name, "message": message, "debug_id": debug, "links": [link]}
        return Answer(status, body, {"paypal-debug-id": debug})

    def secrets(self) -> Json:
        return {
            "client_id": self.client_id, "client_secret": self.client_secret, "merchant_id": self.store.merchant,
            "webhook_id": self.notifications.webhook_id, "certificate_url": self.notifications.certificate_url,
            "certificate_authority": self.notifications.chain.root.decode(),
        }  # fmt: skip

    def sign(self, body: bytes, url: str, *, badly: bool) -> dict[str, str]:
        return self.notifications.sign(body, badly=badly)

    def open_dispute(self, payment: str, *, amount: int | None, reason: str | None) -> Json:
        return self.disputes.open(payment, amount, reason)

    def end_dispute(self, dispute: str, *, won: bool) -> Json:
        return self.disputes.decide(dispute, won=won)

    def customer_acts(self) -> dict[str, Callable[[str], Json]]:
        return {"approve": self.orders.approve}

    def settle(self, *, everything: bool) -> Json | None:
        raise ValueError(
            "PayPal keeps a balance: its withdrawals to a bank have no API here, so there is none to settle"
        )
