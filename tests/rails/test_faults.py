"""What goes wrong on purpose: requests without an answer, webhooks astray, two callers at once."""

import asyncio
import time
from typing import Any

import httpx
import pytest
import stripe

from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.schemas import Checker

FORM = {"amount": "500", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}


def caller(sim: Sim, seconds: float = 30) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {sim.house.stripe.api_key}"}
    return httpx.AsyncClient(base_url=sim.house.stripe.url, headers=headers, timeout=seconds, trust_env=False)


async def count(client: httpx.AsyncClient) -> int:
    return len((await client.get("/v1/payment_intents", params={"limit": 100})).json()["data"])


@pytest.mark.parametrize(
    ("kind", "seen", "happened"),
    [
        (Fault.TIMEOUT_BEFORE, httpx.ReadTimeout, 0),
        (Fault.TIMEOUT_AFTER, httpx.ReadTimeout, 1),
        (Fault.CLOSED_BEFORE, httpx.TransportError, 0),
        (Fault.CLOSED_AFTER, httpx.TransportError, 1),
    ],
)
async def test_a_request_without_an_answer_has_its_effect_or_not(sim: Sim, kind: Fault, seen: Any, happened: int):
    async with caller(sim) as client:
        before = await count(client)
        sim.tell("/switches", provider="stripe", kind=kind, method="POST", path="payment_intents$")
        with pytest.raises(seen):
            await client.post("/v1/payment_intents", data=FORM, headers={"idempotency-key": f"k-{kind}"}, timeout=0.4)
        assert await count(client) - before == happened
        again = await client.post("/v1/payment_intents", data=FORM, headers={"idempotency-key": f"k-{kind}"})
        assert again.json()["status"] == "succeeded"
        assert again.headers.get("idempotent-replayed") == ("true" if happened else None)
        assert await count(client) - before == 1


@pytest.mark.parametrize(
    ("kind", "status", "happened"), [("error_before", 500, 0), ("error_after", 500, 1), ("rate_limited", 429, 0)]
)
@pytest.mark.parametrize("provider", ["stripe", "paypal", "square"])
async def test_a_refusal_is_in_the_providers_own_words(sim: Sim, provider: str, kind: str, status: int, happened: int):
    paths = {"stripe": "/v1/customers", "paypal": "/v2/checkout/orders", "square": "/v2/customers"}
    bodies: dict[str, Any] = {
        "stripe": {"data": {"email": "a@example.com"}},
        "paypal": {
            "json": {"intent": "CAPTURE", "purchase_units": [{"amount": {"currency_code": "USD", "value": "1.00"}}]}
        },
        "square": {"json": {"given_name": "Ada"}},
    }
    secrets = {"stripe": sim.house.stripe.api_key, "paypal": token(sim), "square": sim.house.square.access_token}
    sim.house.providers[provider]
    async with httpx.AsyncClient(base_url=sim.house.providers[provider].url, trust_env=False) as client:
        headers = {"authorization": f"Bearer {secrets[provider]}"}
        stores: dict[str, Any] = {
            "stripe": sim.house.stripe.store.tables["cus"],
            "paypal": sim.house.paypal.store.orders,
            "square": sim.house.square.store.customers,
        }
        before = len(stores[provider])
        sim.tell("/switches", provider=provider, kind=kind, times=1)  # now that a token was had
        answer = await client.post(paths[provider], headers=headers, **bodies[provider])
        assert answer.status_code == status
        assert len(stores[provider]) - before == happened
        assert (await client.post(paths[provider], headers=headers, **bodies[provider])).status_code in (200, 201)


def token(sim: Sim) -> str:
    paypal = sim.house.paypal
    known = [one for one, until in paypal.tokens.items() if until > paypal.timeline.seconds()]
    if known:
        return known[0]
    answer = httpx.post(
        f"{paypal.url}/v1/oauth2/token", data={"grant_type": "client_credentials"},
        auth=(paypal.client_id, paypal.client_secret), trust_env=False,
    )  # fmt: skip
    if answer.status_code != 200:  # a switch met the token instead
        return token(sim)
    return str(answer.json()["access_token"])


async def test_latency_holds_an_answer_back(sim: Sim):
    sim.tell("/switches", provider="stripe", kind="latency", milliseconds=300)
    async with caller(sim) as client:
        started = time.monotonic()
        assert (await client.get("/v1/balance")).status_code == 200
        assert time.monotonic() - started >= 0.3


async def test_a_switch_skips_ends_and_is_taken_back(sim: Sim):
    sim.tell("/switches", provider="stripe", kind="error_before", skip=1, times=2)
    async with caller(sim) as client:
        statuses = [(await client.get("/v1/balance")).status_code for _ in range(4)]
        assert statuses == [200, 500, 500, 200]
        switch = sim.tell("/switches", provider="stripe", kind="error_before")
        sim.tell(f"/switches/{switch['id']}", "DELETE")
        assert (await client.get("/v1/balance")).status_code == 200


async def test_many_requests_at_once_with_one_key_have_one_effect(sim: Sim):
    async with caller(sim) as client:
        before = await count(client)
        sends = [
            client.post("/v1/payment_intents", data=FORM, headers={"idempotency-key": "k-many"}) for _ in range(20)
        ]
        answers = await asyncio.gather(*sends)
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
        assert await count(client) - before == 1


