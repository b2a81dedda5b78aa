"""The Stripe rail against the simulated Stripe, over HTTP; every exchange fits the official file (`sim`)."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from base.entropy import SeededEntropy
from base.ids import new_id
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
    DisputeStatus,
    EntryKind,
    Listed,
    MethodOrder,
    PaymentOrder,
    PaymentStatus,
    PayoutOrder,
    Rail,
    RefundOrder,
    RefundStatus,
    SettlementStatus,
)
from fiat.rails.stripe.client import Client
from fiat.rails.stripe.rail import StripeRail
from fiat.rails.stripe.settings import StripeSettings, build
from ledger.money import Asset, AssetKind
from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.garbage import answering

ASSETS = [Asset(code, AssetKind.FIAT, scale) for code, scale in (("USD", 2), ("EUR", 4), ("JPY", 0), ("ISK", 2))]
NOW = PaymentStatus.CAPTURED

Ids = Callable[[str], str]


@pytest.fixture
def ids(sim: Sim, entropy: SeededEntropy) -> Ids:
    """Fresh ids of ours, of the simulator's time."""
    return lambda prefix: new_id(prefix, sim.house.world.timeline, entropy)


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[StripeRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


def rail_of(sim: Sim, *, seconds: float = 20, api_key: str | None = None, base_url: str | None = None) -> StripeRail:
    stripe = sim.house.stripe
    client = Client("stripe", api_key=api_key or stripe.api_key, base_url=base_url or stripe.url, seconds=seconds)
    secret, clock = stripe.webhook_secret, sim.house.world.timeline
    return StripeRail("stripe", client, webhook_secret=secret, live=False, assets=ASSETS, clock=clock)


def ordered(ids: Ids, amount: int = 10_000, method: str | None = "pm_card_visa", **more: Any) -> PaymentOrder:
    return PaymentOrder(reference=ids("top"), **{"asset": "USD", "amount": amount, "method": method, **more})


def refund_of(ids: Ids, payment: Any, amount: int) -> RefundOrder:
    return RefundOrder(
        reference=ids("ref"), payment=payment.id, capture=payment.capture_id, asset=payment.asset, amount=amount
    )


def payments_of(sim: Sim, reference: str) -> list[Any]:
    made = sim.house.stripe.store.tables["pi"].values()
    return [one for one in made if one["metadata"].get("reference") == reference]


async def whole(listing: Callable[[str | None], Any], cursor: str | None = None) -> tuple[list[Any], str]:
    """All pages of a list, and the cursor behind it."""
    found: list[Any] = []
    for _ in range(100):
        page: Listed[Any] = await listing(cursor)
        found += page.items
        cursor = page.cursor
        if not page.more:
            return found, cursor
    raise AssertionError("the list has no end")


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
    hasty = rail_of(sim, seconds=0.5 if kind in (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER) else 20)
    with pytest.raises(EffectUnknown):
        await hasty.create_payment(order)
    await hasty.aclose()
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


async def test_f71_a_refund_without_an_answer_is_found_by_our_id(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids))
    lost, never = refund_of(ids, paid, 2_500), refund_of(ids, paid, 1)
    sim.tell("/switches", provider="stripe", kind=Fault.CLOSED_AFTER, method="POST", path="refunds$")
    with pytest.raises(EffectUnknown):
        await rail.refund(lost)
    sim.advance(days=2)
    found = await rail.recover_refund(lost)
    assert found is not None
    assert (found.amount, found.reference, found.payment) == (2_500, lost.reference, paid.id)
    assert await rail.recover_refund(never) is None


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


# giving back


async def test_refunds_are_made_once_and_never_beyond_the_rest(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids))
    order = refund_of(ids, paid, 4_000)
    first = await rail.refund(order)
    assert (first.status, first.amount, first.fee) == (RefundStatus.COMPLETED, 4_000, 0)
    assert await rail.refund(order) == first == await rail.fetch_refund(first.id) == await rail.recover_refund(order)
    with pytest.raises(Declined) as declined:
        await rail.refund(refund_of(ids, paid, 6_001))
    assert declined.value.reason_code == "refund_too_large"
    await rail.refund(refund_of(ids, paid, 6_000))
    with pytest.raises(Declined) as declined:
        await rail.refund(refund_of(ids, paid, 1))
    assert declined.value.reason_code == "charge_already_refunded"
    again = await rail.fetch_payment(paid.id)
    assert again is not None
    assert (again.status, again.captured) == (NOW, 10_000)


