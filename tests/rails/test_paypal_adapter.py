"""The PayPal rail against simulated PayPal: paying in, giving back. Every exchange is checked by its files."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from fiat.rails.errors import AmountNotPayable, Declined, NotCapable, RateLimited, RefusedByProvider
from fiat.rails.paypal.rail import PayPal
from fiat.rails.protocol import ActionKind, Capability, Payment, PaymentStatus, Rail, RefundStatus
from tests.rails.conftest import Sim
from tests.rails.paypal_house import approved, captured, ordered, rail, refund_of

S = PaymentStatus


@pytest.fixture
async def paypal(sim: Sim) -> AsyncIterator[PayPal]:
    made = rail(sim)
    yield made
    await made.aclose()


def test_it_is_a_rail_that_says_what_it_can(sim: Sim):
    paypal: Rail = rail(sim)
    assert paypal.name == "paypal"
    assert paypal.capabilities == set(Capability) - {Capability.SETTLEMENT, Capability.SAVED_METHOD}
    assert paypal.key_seconds < 6 * 3600


# Paying in


async def test_a_payment_is_approved_at_paypal_then_captured_and_tells_its_fee(sim: Sim, paypal: PayPal):
    order = ordered(sim, 100_00)
    made = await paypal.create_payment(order)
    assert (made.status, made.reference, made.captured, made.fee) == (S.REQUIRES_ACTION, order.reference, 0, None)
    assert made.action is not None
    assert made.action.kind is ActionKind.REDIRECT
    assert f"token={made.id}" in made.action.value
    sim.tell("/customers/acts", provider="paypal", act="approve", id=made.id)
    agreed = await paypal.fetch_payment(made.id)
    assert agreed is not None
    assert (agreed.status, agreed.action) == (S.APPROVED, None)
    done = await paypal.proceed(order, made.id)
    assert (done.status, done.amount, done.captured, done.fee) == (S.CAPTURED, 100_00, 100_00, 3_98)
    assert done.reference == order.reference
    assert await paypal.fetch_payment(made.id) == done
    assert done.capture_id is not None
    assert await paypal.fetch_payment(done.capture_id) == done, "the capture's own id leads to the payment too"
    assert await paypal.fetch_payment("NOSUCHORDER000000") is None


async def test_the_same_order_again_is_the_same_payment(sim: Sim, paypal: PayPal):
    orders, captures = sim.house.paypal.store.orders, sim.house.paypal.store.captures
    order = ordered(sim)
    made = await paypal.create_payment(order)
    before = len(orders)
    assert await paypal.create_payment(order) == made
    assert await paypal.recover_payment(order) == made
    sim.tell("/customers/acts", provider="paypal", act="approve", id=made.id)
    taken = len(captures)
    first = await paypal.proceed(order, made.id)
    assert await paypal.proceed(order, made.id) == first
    assert (len(orders), len(captures)) == (before, taken + 1)
    again = await rail(sim).create_payment(order)
    assert again.status is S.CAPTURED, "after all of it, the order's answer is what it is by now"


async def test_a_part_of_an_authorisation_is_captured_and_the_rest_let_go(sim: Sim, paypal: PayPal):
    order = ordered(sim, 80_00, manual=True)
    id = await approved(sim, paypal, order)
    held = await paypal.proceed(order, id)
    assert (held.status, held.amount, held.captured) == (S.AUTHORISED, 80_00, 0)
    assert held.expires_at is not None
    with pytest.raises(RefusedByProvider, match="isn't between"):
        await paypal.capture(order, id, 80_01)
    taken = await paypal.capture(order, id, 30_00)
    assert (taken.status, taken.amount, taken.captured, taken.fee) == (S.CAPTURED, 80_00, 30_00, 1_54)
    assert await paypal.capture(order, id, 30_00) == taken
    authorization = sim.house.paypal.store.captures[taken.capture_id or ""]["_authorization"]
    path = f"/v2/payments/authorizations/{authorization}/capture"
    keys = sim.house.paypal.payment_keys
    assert keys.find(f"{path}\0{order.reference}-capture-3000"), "another amount would have another key"
    assert await paypal.cancel(order, id) == taken, "too late to give it up"
    store = sim.house.paypal.store
    assert [one["_amount"] for one in store.captures.values() if one["_order"] == id] == [30_00]
    (authorization,) = [one for one in store.authorizations.values() if one["_order"] == id]
    assert authorization["status"] == "CAPTURED"
    assert await paypal.fetch_payment(authorization["id"]) == taken


async def test_an_authorisation_whose_capture_paypal_declines_is_let_go(sim: Sim):
    paypal = rail(sim, refusing=("PAYER_CANNOT_PAY", "/capture"))
    order = ordered(sim, manual=True)
    id = await approved(sim, paypal, order)
    await paypal.proceed(order, id)
    with pytest.raises(Declined) as declined:
        await paypal.capture(order, id, 1_00)
    assert declined.value.reason_code == "payer_cannot_pay"
    now = await paypal.fetch_payment(id)
    assert now is not None
    assert (now.status, now.captured) == (S.CANCELLED, 0)


async def test_what_is_given_up_is_cancelled_and_takes_nothing(sim: Sim, paypal: PayPal):
    unseen = ordered(sim)
    made = await paypal.create_payment(unseen)
    assert (await paypal.cancel(unseen, made.id)).status is S.CANCELLED
    held = ordered(sim, manual=True)
    id = await approved(sim, paypal, held)
    await paypal.proceed(held, id)
    assert (await paypal.cancel(held, id)).status is S.CANCELLED
    assert (await paypal.cancel(held, id)).status is S.CANCELLED
    now = await paypal.fetch_payment(id)
    assert now is not None
    assert (now.status, now.code) == (S.CANCELLED, "voided")
    assert (await paypal.capture(held, id, 1)).status is S.CANCELLED
    assert not [one for one in sim.house.paypal.store.captures.values() if one["_order"] in (made.id, id)]


async def test_an_order_is_looked_for_without_making_it(sim: Sim, paypal: PayPal):
    before = len(sim.house.paypal.store.orders)
    assert await paypal.find_payment(ordered(sim)) is None
    assert len(sim.house.paypal.store.orders) == before


async def test_an_authorisation_ends_by_itself_after_29_days(sim: Sim, paypal: PayPal):
    order = ordered(sim, manual=True)
    id = await approved(sim, paypal, order)
    await paypal.proceed(order, id)
    sim.advance(days=29)
    assert (await paypal.capture(order, id, 1)).status is S.CANCELLED


async def test_a_capture_that_paypal_looks_at_first_is_processing_without_a_fee(sim: Sim, paypal: PayPal):
    sim.tell("/switches", provider="paypal", kind="charge", outcome="pending", seconds=3600)
    waiting = await captured(sim, paypal)
    assert (waiting.status, waiting.captured, waiting.fee) == (S.PROCESSING, 0, None)
    with pytest.raises(RateLimited, match="PENDING_CAPTURE"):
        await paypal.refund(refund_of(sim, waiting, 1_00))
    sim.advance(seconds=3600)
    done = await paypal.fetch_payment(waiting.id)
    assert done is not None
    assert (done.status, done.captured, done.fee) == (S.CAPTURED, 100_00, 3_98)


@pytest.mark.parametrize(
    ("issue", "act"),
    [("INSTRUMENT_DECLINED", "capture"), ("PAYER_CANNOT_PAY", "capture"), ("TRANSACTION_REFUSED", "authorize")],
)
async def test_what_paypal_declines_has_failed_for_a_reason_fit_for_the_payer(sim: Sim, issue: str, act: str):
    paypal = rail(sim, refusing=(issue, f"/{act}"))
    order = ordered(sim, manual=act == "authorize")
    id = await approved(sim, paypal, order)
    failed = await paypal.proceed(order, id)
    assert (failed.id, failed.status, failed.code, failed.captured) == (id, S.FAILED, issue.lower(), 0)
    assert failed.reason is not None
    assert "PayPal" in failed.reason
    assert not [one for one in sim.house.paypal.store.captures.values() if one["_order"] == id]


@pytest.mark.parametrize("issue", ["AUTH_CAPTURE_NOT_ENABLED", "DUPLICATE_INVOICE_ID"])
async def test_what_is_our_fault_isn_t_told_as_the_payers(sim: Sim, issue: str):
    paypal = rail(sim, refusing=(issue, "/capture"))
    order = ordered(sim)
    id = await approved(sim, paypal, order)
    with pytest.raises(RefusedByProvider, match=rf"422 UNPROCESSABLE_ENTITY \({issue}; PayPal's debug id [0-9a-f]"):
        await paypal.proceed(order, id)


async def test_going_on_too_early_changes_nothing(sim: Sim, paypal: PayPal):
    order = ordered(sim)
    made = await paypal.create_payment(order)
    assert await paypal.proceed(order, made.id) == made


@pytest.mark.parametrize(
    ("asset", "amount", "written", "fee"),
    [
        ("JPY", 1500, "1500", 101),
        ("HUF", 150_000, "1500", 101_00),
        ("EUR", 12_3400, "12.34", 9200),
        ("USD", 1, "0.01", 1),
    ],
)
async def test_amounts_are_what_each_currency_takes(
    sim: Sim, paypal: PayPal, asset: str, amount: int, written: str, fee: int
):
    done = await captured(sim, paypal, amount, asset)
    unit = sim.house.paypal.store.orders[done.id]["purchase_units"][0]
    assert unit["amount"] == {"currency_code": asset, "value": written}
    assert (done.asset, done.amount, done.captured, done.fee) == (asset, amount, amount, fee)
    part = await paypal.refund(refund_of(sim, done, amount))
    assert (part.asset, part.amount) == (asset, amount)


@pytest.mark.parametrize(("asset", "amount"), [("HUF", 150_001), ("EUR", 12_3401), ("XAU", 100)])
async def test_an_amount_that_paypal_can_t_carry_is_never_rounded(sim: Sim, paypal: PayPal, asset: str, amount: int):
    before = len(sim.house.paypal.store.orders)
    with pytest.raises(AmountNotPayable):
        await paypal.create_payment(ordered(sim, amount, asset))
    assert len(sim.house.paypal.store.orders) == before


async def test_what_it_can_t_do_it_says(sim: Sim, paypal: PayPal):
    with pytest.raises(NotCapable):
        await paypal.create_payment(replace(ordered(sim), method="card"))
    assert await paypal.recover_payment(replace(ordered(sim), method="card")) is None, "it was never sent"
    with pytest.raises(NotCapable):
        await paypal.list_settlements(None)


async def test_a_payment_that_isn_t_ours_has_no_reference(sim: Sim, paypal: PayPal):
    done = await captured(sim, paypal)
    sim.house.paypal.store.orders[done.id]["purchase_units"][0]["custom_id"] = "somebody's own; not an id"
    found = await paypal.fetch_payment(done.id)
    assert found is not None
    assert found.reference is None


# Giving back


async def test_a_payment_is_given_back_in_parts_but_never_more_than_all(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    order = refund_of(sim, payment, 30_00)
    first = await paypal.refund(order)
    assert (first.status, first.amount, first.payment) == (RefundStatus.COMPLETED, 30_00, payment.capture_id)
    assert first.reference == order.reference
    assert await paypal.refund(order) == first
    assert await paypal.recover_refund(order) == first
    assert await paypal.fetch_refund(first.id) == first
    with pytest.raises(Declined) as declined:
        await paypal.refund(refund_of(sim, payment, 70_01))
    assert declined.value.reason_code == "refund_amount_exceeded"
    await paypal.refund(replace(refund_of(sim, payment, 70_00), capture=None))
    with pytest.raises(Declined) as declined:
        await paypal.refund(refund_of(sim, payment, 1))
    assert declined.value.reason_code == "capture_fully_refunded"
    assert (
        sum(one["_amount"] for one in sim.house.paypal.store.refunds.values() if one["_capture"] == payment.capture_id)
        == 100_00
    )
    after = await paypal.fetch_payment(payment.id)
    assert after == payment, "what is given back doesn't change what was taken"
    assert await paypal.fetch_refund("NOSUCHREFUND00000") is None


async def test_a_refund_may_fail_days_later(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    sim.tell("/switches", provider="paypal", kind="refund", outcome="failed")
    pending = await paypal.refund(refund_of(sim, payment, 40_00))
    assert pending.status is RefundStatus.PENDING
    sim.advance(days=3)
    failed = await paypal.fetch_refund(pending.id)
    assert failed is not None
    assert (failed.status, failed.amount, failed.fee) == (RefundStatus.FAILED, 40_00, 0)
    assert failed.reason is not None
    assert (await paypal.refund(refund_of(sim, payment, 100_00))).status is RefundStatus.COMPLETED


async def test_a_disputed_payment_isn_t_given_back(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    sim.tell("/disputes", provider="paypal", payment=payment.capture_id)
    order = refund_of(sim, payment, 1_00)
    with pytest.raises(Declined) as declined:
        await paypal.refund(order)
    assert declined.value.reason_code == "refund_not_permitted_due_to_chargeback"
    recovered = await paypal.recover_refund(order)
    assert recovered is not None
    assert (recovered.status, recovered.code) == (RefundStatus.FAILED, declined.value.reason_code)


async def test_a_refund_that_our_balance_can_t_bear_yet_is_tried_again(sim: Sim, paypal: PayPal):
    payment: Payment = await captured(sim, paypal)
    poor = rail(sim, refusing=("REFUND_FAILED_INSUFFICIENT_FUNDS", "/refund"))
    with pytest.raises(RateLimited):
        await poor.refund(refund_of(sim, payment, 1_00))


async def test_another_id_than_ours_is_unknown_to_paypal(sim: Sim, paypal: PayPal):
    payment = await captured(sim, paypal)
    with pytest.raises(RefusedByProvider, match="404 RESOURCE_NOT_FOUND"):
        await paypal.refund(replace(refund_of(sim, payment, 1_00), capture="NOSUCHCAPTURE0000"))
