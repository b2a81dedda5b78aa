"""The PayPal rail's webhooks: from simulated PayPal over the wire, and by whoever else would like to be believed."""

import base64
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fiat.rails.errors import EffectUnknown, RefusalReason, WebhookRefused
from fiat.rails.paypal.rail import PayPal
from fiat.rails.paypal.webhooks import HEADER_LENGTH_MAX
from fiat.rails.protocol import CLOCK_SKEW_SECONDS, EVENT_AGE_SECONDS, ObjectKind, PayoutOrder, RawWebhook, WebhookEvent
from railsim.paypal.certificates import Chain, make_chain
from tests.rails.conftest import Sim
from tests.rails.inbox import Got
from tests.rails.paypal_house import approved, captured, fresh, ordered, rail, refund_of

R = RefusalReason
CERTIFICATES = "/v1/notifications/certs/"


@pytest.fixture
async def paypal(sim: Sim) -> AsyncIterator[PayPal]:
    made = rail(sim)
    yield made
    await made.aclose()


def now(sim: Sim) -> datetime:
    return sim.house.world.timeline.now()


def signed(sim: Sim, told: Any, **changes: str) -> RawWebhook:
    """An event in PayPal's own hand; then headers are changed."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    headers = sim.house.paypal.sign(body, "", badly=False)
    return RawWebhook(body=body, headers=headers | {name.replace("_", "-"): text for name, text in changes.items()})


def event(sim: Sim, kind: str = "CHECKOUT.ORDER.APPROVED", **resource: Any) -> dict[str, Any]:
    return {"id": "WH-1", "event_type": kind, "create_time": f"{now(sim):%Y-%m-%dT%H:%M:%SZ}", "resource": resource}


async def refusal(sim: Sim, paypal: PayPal, webhook: RawWebhook, at: datetime | None = None) -> RefusalReason:
    with pytest.raises(WebhookRefused) as refused:
        await paypal.verify(webhook, now=at or now(sim))
    return refused.value.reason


async def all_verified(sim: Sim, paypal: PayPal) -> list[tuple[Got, WebhookEvent]]:
    got = sim.webhooks("paypal")
    return [(one, await paypal.verify(RawWebhook(body=one.body, headers=one.headers), now=now(sim))) for one in got]


# Good ones


async def test_all_of_a_payment_s_webhooks_lead_to_it_and_name_our_id(sim: Sim, paypal: PayPal):
    order = ordered(sim, manual=True)
    id = await approved(sim, paypal, order)
    await paypal.proceed(order, id)
    payment = await paypal.capture(order, id, 50_00)
    told = [one for _, one in await all_verified(sim, paypal)]
    assert {one.kind for one in told} == {
        "CHECKOUT.ORDER.APPROVED", "CHECKOUT.ORDER.COMPLETED", "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.CAPTURE.COMPLETED",
    }  # fmt: skip
    for one in told:
        assert (one.object_kind, one.object, one.reference) == (ObjectKind.PAYMENT, id, order.reference)
        assert one.occurred_at == now(sim)
        assert await paypal.fetch_payment(one.object) == payment
    assert len({one.id for one in told}) == len(told)


async def test_webhooks_of_refunds_disputes_and_payouts_lead_to_what_they_are_about(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    refund = refund_of(sim, payment, 10_00)
    given_back = await paypal.refund(refund)
    payout = PayoutOrder(reference=fresh(sim, "pyo"), asset="USD", amount=5_00, destination="one@example.com")
    paid = await paypal.pay_out(payout)
    dispute = sim.tell("/disputes", provider="paypal", payment=payment.capture_id)["dispute_id"]
    sim.advance(seconds=120)
    told = {one.kind: one for _, one in await all_verified(sim, paypal)}
    expected = {
        "PAYMENT.CAPTURE.REFUNDED": (ObjectKind.REFUND, given_back.id, refund.reference),
        "CUSTOMER.DISPUTE.CREATED": (ObjectKind.DISPUTE, dispute, None),
        "PAYMENT.PAYOUTSBATCH.PROCESSING": (ObjectKind.PAYOUT, paid.id, payout.reference),
        "PAYMENT.PAYOUTSBATCH.SUCCESS": (ObjectKind.PAYOUT, paid.id, payout.reference),
        "PAYMENT.PAYOUTS-ITEM.SUCCEEDED": (ObjectKind.PAYOUT, paid.id, payout.reference),
    }
    assert {kind: (told[kind].object_kind, told[kind].object, told[kind].reference) for kind in expected} == expected


async def test_an_event_sent_again_is_the_same_event(sim: Sim, paypal: PayPal):
    await approved(sim, paypal, ordered(sim))
    ((got, first),) = await all_verified(sim, paypal)
    sim.tell("/webhooks/resend", event_id=got.json()["id"])
    sim.advance(seconds=600)
    assert [one for _, one in await all_verified(sim, paypal)] == [first, first]


async def test_what_isn_t_followed_is_known_as_such(sim: Sim, paypal: PayPal):
    found = await paypal.verify(signed(sim, event(sim, "BILLING.PLAN.CREATED", id="P-1")), now=now(sim))
    assert (found.kind, found.object_kind, found.object) == ("BILLING.PLAN.CREATED", ObjectKind.OTHER, "")
    reversed_ = await paypal.verify(signed(sim, event(sim, "PAYMENT.CAPTURE.REVERSED", id="1")), now=now(sim))
    assert reversed_.object_kind is ObjectKind.OTHER, "its dispute tells of it"


async def test_a_certificate_is_fetched_once_for_many_webhooks_until_it_is_a_day_old(sim: Sim, paypal: PayPal):
    fetched: list[str] = []

    async def keep(request: Any) -> None:
        fetched.append(request.url.path)

    paypal._client._http.event_hooks["request"] = [keep]
    for hours in (0, 1, 22, 2):
        sim.advance(seconds=hours * 3600)
        await paypal.verify(signed(sim, event(sim, id="1")), now=now(sim))
    assert [path.startswith(CERTIFICATES) for path in fetched] == [True, True]


# Others


async def test_a_bad_signature_over_the_wire_is_refused(sim: Sim, paypal: PayPal):
    sim.tell("/switches", provider="paypal", kind="webhook_badly_signed")
    await approved(sim, paypal, ordered(sim))
    (got,) = sim.webhooks("paypal")
    assert await refusal(sim, paypal, RawWebhook(body=got.body, headers=got.headers)) is R.WRONG_SIGNATURE


async def test_whatever_is_altered_of_a_webhook_it_is_refused(sim: Sim, paypal: PayPal):
    good = signed(sim, event(sim, id="1"))
    await paypal.verify(good, now=now(sim))
    altered = replace(good, body=good.body.replace(b"WH-1", b"WH-2"))
    assert await refusal(sim, paypal, altered) is R.WRONG_SIGNATURE
    assert await refusal(sim, paypal, replace(good, body=good.body + b"\n")) is R.WRONG_SIGNATURE
    later = f"{now(sim) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    for name, text in (
        ("paypal-transmission-id", "another"),
        ("paypal-transmission-time", later),
        ("paypal-transmission-sig", "bm8="),
        ("paypal-transmission-sig", "no base64!"),
        ("paypal-transmission-sig", good.headers["paypal-transmission-sig"][4:]),
        ("paypal-auth-algo", "SHA1withRSA"),
    ):
        changed = replace(good, headers={**good.headers, name: text})
        assert await refusal(sim, paypal, changed) is R.WRONG_SIGNATURE, name
    for name in good.headers:
        if name != "paypal-auth-version":
            fewer = {other: text for other, text in good.headers.items() if other != name}
            assert await refusal(sim, paypal, replace(good, headers=fewer)) is R.UNSIGNED, name
    long = {**good.headers, "paypal-transmission-id": "x" * (HEADER_LENGTH_MAX + 1)}
    assert await refusal(sim, paypal, replace(good, headers=long)) is R.MALFORMED


async def test_a_webhook_of_another_app_is_refused(sim: Sim):
    other = rail(sim, webhook_id="9XL90610J3647323C")
    assert await refusal(sim, other, signed(sim, event(sim, id="1"))) is R.WRONG_SIGNATURE


async def test_a_webhook_is_taken_for_three_days_and_not_from_the_future(sim: Sim, paypal: PayPal):
    webhook, sent_at = signed(sim, event(sim, id="1")), now(sim)
    old, ahead = timedelta(seconds=EVENT_AGE_SECONDS), timedelta(seconds=CLOCK_SKEW_SECONDS)
    second = timedelta(seconds=1)
    await paypal.verify(webhook, now=sent_at + old)
    assert await refusal(sim, paypal, webhook, sent_at + old + second) is R.TOO_OLD
    await paypal.verify(webhook, now=sent_at - ahead)
    assert await refusal(sim, paypal, webhook, sent_at - ahead - second) is R.TOO_NEW
    for time in ("yesterday", "2030-01-31T12:00:00"):
        untimed = replace(webhook, headers={**webhook.headers, "paypal-transmission-time": time})
        assert await refusal(sim, paypal, untimed) is R.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"id": "WH-1"}',
        b'{"id": "WH-1", "event_type": "PAYMENT.REFUND.FAILED", "create_time": "now", "resource": {"id": "1"}}',
        b'{"id": "WH-1", "event_type": "PAYMENT.REFUND.FAILED", "create_time": "2030-01-01T00:00:00Z", "resource": []}',
        b'{"id": 7, "event_type": "X", "create_time": "2030-01-01T00:00:00Z", "resource": {}}',
        b'{"id": "WH-1", "event_type": [], "create_time": "2030-01-01T00:00:00Z", "resource": {}}',
        b"\xff",
    ],
)
async def test_a_signed_body_that_can_t_be_read_is_refused(sim: Sim, paypal: PayPal, body: bytes):
    assert await refusal(sim, paypal, signed(sim, body)) is R.MALFORMED


# Certificates


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example{path}",
        "http://api.paypal.com{path}",
        "https://{host}.evil.example{path}",
        "http://{host}@evil.example{path}",
        "http://user:word@{host}{path}",
        "http://{host}/v1/notifications/certs/../../v1/oauth2/token",
        "http://{host}{path}?x=1",
        "http://{host}{path}#x",
        "http://{host}:99999{path}",
        "http://127.0.0.1:1{path}",
        "file:///etc/passwd",
        "//{host}{path}",
        "x",
    ],
)
async def test_a_certificate_from_elsewhere_is_never_fetched(sim: Sim, paypal: PayPal, url: str):
    host, path = sim.house.paypal.url.removeprefix("http://"), sim.house.paypal.notifications.certificate_path
    asked: list[object] = []

    async def keep(request: object) -> None:
        asked.append(request)

    paypal._client._http.event_hooks["request"] = [keep]
    webhook = signed(sim, event(sim, id="1"), paypal_cert_url=url.format(host=host, path=path))
    assert await refusal(sim, paypal, webhook) is R.WRONG_SIGNATURE
    assert asked == []


@pytest.fixture
def forged(sim: Sim) -> Any:
    """PayPal's host serves another chain for the length of a test; its key signs."""
    notifications, forger = sim.house.paypal.notifications, make_chain()
    real = notifications.chain
    notifications.chain = forger
    yield forger
    notifications.chain = real


