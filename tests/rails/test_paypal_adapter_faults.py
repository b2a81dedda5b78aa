"""The PayPal rail when PayPal fails: no answer, garbage, too many calls, tokens that end; nothing is told to others."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fiat.rails.errors import EffectUnknown, RailMisconfigured, RateLimited, RefusedByProvider
from fiat.rails.paypal.account import PayPalAccount
from fiat.rails.paypal.client import TOKEN_MARGIN
from fiat.rails.paypal.rail import PayPal
from fiat.rails.protocol import PaymentStatus, PayoutOrder, PayoutStatus, RefundStatus
from tests.rails.conftest import Sim
from tests.rails.paypal_house import account, approved, captured, fresh, ordered, rail, refund_of

IN_TIME = 0.4
"""Seconds after which a call that PayPal lets hang is given up."""

LOST = ("timeout_before", "timeout_after", "closed_before", "closed_after", "error_before", "error_after")


@pytest.fixture
async def paypal(sim: Sim) -> AsyncIterator[PayPal]:
    made = rail(sim)
    yield made
    await made.aclose()


async def lose(sim: Sim, fault: str, path: str, call: Callable[[PayPal], Awaitable[object]]) -> None:
    """The call at `path` gets no answer; its token it gets."""
    hasty = rail(sim, call_seconds=IN_TIME) if fault.startswith("timeout") else rail(sim)
    await rail(sim).fetch_payment("WARMUP")
    hasty._client._token = await hasty._client._new_token()
    sim.tell("/switches", provider="paypal", kind=fault, method="POST", path=path)
    with pytest.raises(EffectUnknown):
        await call(hasty)
    assert sim.tell("/switches", "GET")["switches"][0]["used"] == 1
    sim.tell("/switches", "DELETE")
    await hasty.aclose()


@pytest.mark.parametrize("fault", LOST)
async def test_a_payment_whose_answer_was_lost_is_found_by_its_key_and_made_once(sim: Sim, paypal: PayPal, fault: str):
    order, store = ordered(sim), sim.house.paypal.store
    await lose(sim, fault, "checkout/orders$", lambda hasty: hasty.create_payment(order))
    found = await paypal.recover_payment(order)
    assert found is not None
    assert (found.status, found.reference, found.action is None) == (
        PaymentStatus.REQUIRES_ACTION, order.reference, False,
    )  # fmt: skip
    ours = [one for one in store.orders.values() if one["purchase_units"][0].get("custom_id") == order.reference]
    assert [one["id"] for one in ours] == [found.id]


@pytest.mark.parametrize("fault", LOST)
async def test_a_capture_whose_answer_was_lost_is_seen_or_done_once(sim: Sim, paypal: PayPal, fault: str):
    order, store = ordered(sim), sim.house.paypal.store
    id = await approved(sim, paypal, order)
    await lose(sim, fault, "/capture$", lambda hasty: hasty.proceed(order, id))
    now = await paypal.fetch_payment(id)
    assert now is not None
    happened = fault.endswith("after")
    assert now.status is (PaymentStatus.CAPTURED if happened else PaymentStatus.APPROVED)
    done = await paypal.proceed(order, id)
    assert done.status is PaymentStatus.CAPTURED
    assert [one["id"] for one in store.captures.values() if one["_order"] == id] == [done.capture_id]


@pytest.mark.parametrize("fault", LOST)
async def test_a_refund_whose_answer_was_lost_is_found_and_made_once(sim: Sim, paypal: PayPal, fault: str):
    payment, store = await captured(sim, paypal), sim.house.paypal.store
    order = refund_of(sim, payment, 10_00)
    await lose(sim, fault, "/refund$", lambda hasty: hasty.refund(order))
    found = await paypal.recover_refund(order)
    assert found is not None
    assert (found.status, found.amount, found.reference) == (RefundStatus.COMPLETED, 10_00, order.reference)
    assert [one["id"] for one in store.refunds.values() if one["_capture"] == payment.capture_id] == [found.id]


@pytest.mark.parametrize("fault", LOST)
async def test_a_payout_whose_answer_was_lost_is_found_and_paid_once(sim: Sim, paypal: PayPal, fault: str):
    store = sim.house.paypal.store
    order = PayoutOrder(reference=fresh(sim, "pyo"), asset="USD", amount=5_00, destination="one@example.com")
    await lose(sim, fault, "/payouts$", lambda hasty: hasty.pay_out(order))
    found = await paypal.recover_payout(order)
    assert found is not None
    assert found.status is PayoutStatus.PENDING
    ours = [one for one in store.items.values() if one["payout_item"].get("sender_item_id") == order.reference]
    assert [one["payout_batch_id"] for one in ours] == [found.id]


async def test_an_order_whose_key_paypal_forgot_never_took_money_and_is_not_made_anew(sim: Sim, paypal: PayPal):
    order, orders = ordered(sim), sim.house.paypal.store.orders
    await lose(sim, "closed_after", "checkout/orders$", lambda hasty: hasty.create_payment(order))
    before = len(orders)
    sim.advance(seconds=paypal.key_seconds)
    assert await paypal.recover_payment(order) is None
    assert len(orders) == before


async def test_a_refund_is_found_by_our_id_even_when_its_key_is_forgotten(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    made, never = refund_of(sim, payment, 10_00), refund_of(sim, payment, 20_00)
    await lose(sim, "error_after", "/refund$", lambda hasty: hasty.refund(made))
    sim.advance(days=46)
    found = await paypal.recover_refund(made)
    assert found is not None
    assert found.amount == 10_00
    with pytest.raises(EffectUnknown):
        await paypal.recover_refund(never)


async def test_too_many_calls_are_told_as_that_and_do_nothing(sim: Sim, paypal: PayPal):
    order, orders = ordered(sim), sim.house.paypal.store.orders
    await paypal.fetch_payment("WARMUP")
    before = len(orders)
    sim.tell("/switches", provider="paypal", kind="rate_limited")
    with pytest.raises(RateLimited):
        await paypal.create_payment(order)
    assert len(orders) == before


@pytest.mark.parametrize("fault", ["closed_before", "error_before"])
async def test_a_read_without_an_answer_isn_t_an_answer(sim: Sim, paypal: PayPal, fault: str):
    payment = await captured(sim, paypal)
    sim.tell("/switches", provider="paypal", kind=fault, method="GET")
    with pytest.raises(EffectUnknown):
        await paypal.fetch_payment(payment.id)
    assert await paypal.fetch_payment(payment.id) == payment


GARBAGE = {
    "no JSON": b"<html>Sorry</html>",
    "a list": b"[]",
    "cut off": b'{"id": "1", "purchase_un',
    "not UTF-8": b'{"id": "\xff"}',
    "no amounts": b'{"id": "1", "status": "CREATED", "purchase_units": [{}]}',
    "no purchase units": b'{"id": "1", "status": "CREATED", "purchase_units": []}',
    "another status": json.dumps(
        {"id": "1", "status": "DREAMT", "purchase_units": [{"amount": {"currency_code": "USD", "value": "1.00"}}]}
    ).encode(),
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_for_an_answer_leaves_the_effect_unknown(sim: Sim, body: bytes):
    async with Saying(b'{"access_token": "t", "expires_in": 600}', body) as url:
        paypal = PayPal(account(sim, base_url=url), assets={}, clock=rail(sim)._clock)
        with pytest.raises(EffectUnknown):
            await paypal.create_payment(ordered(sim))
        await paypal.aclose()


class Saying:
    """A server on a free loopback port that answers each request with the next of these bodies."""

    def __init__(self, *bodies: bytes) -> None:
        self._bodies = list(bodies)

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        body = self._bodies.pop(0)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


# Tokens


async def test_one_token_serves_many_calls_and_is_renewed_before_its_end(sim: Sim, paypal: PayPal):
    tokens = sim.house.paypal.tokens
    before = len(tokens)
    await asyncio.gather(*(paypal.fetch_payment(f"NONE{number}") for number in range(8)))
    assert len(tokens) == before + 1
    sim.advance(seconds=32_400 - int(TOKEN_MARGIN.total_seconds()) - 1)
    await paypal.fetch_payment("NONE")
    assert len(tokens) == before + 1
    sim.advance(seconds=1)
    await paypal.fetch_payment("NONE")
    assert len(tokens) == before + 2


async def test_a_token_that_paypal_forgot_is_fetched_anew_and_the_call_done_once(sim: Sim, paypal: PayPal):
    await paypal.fetch_payment("NONE")
    sim.house.paypal.tokens.clear()
    order = ordered(sim)
    made = await paypal.create_payment(order)
    assert made.reference == order.reference
    assert len(sim.house.paypal.tokens) == 1


async def test_a_wrong_secret_is_our_fault_and_stays_secret(sim: Sim):
    secret = "Wrong-secret-of-this-test"
    paypal = rail(sim, client_secret=secret)
    with pytest.raises(RefusedByProvider, match="client_id and client_secret") as refused:
        await paypal.fetch_payment("NONE")
    assert secret not in f"{refused.value!r}{refused.value.__dict__}"


async def test_nothing_secret_or_personal_is_in_logs_errors_or_reprs(
    sim: Sim, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    paypal = rail(sim)
    receiver = "somebody.personal@example.com"
    payout = PayoutOrder(reference=fresh(sim, "pyo"), asset="USD", amount=1_00, destination=receiver)
    said: list[object] = [paypal, paypal.account, paypal._client, payout, repr(paypal.account)]
    sim.tell("/switches", provider="paypal", kind="error_before", method="POST", path="/payouts$")
    for call in (lambda: paypal.pay_out(payout), lambda: paypal.refund(refund_of_nothing(sim))):
        try:
            said.append(await call())
        except Exception as error:
            said += [error, error.__dict__, error.__cause__, error.__context__]
    said.append(await captured(sim, paypal))
    token = paypal._client._token
    assert token is not None
    said.append(token)
    everything = "".join(f"{one!r} {one!s}" for one in said) + caplog.text + "".join(capsys.readouterr())
    for hidden in (paypal.account.client_secret, token.value, receiver, "payer@example.com"):
        assert hidden not in everything
    assert "EffectUnknown" in everything


def refund_of_nothing(sim: Sim) -> Any:
    from fiat.rails.protocol import RefundOrder

    return RefundOrder(reference=fresh(sim, "ref"), payment="NONE", capture="NONE", asset="USD", amount=1)


# Settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("client_id", ""),
        ("client_secret", "with a space inside it"),
        ("webhook_id", "short"),
        ("merchant_id", "short"),
        ("base_url", "http://api-m.paypal.com"),
        ("base_url", "ftp://127.0.0.1"),
        ("certificate_hosts", ()),
        ("call_seconds", 0),
        ("call_seconds", 60),
        ("certificate_roots", b"no certificate"),
    ],
)
def test_settings_that_can_t_work_are_refused_by_name_without_their_value(sim: Sim, setting: str, value: Any):
    with pytest.raises(RailMisconfigured) as refused:
        rail(sim, **{setting: value})
    assert refused.value.param == setting
    assert setting in ("base_url", "call_seconds") or not value or str(value) not in str(refused.value)


def test_paypal_s_own_addresses_need_no_hosts_told():
    live = PayPalAccount(
        client_id="A" * 80, client_secret="E" * 80, webhook_id="9XL90610J3647323C", merchant_id="ABCDEFGHJKLMN"
    )
    assert (live.is_live, "api.paypal.com" in live.allowed_hosts) == (True, True)
    assert "api.sandbox.paypal.com" not in live.allowed_hosts