async def test_refunds_at_once_never_exceed_the_payment(sim: Sim):
    async with caller(sim) as client:
        made = (await client.post("/v1/payment_intents", data=FORM)).json()
        told = {"payment_intent": made["id"], "amount": "300"}
        answers = await asyncio.gather(*[client.post("/v1/refunds", data=told) for _ in range(8)])
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7


async def create_customers(sim: Sim, number: int) -> list[str]:
    async with caller(sim) as client:
        return [(await client.post("/v1/customers", data={"name": f"n{one}"})).json()["id"] for one in range(number)]


def told(sim: Sim) -> list[str]:
    return [one.json()["data"]["object"]["id"] for one in sim.webhooks("stripe")]


async def test_webhooks_are_dropped_duplicated_and_reordered(sim: Sim):
    for kind in ("webhook_dropped", "webhook_duplicated", "webhook_reordered"):
        sim.tell("/switches", provider="stripe", kind=kind)
    _, twice, last, before = await create_customers(sim, 4)
    assert told(sim) == [twice, twice, before, last]


async def test_a_late_webhook_comes_when_its_time_does(sim: Sim):
    sim.tell("/switches", provider="stripe", kind="webhook_late", seconds=900)
    late, early = await create_customers(sim, 2)
    assert told(sim) == [early]
    sim.advance(seconds=900)
    assert told(sim) == [early, late]


async def test_a_badly_signed_webhook_is_found_out(sim: Sim):
    sim.tell("/switches", provider="stripe", kind="webhook_badly_signed")
    await create_customers(sim, 2)
    bad, good = sim.webhooks("stripe")
    secret = sim.house.stripe.webhook_secret
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(bad.body.decode(), bad.headers["stripe-signature"], secret)
    stripe.WebhookSignature.verify_header(good.body.decode(), good.headers["stripe-signature"], secret)


async def test_a_webhook_that_is_not_taken_comes_again(sim: Sim):
    sim.inbox.answers.extend([500, 500])
    [id] = await create_customers(sim, 1)
    assert told(sim) == [id]
    sim.advance(seconds=60)
    assert told(sim) == [id] * 2
    sim.advance(seconds=300)
    assert told(sim) == [id] * 3
    sim.advance(days=3)
    assert told(sim) == [id] * 3


async def test_a_slow_webhook_still_comes_and_any_can_be_sent_again(sim: Sim):
    sim.tell("/switches", provider="stripe", kind="webhook_slow", milliseconds=200)
    [id] = await create_customers(sim, 1)
    [got] = sim.webhooks("stripe")
    sim.tell("/webhooks/resend", event_id=got.json()["id"])
    assert told(sim) == [id] * 2


def test_the_control_api_says_what_is_wrong(sim: Sim):
    for path, body, words in (
        ("/switches", {"provider": "stripe", "kind": "explode"}, "kind is one of"),
        ("/switches", {"provider": "bank", "kind": "latency"}, "provider is one of"),
        ("/switches", {"provider": "stripe", "kind": "latency", "times": -1}, "times is a whole number"),
        ("/switches", {"provider": "stripe", "kind": "refund", "outcome": "lost"}, "outcome of refund"),
        ("/clock", {"at": "2030-01-01T00:00:00"}, "with its zone"),
        ("/clock", {"back": 1}, "unknown: back"),
        ("/disputes", {"provider": "stripe", "payment": "pi_none"}, "there is no payment"),
    ):
        answer = sim.control.post(path, json=body)
        assert answer.status_code in (400, 404), path
        assert words in answer.json()["error"]


async def test_terms_are_set_by_the_control_api(sim: Sim):
    sim.tell("/terms/stripe", "PUT", basis_points=100, fixed=0)
    async with caller(sim) as client:
        made = (
            await client.post("/v1/payment_intents", data={**FORM, "expand[]": "latest_charge.balance_transaction"})
        ).json()
    sim.tell("/terms/stripe", "PUT", basis_points=290, fixed=30)
    assert made["latest_charge"]["balance_transaction"]["fee"] == 5


def test_the_checker_finds_what_does_not_fit(sim: Sim):
    checker = Checker()
    form = {"content-type": "application/x-www-form-urlencoded"}
    checker.request("stripe", "POST", "/v1/refunds", form, b"amount=ten&charge=ch_1&colour=red")
    checker.answer("stripe", "GET", "/v1/refunds/re_1", 200, b'{"id": "re_1", "object": "refund", "amount": "1"}')
    checker.request("square", "POST", "/v2/payments", {"content-type": "application/json"}, b'{"source_id": "x"}')
    checker.answer("paypal", "GET", "/v2/payments/refunds/R", 200, b'{"status": "LOST"}')
    checker.request("paypal", "GET", "/v2/payments/refunds/R?colour=red", {}, b"")
    checker.webhook("square", {"type": "payment.created", "data": {"object": {"payment": {"status": 7}}}})
    wanted = (
        '"ten" is not of',
        "'colour' isn't known",
        '"created" is a required',
        "idempotency_key",
        "LOST",
        "query 'colour'",
        "7 is not of",
    )
    for words in wanted:
        assert any(words in problem for problem in checker.problems), (words, checker.problems)
