"""Simulated PayPal, by httpx: requests and answers are checked on the client's side too."""

import base64
import zlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from railsim.paypal.certificates import SIGNER_NAME
from tests.rails.conftest import START, Sim
from tests.rails.schemas import CheckingTransport

FULL = {"Prefer": "return=representation"}


@pytest.fixture
async def client(sim: Sim) -> AsyncIterator[httpx.AsyncClient]:
    paypal = sim.house.paypal
    async with httpx.AsyncClient(
        base_url=paypal.url, transport=CheckingTransport(sim.checker, "paypal"), timeout=30, trust_env=False
    ) as made:
        answer = await made.post(
            "/v1/oauth2/token", data={"grant_type": "client_credentials"}, auth=(paypal.client_id, paypal.client_secret)
        )
        made.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        yield made


async def post(client: httpx.AsyncClient, path: str, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(path, json={} if body is None else body, headers={**FULL, **named})


def order(value: str = "100.00", intent: str = "CAPTURE", **unit: Any) -> Any:
    return {"intent": intent, "purchase_units": [{"amount": {"currency_code": "USD", "value": value}, **unit}]}


async def approved(sim: Sim, client: httpx.AsyncClient, value: str = "100.00", intent: str = "CAPTURE") -> str:
    made = (await post(client, "/v2/checkout/orders", order(value, intent, custom_id="top-1"))).json()
    sim.tell("/customers/acts", provider="paypal", act="approve", id=made["id"])
    return str(made["id"])


async def captured(sim: Sim, client: httpx.AsyncClient, value: str = "100.00") -> Any:
    id = await approved(sim, client, value)
    done = (await post(client, f"/v2/checkout/orders/{id}/capture")).json()
    return done["purchase_units"][0]["payments"]["captures"][0]


def issue(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["details"][0]["issue"]


async def test_an_order_is_captured_once_the_payer_has_approved(sim: Sim, client: httpx.AsyncClient):
    made = await post(client, "/v2/checkout/orders", order(custom_id="top-1"))
    assert made.status_code == 201
    path = f"/v2/checkout/orders/{made.json()['id']}"
    assert issue(await post(client, f"{path}/capture")) == (422, "ORDER_NOT_APPROVED")
    links = {one["rel"]: one["href"] for one in made.json()["links"]}
    assert (await client.get(links["approve"])).json() == {"approved": made.json()["id"]}
    done = await post(client, f"{path}/capture")
    capture = done.json()["purchase_units"][0]["payments"]["captures"][0]
    assert (done.status_code, done.json()["status"], capture["status"]) == (201, "COMPLETED", "COMPLETED")
    assert capture["seller_receivable_breakdown"]["paypal_fee"]["value"] == "3.98"
    assert capture["seller_receivable_breakdown"]["net_amount"]["value"] == "96.02"
    assert issue(await post(client, f"{path}/capture")) == (422, "ORDER_ALREADY_CAPTURED")
    assert (await client.get(f"/v2/payments/captures/{capture['id']}")).json()["custom_id"] == "top-1"
    assert (await client.get(path)).json()["status"] == "COMPLETED"


async def test_without_prefer_an_answer_is_minimal(sim: Sim, client: httpx.AsyncClient):
    made = await client.post("/v2/checkout/orders", json=order())
    assert set(made.json()) == {"id", "status", "links"}


async def test_an_authorization_is_captured_in_parts_up_to_its_limit(sim: Sim, client: httpx.AsyncClient):
    id = await approved(sim, client, intent="AUTHORIZE")
    done = (await post(client, f"/v2/checkout/orders/{id}/authorize")).json()
    held = done["purchase_units"][0]["payments"]["authorizations"][0]
    path = f"/v2/payments/authorizations/{held['id']}"
    part = await post(client, f"{path}/capture", {"amount": {"currency_code": "USD", "value": "60.00"}})
    assert (part.status_code, part.json()["final_capture"]) == (201, False)
    assert (await client.get(path)).json()["status"] == "PARTIALLY_CAPTURED"
    over = await post(client, f"{path}/capture", {"amount": {"currency_code": "USD", "value": "55.01"}})
    assert issue(over) == (422, "MAX_CAPTURE_AMOUNT_EXCEEDED")
    last = {"amount": {"currency_code": "USD", "value": "40.00"}, "final_capture": True}
    assert (await post(client, f"{path}/capture", last)).status_code == 201
    assert issue(await post(client, f"{path}/capture", last)) == (422, "AUTHORIZATION_ALREADY_CAPTURED")
    assert issue(await post(client, f"{path}/void")) == (422, "PREVIOUSLY_CAPTURED")


async def test_an_authorization_is_voided_by_us_or_expires(sim: Sim, client: httpx.AsyncClient):
    paths = []
    for _ in range(2):
        id = await approved(sim, client, intent="AUTHORIZE")
        done = (await post(client, f"/v2/checkout/orders/{id}/authorize")).json()
        held = done["purchase_units"][0]["payments"]["authorizations"][0]
        paths.append(f"/v2/payments/authorizations/{held['id']}")
    assert (await client.post(f"{paths[0]}/void")).status_code == 204
    assert issue(await post(client, f"{paths[0]}/void")) == (422, "PREVIOUSLY_VOIDED")
    sim.advance(days=29)
    token = await client.post(
        "/v1/oauth2/token", data={"grant_type": "client_credentials"},
        auth=(sim.house.paypal.client_id, sim.house.paypal.client_secret),
    )  # fmt: skip
    assert (await client.get(paths[1])).status_code == 401, "a token ends after nine hours"
    client.headers["authorization"] = f"Bearer {token.json()['access_token']}"
    assert (await client.get(paths[1])).json()["status"] == "VOIDED"
    assert issue(await post(client, f"{paths[1]}/capture")) == (422, "AUTHORIZATION_EXPIRED")


async def test_a_request_id_does_the_work_once_and_tells_the_latest_state(sim: Sim, client: httpx.AsyncClient):
    key = str(uuid4())
    first = await post(client, "/v2/checkout/orders", order(), PayPal_Request_Id=key)
    sim.tell("/customers/acts", provider="paypal", act="approve", id=first.json()["id"])
    again = await post(client, "/v2/checkout/orders", order(), PayPal_Request_Id=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["status"]) == (first.json()["id"], "APPROVED")
    path = f"/v2/checkout/orders/{first.json()['id']}/capture"
    done = [(await post(client, path, PayPal_Request_Id="c-" + key)).json() for _ in range(2)]
    ids = [one["purchase_units"][0]["payments"]["captures"][0]["id"] for one in done]
    assert ids[0] == ids[1]
    refund = f"/v2/payments/captures/{ids[0]}/refund"
    part = {"amount": {"currency_code": "USD", "value": "60.00"}}
    refunds = [(await post(client, refund, part, PayPal_Request_Id="r-" + key)).json()["id"] for _ in range(2)]
    assert refunds[0] == refunds[1]


async def test_declines_come_by_mock_header_and_by_card_holder(sim: Sim, client: httpx.AsyncClient):
    id = await approved(sim, client)
    asked = {"PayPal_Mock_Response": '{"mock_application_codes": "INSTRUMENT_DECLINED"}'}
    assert issue(await post(client, f"/v2/checkout/orders/{id}/capture", **asked)) == (422, "INSTRUMENT_DECLINED")
    assert (await post(client, f"/v2/checkout/orders/{id}/capture")).status_code == 201
    card = {"number": "4111111111111111", "expiry": "2034-12", "name": "CCREJECT-REFUSED"}
    by_card = {**order(), "payment_source": {"card": card}}
    assert issue(await post(client, "/v2/checkout/orders", by_card)) == (400, "PAYPAL_REQUEST_ID_REQUIRED")
    made = (await post(client, "/v2/checkout/orders", by_card, PayPal_Request_Id=str(uuid4()))).json()
    capture = made["purchase_units"][0]["payments"]["captures"][0]
    assert (capture["status"], capture["processor_response"]["response_code"]) == ("DECLINED", "0500")


async def test_refunds_have_limits(sim: Sim, client: httpx.AsyncClient):
    capture = await captured(sim, client)
    path = f"/v2/payments/captures/{capture['id']}"
    part = await post(client, f"{path}/refund", {"amount": {"currency_code": "USD", "value": "40.00"}})
    assert (part.status_code, part.json()["status"]) == (201, "COMPLETED")
    assert (await client.get(path)).json()["status"] == "PARTIALLY_REFUNDED"
    over = await post(client, f"{path}/refund", {"amount": {"currency_code": "USD", "value": "60.01"}})
    assert issue(over) == (422, "REFUND_AMOUNT_EXCEEDED")
    wrong = await post(client, f"{path}/refund", {"amount": {"currency_code": "USD", "value": "0.001"}})
    assert issue(wrong) == (422, "DECIMAL_PRECISION")
    assert (await post(client, f"{path}/refund")).json()["amount"]["value"] == "60.00"
    assert issue(await post(client, f"{path}/refund")) == (422, "CAPTURE_FULLY_REFUNDED")
    assert (await client.get(f"/v2/payments/refunds/{part.json()['id']}")).json()["status"] == "COMPLETED"


async def test_a_refund_can_fail_later_and_a_capture_can_pend(sim: Sim, client: httpx.AsyncClient):
    sim.tell("/switches", provider="paypal", kind="charge", outcome="pending", seconds=600)
    capture = await captured(sim, client)
    assert capture["status"] == "PENDING"
    sim.advance(seconds=600)
    path = f"/v2/payments/captures/{capture['id']}"
    assert (await client.get(path)).json()["status"] == "COMPLETED"
    sim.tell("/switches", provider="paypal", kind="refund", outcome="failed", seconds=600)
    refund = (await post(client, f"{path}/refund")).json()
    assert refund["status"] == "PENDING"
    sim.advance(seconds=600)
    assert (await client.get(f"/v2/payments/refunds/{refund['id']}")).json()["status"] == "FAILED"
    assert (await client.get(path)).json()["status"] == "COMPLETED"


def batch(id: str, *values: str) -> Any:
    items = [
        {"recipient_type": "EMAIL", "amount": {"value": value, "currency": "USD"}, "receiver": f"p{place}@example.com",
         "sender_item_id": f"item-{place}"}
        for place, value in enumerate(values)
    ]  # fmt: skip
    return {"sender_batch_header": {"sender_batch_id": id, "email_subject": "Your payout"}, "items": items}


async def test_a_payout_batch_ends_item_by_item(sim: Sim, client: httpx.AsyncClient):
    for outcome in ("failed", "unclaimed", "returned", "pending"):
        sim.tell("/switches", provider="paypal", kind="payout", outcome=outcome, seconds=600)
    made = await client.post("/v1/payments/payouts", json=batch("b-1", "10.00", "11.00", "12.00", "13.00", "14.00"))
    assert (made.status_code, made.json()["batch_header"]["batch_status"]) == (201, "PENDING")
    path = f"/v1/payments/payouts/{made.json()['batch_header']['payout_batch_id']}"
    sim.advance(seconds=5)
    assert (await client.get(path)).json()["batch_header"]["batch_status"] == "PROCESSING"
    sim.advance(seconds=60)
    items = (await client.get(path)).json()["items"]
    assert [one["transaction_status"] for one in items] == ["FAILED", "UNCLAIMED", "SUCCESS", "PENDING", "SUCCESS"]
    sim.advance(seconds=600)
    cancel = await client.post(f"/v1/payments/payouts-item/{items[1]['payout_item_id']}/cancel")
    assert cancel.json()["transaction_status"] == "RETURNED"
    end = (await client.get(path)).json()
    expected = ["FAILED", "RETURNED", "RETURNED", "SUCCESS", "SUCCESS"]
    assert [one["transaction_status"] for one in end["items"]] == expected
    assert (end["batch_header"]["batch_status"], end["batch_header"]["fees"]["value"]) == ("SUCCESS", "1.25")
    item = (await client.get(f"/v1/payments/payouts-item/{items[0]['payout_item_id']}")).json()
    assert (item["sender_batch_id"], item["errors"]["name"]) == ("b-1", "RECEIVER_COUNTRY_NOT_ALLOWED")


async def test_a_sender_batch_id_is_good_for_one_batch(sim: Sim, client: httpx.AsyncClient):
    first = await client.post("/v1/payments/payouts", json=batch("b-2", "10.00"))
    again = await client.post("/v1/payments/payouts", json=batch("b-2", "10.00"))
    assert (again.status_code, again.json()["name"]) == (400, "USER_BUSINESS_ERROR")
    assert again.json()["links"][0]["href"].endswith(first.json()["batch_header"]["payout_batch_id"])


async def test_a_batch_can_be_denied_as_a_whole(sim: Sim, client: httpx.AsyncClient):
    sim.advance(seconds=5)  # earlier batches are processed, lest they meet the switch
    sim.tell("/switches", provider="paypal", kind="payout", outcome="denied")
    made = (await client.post("/v1/payments/payouts", json=batch("b-3", "10.00", "11.00"))).json()
    sim.advance(seconds=5)
    path = f"/v1/payments/payouts/{made['batch_header']['payout_batch_id']}"
    end = (await client.get(path, params={"page": 2, "page_size": 1, "total_required": "true"})).json()
    assert end["batch_header"]["batch_status"] == "DENIED"
    assert (end["total_items"], end["total_pages"], len(end["items"])) == (2, 2, 1)


async def test_a_dispute_takes_amount_and_fee_and_is_decided_or_accepted(sim: Sim, client: httpx.AsyncClient):
    captures = [await captured(sim, client) for _ in range(2)]
    ids = [sim.tell("/disputes", provider="paypal", payment=one["id"], amount=2_500)["dispute_id"] for one in captures]
    refund = await post(client, f"/v2/payments/captures/{captures[0]['id']}/refund")
    assert issue(refund) == (422, "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK")
    found = (await client.get(f"/v1/customer/disputes/{ids[0]}")).json()
    moved = [(one["type"], one["reason"], one["amount"]["value"]) for one in found["money_movements"]]
    assert moved == [("DEBIT", "DISPUTE_SETTLEMENT", "25.00"), ("DEBIT", "DISPUTE_FEE", "15.00")]
    sim.tell(f"/disputes/{ids[0]}", provider="paypal", won=True)
    won = (await client.get(f"/v1/customer/disputes/{ids[0]}")).json()
    assert won["dispute_outcome"]["outcome_code"] == "RESOLVED_SELLER_FAVOUR"
    claim = f"/v1/customer/disputes/{ids[1]}/accept-claim"
    files = {"accept-claim-document": ("note.txt", b"accepted", "text/plain")}
    assert (await client.post(claim, files=files)).status_code == 200
    first = (await client.get("/v1/customer/disputes", params={"page_size": 1})).json()
    following = next(one["href"] for one in first["links"] if one["rel"] == "next")
    second = (await client.get(following)).json()
    assert [page["items"][0]["dispute_id"] for page in (first, second)] == [ids[1], ids[0]]


def verified(sim: Sim, chain: bytes, headers: dict[str, str], body: bytes) -> None:
    """A client's own check, offline: the chain to the root, then the signature. Raises if either fails."""
    secrets = sim.house.paypal.secrets()
    root = x509.load_pem_x509_certificate(secrets["certificate_authority"].encode())
    leaf, *middle = x509.load_pem_x509_certificates(chain)
    verifier = PolicyBuilder().store(Store([root])).time(START).build_server_verifier(x509.DNSName(SIGNER_NAME))
    verifier.verify(leaf, middle)
    key = leaf.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    parts = (headers["paypal-transmission-id"], headers["paypal-transmission-time"], secrets["webhook_id"])
    message = "|".join((*parts, str(zlib.crc32(body)))).encode()
    key.verify(base64.b64decode(headers["paypal-transmission-sig"]), message, padding.PKCS1v15(), hashes.SHA256())


async def test_webhooks_are_signed_by_a_certificate_and_checked_offline_or_by_paypal(
    sim: Sim, client: httpx.AsyncClient
):
    await captured(sim, client)
    got = sim.webhooks("paypal")
    types = ["CHECKOUT.ORDER.APPROVED", "PAYMENT.CAPTURE.COMPLETED", "CHECKOUT.ORDER.COMPLETED"]
    assert [one.json()["event_type"] for one in got] == types
    chain = (await client.get(got[0].headers["paypal-cert-url"])).content
    for one in got:
        verified(sim, chain, one.headers, one.body)
    told = {
        name: got[0].headers[f"paypal-{name.replace('_', '-')}"]
        for name in ("auth_algo", "cert_url", "transmission_id", "transmission_sig", "transmission_time")
    } | {"webhook_id": sim.house.paypal.notifications.webhook_id}
    for event, expected in ((got[0].body, "SUCCESS"), (got[1].body, "FAILURE")):
        head = httpx.Request("POST", "http://x", json=told).read().rstrip(b"}")
        content = head + b',"webhook_event":' + event + b"}"
        path = "/v1/notifications/verify-webhook-signature"
        answer = await client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.json() == {"verification_status": expected}
    listed = (await client.get("/v1/notifications/webhooks-events", params={"page_size": 2})).json()
    assert [one["event_type"] for one in listed["events"]] == types[:0:-1]
    one = await client.get(f"/v1/notifications/webhooks-events/{listed['events'][0]['id']}")
    assert one.json()["event_type"] == types[2]


async def test_strangers_and_unknown_resources_are_refused(sim: Sim, client: httpx.AsyncClient):
    assert issue(await client.get("/v2/payments/captures/UNKNOWN")) == (404, "INVALID_RESOURCE_ID")
    client.headers["authorization"] = "Bearer wrong"
    assert (await client.get("/v2/payments/captures/UNKNOWN")).status_code == 401
