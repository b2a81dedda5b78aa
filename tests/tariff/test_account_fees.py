"""The monthly fee of accounts: once, by the tier at the month's beginning, and what becomes of what isn't there."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest

from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, alone
from ledger.owing import receivable_account
from tariff.account_fees import AccountFees
from tests.support import forked
from tests.tariff.conftest import ALICE, BOB, Process, World
from tests.tariff.fee_people import FEES, Directory, User

pytestmark = pytest.mark.slow


def service(world: World, process: Process, people: Directory | None = None, tariff=FEES) -> AccountFees:
    engine = world.database.engine()
    return AccountFees(engine, ledger=process.ledger, tariff=tariff, people=people or Directory(), clock=world.clock)


async def to_the_end(fees: AccountFees) -> None:
    for _ in range(10):
        if not await fees.step():
            return
    raise AssertionError("it goes on and on")


async def balance(process: Process, account: str) -> int:
    found = await process.ledger.account(account)
    return 0 if found is None else found.balance


async def test_it_is_taken_once_a_month_however_often_it_is_begun(world):
    process = world.process(FEES)
    for owner in (ALICE, BOB):
        await world.fund(process, owner, "EUR", 10_00)
    fees = service(world, process)
    await to_the_end(fees)
    assert await fees.step() == 0
    await asyncio.gather(*(to_the_end(service(world, world.process(FEES))) for _ in range(3)))
    assert [await balance(process, user_account(owner, "EUR")) for owner in (ALICE, BOB)] == [8_00, 8_00]
    world.clock.advance(timedelta(hours=1))  # December
    await to_the_end(fees)
    assert await balance(process, user_account(ALICE, "EUR")) == 6_00
    world.clock.advance(timedelta(hours=-1))  # a clock put back, and forth
    await to_the_end(fees)
    world.clock.advance(timedelta(hours=1))
    await to_the_end(fees)
    assert await balance(process, user_account(ALICE, "EUR")) == 6_00
    assert await balance(process, house_account("fees", "EUR")) == 8_00
    (latest, *_) = await process.ledger.history(owner=ALICE, limit=1)
    assert (latest.subject, latest.metadata["account_fee"]) == (f"acf_2026-12:{ALICE}", "2026-12")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_and_repeated_it_is_taken_once(world, when):
    process = world.process(FEES)
    await world.fund(process, ALICE, "EUR", 10_00)
    arguments = ["killable_fees", world.database.app_url, when, world.clock.now().isoformat()]
    ended = await asyncio.to_thread(
        forked.run, "tests.tariff.killable_fees:run", arguments, cwd=forked.PROJECT, env=os.environ
    )
    assert ended.returncode == -9
    assert await balance(process, user_account(ALICE, "EUR")) == (10_00 if when == "before" else 8_00)
    await to_the_end(service(world, process))
    assert await balance(process, user_account(ALICE, "EUR")) == 8_00


@pytest.mark.parametrize(
    ("tier", "left", "fees", "waived", "owed"),
    [("standard", 1_50, 0, 0, 0), ("taking", 0, 2_00, -50, 0), ("owing", 0, 2_00, 0, -50), ("free", 1_50, 0, 0, 0)],
)
async def test_what_becomes_of_what_is_missing_is_the_tiers_choice(world, tier, left, fees, waived, owed):
    process = world.process(FEES)
    await world.fund(process, ALICE, "EUR", 1_50)
    if tier != "standard":
        await process.tiers.change(ALICE, to=tier, reason="chosen", by="key_1")
    world.clock.instant = datetime(2026, 12, 1, tzinfo=UTC)
    await to_the_end(service(world, process, Directory([User(ALICE, datetime(2026, 1, 1, tzinfo=UTC))])))
    found = [
        await balance(process, account)
        for account in (
            user_account(ALICE, "EUR"),
            house_account("fees", "EUR"),
            house_account("fees-waived", "EUR"),
            receivable_account(ALICE, "EUR"),
        )
    ]
    assert found == [left, fees, waived, owed]
    await world.fund(process, ALICE, "EUR", 5_00)
    await to_the_end(service(world, process))  # what was let go isn't taken later
    assert await balance(process, user_account(ALICE, "EUR")) == left + 5_00


async def test_a_users_first_begun_month_is_free(world):
    process = world.process(FEES)
    await world.fund(process, ALICE, "EUR", 10_00)
    people = Directory([User(ALICE, datetime(2026, 11, 1, tzinfo=UTC))])
    await to_the_end(service(world, process, people))
    assert await balance(process, user_account(ALICE, "EUR")) == 10_00
    world.clock.advance(timedelta(hours=1))
    await to_the_end(service(world, process, people))
    assert await balance(process, user_account(ALICE, "EUR")) == 8_00


async def test_the_tier_at_the_months_beginning_counts(world):
    process = world.process(FEES)
    await world.fund(process, ALICE, "EUR", 10_00)
    await process.tiers.change(ALICE, to="free", reason="too late for November", by="key_1")
    await to_the_end(service(world, process))
    assert await balance(process, user_account(ALICE, "EUR")) == 8_00
    world.clock.advance(timedelta(hours=2))
    await process.tiers.change(ALICE, to="standard", reason="too late for December", by="key_1")
    await to_the_end(service(world, process))
    assert await balance(process, user_account(ALICE, "EUR")) == 8_00


async def test_frozen_users_pay_nothing_for_that_month(world):
    process = world.process(FEES)
    await world.fund(process, ALICE, "EUR", 10_00)
    await process.ledger.submit(alone(Freeze(id="freeze", scope=FreezeScope.OWNER, target=ALICE)))
    await to_the_end(service(world, process))
    assert await balance(process, user_account(ALICE, "EUR")) == 10_00


async def test_many_users_are_walked_through_page_by_page(world, monkeypatch):
    monkeypatch.setattr("tariff.account_fees.PAGE", 3)
    process = world.process(FEES)
    owners = [f"usr_{number:02}" for number in range(8)]
    for owner in owners:
        await world.fund(process, owner, "EUR", 10_00)
    await to_the_end(service(world, process, Directory([User(o, datetime(2026, 1, 1, tzinfo=UTC)) for o in owners])))
    assert {await balance(process, user_account(owner, "EUR")) for owner in owners} == {8_00}
