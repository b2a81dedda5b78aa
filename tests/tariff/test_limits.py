"""Limits on a real book: never passed, whoever asks at the same time; and what counts how long."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from base.errors import OnebookError
from ledger.accounts import user_account
from ledger.errors import RefusedByBook
from tariff.errors import LimitExceeded, LimitUnvalued
from tariff.limits import Period
from tariff.schedule import Sum
from tests.tariff.conftest import ALICE, BOB, Process, key
from tests.tariff.samples import HEAD, read

pytestmark = pytest.mark.slow

LIMITED = read(
    HEAD
    + 'limits.out = { operation = "60.00", day = "100.00", month = "150.00" }\n[tiers.open]\n'
    + '[[fees]]\noperation = "transfer"\nasset = "EUR"\nflat = "1.00"\n'
)
HELD = ("limit", "sum", "tier", "cap", "used", "required", "available", "frees_at")
numbers = count()


async def send(process: Process, amount: int, asset: str = "EUR", *, name: str | None = None, sender: str = ALICE):
    name = name or f"n{next(numbers)}"
    asked = key(name, [asset, amount], sender)
    return await process.transfers.send(key=asked, sender=sender, recipient=BOB, asset=asset, amount=amount)


async def refused(process: Process, amount: int, asset: str = "EUR", *, name: str | None = None) -> dict[str, object]:
    with pytest.raises(LimitExceeded) as error:
        await send(process, amount, asset, name=name)
    assert error.value.code == "limit_exceeded"
    return {name: error.value.facts[name] for name in HELD}


async def used(process: Process, period: Period) -> int:
    (found,) = [one.used for one in await process.desk.limits(ALICE) if (one.sum, one.period) == (Sum.OUT, period)]
    return found


async def test_a_refusal_says_which_limit_and_when_it_frees(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "EUR", 1000_00)
    common = {"sum": "out", "tier": "standard"}
    assert await refused(process, 60_01) == common | {
        "limit": "operation",
        "cap": 60_00,
        "used": 0,
        "required": 60_01,
        "available": 60_00,
        "frees_at": None,
    }
    await send(process, 60_00)
    assert await refused(process, 40_01) == common | {
        "limit": "day",
        "cap": 100_00,
        "used": 60_00,
        "required": 40_01,
        "available": 40_00,
        "frees_at": "2026-12-01T00:00:00+00:00",
    }
    world.clock.instant = datetime(2026, 11, 1, 12, tzinfo=UTC)  # an earlier day of the month, by a clock put back
    await send(process, 50_00)
    assert await refused(process, 40_01) == common | {
        "limit": "month",
        "cap": 150_00,
        "used": 110_00,
        "required": 40_01,
        "available": 40_00,
        "frees_at": "2026-12-01T00:00:00+00:00",
    }


async def test_days_and_months_begin_anew_in_utc(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "EUR", 1000_00)
    await send(process, 60_00)
    await send(process, 40_00)
    await refused(process, 1)
    world.clock.instant = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    await refused(process, 1)
    world.clock.advance(timedelta(microseconds=1))
    assert (await used(process, Period.DAY), await used(process, Period.MONTH)) == (0, 0)
    await send(process, 60_00)
    assert (await used(process, Period.DAY), await used(process, Period.MONTH)) == (60_00, 60_00)


async def test_two_processes_at_once_never_pass_the_cap(world):
    """Forty requests of 5.00 over two services of one book, where 100.00 fit."""
    processes = [world.process(LIMITED), world.process(LIMITED)]
    await world.fund(processes[0], ALICE, "EUR", 1000_00)
    asked = (send(processes[n % 2], 5_00, name=f"at-once-{n}") for n in range(40))
    found = await asyncio.gather(*asked, return_exceptions=True)
    sent = [one for one in found if not isinstance(one, BaseException)]
    assert len(sent) == 20
    assert {one.code for one in found if isinstance(one, OnebookError)} == {"limit_exceeded"}
    assert await used(processes[0], Period.DAY) == 100_00
    account = await processes[0].ledger.account(user_account(BOB, "EUR"))
    assert account is not None
    assert account.balance == 100_00


async def test_a_hold_counts_until_it_is_let_go_whole(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "EUR", 1000_00)
    ends = world.clock.now() + timedelta(days=2)
    made = await process.holds.create(
        key=key("h"), sender=ALICE, recipient=BOB, asset="EUR", amount=60_00, expires_at=ends
    )
    assert (made.fee, await used(process, Period.DAY)) == (1_00, 60_00)  # a transfer's fee, without rules of its own
    await process.holds.void(key=key("v", owner=BOB), owner=BOB, hold=made.id)
    assert (await used(process, Period.DAY), await used(process, Period.MONTH)) == (0, 0)
    again = await process.holds.create(
        key=key("h2"), sender=ALICE, recipient=BOB, asset="EUR", amount=60_00, expires_at=ends
    )
    await process.holds.settle(key=key("s", owner=BOB), owner=BOB, hold=again.id, amount=1_00, close=True)
    assert await used(process, Period.DAY) == 60_00


async def test_value_is_rounded_up_and_all_assets_count_together(world):
    process = world.process(LIMITED)
    for asset, amount in (("EUR", 100_00), ("USDC", 10**9), ("ETH", 10**18)):
        await world.fund(process, ALICE, asset, amount)
    await send(process, 1, "USDC")  # half a millionth of a euro
    assert await used(process, Period.DAY) == 1
    await send(process, 10**16, "ETH")  # 30.0001 euros
    assert await used(process, Period.DAY) == 1 + 30_01
    await send(process, 59_98)
    await refused(process, 10_01)
    await send(process, 10_00)
    assert await used(process, Period.DAY) == 100_00


async def test_without_a_rate_limited_tiers_stop_and_others_go_on(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "USDC", 10**9)
    await world.fund(process, BOB, "USDC", 10**9)
    await world.fund(process, ALICE, "EUR", 100_00)
    first = await send(process, 5, "USDC", name="before")
    world.rates.known = False
    with pytest.raises(LimitUnvalued) as stopped:
        await send(process, 1, "USDC")
    assert (stopped.value.code, stopped.value.facts["because"]) == ("limit_unvalued", "rates_too_old")
    await send(process, 1_00)  # the reference itself needs no rate
    again = await send(process, 5, "USDC", name="before")
    assert (again.id, again.replayed) == (first.id, True)
    await process.tiers.change(BOB, to="open", reason="known for years", by="key_1")
    asked = {"sender": BOB, "recipient": ALICE, "asset": "USDC", "amount": 10**9}
    await process.transfers.send(key=key("free", owner=BOB), **asked)


async def test_a_repeat_gives_the_first_outcome_whatever_tier_and_tariff_are_by_then(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "EUR", 1000_00)
    sent = await send(process, 60_00, name="sent")
    numbers_then = await refused(process, 50_00, name="refused")
    dearer = world.process(read(HEAD + '[tiers.open]\n[[fees]]\noperation = "transfer"\npercent = "50"\n'))
    await dearer.tiers.change(ALICE, to="open", reason="asked for it", by="key_1")
    again = await send(dearer, 60_00, name="sent")
    assert (again.id, again.fee, again.replayed) == (sent.id, 1_00, True)
    with pytest.raises(LimitExceeded) as remembered:
        await send(dearer, 50_00, name="refused")
    assert {name: remembered.value.facts[name] for name in HELD} == numbers_then | {"tier": "open"}
    narrow = world.process(read(HEAD + 'limits.out = { operation = "1.00" }\n[tiers.open]\n'))
    await narrow.tiers.change(ALICE, to="standard", reason="back", by="key_1")
    assert (await send(narrow, 60_00, name="sent")).id == sent.id  # nothing of that size would be allowed now
    await refused(narrow, 60_00)


async def test_a_lower_tier_is_in_force_everywhere_within_a_second(world):
    here, there = world.process(LIMITED), world.process(LIMITED)
    await world.fund(here, ALICE, "EUR", 10_000_000_00)
    await here.tiers.change(ALICE, to="open", reason="verified", by="key_1")
    await send(here, 500_00)
    await send(there, 500_00)
    await here.tiers.change(ALICE, to="standard", reason="papers expired", by="key_1")
    await refused(here, 60_01)

    async def until_refused() -> None:
        while True:
            try:
                await send(there, 60_01)
            except LimitExceeded:
                return

    async with asyncio.timeout(1):
        await until_refused()


async def test_what_the_book_refuses_for_another_reason_uses_nothing_up(world):
    process = world.process(LIMITED)
    await world.fund(process, ALICE, "EUR", 10_00)
    with pytest.raises(RefusedByBook) as short:
        await send(process, 20_00)
    assert short.value.code == "insufficient_funds"
    assert await used(process, Period.DAY) == 0
