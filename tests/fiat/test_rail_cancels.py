"""Cancelling and capturing top-ups whose provider doesn't answer, or doesn't want to."""

from datetime import timedelta

import pytest

from fiat.rails.amounts import Bounds
from fiat.rails.errors import AmountNotPayable, Declined, RefusedByProvider
from fiat.rails.protocol import Capturing, Payment, PaymentOrder
from fiat.rails.top_up_states import TopUpState
from tests.fiat.rail_world import ADA, World

S = TopUpState


async def test_cancelling_what_awaits_its_answer_orders_nothing(world: World):
    world.line.faults.append("before")  # the order never arrives
    made = await world.top_up()
    asked = len(world.line.calls)
    waiting = await world.rails.top_ups.cancel(key=world.key(), owner=ADA, top_up=made.id)
    assert (waiting.state, waiting.cancelling, waiting.code) == (S.UNKNOWN, True, "not_yet_known")
    for _ in range(9):
        world.clock.advance(timedelta(minutes=1))
        await world.rails.top_ups.steps.step()
        assert (await world.again(made)).state is S.UNKNOWN, "it may still be on its way"
    world.clock.advance(timedelta(minutes=1))
    await world.rails.top_ups.steps.step()
    assert set(world.line.calls[asked:]) == {"find_payment"}, "others may make the payment"
    ended = await world.again(made)
    assert (ended.state, ended.code, ended.reason, await world.has()) == (S.CANCELLED, "cancelled", None, 0)


@pytest.mark.parametrize(("method", "end", "has"), [("tok_visa", S.FINAL, 10_000), (None, S.CANCELLED, 0)])
async def test_what_the_provider_has_of_a_top_up_that_is_to_be_cancelled_is_found_at_once(
    world: World, method, end, has
):
    world.line.faults.append("after")  # the order arrives, and its answer is lost
    made = await world.top_up(method=method)
    ended = await world.rails.top_ups.cancel(key=world.key(), owner=ADA, top_up=made.id)
    assert (ended.state, await world.has()) == (end, has)


@pytest.mark.parametrize(("method", "end", "has"), [("tok_visa", S.FINAL, 10_000), (None, S.CANCELLED, 0)])
async def test_a_webhook_tells_what_became_of_a_top_up_that_is_to_be_cancelled(world: World, method, end, has):
    world.line.faults += ["after", "before"]  # the order arrives, its answer is lost, and so is our next question
    made = await world.top_up(method=method)
    waiting = await world.rails.top_ups.cancel(key=world.key(), owner=ADA, top_up=made.id)
    assert waiting.state is S.UNKNOWN
    await world.deliver()
    assert ((await world.again(made)).state, await world.has()) == (end, has)


@pytest.mark.parametrize("problem", [AmountNotPayable("half a yen"), Declined("no", reason_code="expired_card"), None])
async def test_a_capture_that_is_refused_locks_nothing(world: World, monkeypatch, problem):
    made = await world.top_up(capturing=Capturing.MANUAL)
    problem = problem or RefusedByProvider("a parameter was wrong")
    capture = world.sandbox.capture

    async def refuses(order: PaymentOrder, payment: str, amount: int) -> Payment:
        if amount == 4_000:
            raise problem
        return await capture(order, payment, amount)

    monkeypatch.setattr(world.sandbox, "capture", refuses)
    top_ups = world.rails.top_ups
    asked = await top_ups.capture(key=world.key(), owner=ADA, top_up=made.id, amount=4_000)
    code = problem.reason_code if isinstance(problem, Declined) else problem.code
    assert (asked.state, asked.capture_amount, asked.code) == (S.AUTHORISED, None, code)
    world.clock.advance(timedelta(hours=1))
    await world.work()
    assert (await world.again(made)).code == code, "it still says why"
    done = await top_ups.capture(key=world.key(), owner=ADA, top_up=made.id, amount=5_000)
    assert (done.state, done.captured, done.code, await world.has()) == (S.FINAL, 5_000, None, 5_000)


async def test_a_part_with_decimals_that_the_rail_does_not_take_is_neither_captured_nor_refunded(
    world: World, monkeypatch
):
    made = await world.top_up(capturing=Capturing.MANUAL)
    monkeypatch.setattr(world.sandbox, "bounds", lambda asset: Bounds(asset=asset, step=10, minimum=500))
    key, top_ups, refunds = world.key("again"), world.rails.top_ups, world.rails.refunds
    with pytest.raises(AmountNotPayable):
        await top_ups.capture(key=key, owner=ADA, top_up=made.id, amount=4_005)
    done = await top_ups.capture(key=key, owner=ADA, top_up=made.id, amount=400)
    assert (done.state, done.captured) == (S.FINAL, 400), "a part may be less than the least payment"
    with pytest.raises(AmountNotPayable):
        await refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=5)
    with pytest.raises(AmountNotPayable):
        await refunds.by_the_house(key=world.key(), top_up=made.id, amount=5)
    assert await refunds.list_for(ADA, made.id) == []
    assert (await refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=10)).amount == 10


async def test_an_authorised_payment_can_be_cancelled_after_a_capture_was_refused(world: World, monkeypatch):
    made = await world.top_up(capturing=Capturing.MANUAL)

    async def refuses(*_: object) -> Payment:
        raise RefusedByProvider("a parameter was wrong")

    monkeypatch.setattr(world.sandbox, "capture", refuses)
    await world.rails.top_ups.capture(key=world.key(), owner=ADA, top_up=made.id)
    ended = await world.rails.top_ups.cancel(key=world.key(), owner=ADA, top_up=made.id)
    assert (ended.state, await world.has()) == (S.CANCELLED, 0)
