"""Refunds, disputes, settlements and saved cards by the Stripe rail; every exchange fits the official file (`sim`)."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from fiat.rails.currencies import Currencies
from fiat.rails.errors import Declined, EffectUnknown, RailMisconfigured, RateLimited, RefusedByProvider
from fiat.rails.protocol import (
    DisputeStatus,
    EntryKind,
    MethodOrder,
    PaymentStatus,
    RefundStatus,
    SettlementStatus,
)
from fiat.rails.stripe import reading
from fiat.rails.stripe.rail import WITH_FEE, StripeRail
from fiat.rails.stripe.statuses import CURRENCIES, USUAL
from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.garbage import answering
from tests.rails.orders import ASSETS, Ids, refund_of, whole
from tests.rails.stripe_rail import ordered, rail_of

NOW = PaymentStatus.CAPTURED


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[StripeRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


# giving back


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
    paid = await rail.create_payment(ordered(ids))
    order = refund_of(ids, paid, 10_000)
    sim.tell("/switches", provider="stripe", kind="refund", outcome="failed", seconds=3_600)
    made = await rail.refund(order)
    assert made.status is RefundStatus.COMPLETED
    sim.advance(seconds=3_600)
    failed = await rail.fetch_refund(made.id)
    assert failed is not None
    assert (failed.status, failed.code) == (RefundStatus.FAILED, "lost_or_stolen_card")
    assert (await rail.refund(order)).status is RefundStatus.FAILED, "a replayed answer is old"


async def test_refunds_of_stripe_s_own_pages_are_listed_without_our_id(sim: Sim, rail: StripeRail, ids: Ids):
    _, cursor = await whole(rail.list_refunds)
    paid = await rail.create_payment(ordered(ids))
    ours = await rail.refund(refund_of(ids, paid, 100))
    made = await rail._sdk.refunds.create_async({"payment_intent": paid.id, "amount": 200})
    found, _ = await whole(rail.list_refunds, cursor)
    assert {(one.id, one.reference) for one in found} >= {(ours.id, ours.reference), (made.id, None)}


async def test_a_refund_in_no_currency_of_ours_is_passed_by_in_a_list(sim: Sim, rail: StripeRail, ids: Ids):
    _, cursor = await whole(rail.list_refunds)
    for asset in ("USD", "EUR"):
        await rail.refund(refund_of(ids, await rail.create_payment(ordered(ids, asset=asset)), 100))
    dollars = [asset for asset in ASSETS if asset.code == "USD"]
    rail._currencies = Currencies("stripe", dollars, usual=USUAL, others=CURRENCIES)
    assert [one.asset for one in (await whole(rail.list_refunds, cursor))[0]] == ["USD"]


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


async def test_a_card_whose_bank_wants_a_confirmation_is_not_saved(sim: Sim, ids: Ids):
    """The simulator asks for none when a card is saved: an answer as Stripe gives it then."""
    with answering(200, b'{"id": "seti_1", "object": "setup_intent", "status": "requires_action"}') as url:
        rail = rail_of(sim, base_url=url)
        with pytest.raises(Declined) as declined:
            await rail.save_method(MethodOrder(reference=ids("pm"), owner="usr_1", token="pm_1"))
        await rail.aclose()
    assert declined.value.reason_code == "authentication_required"


async def test_what_is_in_a_payout_is_asked_later_while_stripe_reconciles_it(sim: Sim):
    with answering(200, b'{"id": "po_1", "object": "payout", "reconciliation_status": "in_progress"}') as url:
        rail = rail_of(sim, base_url=url)
        with pytest.raises(RateLimited) as later:
            await rail.settlement_entries("po_1", None)
        await rail.aclose()
    assert later.value.retry_after == 3600


async def test_an_account_that_converts_is_told_to_whoever_can_change_it(sim: Sim, rail: StripeRail, ids: Ids):
    """Nobody's money is booked by an amount in another currency."""
    paid = await rail.create_payment(ordered(ids, method="pm_card_createDispute"))
    told = await rail._client.find(rail._sdk.payment_intents.retrieve_async(paid.id, {"expand": WITH_FEE}))
    assert told is not None
    told["latest_charge"]["balance_transaction"]["currency"] = "eur"
    assert reading.payment(told, rail._currencies).fee is None
    [dispute] = [one for one in sim.house.stripe.store.tables["du"].values() if one["payment_intent"] == paid.id]
    moved = [one | {"currency": "eur"} for one in dispute["balance_transactions"]]
    with pytest.raises(RailMisconfigured, match="the account converts"):
        reading.dispute(dispute | {"balance_transactions": moved}, rail._currencies)
    with pytest.raises(RailMisconfigured, match="no asset here"):
        reading.dispute(dispute | {"currency": "sek", "balance_transactions": []}, rail._currencies)
