"""Simulated Square, driven by its official SDK."""

from typing import Any
from uuid import uuid4

import pytest
from square import AsyncSquare
from square.core.api_error import ApiError
from square.utils.webhooks_helper import verify_signature

from tests.rails.conftest import Sim


@pytest.fixture
async def client(sim: Sim) -> AsyncSquare:
    return AsyncSquare(token=sim.house.square.access_token, base_url=sim.house.square.url, timeout=30)


async def pay(client: AsyncSquare, amount: int = 10_000, source: str = "cnon:card-nonce-ok", **more: Any) -> Any:
    key = more.pop("idempotency_key", str(uuid4()))
    money: Any = {"amount": amount, "currency": "USD"}
    answer = await client.payments.create(source_id=source, idempotency_key=key, amount_money=money, **more)
    return answer.payment


def code_of(refused: Any) -> str:
    return str(refused.value.body["errors"][0]["code"])


async def test_a_payment_completes_at_once_and_carries_its_fee(sim: Sim, client: AsyncSquare):
    made = await pay(client)
    assert (made.status, made.processing_fee[0].amount_money.amount) == ("COMPLETED", 320)
    assert (await client.payments.get(payment_id=made.id)).payment.id == made.id


async def test_without_autocomplete_a_payment_waits_to_be_completed_or_cancelled(sim: Sim, client: AsyncSquare):
    first, second, third = [await pay(client, autocomplete=False) for _ in range(3)]
    assert first.status == "APPROVED"
    done = await client.payments.complete(payment_id=first.id, version_token=first.version_token)
    assert done.payment.status == "COMPLETED"
    with pytest.raises(ApiError) as refused:
        await client.payments.cancel(payment_id=first.id)
    assert code_of(refused) == "BAD_REQUEST"
    assert (await client.payments.cancel(payment_id=second.id)).payment.status == "CANCELED"
    sim.advance(days=7)
    assert (await client.payments.get(payment_id=third.id)).payment.status == "CANCELED"


async def test_what_an_unanswered_request_made_is_cancelled_by_its_key(sim: Sim, client: AsyncSquare):
    made = await pay(client, autocomplete=False, idempotency_key="k-unanswered")
    await client.payments.cancel_by_idempotency_key(idempotency_key="k-unanswered")
    assert (await client.payments.get(payment_id=made.id)).payment.status == "CANCELED"


@pytest.mark.parametrize(
    ("nonce", "code"),
    [
        ("cnon:card-nonce-declined", "GENERIC_DECLINE"),
        ("cnon:card-nonce-rejected-cvv", "CVV_FAILURE"),
        ("cnon:card-nonce-rejected-postalcode", "ADDRESS_VERIFICATION_FAILURE"),
        ("cnon:card-nonce-rejected-expiration", "INVALID_EXPIRATION"),
        ("cnon:card-nonce-already-used", "CARD_TOKEN_USED"),
    ],
)
async def test_sandbox_nonces_decline_as_documented(sim: Sim, client: AsyncSquare, nonce: str, code: str):
    with pytest.raises(ApiError) as refused:
        await pay(client, source=nonce)
    assert (refused.value.status_code, code_of(refused)) == (400, code)


async def test_a_key_is_good_for_one_body(sim: Sim, client: AsyncSquare):
    first = await pay(client, idempotency_key="k-1")
    assert (await pay(client, idempotency_key="k-1")).id == first.id
    with pytest.raises(ApiError) as refused:
        await pay(client, amount=10_001, idempotency_key="k-1")
    assert (refused.value.status_code, code_of(refused)) == (400, "IDEMPOTENCY_KEY_REUSED")


async def test_refunds_have_limits_and_complete_later(sim: Sim, client: AsyncSquare):
    made = await pay(client)
    part: Any = {"amount": 4_000, "currency": "USD"}
    first = (await client.refunds.refund_payment(idempotency_key="r-1", payment_id=made.id, amount_money=part)).refund
    assert first is not None
    assert first.status == "PENDING"
    sim.advance(seconds=60)
    assert (await client.refunds.get(refund_id=first.id)).refund.status == "COMPLETED"
    more: Any = {"amount": 6_001, "currency": "USD"}
    with pytest.raises(ApiError) as refused:
        await client.refunds.refund_payment(idempotency_key="r-2", payment_id=made.id, amount_money=more)
    assert code_of(refused) == "REFUND_AMOUNT_INVALID"


async def test_a_refund_can_fail_later_and_may_be_tried_again(sim: Sim, client: AsyncSquare):
    made = await pay(client)
    whole: Any = {"amount": 10_000, "currency": "USD"}
    sim.tell("/switches", provider="square", kind="refund", outcome="failed", seconds=3_600)
    first = (await client.refunds.refund_payment(idempotency_key="f-1", payment_id=made.id, amount_money=whole)).refund
    assert first is not None
    sim.advance(seconds=3_600)
    assert (await client.refunds.get(refund_id=first.id)).refund.status == "FAILED"
    again = (await client.refunds.refund_payment(idempotency_key="f-2", payment_id=made.id, amount_money=whole)).refund
    assert again is not None
    sim.advance(seconds=60)
    assert (await client.refunds.get(refund_id=again.id)).refund.status == "COMPLETED"