async def test_a_refund_can_be_sent_back_by_the_bank_later(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids, method="pm_card_refundFail"))
    order = refund_of(ids, paid, 10_000)
    made = await rail.refund(order)
    assert made.status is RefundStatus.COMPLETED
    sim.advance(days=1)
    failed = await rail.fetch_refund(made.id)
    assert failed is not None
    assert (failed.status, failed.code) == (RefundStatus.FAILED, "lost_or_stolen_card")
    assert (await rail.refund(order)).status is RefundStatus.FAILED, "a replayed answer is old"


async def test_a_refund_can_pend(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids, method="pm_card_pendingRefund"))
    made = await rail.refund(refund_of(ids, paid, 500))
    assert made.status is RefundStatus.PENDING
    sim.advance(days=1)
    found = await rail.fetch_refund(made.id)
    assert found is not None
    assert found.status is RefundStatus.COMPLETED


# disputes and settlements


@pytest.mark.parametrize(("returned", "fee_at_end"), [(False, 1_500), (True, 0)])
async def test_a_dispute_that_is_won_gives_back_what_it_took(
    sim: Sim, rail: StripeRail, ids: Ids, returned: bool, fee_at_end: int
):
    sim.tell("/terms/stripe", "PUT", dispute_fee_returned=returned)
    paid = await rail.create_payment(ordered(ids))
    made = sim.tell("/disputes", provider="stripe", payment=paid.id, amount=2_500, reason="product_not_received")
    told = await rail.fetch_dispute(made["id"])
    assert told is not None
    assert (told.status, told.amount, told.withdrawn, told.fee) == (DisputeStatus.OPEN, 2_500, 2_500, 1_500)
    assert (told.payment, told.reason, told.asset) == (paid.id, "product_not_received", "USD")
    assert told.respond_by == told.opened_at + timedelta(days=9)
    with pytest.raises(Declined) as declined:
        await rail.refund(refund_of(ids, paid, 100))
    assert declined.value.reason_code == "charge_disputed"
    sim.tell(f"/disputes/{made['id']}", provider="stripe", won=True)
    won = await rail.fetch_dispute(made["id"])
    assert won is not None
    assert (won.status, won.withdrawn, won.fee) == (DisputeStatus.WON, 0, fee_at_end)
    sim.tell("/terms/stripe", "PUT", dispute_fee_returned=False)


async def test_a_dispute_that_is_lost_keeps_what_it_took(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids, method="pm_card_createDispute"))
    [made] = [one for one in (await whole(rail.list_disputes))[0] if one.payment == paid.id]
    sim.tell(f"/disputes/{made.id}", provider="stripe", won=False)
    lost = await rail.fetch_dispute(made.id)
    assert lost is not None
    assert (lost.status, lost.withdrawn, lost.fee) == (DisputeStatus.LOST, 10_000, 1_500)


async def test_an_inquiry_moves_no_money(sim: Sim, rail: StripeRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids, method="pm_card_createDisputeInquiry"))
    [made] = [one for one in (await whole(rail.list_disputes))[0] if one.payment == paid.id]
    assert (made.status, made.amount, made.withdrawn, made.fee) == (DisputeStatus.INQUIRY, 10_000, 0, 0)
    sim.tell(f"/disputes/{made.id}", provider="stripe", won=True)
    closed = await rail.fetch_dispute(made.id)
    assert closed is not None
    assert closed.status is DisputeStatus.CLOSED


