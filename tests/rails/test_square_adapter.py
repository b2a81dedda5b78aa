"""Paying in by the Square rail at the simulated Square, over HTTP; every exchange fits the official file (`sim`)."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from fiat.rails.errors import (
    AmountNotPayable,
    Declined,
    EffectUnknown,
    NotCapable,
    RailMisconfigured,
    RateLimited,
    RefusedByProvider,
)
from fiat.rails.protocol import Capability, Capturing, PaymentOrder, PaymentStatus, PayoutOrder, Rail
from fiat.rails.square.rail import SquareRail
from fiat.rails.square.settings import SquareSettings, build
from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.garbage import answering
from tests.rails.orders import ASSETS, Ids
from tests.rails.square_rail import ordered, payments_of, rail_of

NOW = PaymentStatus.CAPTURED
CREATED = "/v2/payments$"


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[SquareRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


async def test_the_rail_is_one_by_the_protocol(rail: SquareRail):
    asked: Rail = rail
    assert (asked.name, asked.key_seconds) == ("square", 3600)
    assert set(Capability) - asked.capabilities == {Capability.PAYOUT, Capability.BALANCE}


async def test_a_payment_is_captured_with_its_fee_once(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids)
    made = await rail.create_payment(order)
    assert (made.status, made.amount, made.captured, made.fee) == (NOW, 10_000, 10_000, 320)
    assert (made.reference, made.asset, made.capture_id, made.action) == (order.reference, "USD", None, None)
    assert await rail.create_payment(order) == made == await rail.fetch_payment(made.id)
    assert await rail.proceed(order, made.id) == made
    assert len(payments_of(sim, order.reference)) == 1


async def test_without_a_method_there_is_no_payment(sim: Sim, rail: SquareRail, ids: Ids):
    with pytest.raises(Declined) as declined:
        await rail.create_payment(ordered(ids, method=None))
    assert declined.value.reason_code == "method_missing"


@pytest.mark.parametrize("method", ["CASH", "EXTERNAL", "ccof:customer-card-id-ok", "bnon:bank", "another's payment"])
async def test_what_is_not_from_square_s_form_pays_nothing(sim: Sim, rail: SquareRail, ids: Ids, method: str):
    order = ordered(ids, method=method)
    with pytest.raises(Declined) as declined:
        await rail.create_payment(order)
    assert declined.value.reason_code == "method_not_from_form"
    assert await rail.recover_payment(order) is None
    assert payments_of(sim, order.reference) == []


@pytest.mark.parametrize(("part", "fee"), [(6_000, 204), (10_000, 320)])
async def test_an_authorised_payment_is_captured_wholly_or_in_part(
    sim: Sim, rail: SquareRail, ids: Ids, part: int, fee: int
):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    assert (made.status, made.captured, made.fee) == (PaymentStatus.AUTHORISED, 0, None)
    assert made.expires_at is not None
    assert abs(made.expires_at - sim.house.world.timeline.now() - timedelta(days=7)) < timedelta(seconds=1)
    taken = await rail.capture(order, made.id, part)
    assert (taken.status, taken.amount, taken.captured, taken.fee) == (NOW, 10_000, part, fee)
    assert await rail.capture(order, made.id, part) == taken
    assert await rail.cancel(order, made.id) == taken, "who cancels too late is told so"


async def test_a_capture_whose_answers_are_lost_takes_the_part_once(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    for method, path in (("PUT", "payments"), ("POST", "complete$")):
        sim.tell("/switches", provider="square", kind=Fault.ERROR_AFTER, method=method, path=path)
        with pytest.raises(EffectUnknown):
            await rail.capture(order, made.id, 4_000)
    taken = await rail.capture(order, made.id, 4_000)
    assert (taken.captured, taken.amount) == (4_000, 10_000)


async def test_another_part_is_captured_after_square_refused_the_first(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    for amount in (4_000, 5_000, 4_000):
        sim.tell("/switches", provider="square", kind=Fault.ERROR_BEFORE, method="POST", path="complete$")
        with pytest.raises(EffectUnknown):
            await rail.capture(order, made.id, amount)
    assert (await rail.capture(order, made.id, 6_000)).captured == 6_000


async def test_an_authorisation_is_cancelled_by_us_or_by_time(sim: Sim, rail: SquareRail, ids: Ids):
    order, forgotten = (ordered(ids, capturing=Capturing.MANUAL) for _ in range(2))
    ours, late = await rail.create_payment(order), await rail.create_payment(forgotten)
    for _ in range(2):
        gone = await rail.cancel(order, ours.id)
        assert (gone.status, gone.captured, gone.code) == (PaymentStatus.CANCELLED, 0, "cancelled")
    sim.advance(days=7)
    assert (await rail.capture(forgotten, late.id, 10_000)).status is PaymentStatus.CANCELLED


@pytest.mark.parametrize(("asset", "amount"), [("EUR", 123_456), ("CNY", 100)])
async def test_what_can_not_be_said_exactly_is_not_sent(sim: Sim, rail: SquareRail, ids: Ids, asset: str, amount: int):
    order = ordered(ids, amount, asset=asset)
    with pytest.raises(AmountNotPayable):
        await rail.create_payment(order)
    assert payments_of(sim, order.reference) == []


async def test_a_currency_that_is_not_the_location_s_is_our_fault(sim: Sim, rail: SquareRail, ids: Ids):
    with pytest.raises(RefusedByProvider):
        await rail.create_payment(ordered(ids, 1_200, asset="JPY"))


# declines and refusals


@pytest.mark.parametrize(
    ("nonce", "shown"),
    [
        ("cnon:card-nonce-declined", "generic_decline"),
        ("cnon:card-nonce-rejected-cvv", "cvv_failure"),
        ("cnon:card-nonce-rejected-postalcode", "address_verification_failure"),
        ("cnon:card-nonce-rejected-expiration", "invalid_expiration"),
    ],
)
async def test_a_decline_is_final(sim: Sim, rail: SquareRail, ids: Ids, nonce: str, shown: str):
    order = ordered(ids, method=nonce)
    for _ in range(2):
        with pytest.raises(Declined) as declined:
            await rail.create_payment(order)
        assert declined.value.reason_code == shown
    found = await rail.recover_payment(order)
    assert found is not None
    assert (found.status, found.code, found.reference) == (PaymentStatus.FAILED, shown, order.reference)
    assert [one["status"] for one in payments_of(sim, order.reference)] == ["FAILED"]


async def test_a_token_that_was_used_is_declined_with_nothing_made(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids, method="cnon:card-nonce-already-used")
    with pytest.raises(Declined) as declined:
        await rail.create_payment(order)
    assert declined.value.reason_code == "card_token_used"
    assert await rail.recover_payment(order) is None


async def test_a_changed_order_under_a_used_key_is_our_fault(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids)
    await rail.create_payment(order)
    changed = PaymentOrder(reference=order.reference, asset="USD", amount=9_999, method=order.method)
    with pytest.raises(RefusedByProvider):
        await rail.create_payment(changed)
    assert len(payments_of(sim, order.reference)) == 1


async def test_a_wrong_token_is_refused_and_told_nowhere(sim: Sim, ids: Ids):
    token = "EAAAwrongwrongwrong"
    stranger = rail_of(sim, token=token)
    for call in (stranger.create_payment(ordered(ids)), stranger.fetch_payment("p_1"), stranger.list_disputes(None)):
        with pytest.raises(RefusedByProvider) as refused:
            await call
        assert "HTTP 401" in refused.value.message
        assert token not in f"{refused.value} {refused.value!r} {stranger!r}"
        assert refused.value.__suppress_context__, "the SDK's error shows headers and body"
    await stranger.aclose()


async def test_what_is_unknown_to_square_is_none(sim: Sim, rail: SquareRail, ids: Ids):
    assert await rail.fetch_payment("unknown") is None
    assert await rail.fetch_refund("unknown") is None
    assert await rail.fetch_dispute("unknown") is None
    assert await rail.fetch_settlement("unknown") is None
    with pytest.raises(RefusedByProvider):
        await rail.capture(ordered(ids), "unknown", 1)
    with pytest.raises(RefusedByProvider):
        await rail.cancel(ordered(ids), "unknown")


# answers that don't come


@pytest.mark.parametrize("kind", [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CLOSED_AFTER, Fault.ERROR_AFTER])
async def test_f71_an_order_without_an_answer_becomes_one_payment(sim: Sim, rail: SquareRail, ids: Ids, kind: Fault):
    order = ordered(ids)
    sim.tell("/switches", provider="square", kind=kind, method="POST", path=CREATED)
    hasty = rail_of(sim, seconds=0.5) if "timeout" in kind else rail_of(sim)
    with pytest.raises(EffectUnknown):
        await hasty.create_payment(order)
    await hasty.aclose()
    sim.tell("/switches", "DELETE")  # unused where the machine was too busy even to send
    for _ in range(2):
        found = await rail.recover_payment(order)
        assert found is not None
        assert (found.status, found.captured, found.reference) == (NOW, 10_000, order.reference)
    assert len(payments_of(sim, order.reference)) == 1


@pytest.mark.parametrize("made", [True, False])
async def test_f71_after_an_hour_an_order_is_looked_up_and_never_sent(
    sim: Sim, rail: SquareRail, ids: Ids, monkeypatch: pytest.MonkeyPatch, made: bool
):
    monkeypatch.setattr("fiat.rails.square.rail.PAGE", 2)
    order = ordered(ids)
    kind = Fault.CLOSED_AFTER if made else Fault.CLOSED_BEFORE
    sim.tell("/switches", provider="square", kind=kind, method="POST", path=CREATED)
    with pytest.raises(EffectUnknown):
        await rail.create_payment(order)
    sim.advance(seconds=3601)
    for _ in range(3):
        await rail.create_payment(ordered(ids))
    found = await rail.recover_payment(order)
    assert (found is not None and found.captured == 10_000) is made
    assert len(payments_of(sim, order.reference)) == int(made)


async def test_who_asks_too_often_is_told_to_wait_and_is_asked_once(sim: Sim, rail: SquareRail, ids: Ids):
    order = ordered(ids)
    sim.tell("/switches", provider="square", kind=Fault.RATE_LIMITED, times=2)
    with pytest.raises(RateLimited):
        await rail.create_payment(order)
    with pytest.raises(RateLimited):
        await rail.list_settlements(None)
    assert payments_of(sim, order.reference) == []
    told = b'{"errors": [{"category": "RATE_LIMIT_ERROR", "code": "RATE_LIMITED"}]}'
    with answering(429, told, retry_after="7") as url:
        limited = rail_of(sim, base_url=url)
        with pytest.raises(RateLimited) as limit:
            await limited.fetch_refund("unknown")
        await limited.aclose()
    assert limit.value.retry_after == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"payment": 1, "disputes": 1}'),
        (200, b'{"payment": {"id": "p", "status": "DREAMING"}, "disputes": true}'),
        (
            200,
            b'{"payment": {"id": "p", "status": "COMPLETED", "amount_money": {"amount": null, "currency": "USD"}},'
            b' "disputes": 0.5}',
        ),
        (502, b"<html>bad gateway</html>"),
        (400, b"<html>"),
        (408, b'{"errors": [{"category": "API_ERROR", "code": "REQUEST_TIMEOUT"}]}'),
        (302, b""),
    ],
)
async def test_an_answer_that_can_not_be_read_is_an_unknown_effect(sim: Sim, ids: Ids, status: int, body: bytes):
    with answering(status, body) as url:
        rail = rail_of(sim, base_url=url)
        for call in (rail.create_payment(ordered(ids)), rail.fetch_payment("p"), rail.list_disputes(None)):
            with pytest.raises(EffectUnknown) as unknown:
                await call
            assert body.decode() not in unknown.value.message or not body
        await rail.aclose()


async def test_disputes_that_can_not_be_read_are_passed_by_in_the_list(sim: Sim):
    with answering(200, b'{"disputes": [{}, {"id": "d", "state": "DREAMING"}], "cursor": "next"}') as url:
        rail = rail_of(sim, base_url=url)
        listed = await rail.list_disputes(None)
        assert (listed.items, listed.cursor, listed.more) == ((), "next", True)
        await rail.aclose()


# what it can't do, and settings


async def test_nobody_is_paid_out(rail: SquareRail):
    with pytest.raises(NotCapable):
        await rail.pay_out(PayoutOrder(reference="pay_1", asset="USD", amount=1, destination="somebody"))


async def test_a_rail_of_good_settings_works_and_bad_ones_are_refused_without_being_told(sim: Sim, ids: Ids):
    square = sim.house.square
    told = {
        "access_token": square.access_token,
        "webhook_signature_key": square.signature_key,
        "location_id": square.store.location,
        "notification_url": "https://example.com/v1/rails/square/webhooks",
    }
    settings = SquareSettings(**told, base_url=square.url)
    rail = build(settings, assets=ASSETS, clock=sim.house.world.timeline)
    assert (await rail.create_payment(ordered(ids))).status is NOW
    await rail.aclose()
    assert square.access_token not in repr(settings)
    assert square.signature_key not in repr(settings)
    for bad in ({"location_id": ""}, {"environment": "moon"}):
        with pytest.raises(RailMisconfigured) as refused:
            build(SquareSettings(**(told | bad)), assets=ASSETS, clock=sim.house.world.timeline)
        assert square.access_token not in f"{refused.value!r}"


async def test_what_became_of_an_order_is_looked_for_without_making_it(sim: Sim, rail: SquareRail, ids: Ids):
    lost, arrived = ordered(ids), ordered(ids)
    for order, fault in ((lost, Fault.ERROR_BEFORE), (arrived, Fault.CLOSED_AFTER)):
        sim.tell("/switches", provider="square", kind=fault, method="POST", path="v2/payments$")
        with pytest.raises(EffectUnknown):
            await rail.create_payment(order)
    assert await rail.find_payment(lost) is None
    assert payments_of(sim, lost.reference) == []
    found = await rail.find_payment(arrived)
    assert found is not None
    assert (found.status, found.captured, found.reference) == (NOW, 10_000, arrived.reference)