async def test_a_chain_of_another_authority_isn_t_believed(sim: Sim, paypal: PayPal, forged: Chain):
    assert await refusal(sim, paypal, signed(sim, event(sim, id="1"))) is R.WRONG_SIGNATURE
    trusting = rail(sim, certificate_roots=forged.root)
    await trusting.verify(signed(sim, event(sim, id="1")), now=now(sim))


async def test_a_certificate_made_out_to_another_name_isn_t_believed(sim: Sim):
    choosy = rail(sim, certificate_signers=("messageverificationcerts.sandbox.paypal.com",))
    assert await refusal(sim, choosy, signed(sim, event(sim, id="1"))) is R.WRONG_SIGNATURE


async def test_without_its_intermediate_or_after_its_time_a_certificate_isn_t_believed(sim: Sim, paypal: PayPal):
    notifications = sim.house.paypal.notifications
    whole = notifications.chain
    leaf, mark, _ = whole.served.partition(b"-----END CERTIFICATE-----\n")
    notifications.chain = replace(whole, served=leaf + mark)
    try:
        assert await refusal(sim, paypal, signed(sim, event(sim, id="1"))) is R.WRONG_SIGNATURE
    finally:
        notifications.chain = whole
    at = datetime(2050, 1, 1, tzinfo=UTC)
    time = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    message = f"1|{time}|{paypal.account.webhook_id}|{zlib.crc32(b'{}')}".encode()
    late = signed(
        sim, b"{}", paypal_transmission_id="1", paypal_transmission_time=time,
        paypal_transmission_sig=base64.b64encode(whole.sign(message)).decode(),
    )  # fmt: skip
    assert await refusal(sim, paypal, late, at) is R.WRONG_SIGNATURE


