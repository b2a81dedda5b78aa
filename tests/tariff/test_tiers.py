"""Tiers: who put whom where is kept for good, and a tier that is lost is told."""

import asyncio

import asyncpg
import pytest

from tariff.errors import TariffInvalid, TierChanged, TierReasonMissing, UnknownTier
from tests.tariff.conftest import ALICE, BOB
from tests.tariff.samples import HEAD, read

pytestmark = pytest.mark.slow

TWO = read(HEAD + "[tiers.verified]\n[tiers.gold]\n")
ONE = read(HEAD)


async def test_each_change_is_kept_with_who_when_and_why(world):
    tiers = world.process(TWO).tiers
    assert (await tiers.of(ALICE), await tiers.history(ALICE)) == ("standard", [])
    await tiers.change(ALICE, to="verified", reason="  papers\n seen ", by="key_1")
    history = await tiers.change(ALICE, to="gold", reason="asked", by="key_2")
    assert [(one.from_tier, one.to_tier, one.reason, one.by) for one in history] == [
        ("verified", "gold", "asked", "key_2"),
        ("standard", "verified", "papers seen", "key_1"),
    ]
    assert {one.at for one in history} == {world.clock.now()}
    assert await tiers.history(ALICE) == history
    assert await tiers.change(ALICE, to="gold", reason="again", by="key_3") == history
    assert (await tiers.of(ALICE), await tiers.of(BOB)) == ("gold", "standard")


async def test_what_isnt_a_tier_or_has_no_reason_changes_nothing(world):
    tiers = world.process(TWO).tiers
    with pytest.raises(UnknownTier, match="there is standard, verified, gold"):
        await tiers.change(ALICE, to="platinum", reason="x", by="key_1")
    for reason in ("", " \n ", "x" * 501, "a\x00b"):
        with pytest.raises(TierReasonMissing):
            await tiers.change(ALICE, to="gold", reason=reason, by="key_1")
    assert await tiers.history(ALICE) == []


async def test_of_two_changes_at_once_one_is_told_or_follows(world):
    here, there = world.process(TWO).tiers, world.process(TWO).tiers
    found = await asyncio.gather(
        here.change(ALICE, to="gold", reason="one", by="key_1"),
        there.change(ALICE, to="verified", reason="other", by="key_2"),
        return_exceptions=True,
    )
    history = await here.history(ALICE)
    made = [one for one in found if isinstance(one, list)]
    assert all(isinstance(one, list | TierChanged) for one in found)
    assert [one.number for one in history] == list(range(len(made), 0, -1))
    assert [one.from_tier for one in history[:-1]] == [one.to_tier for one in history[1:]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tariff_tier_changes SET reason = 'other'",
        "DELETE FROM tariff_tier_changes",
        "TRUNCATE tariff_tier_changes",
    ],
)
async def test_nobody_alters_the_history_not_even_the_tables_owner(world, statement):
    await world.process(TWO).tiers.change(ALICE, to="gold", reason="asked", by="key_1")
    connection = await asyncpg.connect(world.database.owner_url)
    try:
        with pytest.raises(asyncpg.PostgresError, match=r"append|change|refuse"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_tier_that_users_are_in_cant_be_taken_out_of_the_tariff(world):
    before, after = world.process(TWO), world.process(ONE)
    await before.tiers.change(ALICE, to="gold", reason="asked", by="key_1")
    await before.tiers.change(BOB, to="gold", reason="asked", by="key_1")
    await before.tiers.require_known()
    with pytest.raises(TariffInvalid, match=r"gold \(2 users\); write these tiers back") as lost:
        await after.tiers.require_known()
    assert lost.value.code == "tier_vanished"
    for owner in (ALICE, BOB):
        await before.tiers.change(owner, to="standard", reason="gold ends", by="key_1")
    await after.tiers.require_known()
