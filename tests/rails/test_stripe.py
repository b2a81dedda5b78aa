"""Simulated Stripe, driven by its official SDK."""

from typing import Any

import pytest
import stripe

from railsim.stripe.objects import API_VERSION
from tests.rails.conftest import Sim


@pytest.fixture
async def client(sim: Sim) -> stripe.StripeClient:
    return stripe.StripeClient(
        sim.house.stripe.api_key,
        base_addresses={"api": sim.house.stripe.url, "connect": sim.house.stripe.url, "files": sim.house.stripe.url},
        http_client=stripe.HTTPXClient(),
        max_network_retries=0,
    )


async def pay(client: stripe.StripeClient, amount: int = 10_000, **more: Any) -> stripe.PaymentIntent:
    given = {"amount": amount, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True, **more}
    return await client.v1.payment_intents.create_async(given)  # type: ignore[arg-type]


async def test_a_payment_is_captured_and_its_fee_is_in_its_balance_transaction(sim: Sim, client: stripe.StripeClient):
    made = await pay(client, expand=["latest_charge.balance_transaction"])
    assert (made.status, made.amount_received) == ("succeeded", 10_000)
    booked = made.latest_charge.balance_transaction  # type: ignore[union-attr]
    assert (booked.amount, booked.fee, booked.net, booked.status) == (10_000, 320, 9_680, "pending")  # type: ignore[union-attr]
    assert (await client.v1.payment_intents.retrieve_async(made.id)).status == "succeeded"
    charge = await client.v1.charges.retrieve_async(booked.source)  # type: ignore[union-attr,arg-type]
    assert charge.payment_intent == made.id


async def test_manual_capture_takes_a_part_and_no_more_than_was_authorised(sim: Sim, client: stripe.StripeClient):
    made = await pay(client, capture_method="manual")
    assert (made.status, made.amount_capturable) == ("requires_capture", 10_000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.capture_async(made.id, {"amount_to_capture": 10_001})
    assert refused.value.code == "amount_too_large"
    done = await client.v1.payment_intents.capture_async(made.id, {"amount_to_capture": 6_000})
    assert (done.status, done.amount_received, done.amount_capturable) == ("succeeded", 6_000, 0)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.capture_async(made.id)
    assert refused.value.code == "payment_intent_unexpected_state"


async def test_an_authorisation_is_cancelled_by_us_or_expires_by_itself(sim: Sim, client: stripe.StripeClient):
    ours, forgotten = await pay(client, capture_method="manual"), await pay(client, capture_method="manual")
    assert (await client.v1.payment_intents.cancel_async(ours.id)).status == "canceled"
    sim.advance(days=7)
    found = await client.v1.payment_intents.retrieve_async(forgotten.id)
    assert (found.status, found.cancellation_reason) == ("canceled", "automatic")


async def test_a_payment_may_be_confirmed_later(sim: Sim, client: stripe.StripeClient):
    made = await client.v1.payment_intents.create_async({"amount": 500, "currency": "usd"})
    assert made.status == "requires_payment_method"
    done = await client.v1.payment_intents.confirm_async(made.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
    ],
)
async def test_test_cards_decline_as_documented(
    sim: Sim, client: stripe.StripeClient, card: str, code: str, decline_code: str
):
    with pytest.raises(stripe.CardError) as declined:
        await pay(client, payment_method=card)
    error = declined.value.error
    assert error is not None
    assert (declined.value.http_status, declined.value.code, error.decline_code) == (402, code, decline_code)
    assert error.payment_intent is not None
    assert error.payment_intent.status == "requires_payment_method"


async def test_a_customer_may_have_to_authenticate_first(sim: Sim, client: stripe.StripeClient):
    made = await pay(client, payment_method="pm_card_authenticationRequired")
    assert made.status == "requires_action"
    sim.tell("/customers/acts", provider="stripe", act="authenticate", id=made.id)
    assert (await client.v1.payment_intents.retrieve_async(made.id)).status == "succeeded"


