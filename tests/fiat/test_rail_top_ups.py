"""Top-ups over a provider: charged once and credited once, whatever is lost on the way."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from db.engine import tx
from fiat.rails.booking import FeeBearer
from fiat.rails.desk import Rails
from fiat.rails.errors import NotCapable, NotInState, NotRefundable, UnknownRail
from fiat.rails.protocol import Capturing
from fiat.rails.sandbox import fee_of
from fiat.rails.top_up_states import TopUpState
from fiat.rails.top_ups import TopUps
from fiat.tables import top_ups
from ledger.accounts import house_account, user_account
from ledger.commands import CloseAccount, Freeze, FreezeScope, RailEvidence, alone
from ledger.errors import RefusedByBook, RequestConflict
from ledger.outcomes import require_accepted
from tests.fiat.rail_world import ADA, World, make_world

S = TopUpState
FEE = fee_of(10_000)


async def charged(world: World) -> list[int]:
    """What the provider took, payment by payment."""
    async with world.record.session() as session:
        return [paid["captured"] for paid in await session.all("payment") if paid["captured"]]


async def test_a_captured_payment_is_credited_gross_and_its_fee_is_the_houses(world: World):
    made = await world.top_up()
    assert (made.state, made.captured, made.fee) == (S.FINAL, 10_000, FEE)
    assert (await world.has(), await world.fees()) == (10_000, FEE)
    assert await world.at_provider() == 10_000 - FEE == await world.acts.balance("EUR")
    (first, *_) = await world.ledger.history(subject=made.id, owner=ADA)
    assert first.evidence == RailEvidence("sandbox", str(made.source))


async def test_a_fee_may_be_its_users(database, ledger, clock, entropy):
    world = make_world(database.engine(), ledger, clock, entropy, bearer=FeeBearer.USER)
    await world.top_up()
    assert (await world.has(), await world.fees()) == (10_000 - FEE, 0)
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_a_decline_is_an_end_with_its_reason(world: World):
    made = await world.top_up(method="tok_declined")
    assert (made.state, made.code) == (S.FAILED, "insufficient_funds")
    await world.until_quiet()
    assert (await world.again(made)).state is S.FAILED
    assert await world.has() == 0


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_f71_a_lost_answer_is_asked_for_by_our_id_and_charged_once(world: World, fault):
    world.line.faults.extend([fault])
    made = await world.top_up()
    assert made.state is S.UNKNOWN
    assert await world.has() == 0
    world.clock.advance(timedelta(seconds=10))
    world.line.faults.extend(["before", "after"])  # and asking isn't easy either
    for _ in range(8):
        await world.work()
        world.clock.advance(timedelta(minutes=10))
    assert (await world.again(made)).state is S.FINAL
    assert await charged(world) == [10_000]
    await world.until_quiet()
    assert (await world.has(), await world.at_provider()) == (10_000, await world.acts.balance("EUR"))
    assert await charged(world) == [10_000]


async def test_what_never_arrived_is_given_up_once_its_key_may_be_forgotten(world: World):
    world.line.faults.append("before")
    made = await world.top_up()
    world.clock.advance(timedelta(hours=25))
    await world.work()
    ended = await world.again(made)
    assert (ended.state, ended.code) == (S.FAILED, "never_arrived")
    assert await charged(world) == []


async def test_a_provider_that_asks_to_wait_is_asked_again_later(world: World):
    world.line.faults.append("limited")
    made = await world.top_up()
    assert made.state is S.SUBMITTED
    await world.work()
    assert world.line.calls.count("create_payment") == 1
    world.clock.advance(timedelta(seconds=8))
    await world.work()
    assert (await world.again(made)).state is S.FINAL


async def test_the_same_request_is_the_same_top_up_and_another_body_a_conflict(world: World):
    first = await world.top_up(key=world.key("one"))
    again = await world.top_up(key=world.key("one"))
    assert (again.id, again.replayed) == (first.id, True)
    assert await charged(world) == [10_000]
    with pytest.raises(RequestConflict) as refused:
        await world.top_up(key=replace(world.key("one"), content=b"0" * 32))
    assert refused.value.facts["first"] == first.id


async def test_what_its_payer_does_on_the_providers_page_is_gone_on_with(world: World):
    made = await world.top_up(method=None, return_url="https://shop.example/")
    assert made.state is S.REQUIRES_ACTION
    assert made.action is not None
    assert made.action.kind == "redirect"
    await world.acts.pay(str(made.source), "tok_visa")
    await world.deliver()
    done = await world.again(made)
    assert (done.state, done.action) == (S.FINAL, None)
    assert await world.has() == 10_000


async def test_what_was_to_be_asked_of_a_rail_that_is_gone_fails(world: World):
    world.line.faults.append("limited")
    made = await world.top_up()
    async with tx(world.engine) as connection:  # as if the process had ended before anybody was asked
        await connection.execute(update(top_ups).where(top_ups.c.id == made.id).values(state=S.REQUESTED.value))
    world.clock.advance(timedelta(minutes=10))
    without = TopUps(replace(world.rails.top_ups._desk, rails=Rails()))
    assert await without.steps.step() == 1
    ended = await world.again(made)
    assert (ended.state, ended.code) == (S.FAILED, "unknown_rail")
    assert await without.steps.step() == 0
    assert await charged(world) == []


async def test_what_its_payer_leaves_lying_is_cancelled_a_day_later(world: World):
    made = await world.top_up(method=None)
    assert made.state is S.REQUIRES_ACTION
    await world.until_quiet()
    assert (await world.again(made)).state is S.CANCELLED
    assert (await world.has(), await world.acts.balance("EUR")) == (0, 0)


@pytest.mark.parametrize(
    ("method", "end", "has"), [("tok_delayed", S.FINAL, 10_000), ("tok_delayed_failed", S.FAILED, 0)]
)
async def test_what_takes_time_is_credited_when_it_is_captured(world: World, method, end, has):
    made = await world.top_up(method=method)
    assert (made.state, await world.has()) == (S.PROCESSING, 0)
    await world.until_quiet()
    assert ((await world.again(made)).state, await world.has()) == (end, has)


async def test_a_fee_that_is_told_late_is_booked_late_and_once(world: World):
    made = await world.top_up(method="tok_late_fee")
    assert (made.state, made.fee, await world.fees()) == (S.FINAL, None, 0)
    await world.until_quiet()
    assert ((await world.again(made)).fee, await world.fees()) == (FEE, FEE)
    assert await world.at_provider() == await world.acts.balance("EUR")


@pytest.mark.parametrize("gone", ["suspended", "refunded", "disputed", "closed", "kept"])
async def test_a_late_fee_of_what_its_user_has_not_is_borne_by_the_house(database, ledger, clock, entropy, gone):
    world = make_world(database.engine(), ledger, clock, entropy, bearer=FeeBearer.USER)
    made = await world.top_up(method="tok_late_fee", capturing=Capturing.MANUAL)

    async def close() -> None:
        (closed,) = await world.ledger.submit(alone(CloseAccount(id="c", account=user_account(ADA, "EUR"))))
        require_accepted(closed)

    if gone == "suspended":
        await world.older(made)
        world.line.faults += ["", "before"]  # the capture is lost at first
    done = await world.rails.top_ups.capture(key=world.key(), owner=ADA, top_up=made.id)
    if gone == "suspended":
        await close()
        world.clock.advance(timedelta(seconds=10))
        await world.rails.top_ups.steps.step()
        done = await world.again(made)
    assert (done.state, done.fee) == (S.FINAL, None)
    assert done.source is not None
    if gone == "refunded":
        await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id)
    elif gone == "disputed":
        await world.rails.disputes.hear("sandbox", await world.acts.dispute(done.source))
    elif gone == "closed":
        await world.spend(10_000)
        await close()
    before = await world.fees(), await world.owes()
    world.clock.advance(timedelta(hours=1))
    await world.rails.top_ups.steps.step()
    found, kept = await world.again(made), gone == "kept"
    assert found.fee == FEE
    assert (await world.fees() - before[0], await world.owes() - before[1]) == (0 if kept else FEE, 0)
    assert await world.has() == (10_000 - FEE if kept else 0)
    await world.rails.inbox.aclose()


async def test_a_part_of_an_authorised_payment_is_captured_and_the_rest_released(world: World):
    made = await world.top_up(capturing=Capturing.MANUAL)
    assert (made.state, await world.has()) == (S.AUTHORISED, 0)
    key = world.key("capture")
    done = await world.rails.top_ups.capture(key=key, owner=ADA, top_up=made.id, amount=4_000)
    assert (done.state, done.captured, await world.has()) == (S.FINAL, 4_000, 4_000)
    again = await world.rails.top_ups.capture(key=key, owner=ADA, top_up=made.id, amount=4_000)
    assert (again.captured, again.replayed) == (4_000, True)
    with pytest.raises(NotInState):
        await world.rails.top_ups.capture(key=world.key(), owner=ADA, top_up=made.id)
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_an_authorised_payment_is_cancelled_and_never_credited(world: World):
    made = await world.top_up(capturing=Capturing.MANUAL)
    world.line.faults.append("after")  # the answer to our first question of it is lost
    await world.rails.top_ups.cancel(key=world.key(), owner=ADA, top_up=made.id)
    await world.until_quiet()
    assert ((await world.again(made)).state, await world.has()) == (S.CANCELLED, 0)


async def test_a_frozen_user_is_credited_all_the_same(world: World):
    made = await world.top_up(method="tok_delayed")
    await world.ledger.submit(alone(Freeze(id="f", scope=FreezeScope.OWNER, target=ADA)))
    await world.until_quiet()
    assert ((await world.again(made)).state, await world.has()) == (S.FINAL, 10_000)
    asked = len(world.line.calls)
    with pytest.raises(RefusedByBook, match="frozen"):
        await world.top_up()
    assert len(world.line.calls) == asked, "its provider is asked for nothing"


async def test_an_account_that_awaits_a_payment_isnt_closed(world: World):
    await world.top_up(method="tok_delayed")
    (closed,) = await world.ledger.submit(alone(CloseAccount(id="c", account=user_account(ADA, "EUR"))))
    with pytest.raises(RefusedByBook, match="account_in_use"):
        require_accepted(closed)


async def test_what_the_book_wont_credit_is_set_aside(world: World):
    made = await world.top_up(method="tok_delayed")
    await world.older(made)
    (closed,) = await world.ledger.submit(alone(CloseAccount(id="c", account=user_account(ADA, "EUR"))))
    require_accepted(closed)
    await world.acts.tick()
    for _ in range(4):
        world.clock.advance(timedelta(minutes=5))
        await world.deliver()
    assert ((await world.again(made)).code, await world.has()) == ("account_refused", 0)
    assert await world.balance(house_account("suspense", "EUR")) == 10_000
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_a_request_that_cant_be_meant_is_refused_before_anything_is_kept(world: World):
    with pytest.raises(UnknownRail, match="there is sandbox"):
        await world.rails.top_ups.request(key=world.key(), owner=ADA, rail="nowhere", asset="EUR", amount=1)
    made = await world.top_up(method="tok_declined")
    with pytest.raises(NotRefundable):
        await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id)
    world.line._rail.__class__ = type("Poor", (type(world.sandbox),), {"capabilities": frozenset()})
    with pytest.raises(NotCapable):
        await world.top_up()


async def test_a_saved_method_pays_by_its_id_and_is_its_owners_alone(world: World):
    saved = await world.rails.methods.save(key=world.key("m"), owner=ADA, rail="sandbox", token="tok_visa")
    again = await world.rails.methods.save(key=world.key("m"), owner=ADA, rail="sandbox", token="tok_visa")
    assert (again.id, again.replayed, saved.last4) == (saved.id, True, "4242")
    assert (await world.top_up(method=saved.id)).state is S.FINAL
    with pytest.raises(Exception, match="no saved method"):
        await world.top_up(method=saved.id, owner="usr_ben")
    await world.rails.methods.forget(ADA, saved.id)
    assert await world.rails.methods.list_for(ADA) == []


async def test_a_refund_is_held_then_given_back(world: World):
    made = await world.top_up()
    refund = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=4_000)
    assert (refund.state, await world.has()) == ("final", 6_000)
    assert (await world.again(made)).refunded == 4_000
    with pytest.raises(NotRefundable):
        await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=6_001)
    await world.spend(1)
    with pytest.raises(RefusedByBook, match="insufficient_funds"):
        await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id)
    assert await world.at_provider() == await world.acts.balance("EUR")


@pytest.mark.parametrize("fault", ["before", "after", "limited"])
async def test_f71_a_refund_whose_answer_is_lost_is_given_once(world: World, fault):
    made = await world.top_up()
    world.line.faults.append(fault)
    refund = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id)
    assert refund.state in ("unknown", "submitted")
    account = await world.ledger.account(user_account(ADA, "EUR"))
    assert account is not None
    assert (account.balance, account.available) == (10_000, 0)
    await world.until_quiet()
    assert (await world.rails.refunds.get(ADA, refund.id)).state == "final"
    assert (await world.has(), await world.at_provider()) == (0, await world.acts.balance("EUR"))


@pytest.mark.parametrize(
    ("method", "end", "has"), [("tok_refund_slow", "final", 0), ("tok_refund_fails", "failed", 10_000)]
)
async def test_a_refund_that_takes_time_or_fails_later_ends_where_the_money_is(world: World, method, end, has):
    made = await world.top_up(method=method)
    refund = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id)
    await world.until_quiet()
    assert ((await world.rails.refunds.get(ADA, refund.id)).state, await world.has()) == (end, has)
    assert (await world.again(made)).refunded == 10_000 - has
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_refunds_of_one_top_up_that_fail_at_the_same_time_are_each_taken_or_told_again(world: World):
    made = await world.top_up(method="tok_refund_fails")
    refunds = world.rails.refunds
    asked = [
        await refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=amount) for amount in (1_000, 2_000)
    ]
    world.clock.advance(timedelta(minutes=2))
    await world.acts.tick()
    sources = [str(refund.source) for refund in asked]
    heard = await asyncio.gather(*(refunds.hear("sandbox", source) for source in sources), return_exceptions=True)
    for refund, problem in zip(asked, heard, strict=True):
        assert problem is not None or (await refunds.get(ADA, refund.id)).state == "failed", "nobody would look again"
    for source in sources:
        await refunds.hear("sandbox", source)
    assert ((await world.again(made)).refunded, await world.has()) == (0, 10_000)
    assert await world.at_provider() == await world.acts.balance("EUR")


@pytest.mark.parametrize("method", ["tok_visa", "tok_declined", "tok_delayed"])
async def test_a_providers_tokens_are_forgotten_once_the_order_is_answered(world: World, method):
    world.line.faults.append("limited")
    made = await world.top_up(method=method)
    assert (made.state, made.method) == (S.SUBMITTED, method), "it's still needed"
    world.clock.advance(timedelta(seconds=8))
    await world.work()
    answered = await world.again(made)
    assert (answered.method, answered.customer) == (None, None)
    assert answered.state is not S.SUBMITTED


async def test_a_saved_methods_customer_is_forgotten_with_its_token(world: World):
    saved = await world.rails.methods.save(key=world.key("m"), owner=ADA, rail="sandbox", token="tok_visa")
    made = await world.top_up(method=saved.id)
    assert (made.state, made.method, made.customer) == (S.FINAL, None, None)