@pytest.mark.parametrize("fault", ["error_before", "closed_before", "rate_limited"])
async def test_while_the_certificate_can_t_be_fetched_nothing_is_decided(sim: Sim, paypal: PayPal, fault: str):
    webhook = signed(sim, event(sim, id="1"))
    sim.tell("/switches", provider="paypal", kind=fault, method="GET", path=CERTIFICATES)
    with pytest.raises(EffectUnknown):
        await paypal.verify(webhook, now=now(sim))
    assert (await paypal.verify(webhook, now=now(sim))).object == "1"


async def test_a_certificate_that_paypal_doesn_t_have_is_refused(sim: Sim, paypal: PayPal):
    url = f"{sim.house.paypal.url}{CERTIFICATES}CERT-of-nobody"
    assert await refusal(sim, paypal, signed(sim, event(sim, id="1"), paypal_cert_url=url)) is R.WRONG_SIGNATURE
    served, sim.house.paypal.notifications.chain = sim.house.paypal.notifications.chain, _garbage(sim)
    try:
        with pytest.raises(EffectUnknown, match="PEM"):
            await paypal.verify(signed(sim, event(sim, id="1")), now=now(sim))
    finally:
        sim.house.paypal.notifications.chain = served


def _garbage(sim: Sim) -> Chain:
    return replace(sim.house.paypal.notifications.chain, served=b"no certificate")