async def test_the_same_key_gives_the_first_answer_marked_as_replayed(sim: Sim, client: stripe.StripeClient):
    given: Any = {"amount": 700, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    first = await client.v1.payment_intents.create_async(given, {"idempotency_key": "k-same"})
    again = await client.v1.payment_intents.create_async(given, {"idempotency_key": "k-same"})
    assert first.id == again.id
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"
    other: Any = {**given, "amount": 701}
    with pytest.raises(stripe.IdempotencyError) as refused:
        await client.v1.payment_intents.create_async(other, {"idempotency_key": "k-same"})
    assert refused.value.http_status == 400
    sim.advance(days=1)
    assert (await client.v1.payment_intents.create_async(given, {"idempotency_key": "k-same"})).id != first.id


async def test_a_decline_is_remembered_by_its_key_and_a_wrong_parameter_is_not(sim: Sim, client: stripe.StripeClient):
    given: Any = {"amount": 700, "currency": "usd", "payment_method": "pm_card_chargeDeclined", "confirm": True}
    ids = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            await client.v1.payment_intents.create_async(given, {"idempotency_key": "k-declined"})
        assert declined.value.error is not None
        ids.append(declined.value.error.payment_intent.id)  # type: ignore[union-attr]
    assert ids[0] == ids[1]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.create_async({"amount": 1, "currency": "usd"}, {"idempotency_key": "k-wrong"})
    fixed = await client.v1.payment_intents.create_async(
        {"amount": 100, "currency": "usd"}, {"idempotency_key": "k-wrong"}
    )
    assert fixed.amount == 100


async def test_refunds_never_exceed_what_was_captured(sim: Sim, client: stripe.StripeClient):
    made = await pay(client)
    first = await client.v1.refunds.create_async({"payment_intent": made.id, "amount": 4_000})
    assert (first.status, first.amount) == ("succeeded", 4_000)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"payment_intent": made.id, "amount": 6_001})
    await client.v1.refunds.create_async({"payment_intent": made.id})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.refunds.create_async({"payment_intent": made.id})
    assert refused.value.code == "charge_already_refunded"
    listed = await client.v1.refunds.list_async({"payment_intent": made.id})
    assert [one.amount for one in listed.data] == [6_000, 4_000]


async def test_a_refund_can_fail_later_and_its_money_returns(sim: Sim, client: stripe.StripeClient):
    made = await pay(client, payment_method="pm_card_refundFail")
    refund = await client.v1.refunds.create_async({"payment_intent": made.id})
    assert refund.status == "succeeded"
    sim.advance(days=1)
    failed = await client.v1.refunds.retrieve_async(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_balance_transaction.net) == ("failed", 10_000)  # type: ignore[union-attr]
    types = [one.json()["type"] for one in sim.webhooks("stripe")]
    assert "refund.failed" in types


async def test_a_refund_can_pend(sim: Sim, client: stripe.StripeClient):
    made = await pay(client)
    sim.tell("/switches", provider="stripe", kind="refund", outcome="pending", seconds=3_600)
    refund = await client.v1.refunds.create_async({"payment_intent": made.id})
    assert refund.status == "pending"
    sim.advance(seconds=3_600)
    assert (await client.v1.refunds.retrieve_async(refund.id)).status == "succeeded"


async def test_a_dispute_takes_amount_and_fee_and_gives_the_amount_back_when_won(sim: Sim, client: stripe.StripeClient):
    made = await pay(client)
    opened = sim.tell("/disputes", provider="stripe", payment=made.id, amount=2_500, reason="product_not_received")
    found = await client.v1.disputes.retrieve_async(opened["id"])
    assert [(one.amount, one.fee, one.net) for one in found.balance_transactions] == [(-2_500, 1_500, -4_000)]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.refunds.create_async({"payment_intent": made.id})
    assert refused.value.code == "charge_disputed"
    won = await client.v1.disputes.update_async(opened["id"], {"evidence": {"uncategorized_text": "winning_evidence"}})
    assert (won.status, [one.net for one in won.balance_transactions]) == ("won", [-4_000, 2_500])


async def test_a_dispute_is_lost_by_closing_it_or_by_waiting(sim: Sim, client: stripe.StripeClient):
    first, second = await pay(client, payment_method="pm_card_createDispute"), await pay(client)
    opened = (await client.v1.disputes.list_async({"payment_intent": first.id})).data[0]
    assert (await client.v1.disputes.close_async(opened.id)).status == "lost"
    late = sim.tell("/disputes", provider="stripe", payment=second.id)
    sim.advance(days=9)
    assert (await client.v1.disputes.retrieve_async(late["id"])).status == "lost"


async def test_a_payout_lists_the_transactions_inside_it(sim: Sim, client: stripe.StripeClient):
    sim.advance(days=60)  # until what other tests' payments bring later has come: disputes, failing refunds
    sim.tell("/settlements", provider="stripe", everything=True)
    made = await pay(client)
    await client.v1.refunds.create_async({"payment_intent": made.id, "amount": 1_000})
    assert sim.tell("/settlements", provider="stripe")["payouts"] == []
    sim.advance(days=2)
    [id] = sim.tell("/settlements", provider="stripe")["payouts"]
    payout = await client.v1.payouts.retrieve_async(id)
    inside = await client.v1.balance_transactions.list_async({"payout": id, "limit": 2, "expand": ["data.source"]})
    everything = [one async for one in inside.auto_paging_iter()]
    assert {one.type: one.net for one in everything} == {"payout": -8_680, "refund": -1_000, "charge": 9_680}
    assert (payout.amount, payout.status) == (8_680, "pending")
    sim.advance(days=1)
    assert (await client.v1.payouts.retrieve_async(id)).status == "in_transit"
    sim.advance(days=1)
    assert (await client.v1.payouts.retrieve_async(id)).status == "paid"
    assert id in [one.id for one in (await client.v1.payouts.list_async({"status": "paid"})).data]