async def test_a_list_s_cursor_goes_on_with_what_is_newer(
    sim: Sim, rail: StripeRail, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fiat.rails.stripe.lists.PAGE", 2)
    for _ in range(5):
        await rail.create_payment(ordered(ids, method="pm_card_createDispute"))
    every, cursor = await whole(rail.list_disputes)
    assert {one.id for one in every} == set(sim.house.stripe.store.tables["du"])
    assert len(every) == len({one.id for one in every})
    page = await rail.list_disputes(cursor)
    assert (page.items, page.more) == ((), False)
    newer = [(await rail.create_payment(ordered(ids, method="pm_card_createDispute"))).id for _ in range(3)]
    found, last = await whole(rail.list_disputes, page.cursor)
    assert [one.payment for one in found] == newer
    assert (await rail.list_disputes(last)).items == ()


async def test_a_settlement_s_entries_add_up_and_name_what_they_pay_out(sim: Sim, rail: StripeRail, ids: Ids):
    sim.advance(days=5)
    sim.tell("/settlements", provider="stripe", everything=True)
    paid, failing = [await rail.create_payment(ordered(ids, method=f"pm_card_{m}")) for m in ("visa", "refundFail")]
    refund, back = await rail.refund(refund_of(ids, paid, 1_000)), await rail.refund(refund_of(ids, failing, 10_000))
    made = sim.tell("/disputes", provider="stripe", payment=paid.id, amount=2_000)
    sim.tell(f"/disputes/{made['id']}", provider="stripe", won=True)
    sim.advance(days=1)
    [id] = sim.tell("/settlements", provider="stripe", everything=True)["payouts"]
    told = await rail.fetch_settlement(id)
    assert told is not None
    assert (told.status, told.asset) == (SettlementStatus.SENT, "USD")
    assert told.arrives_on == (told.created_at + timedelta(days=2)).date()
    entries, _ = await whole(lambda cursor: rail.settlement_entries(id, cursor))
    assert all(one.gross - one.fee == one.net for one in entries)
    assert sum(one.net for one in entries) == told.amount
    assert {(one.kind, one.object, one.gross, one.fee) for one in entries} == {
        (EntryKind.PAYMENT, paid.capture_id, 10_000, 320),
        (EntryKind.PAYMENT, failing.capture_id, 10_000, 320),
        (EntryKind.REFUND, refund.id, -1_000, 0),
        (EntryKind.REFUND, back.id, -10_000, 0),
        (EntryKind.REFUND_FAILURE, back.id, 10_000, 0),
        (EntryKind.DISPUTE, made["id"], -2_000, 1_500),
        (EntryKind.DISPUTE_REVERSAL, made["id"], 2_000, 0),
    }
    assert id in [one.id for one in (await whole(rail.list_settlements))[0]]
    sim.advance(days=2)
    arrived = await rail.fetch_settlement(id)
    assert arrived is not None
    assert arrived.status is SettlementStatus.PAID


async def test_a_settlement_that_the_bank_sends_back_is_in_the_next_one(sim: Sim, rail: StripeRail, ids: Ids):
    await rail.create_payment(ordered(ids))
    sim.tell("/switches", provider="stripe", kind="settlement", outcome="failed")
    [id] = sim.tell("/settlements", provider="stripe", everything=True)["payouts"]
    sim.advance(days=2)
    failed = await rail.fetch_settlement(id)
    assert failed is not None
    assert failed.status is SettlementStatus.FAILED
    [following] = sim.tell("/settlements", provider="stripe", everything=True)["payouts"]
    entries, _ = await whole(lambda cursor: rail.settlement_entries(following, cursor))
    assert [(one.kind, one.object, one.net) for one in entries] == [(EntryKind.PAYOUT_RETURN, id, failed.amount)]


# saved methods


async def test_a_card_is_saved_paid_with_and_forgotten(sim: Sim, rail: StripeRail, ids: Ids):
    order = MethodOrder(reference=ids("pm"), owner="usr_1", token="pm_card_mastercard")
    saved = await rail.save_method(order)
    assert (saved.brand, saved.last4, saved.expires_month, saved.expires_year) == ("mastercard", "4444", 12, 2034)
    assert saved.token not in repr(saved)
    assert await rail.save_method(order) == saved
    assert saved.customer is not None
    assert sim.house.stripe.store.tables["cus"][saved.customer]["metadata"] == {"owner": "usr_1"}
    second = await rail.save_method(
        MethodOrder(reference=ids("pm"), owner="usr_1", token="pm_card_visa", customer=saved.customer)
    )
    assert second.customer == saved.customer
    paid = await rail.create_payment(ordered(ids, method=saved.token, customer=saved.customer))
    assert paid.status is NOW
    for _ in range(2):
        await rail.forget_method(saved)
    with pytest.raises(RefusedByProvider):
        await rail.create_payment(ordered(ids, method=second.token))


async def test_a_card_that_declines_is_not_saved(sim: Sim, rail: StripeRail, ids: Ids):
    with pytest.raises(Declined):
        await rail.save_method(MethodOrder(reference=ids("pm"), owner="usr_1", token="pm_card_chargeDeclined"))


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
