"""Paying in by the Stripe rail at the simulated Stripe, over HTTP; every exchange fits the official file (`sim`)."""

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
from fiat.rails.protocol import (
    ActionKind,
    Capability,
    Capturing,
    PaymentOrder,
    PaymentStatus,
    PayoutOrder,
    Rail,
)
from fiat.rails.stripe.rail import StripeRail
from fiat.rails.stripe.settings import StripeSettings, build
from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.garbage import answering
from tests.rails.orders import ASSETS, Ids, refund_of
from tests.rails.stripe_rail import ordered, payments_of, rail_of

NOW = PaymentStatus.CAPTURED


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[StripeRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


# paying in


async def test_the_rail_is_one_by_the_protocol(rail: StripeRail):
    asked: Rail = rail
    assert (asked.name, asked.key_seconds) == ("stripe", 23 * 3600)
    assert set(Capability) - asked.capabilities == {Capability.PAYOUT}


async def test_a_payment_with_a_method_is_captured_with_its_fee(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids)
    made = await rail.create_payment(order)
    assert (made.status, made.amount, made.captured, made.fee) == (NOW, 10_000, 10_000, 320)
    assert (made.reference, made.asset, made.action, made.code) == (order.reference, "USD", None, None)
    assert made.capture_id is not None
    assert await rail.fetch_payment(made.id) == await rail.fetch_payment(made.capture_id) == made
    assert await rail.create_payment(order) == made
    assert len(payments_of(sim, order.reference)) == 1


async def test_without_a_method_the_payer_goes_on_with_a_client_secret(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, method=None)
    made = await rail.create_payment(order)
    assert made.status is PaymentStatus.REQUIRES_ACTION
    assert made.action is not None
    assert made.action.kind is ActionKind.CLIENT_SECRET
    assert made.action.value not in repr(made)
    gone = await rail.cancel(order, made.id)
    assert (gone.status, gone.code) == (PaymentStatus.CANCELLED, "cancelled")
    assert (await rail.cancel(order, made.id)).status is PaymentStatus.CANCELLED


async def test_a_payer_who_authenticates_completes_the_payment(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, method="pm_card_authenticationRequired", return_url="https://example.com/back")
    made = await rail.create_payment(order)
    assert (made.status, made.captured) == (PaymentStatus.REQUIRES_ACTION, 0)
    sim.tell("/customers/acts", provider="stripe", act="authenticate", id=made.id)
    assert (await rail.create_payment(order)).status is NOW, "a replayed answer is old: the payment is read again"
    assert (await rail.proceed(order, made.id)).captured == 10_000


async def test_an_authorised_payment_is_captured_in_part_once(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    assert (made.status, made.captured, made.fee) == (PaymentStatus.AUTHORISED, 0, None)
    assert made.expires_at == (sim.house.world.timeline.now() + timedelta(days=7)).replace(microsecond=0)
    taken = await rail.capture(order, made.id, 6_000)
    assert (taken.status, taken.amount, taken.captured, taken.fee) == (NOW, 10_000, 6_000, 204)
    assert await rail.capture(order, made.id, 6_000) == taken
    assert await rail.cancel(order, made.id) == taken, "who cancels too late is told so"


async def test_a_capture_after_the_authorisation_has_ended_takes_nothing(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    sim.advance(days=7)
    late = await rail.capture(order, made.id, 10_000)
    assert (late.status, late.captured, late.code) == (PaymentStatus.CANCELLED, 0, "authorisation_expired")


@pytest.mark.parametrize(
    ("asset", "amount", "units"),
    [("JPY", 1_200, 1_200), ("EUR", 123_400, 1_234), ("ISK", 50_000, 50_000)],
)
async def test_amounts_are_in_the_units_of_their_currency(
    sim: Sim, rail: StripeRail, ids: Ids, asset: str, amount: int, units: int
):
    order = ordered(ids, amount, asset=asset)
    made = await rail.create_payment(order)
    assert (made.asset, made.amount, made.captured) == (asset, amount, amount)
    assert payments_of(sim, order.reference)[0]["amount"] == units
    given = await rail.refund(refund_of(ids, made, amount))
    assert (given.asset, given.amount) == (asset, amount)


@pytest.mark.parametrize(("asset", "amount"), [("EUR", 123_456), ("ISK", 50_050), ("CNY", 100)])
async def test_what_can_not_be_said_exactly_is_not_sent(sim: Sim, rail: StripeRail, ids: Ids, asset: str, amount: int):
    order = ordered(ids, amount, asset=asset)
    with pytest.raises(AmountNotPayable):
        await rail.create_payment(order)
    assert payments_of(sim, order.reference) == []


# declines and refusals


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedStolenCard", "generic_decline"),
        ("pm_card_chargeDeclinedLostCard", "generic_decline"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
    ],
)
async def test_a_decline_is_final_and_says_no_more_than_the_payer_may_know(
    sim: Sim, rail: StripeRail, ids: Ids, card: str, shown: str
):
    order = ordered(ids, method=card)
    for _ in range(2):
        with pytest.raises(Declined) as declined:
            await rail.create_payment(order)
        assert declined.value.reason_code == shown
        assert "stolen" not in declined.value.message
    [made] = payments_of(sim, order.reference)
    assert made["status"] == "canceled", "nobody can pay it later"
    found = await rail.recover_payment(order)
    assert found is not None
    assert (found.id, found.status, found.code) == (made["id"], PaymentStatus.FAILED, shown)
    again = await rail.fetch_payment(made["id"])
    assert again is not None
    assert (again.status, again.code, again.reason) == (found.status, found.code, found.reason)


async def test_an_amount_below_what_cards_carry_is_declined_with_nothing_made(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, 49)
    with pytest.raises(Declined) as declined:
        await rail.create_payment(order)
    assert declined.value.reason_code == "amount_too_small"
    assert await rail.recover_payment(order) is None


async def test_a_changed_order_under_a_used_key_is_our_fault(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids)
    await rail.create_payment(order)
    changed = PaymentOrder(reference=order.reference, asset="USD", amount=9_999, method=order.method)
    with pytest.raises(RefusedByProvider):
        await rail.create_payment(changed)
    assert len(payments_of(sim, order.reference)) == 1


async def test_a_wrong_key_is_refused_and_told_nowhere(sim: Sim, ids: Ids):
    key = "sk_test_wrongwrongwrong"
    stranger = rail_of(sim, api_key=key)
    for call in (stranger.create_payment(ordered(ids)), stranger.fetch_payment("pi_1"), stranger.list_disputes(None)):
        with pytest.raises(RefusedByProvider) as refused:
            await call
        assert "HTTP 401" in refused.value.message
        assert key not in f"{refused.value} {refused.value!r} {stranger!r}"
        assert refused.value.__suppress_context__, "the SDK's error quotes the answer"
    await stranger.aclose()


async def test_what_is_unknown_to_stripe_is_none(sim: Sim, rail: StripeRail, ids: Ids):
    assert await rail.fetch_payment("pi_unknown") is None
    assert await rail.fetch_payment("ch_unknown") is None
    assert await rail.fetch_refund("re_unknown") is None
    assert await rail.fetch_dispute("du_unknown") is None
    assert await rail.fetch_settlement("po_unknown") is None
    with pytest.raises(RefusedByProvider):
        await rail.capture(ordered(ids), "pi_unknown", 1)


# answers that don't come


@pytest.mark.parametrize("kind", [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CLOSED_AFTER, Fault.ERROR_AFTER])
async def test_f71_an_order_without_an_answer_becomes_one_payment(sim: Sim, rail: StripeRail, ids: Ids, kind: Fault):
    order = ordered(ids)
    sim.tell("/switches", provider="stripe", kind=kind, method="POST", path="payment_intents$")
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
async def test_f71_after_its_key_has_died_an_order_is_looked_up_and_never_sent(
    sim: Sim, rail: StripeRail, ids: Ids, made: bool
):
    order = ordered(ids)
    kind = Fault.CLOSED_AFTER if made else Fault.CLOSED_BEFORE
    sim.tell("/switches", provider="stripe", kind=kind, method="POST", path="payment_intents$")
    with pytest.raises(EffectUnknown):
        await rail.create_payment(order)
    sim.advance(days=2)
    for _ in range(3):
        await rail.create_payment(ordered(ids))
    found = await rail.recover_payment(order)
    assert (found is not None and found.captured == 10_000) is made
    assert len(payments_of(sim, order.reference)) == int(made)


async def test_f71_a_key_that_gives_a_500_again_is_looked_behind(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids)
    sim.tell("/switches", provider="stripe", kind=Fault.ERROR_BEFORE, method="POST", path="payment_intents$", times=2)
    with pytest.raises(EffectUnknown):
        await rail.create_payment(order)
    with pytest.raises(EffectUnknown):
        await rail.recover_payment(order)
    assert payments_of(sim, order.reference) == []
    sim.tell("/switches", "DELETE")
    sim.tell("/switches", provider="stripe", kind=Fault.ERROR_AFTER, method="POST", path="payment_intents$", times=2)
    with pytest.raises(EffectUnknown):
        await rail.create_payment(order)
    found = await rail.recover_payment(order)
    assert found is not None
    assert found.status is NOW


async def test_a_declined_payment_whose_giving_up_was_lost_is_given_up_when_asked_again(
    sim: Sim, rail: StripeRail, ids: Ids
):
    order = ordered(ids, method="pm_card_chargeDeclined")
    sim.tell("/switches", provider="stripe", kind=Fault.ERROR_BEFORE, method="POST", path="cancel$")
    with pytest.raises(EffectUnknown):
        await rail.create_payment(order)
    found = await rail.recover_payment(order)
    assert found is not None
    assert found.status is PaymentStatus.FAILED
    assert [one["status"] for one in payments_of(sim, order.reference)] == ["canceled"]


async def test_a_capture_without_an_answer_is_captured_once(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    sim.tell("/switches", provider="stripe", kind=Fault.CLOSED_AFTER, method="POST", path="capture$")
    with pytest.raises(EffectUnknown):
        await rail.capture(order, made.id, 4_000)
    assert (await rail.capture(order, made.id, 4_000)).captured == 4_000


async def test_each_amount_that_is_captured_has_a_key_of_its_own(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids, capturing=Capturing.MANUAL)
    made = await rail.create_payment(order)
    keys, first = sim.house.stripe.keys, f"{order.reference}-capture-4000"
    sim.tell("/switches", provider="stripe", kind=Fault.ERROR_AFTER, method="POST", path="capture$")
    with pytest.raises(EffectUnknown):
        await rail.capture(order, made.id, 4_000)
    assert keys.find(first) is not None
    again = keys.find(first)
    assert (await rail.capture(order, made.id, 4_000)).captured == 4_000
    assert keys.find(first) is again, "the repeat had the same key"
    await rail.capture(order, made.id, 5_000)
    assert keys.find(first) is again
    assert keys.find(f"{order.reference}-capture") is None


async def test_who_asks_too_often_is_told_to_wait_and_nothing_happened(sim: Sim, rail: StripeRail, ids: Ids):
    order = ordered(ids)
    sim.tell("/switches", provider="stripe", kind=Fault.RATE_LIMITED, times=2)
    with pytest.raises(RateLimited):
        await rail.create_payment(order)
    with pytest.raises(RateLimited):
        await rail.list_settlements(None)
    assert payments_of(sim, order.reference) == []
    told = b'{"error": {"type": "invalid_request_error", "code": "rate_limit"}}'
    with answering(429, told, retry_after="7") as url:
        limited = rail_of(sim, base_url=url)
        with pytest.raises(RateLimited) as limit:
            await limited.fetch_refund("re_1")
        await limited.aclose()
    assert limit.value.retry_after == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"id": "pi_1", "object": "payment_intent", "status": "dreaming"}'),
        (200, b'{"id": "pi_1", "status": "succeeded", "currency": "usd", "amount": "1", "amount_received": 1.5}'),
        (502, b"<html>bad gateway</html>"),
        (400, b"<html>"),
        (409, b'{"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}'),
        (302, b""),
    ],
)
async def test_an_answer_that_can_not_be_read_is_an_unknown_effect(sim: Sim, ids: Ids, status: int, body: bytes):
    with answering(status, body) as url:
        rail = rail_of(sim, base_url=url)
        for call in (rail.create_payment(ordered(ids)), rail.fetch_payment("pi_1"), rail.list_disputes(None)):
            with pytest.raises(EffectUnknown) as unknown:
                await call
            assert body.decode() not in unknown.value.message or not body
        await rail.aclose()