@pytest.mark.parametrize("outcome", ["failed", "pending", "returned"])
async def test_a_payout_to_the_bank_can_end_otherwise(sim: Sim, client: stripe.StripeClient, outcome: str):
    await pay(client)
    sim.tell("/switches", provider="stripe", kind="settlement", outcome=outcome)
    [id] = sim.tell("/settlements", provider="stripe", everything=True)["payouts"]
    sim.advance(days=2)
    middle = (await client.v1.payouts.retrieve_async(id)).status
    sim.advance(days=1)
    end = await client.v1.payouts.retrieve_async(id, {"expand": ["failure_balance_transaction"]})
    expected = {"failed": ("failed", "failed"), "pending": ("in_transit",) * 2, "returned": ("paid", "failed")}
    assert (middle, end.status) == expected[outcome]
    if outcome != "pending":
        assert end.failure_balance_transaction.net == end.amount  # type: ignore[union-attr]
        sim.tell("/settlements", provider="stripe", everything=True)


async def test_cards_are_saved_for_a_customer_and_charged_later(sim: Sim, client: stripe.StripeClient):
    owner = await client.v1.customers.create_async({"email": "ada@example.com", "metadata": {"user": "usr_1"}})
    asked: Any = {
        "customer": owner.id,
        "payment_method": "pm_card_visa",
        "confirm": True,
        "payment_method_types": ["card"],
    }
    setup = await client.v1.setup_intents.create_async(asked)
    assert setup.status == "succeeded"
    [card] = (await client.v1.customers.payment_methods.list_async(owner.id)).data
    done = await pay(client, payment_method=card.id, customer=owner.id, off_session=True)
    assert done.status == "succeeded"
    await client.v1.payment_methods.detach_async(card.id)
    assert (await client.v1.customers.payment_methods.list_async(owner.id)).data == []
    with pytest.raises(stripe.CardError):
        await client.v1.setup_intents.create_async(
            {"customer": owner.id, "payment_method": "pm_card_chargeDeclined", "confirm": True}
        )


async def test_a_card_is_known_by_its_number(sim: Sim, client: stripe.StripeClient):
    card: Any = {
        "type": "card",
        "card": {"number": "4000000000009995", "exp_month": 12, "exp_year": 2034, "cvc": "123"},
    }
    method = await client.v1.payment_methods.create_async(card)
    with pytest.raises(stripe.CardError) as declined:
        await pay(client, payment_method=method.id)
    assert declined.value.error is not None
    assert declined.value.error.decline_code == "insufficient_funds"


async def test_webhooks_are_signed_as_the_sdk_verifies_and_the_events_are_listed(sim: Sim, client: stripe.StripeClient):
    made = await pay(client)
    got = sim.webhooks("stripe")
    secret = sim.house.stripe.webhook_secret
    for one in got:
        stripe.WebhookSignature.verify_header(one.body.decode(), one.headers["stripe-signature"], secret)
        assert one.json()["api_version"] == API_VERSION
    assert [one.json()["type"] for one in got] == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]
    listed = await client.v1.events.list_async({"type": "payment_intent.succeeded", "limit": 1})
    assert listed.data[0].data.object["id"] == made.id
    assert (await client.v1.events.retrieve_async(listed.data[0].id)).type == "payment_intent.succeeded"


async def test_cursors_page_both_ways(sim: Sim, client: stripe.StripeClient):
    made = [(await pay(client, amount=100 + place)).id for place in range(5)][::-1]
    first = await client.v1.payment_intents.list_async({"limit": 2})
    second = await client.v1.payment_intents.list_async({"limit": 2, "starting_after": made[1]})
    back = await client.v1.payment_intents.list_async({"limit": 2, "ending_before": made[2]})
    assert [[one.id for one in page.data] for page in (first, second, back)] == [made[:2], made[2:4], made[:2]]
    assert first.has_more
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.payment_intents.list_async({"starting_after": "pi_unknown"})


async def test_a_wrong_key_and_an_unknown_object_are_refused(sim: Sim, client: stripe.StripeClient):
    stranger = stripe.StripeClient(
        "sk_test_wrong", base_addresses={"api": sim.house.stripe.url}, http_client=stripe.HTTPXClient()
    )
    with pytest.raises(stripe.AuthenticationError):
        await stranger.v1.payment_intents.retrieve_async("pi_1")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.retrieve_async("pi_1")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
