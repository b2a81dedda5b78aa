"""Refunds that stay unknown, ended by two treasurers who have looked at the provider's pages."""

import pytest

from base.errors import NotFound
from fiat.rails.errors import RefundNotInDoubt
from fiat.rails.records import Ending, Refund
from fiat.rails.refund_states import RefundState
from tests.fiat.rail_world import ADA, World

S = RefundState
CLEO, DAN = "key_cleo", "key_dan"


async def in_doubt(world: World, fault: str, *, by_the_house: bool = False) -> Refund:
    """A refund of 4,000 whose answer was lost, `before` or `after` it was made."""
    made = await world.top_up()
    world.line.faults.append(fault)
    refunds, key = world.rails.refunds, world.key()
    if by_the_house:
        refund = await refunds.by_the_house(key=key, top_up=made.id, amount=4_000)
    else:
        refund = await refunds.request(key=key, owner=ADA, top_up=made.id, amount=4_000)
    assert refund.state is S.UNKNOWN
    return refund


async def at_the_provider(world: World, refund: Refund) -> str:
    """Its id there, as its pages show it."""
    async with world.record.session() as session:
        found = await session.by_reference("refund", refund.id)
    assert found is not None
    return str(found["id"])


async def said(world: World, refund: Refund, outcome: Ending, evidence: str, by: str) -> Refund:
    return await world.rails.refund_endings.say(
        refund.id, outcome=outcome, evidence=evidence, reason=f"{by} looked", by=by
    )


@pytest.mark.parametrize("by_the_house", [False, True])
async def test_what_two_treasurers_say_succeeded_is_booked_once(world: World, by_the_house):
    refund = await in_doubt(world, "after", by_the_house=by_the_house)
    source = await at_the_provider(world, refund)
    assert [one.id for one in await world.rails.refund_endings.list_all(states=[S.UNKNOWN])] == [refund.id]
    for _ in range(2):
        waiting = await said(world, refund, Ending.SUCCEEDED, source, CLEO)
        assert (waiting.state, waiting.ending_by, waiting.agreed_by) == (S.UNKNOWN, CLEO, None), "one isn't two"
    done = await said(world, refund, Ending.SUCCEEDED, source, DAN)
    assert (done.state, done.source, done.ending_by, done.agreed_by) == (S.FINAL, source, CLEO, DAN)
    again = await said(world, refund, Ending.SUCCEEDED, source, DAN)
    assert (again.state, again.replayed) == (S.FINAL, True)
    assert await world.has() == 6_000
    (entry, *_) = await world.ledger.history(subject=refund.id, owner=ADA)
    assert entry.metadata["by"] == CLEO
    assert entry.metadata["agreed_by"] == DAN
    await world.until_quiet()
    assert await world.at_provider() == await world.acts.balance("EUR")


@pytest.mark.parametrize("by_the_house", [False, True])
async def test_what_two_treasurers_say_failed_gives_everything_back(world: World, by_the_house):
    refund = await in_doubt(world, "before", by_the_house=by_the_house)
    await said(world, refund, Ending.FAILED, "case 1", CLEO)
    done = await said(world, refund, Ending.FAILED, "case 1", DAN)
    assert (done.state, done.code, done.source) == (S.FAILED, "treasury", None)
    found = await world.rails.top_ups.get(ADA, refund.top_up)
    assert (found.refunded, await world.has()) == (0, 10_000)
    asked = len(world.line.calls)
    await world.until_quiet()
    assert "refund" not in world.line.calls[asked:], "nobody asks for it again"
    assert await world.has() == 10_000
    assert await world.at_provider() == await world.acts.balance("EUR")
    second = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=refund.top_up)
    assert second.state is S.FINAL


async def test_who_says_something_else_takes_the_first_ones_place(world: World):
    refund = await in_doubt(world, "after")
    source = await at_the_provider(world, refund)
    await said(world, refund, Ending.FAILED, "no such refund", CLEO)
    for outcome, evidence in ((Ending.SUCCEEDED, "another"), (Ending.SUCCEEDED, source)):
        other = await said(world, refund, outcome, evidence, DAN)
        assert (other.state, other.ending, other.ending_evidence) == (S.UNKNOWN, outcome, evidence)
    assert (await said(world, refund, Ending.SUCCEEDED, source, CLEO)).state is S.FINAL


async def test_a_refund_that_is_said_to_have_failed_and_was_made_is_found_and_booked(world: World):
    refund = await in_doubt(world, "after")
    for by in (CLEO, DAN):
        await said(world, refund, Ending.FAILED, "no such refund", by)
    await world.until_quiet()
    refunds = await world.rails.refunds.list_for(ADA, refund.top_up)
    assert sorted((one.origin, one.state) for one in refunds) == [("provider", S.FINAL), ("user", S.FAILED)]
    assert await world.has() == 6_000
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_only_one_in_doubt_is_ended_by_hand_and_a_providers_refund_is_named_once(world: World):
    endings = world.rails.refund_endings
    made = await world.top_up()
    final = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=100)
    assert final.state is S.FINAL
    with pytest.raises(RefundNotInDoubt):
        await said(world, final, Ending.FAILED, "x", CLEO)
    with pytest.raises(NotFound):
        await endings.find("ref_01jd3v")
    refund = await in_doubt(world, "before")
    with pytest.raises(RefundNotInDoubt) as taken:
        await said(world, refund, Ending.SUCCEEDED, final.source or "", CLEO)
    assert taken.value.code == "refund_evidence_taken"
    await said(world, refund, Ending.FAILED, "x", CLEO)
    await world.until_quiet()  # the provider can be asked after all
    assert (await endings.find(refund.id)).state is S.FINAL
    with pytest.raises(RefundNotInDoubt):
        await said(world, refund, Ending.FAILED, "x", DAN)
