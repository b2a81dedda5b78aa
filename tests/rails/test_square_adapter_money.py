"""Refunds, disputes, settlements and saved cards by the Square rail; every exchange fits the official file (`sim`)."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from fiat.rails.currencies import Currencies
from fiat.rails.errors import Declined, EffectUnknown, RefusedByProvider
from fiat.rails.protocol import (
    DisputeStatus,
    EntryKind,
    MethodOrder,
    PaymentStatus,
    RefundStatus,
    SettlementStatus,
)
from fiat.rails.square.rail import SquareRail
from fiat.rails.square.statuses import CURRENCIES, USUAL
from railsim.switches import Fault
from tests.rails.conftest import Sim
from tests.rails.orders import ASSETS, Ids, refund_of, whole
from tests.rails.square_rail import ordered, rail_of

NOW = PaymentStatus.CAPTURED


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[SquareRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


async def test_refunds_are_made_once_and_never_beyond_the_rest(sim: Sim, rail: SquareRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids))
    order = refund_of(ids, paid, 4_000)
    first = await rail.refund(order)
    assert (first.status, first.amount, first.fee) == (RefundStatus.PENDING, 4_000, 0)
    assert (first.reference, first.payment) == (order.reference, paid.id)
    assert await rail.refund(order) == first
    sim.advance(seconds=60)
    done = await rail.refund(order)
    assert done.status is RefundStatus.COMPLETED, "an old answer is read again"
    assert done == await rail.fetch_refund(first.id) == await rail.recover_refund(order)
    with pytest.raises(Declined) as declined:
        await rail.refund(refund_of(ids, paid, 6_001))
    assert declined.value.reason_code == "refund_amount_invalid"
    await rail.refund(refund_of(ids, paid, 6_000))
    assert len(sim.house.square.store.payments[paid.id]["refund_ids"]) == 2


async def test_a_refund_can_fail_later(sim: Sim, rail: SquareRail, ids: Ids):
    paid = await rail.create_payment(ordered(ids))
    sim.tell("/switches", provider="square", kind="refund", outcome="failed", seconds=3_600)
    made = await rail.refund(refund_of(ids, paid, 10_000))
    sim.advance(seconds=3_600)
    failed = await rail.fetch_refund(made.id)
    assert failed is not None
    assert (failed.status, failed.code) == (RefundStatus.FAILED, "failed")


async def test_refunds_of_square_s_own_pages_are_listed_without_our_id(sim: Sim, rail: SquareRail, ids: Ids):
    _, cursor = await whole(rail.list_refunds)
    paid = await rail.create_payment(ordered(ids))
    ours = await rail.refund(refund_of(ids, paid, 100))
    made = await rail._sdk.refunds.refund_payment(
        idempotency_key="by hand", amount_money={"amount": 200, "currency": "USD"}, payment_id=paid.id, reason="sorry"
    )
    assert made.refund is not None
    found = {one.id: one.reference for one in (await whole(rail.list_refunds, cursor))[0]}
    assert found[ours.id] == ours.reference
    assert found[str(made.refund.id)] is None


@pytest.mark.parametrize("hours", [0, 2])
@pytest.mark.parametrize("made", [True, False])
async def test_f71_a_refund_without_an_answer_is_one_refund(
    sim: Sim, rail: SquareRail, ids: Ids, hours: int, made: bool
):
    paid = await rail.create_payment(ordered(ids))
    order = refund_of(ids, paid, 2_500)
    kind = Fault.CLOSED_AFTER if made else Fault.CLOSED_BEFORE
    sim.tell("/switches", provider="square", kind=kind, method="POST", path="refunds$")
    with pytest.raises(EffectUnknown):
        await rail.refund(order)
    sim.advance(seconds=hours * 3_600)
    found = await rail.recover_refund(order)
    if hours and not made:
        assert found is None
        return
    assert found is not None
    assert (found.amount, found.reference, found.payment) == (2_500, order.reference, paid.id)
    assert len(sim.house.square.store.payments[paid.id]["refund_ids"]) == 1


@pytest.mark.parametrize(
    ("won", "status", "withdrawn"), [(True, DisputeStatus.WON, 0), (False, DisputeStatus.LOST, 2_500)]
)
async def test_a_dispute_holds_its_amount_until_it_is_won(
    sim: Sim, rail: SquareRail, ids: Ids, won: bool, status: DisputeStatus, withdrawn: int
):
    paid = await rail.create_payment(ordered(ids))
    made = sim.tell("/disputes", provider="square", payment=paid.id, amount=2_500, reason="NOT_RECEIVED")
    told = await rail.fetch_dispute(made["id"])
    assert told is not None
    assert (told.status, told.amount, told.withdrawn, told.fee) == (DisputeStatus.OPEN, 2_500, 2_500, 0)
    assert (told.payment, told.reason, told.asset) == (paid.id, "not_received", "USD")
    assert told.respond_by == told.opened_at + timedelta(days=14)
    with pytest.raises(Declined) as declined:
        await rail.refund(refund_of(ids, paid, 100))
    assert declined.value.reason_code == "payment_not_refundable_due_to_dispute"
    sim.tell(f"/disputes/{made['id']}", provider="square", won=won)
    ended = await rail.fetch_dispute(made["id"])
    assert ended is not None
    assert (ended.status, ended.withdrawn) == (status, withdrawn)
    every, cursor = await whole(rail.list_disputes)
    assert ended in every
    assert ended in (await whole(rail.list_disputes, cursor))[0], "those that changed are listed again"


async def test_what_is_in_no_currency_of_ours_is_passed_by_in_a_list(sim: Sim, rail: SquareRail, ids: Ids):
    _, cursor = await whole(rail.list_refunds)
    store, paid = sim.house.square.store, [await rail.create_payment(ordered(ids)) for _ in range(4)]
    refunds = [(await rail.refund(refund_of(ids, one, 100))).id for one in paid[:2]]
    disputes = [sim.tell("/disputes", provider="square", payment=one.id)["id"] for one in paid[2:]]
    odd = (store.refunds[refunds[0]]["amount_money"], store.disputes[disputes[0]]["amount_money"])
    for money in odd:
        money["currency"] = "EUR"
    dollars = [asset for asset in ASSETS if asset.code == "USD"]
    rail._currencies = Currencies("square", dollars, usual=USUAL, others=CURRENCIES)
    try:
        assert [one.id for one in (await whole(rail.list_refunds, cursor))[0] if one.id in refunds] == refunds[1:]
        assert [one.id for one in (await whole(rail.list_disputes))[0] if one.id in disputes] == disputes[1:]
    finally:
        for money in odd:
            money["currency"] = "USD"


async def test_more_disputes_than_a_page_are_all_listed(sim: Sim, rail: SquareRail, ids: Ids):
    made = set()
    for _ in range(51):
        paid = await rail.create_payment(ordered(ids, 100))
        made.add(sim.tell("/disputes", provider="square", payment=paid.id)["id"])
    first = await rail.list_disputes(None)
    assert (len(first.items), first.more) == (50, True)
    assert made <= {one.id for one in (await whole(rail.list_disputes))[0]}
    assert (await rail.list_disputes("forgotten")).cursor == "", "a cursor that Square forgot begins the list anew"


async def test_a_settlement_s_entries_add_up_and_name_what_they_pay_out(
    sim: Sim, rail: SquareRail, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fiat.rails.square.rail.PAGE", 2)
    sim.advance(days=5)
    sim.tell("/settlements", provider="square", everything=True)
    paid, other = [await rail.create_payment(ordered(ids)) for _ in range(2)]
    sim.tell("/switches", provider="square", kind="refund", outcome="failed")
    back = await rail.refund(refund_of(ids, other, 10_000))
    sim.advance(seconds=60)
    refund = await rail.refund(refund_of(ids, paid, 1_000))
    made = sim.tell("/disputes", provider="square", payment=paid.id, amount=2_000)
    sim.tell(f"/disputes/{made['id']}", provider="square", won=True)
    [id] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
    told = await rail.fetch_settlement(id)
    assert told is not None
    assert (told.status, told.asset) == (SettlementStatus.SENT, "USD")
    assert (told.descriptor or "").startswith("L21")
    assert told.arrives_on == (told.created_at + timedelta(days=1)).date()
    entries, _ = await whole(lambda cursor: rail.settlement_entries(id, cursor))
    assert all(one.gross - one.fee == one.net for one in entries)
    assert sum(one.net for one in entries) == told.amount
    assert [(one.kind, one.object, one.gross, one.fee) for one in entries] == [
        (EntryKind.PAYMENT, paid.id, 10_000, 320),
        (EntryKind.PAYMENT, other.id, 10_000, 320),
        (EntryKind.REFUND, back.id, -10_000, 0),
        (EntryKind.REFUND_FAILURE, back.id, 10_000, 0),
        (EntryKind.REFUND, refund.id, -1_000, 0),
        (EntryKind.DISPUTE, made["id"], -2_000, 0),
        (EntryKind.DISPUTE_REVERSAL, made["id"], 2_000, 0),
    ]
    sim.advance(days=1)
    arrived = await rail.fetch_settlement(id)
    assert arrived is not None
    assert arrived.status is SettlementStatus.PAID


async def test_a_list_s_cursor_goes_on_with_what_is_newer(
    sim: Sim, rail: SquareRail, ids: Ids, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fiat.rails.square.rail.PAGE", 2)

    async def settled() -> str:
        await rail.create_payment(ordered(ids))
        sim.advance(days=2)
        [id] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
        return str(id)

    first = [await settled() for _ in range(5)]
    every, cursor = await whole(rail.list_settlements)
    assert [one.id for one in every][-5:] == first
    newer = [await settled() for _ in range(3)]
    found, last = await whole(rail.list_settlements, cursor)
    assert [one.id for one in found] == [first[-1], *newer], "the last minutes are read again"
    assert [one.id for one in (await whole(rail.list_settlements, last))[0]] == newer[-1:]
    begun = await rail.list_settlements(None)
    assert begun.more
    gone = await rail.list_settlements(begun.cursor.rpartition(" ")[0] + " forgotten")
    assert (gone.items, gone.more) == ((), True)
    assert newer[-1] in [one.id for one in (await whole(rail.list_settlements, gone.cursor))[0]]


async def test_a_settlement_that_the_bank_sends_back_is_in_the_next_one(sim: Sim, rail: SquareRail, ids: Ids):
    await rail.create_payment(ordered(ids))
    sim.tell("/switches", provider="square", kind="settlement", outcome="failed")
    [id] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
    sim.advance(days=1)
    failed = await rail.fetch_settlement(id)
    assert failed is not None
    assert failed.status is SettlementStatus.FAILED
    [following] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
    entries, _ = await whole(lambda cursor: rail.settlement_entries(following, cursor))
    assert [(one.kind, one.object, one.net) for one in entries] == [(EntryKind.PAYOUT_RETURN, id, failed.amount)]


async def test_a_card_is_saved_paid_with_and_forgotten(sim: Sim, rail: SquareRail, ids: Ids):
    order = MethodOrder(reference=ids("pm"), owner="usr_1", token="cnon:card-nonce-ok")
    saved = await rail.save_method(order)
    assert (saved.brand, saved.last4, saved.expires_month, saved.expires_year) == ("visa", "5858", 12, 2034)
    assert saved.token not in repr(saved)
    assert await rail.save_method(order) == saved
    assert saved.customer is not None
    assert sim.house.square.store.customers[saved.customer]["reference_id"] == "usr_1"
    paid = await rail.create_payment(ordered(ids, method=saved.token, customer=saved.customer))
    assert paid.status is NOW
    for _ in range(2):
        await rail.forget_method(saved)
    with pytest.raises((Declined, RefusedByProvider)):
        await rail.create_payment(ordered(ids, method=saved.token, customer=saved.customer))


async def test_the_card_of_somebody_s_payment_or_a_saved_one_is_not_saved_for_another_user(
    sim: Sim, rail: SquareRail, ids: Ids
):
    paid = await rail.create_payment(ordered(ids))
    saved = await rail.save_method(MethodOrder(reference=ids("pm"), owner="usr_1", token="cnon:card-nonce-ok"))
    before = len(sim.house.square.store.cards)
    for token in (paid.id, saved.token):
        with pytest.raises(Declined) as declined:
            await rail.save_method(MethodOrder(reference=ids("pm"), owner="usr_2", token=token))
        assert declined.value.reason_code == "method_not_from_form"
    assert len(sim.house.square.store.cards) == before


async def test_a_card_that_declines_is_not_saved(sim: Sim, rail: SquareRail, ids: Ids):
    with pytest.raises(Declined):
        await rail.save_method(MethodOrder(reference=ids("pm"), owner="usr_1", token="cnon:card-nonce-declined"))