async def test_disputes_are_won_lost_or_accepted(sim: Sim, client: AsyncSquare):
    payments = [await pay(client) for _ in range(3)]
    opened = [sim.tell("/disputes", provider="square", payment=one.id, amount=2_500)["id"] for one in payments]
    money: Any = {"amount": 1, "currency": "USD"}
    with pytest.raises(ApiError) as refused:
        await client.refunds.refund_payment(idempotency_key="d-1", payment_id=payments[0].id, amount_money=money)
    assert code_of(refused) == "PAYMENT_NOT_REFUNDABLE_DUE_TO_DISPUTE"
    sim.tell(f"/disputes/{opened[0]}", provider="square", won=True)
    sim.tell(f"/disputes/{opened[1]}", provider="square", won=False)
    await client.disputes.accept(dispute_id=opened[2])
    states = [(await client.disputes.get(dispute_id=id)).dispute.state for id in opened]
    assert states == ["WON", "LOST", "ACCEPTED"]
    listed = [one.id async for one in await client.disputes.list(states="WON")]
    assert listed == [opened[0]]


async def test_a_payout_lists_its_entries_page_by_page(sim: Sim, client: AsyncSquare):
    sim.tell("/settlements", provider="square", everything=True)
    made = [await pay(client) for _ in range(3)]
    sim.advance(days=1)
    [id] = sim.tell("/settlements", provider="square")["payouts"]
    payout = (await client.payouts.get(payout_id=id)).payout
    assert payout is not None
    assert (payout.status, payout.amount_money.amount) == ("SENT", 3 * 9_680)
    entries = [one async for one in await client.payouts.list_entries(payout_id=id, limit=2)]
    assert [one.type_charge_details.payment_id for one in entries] == [one.id for one in made]
    assert [one.net_amount_money.amount for one in entries] == [9_680] * 3
    sim.advance(days=1)
    assert id in [one.id async for one in await client.payouts.list(status="PAID")]


@pytest.mark.parametrize("outcome", ["failed", "pending", "returned"])
async def test_a_payout_to_the_bank_can_end_otherwise(sim: Sim, client: AsyncSquare, outcome: str):
    await pay(client)
    sim.tell("/switches", provider="square", kind="settlement", outcome=outcome)
    [id] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
    states = []
    for _ in range(2):
        sim.advance(days=1)
        states.append((await client.payouts.get(payout_id=id)).payout.status)
    assert (
        states == {"failed": ["FAILED", "FAILED"], "pending": ["SENT", "SENT"], "returned": ["PAID", "FAILED"]}[outcome]
    )
    if outcome == "pending":
        return
    [again] = sim.tell("/settlements", provider="square", everything=True)["payouts"]
    entries = [one async for one in await client.payouts.list_entries(payout_id=again)]
    assert [one.type for one in entries] == ["RETURNED_PAYOUT"]


async def test_cards_are_saved_for_a_customer_and_charged_later(sim: Sim, client: AsyncSquare):
    owner = (await client.customers.create(idempotency_key="c-1", given_name="Ada")).customer
    assert owner is not None
    card: Any = {"customer_id": owner.id}
    saved = (await client.cards.create(idempotency_key="cc-1", source_id="cnon:card-nonce-ok", card=card)).card
    assert saved is not None
    assert (await pay(client, source=str(saved.id), customer_id=owner.id)).status == "COMPLETED"
    assert [one.id async for one in await client.cards.list(customer_id=owner.id)] == [saved.id]
    await client.cards.disable(card_id=str(saved.id))
    with pytest.raises(ApiError):
        await pay(client, source=str(saved.id), customer_id=owner.id)


async def test_cursors_page_through_and_hold_for_their_question_only(sim: Sim, client: AsyncSquare):
    made = [(await pay(client, amount=100 + place)).id for place in range(5)][::-1]
    first = await client.payments.list(limit=2)
    got = [one.id async for one in first][:5]
    assert got == made
    raw = await client.payments.list(limit=2)
    cursor = raw.response.cursor
    with pytest.raises(ApiError) as refused:
        await client.payments.list(limit=2, cursor=cursor, sort_order="ASC")
    assert code_of(refused) == "INVALID_CURSOR"


async def test_webhooks_are_signed_as_the_sdk_verifies(sim: Sim, client: AsyncSquare):
    await pay(client)
    got = sim.webhooks("square")
    assert [one.json()["type"] for one in got] == ["payment.created", "payment.updated"]
    for one in got:
        assert verify_signature(
            request_body=one.body.decode(), signature_header=one.headers["x-square-hmacsha256-signature"],
            signature_key=sim.house.square.signature_key, notification_url=f"{sim.inbox.url}/square",
        )  # fmt: skip


async def test_the_location_is_listed_and_strangers_are_refused(sim: Sim, client: AsyncSquare):
    [location] = (await client.locations.list()).locations or []
    assert location.currency == "USD"
    stranger = AsyncSquare(token="wrong", base_url=sim.house.square.url)
    with pytest.raises(ApiError) as refused:
        await stranger.locations.list()
    assert (refused.value.status_code, code_of(refused)) == (401, "UNAUTHORIZED")
