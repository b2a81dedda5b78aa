"""PayPal's Notifications v1: signing webhooks, checking a signature, listing events."""

import base64
import json
import zlib

from railsim.calls import Answer, Call, Json, Operation
from railsim.paypal.certificates import Chain, make_chain
from railsim.paypal.errors import plain
from railsim.paypal.store import Store

ALGORITHM = "SHA256withRSA"
FIELDS = ("auth_algo", "cert_url", "transmission_id", "transmission_sig", "transmission_time", "webhook_id")


class Notifications:
    """Events and their signatures: RSA-SHA256 over `transmission id|time|webhook id|crc32(body)`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.chain: Chain = make_chain()
        self.webhook_id = store.new(17)
        self.certificate_path = f"/v1/notifications/certs/CERT-360caa42-fca2a594-{store.chance.hexadecimal(8)}"

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/notifications/verify-webhook-signature", self.verify),
            Operation("GET", "/v1/notifications/webhooks-events", self.listed),
            Operation("GET", "/v1/notifications/webhooks-events/{id}", self.get),
            Operation("POST", "/v1/notifications/webhooks-events/{id}/resend", self.resend),
        ]

    @property
    def certificate_url(self) -> str:
        return str(self.store.link(self.certificate_path, "self")["href"])

    def certificate(self, call: Call) -> Answer:
        return Answer(200, self.chain.served, {"content-type": "application/x-pem-file"})

    def sign(self, body: bytes, *, badly: bool) -> dict[str, str]:
        id, at = self.store.chance.uuid(), self.store.time()
        message = _message(id, at, self.webhook_id, body + (b" " if badly else b""))
        return {
            "paypal-auth-algo": ALGORITHM, "paypal-cert-url": self.certificate_url, "paypal-auth-version": "v2",
            "paypal-transmission-id": id, "paypal-transmission-time": at,
            "paypal-transmission-sig": base64.b64encode(self.chain.sign(message)).decode(),
        }  # fmt: skip

    def verify(self, call: Call) -> Answer:
        """`webhook_event` counts as the very bytes that were sent: whoever wrote it anew gets FAILURE."""
        missing = [name for name in (*FIELDS, "webhook_event") if name not in call.body]
        if missing:
            raise plain(
                400, "VALIDATION_ERROR", "Invalid request - see details", "Required field missing", field=missing[0]
            )
        raw = _event_bytes(call.raw)
        told = {name: str(call.body[name]) for name in FIELDS}
        message = _message(told["transmission_id"], told["transmission_time"], told["webhook_id"], raw)
        try:
            signature = base64.b64decode(told["transmission_sig"], validate=True)
        except ValueError:
            signature = b""
        good = (
            told["auth_algo"] == ALGORITHM and told["cert_url"] == self.certificate_url
            and told["webhook_id"] == self.webhook_id and self.chain.verifies(signature, message)
        )  # fmt: skip
        return Answer(200, {"verification_status": "SUCCESS" if good else "FAILURE"})

    def get(self, call: Call) -> Answer:
        return Answer(200, self._found(call.path["id"]))

    def _found(self, id: str) -> Json:
        if id not in self.store.events:
            raise plain(404, "RESOURCE_NOT_FOUND", "The specified resource does not exist.", "INVALID_RESOURCE_ID")
        return self.store.events[id]

    def listed(self, call: Call) -> Answer:
        """Newest first; `start_time`, `end_time`, `event_type`, `transaction_id`; link `next` while there are more."""
        query = call.query
        size, first = query.get("page_size", "10"), query.get("start_id", "0")
        if not size.isdigit() or not 1 <= int(size) <= 300 or not first.isdigit():
            raise plain(400, "VALIDATION_ERROR", "Invalid request - see details", "Must be a number", field="page_size")
        found = [
            one for one in reversed(self.store.events.values())
            if query.get("event_type") in (None, one["event_type"])
            and query.get("start_time", "") <= one["create_time"] <= query.get("end_time", "9")
            and query.get("transaction_id") in (None, one["resource"].get("id"))
        ]  # fmt: skip
        place, last = int(first), int(first) + int(size)
        path = "/v1/notifications/webhooks-events"
        kept = "".join(f"&{name}={query[name]}" for name in ("event_type", "start_time", "end_time") if name in query)
        links = [self.store.link(f"{path}?page_size={size}&start_id={first}{kept}", "self")]
        if last < len(found):
            links.append(self.store.link(f"{path}?page_size={size}&start_id={last}{kept}", "next"))
        page = found[place:last]
        return Answer(200, {"events": page, "count": len(page), "links": links})

    def resend(self, call: Call) -> Answer:
        event = self._found(call.path["id"])
        self.store.world.courier.resend(event["id"])
        return Answer(202, event)


def _message(id: str, at: str, webhook_id: str, body: bytes) -> bytes:
    return f"{id}|{at}|{webhook_id}|{zlib.crc32(body)}".encode()


def _event_bytes(raw: bytes) -> bytes:
    """The event as it stands in the request's text."""
    text = raw.decode()
    place = text.index('"webhook_event"') + len('"webhook_event"')
    start = text.index("{", place)
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end].encode()
