"""Providers' lists: what is foreign, or can't be taken now, keeps nobody from what is behind it."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from db.engine import tx
from fiat.rails import sandbox, store
from fiat.rails.effects import TRIES_MAX
from fiat.rails.errors import RailCorrupt
from fiat.rails.protocol import PaymentOrder, SettlementStatus
from ledger.accounts import house_account
from tests.fiat.rail_world import World


async def foreign_payment(world: World, reference: str | None) -> str:
    """Somebody's payment at the same account, past the book."""
    made = await world.sandbox.create_payment(
        PaymentOrder(reference=reference or "none", asset="EUR", amount=700, method="tok_visa")
    )
    async with world.record.session() as session:
        (found,) = [one for one in await session.all("payment") if one["id"] == made.id]
        await session.save("payment", found | {"reference": reference})
    return made.id


async def cursor_of(world: World, name: str) -> str | None:
    async with tx(world.engine) as connection:
        kept = await store.load_cursor(connection, world.ledger.book, "sandbox", name)
    assert kept is not None
    return kept[0]


@pytest.mark.parametrize("reference", [None, "order-17 of a shop"])
async def test_refunds_and_disputes_of_payments_that_arent_ours_are_passed_by(world: World, reference, monkeypatch):
    monkeypatch.setattr(sandbox, "PAGE", 1)
    foreign = await foreign_payment(world, reference)
    await world.acts.refund(foreign, 100)
    await world.acts.dispute(foreign)
    made = await world.top_up()
    await world.acts.refund(str(made.source), 2_500)
    await world.acts.dispute(str(made.source))
    await world.work()  # by the lists alone
    assert [refund.amount for refund in await world.rails.refunds.list_for(made.owner, made.id)] == [2_500]
    assert [dispute.top_up for dispute in await world.rails.disputes.list_all()] == [made.id]
    for name, listed in (("refunds", world.sandbox.list_refunds), ("disputes", world.sandbox.list_disputes)):
        assert (await listed(await cursor_of(world, name))).items == (), "the cursor passed them"
    await world.deliver()
    assert not await world.rails.inbox.dead(), "their webhooks are done too"


async def test_a_dispute_that_cant_be_taken_keeps_nobody_from_the_next_page(world: World, monkeypatch):
    monkeypatch.setattr(sandbox, "PAGE", 1)
    first, second = await world.top_up(), await world.top_up()
    wrong = await world.acts.dispute(str(first.source))
    await world.acts.dispute(str(second.source))
    async with world.record.session() as session:
        found = await session.load("dispute", wrong)
        assert found is not None
        await session.save("dispute", found | {"asset": "USD"})
    await world.work()
    assert [dispute.top_up for dispute in await world.rails.disputes.list_all()] == [second.id]
    async with world.record.session() as session:
        await session.save("dispute", found)
    world.clock.advance(timedelta(hours=1))
    await world.work()
    assert {dispute.top_up for dispute in await world.rails.disputes.list_all()} == {first.id, second.id}


async def test_a_list_that_fails_is_asked_for_again_an_hour_later_not_at_once(world: World):
    world.line.faults.append("before")
    await world.rails.effects.look_through()
    await world.rails.effects.look_through()
    assert world.line.calls.count("list_disputes") == 1
    world.clock.advance(timedelta(hours=1))
    await world.rails.effects.look_through()
    assert world.line.calls.count("list_disputes") == 2


async def test_a_settlement_that_cant_be_read_keeps_nobody_from_the_others_and_waits_an_hour(world: World):
    settlements, sources = world.rails.settlements, []
    for _ in range(2):
        await world.top_up()
        sources.append(str(await world.acts.settle("EUR")))
        await settlements.hear("sandbox", sources[-1])
    lost, other = sources
    rename = text("UPDATE fiat_sandbox_objects SET kind = :kind WHERE id = :id")
    async with tx(world.engine) as connection:
        await connection.execute(rename, {"kind": "gone", "id": lost})
    await world.acts.fail_settlement(other)  # and its webhook is lost
    await settlements.step()
    kept = {one.source: one for one in await settlements.list_all()}
    assert (kept[other].state, kept[other].entries, kept[lost].entries) == ("failed", 1, None)
    async with tx(world.engine) as connection:
        await connection.execute(rename, {"kind": "settlement", "id": lost})
    await settlements.step()
    assert (await settlements.get(kept[lost].id)).entries is None, "it was tried again at once"
    world.clock.advance(timedelta(hours=1))
    await settlements.step()
    assert (await settlements.get(kept[lost].id)).entries == 1


@pytest.mark.parametrize("failed", [False, True])
async def test_a_settlement_over_less_than_nothing_is_taken_and_over_nothing_refused(world: World, failed):
    await world.top_up()
    source = str(await world.acts.settle("EUR"))

    async def over(amount: int) -> None:
        async with world.record.session() as session:
            found = await session.load("settlement", source)
            assert found is not None
            status = SettlementStatus.FAILED if failed else found["status"]
            await session.save("settlement", found | {"amount": amount, "status": status})

    await over(0)
    with pytest.raises(RailCorrupt, match="over nothing"):
        await world.rails.settlements.hear("sandbox", source)
    assert await world.rails.settlements.list_all() == []
    await over(-500)
    for _ in range(TRIES_MAX):
        await world.deliver()
        world.clock.advance(timedelta(hours=1))
    (taken,) = await world.rails.settlements.list_all()
    assert (taken.amount, taken.state) == (-500, "failed" if failed else "sent")
    assert await world.balance(house_account("in-transit:sandbox:in", "EUR")) == (0 if failed else 500)
    assert await world.rails.inbox.dead() == 0