# what it can't do, and settings


async def test_nobody_is_paid_out(rail: StripeRail):
    with pytest.raises(NotCapable):
        await rail.pay_out(PayoutOrder(reference="pay_1", asset="USD", amount=1, destination="somebody"))


@pytest.mark.parametrize(
    "settings",
    [
        StripeSettings(api_key="pk_test_publishable", webhook_secret="whsec_1"),
        StripeSettings(api_key="sk_test_1", webhook_secret="sk_test_1"),
    ],
)
def test_settings_that_can_not_work_are_refused_without_being_told(settings: StripeSettings, sim: Sim):
    with pytest.raises(RailMisconfigured) as refused:
        build(settings, assets=ASSETS, clock=sim.house.world.timeline)
    assert "test_1" not in f"{refused.value} {settings!r}"


async def test_a_rail_of_good_settings_works(sim: Sim, ids: Ids):
    stripe = sim.house.stripe
    settings = StripeSettings(api_key=stripe.api_key, webhook_secret=stripe.webhook_secret, base_url=stripe.url)
    rail = build(settings, assets=ASSETS, clock=sim.house.world.timeline)
    assert (await rail.create_payment(ordered(ids))).status is NOW
    assert stripe.api_key not in repr(settings)
    await rail.aclose()


async def test_what_became_of_an_order_is_looked_for_without_making_it(sim: Sim, rail: StripeRail, ids: Ids):
    lost, arrived = ordered(ids), ordered(ids)
    for order, fault in ((lost, Fault.ERROR_BEFORE), (arrived, Fault.CLOSED_AFTER)):
        sim.tell("/switches", provider="stripe", kind=fault, method="POST", path="payment_intents$")
        with pytest.raises(EffectUnknown):
            await rail.create_payment(order)
    assert await rail.find_payment(lost) is None
    assert payments_of(sim, lost.reference) == []
    found = await rail.find_payment(arrived)
    assert found is not None
    assert (found.status, found.captured, found.reference) == (NOW, 10_000, arrived.reference)
