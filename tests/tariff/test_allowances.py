"""What is free in a month: exactly so much of it, whoever asks at the same time."""

import asyncio
from datetime import timedelta

import pytest

from ledger.accounts import house_account
from tariff.errors import FeeAboveAccepted
from tariff.pricing import Move
from tariff.schedule import Operation
from tests.tariff.conftest import ALICE, BOB, Process, key
from tests.tariff.samples import HEAD, read

pytestmark = pytest.mark.slow

FEE = '[[fees]]\noperation = "transfer"\nasset = "EUR"\nflat = "1.00"\n'
THREE = read(HEAD + "free.transfer = { operations = 3 }\n" + FEE)
TEN_EUROS = read(HEAD + 'free.transfer = { value = "10.00" }\n' + FEE)


async def send(process: Process, amount: int, name: str, *, accepted: int | None = None):
    return await process.transfers.send(
        key=key(name, amount), sender=ALICE, recipient=BOB, asset="EUR", amount=amount, fee_accepted=accepted
    )


async def preview(process: Process, amount: int):
    return await process.desk.preview(Move(ALICE, Operation.TRANSFER, "EUR", amount))


@pytest.mark.parametrize("processes", [1, 2])
async def test_of_those_that_race_exactly_the_allowance_is_free(world, processes):
    several = [world.process(THREE) for _ in range(processes)]
    await world.fund(several[0], ALICE, "EUR", 100_00)
    asked = [send(several[n % processes], 1_00, f"n{n}") for n in range(12)]
    sent = await asyncio.gather(*asked)
    assert sorted(one.fee for one in sent) == [0] * 3 + [1_00] * 9
    fees = await several[0].ledger.account(house_account("fees", "EUR"))
    assert fees is not None
    assert fees.balance == 9_00
    again = [await send(several[0], 1_00, f"n{n}") for n in range(12)]
    assert [(one.id, one.fee, one.replayed) for one in again] == [(one.id, one.fee, True) for one in sent]


async def test_a_preview_says_what_will_be_booked(world):
    process = world.process(THREE)
    await world.fund(process, ALICE, "EUR", 100_00)
    for number, left in enumerate((3, 2, 1, 0, 0)):
        told = await preview(process, 1_00)
        assert told.allowance is not None
        assert told.allowance.operations_used == 3 - left
        sent = await send(process, 1_00, f"n{number}", accepted=told.price.fee)
        assert sent.fee == told.price.fee == (0 if left else 1_00)


async def test_who_accepts_only_what_is_free_is_refused_with_both_numbers(world):
    process = world.process(THREE)
    await world.fund(process, ALICE, "EUR", 100_00)
    for number in range(3):
        await send(process, 1_00, f"n{number}")
    for accepted in (0, 99):
        with pytest.raises(FeeAboveAccepted) as dearer:
            await send(process, 1_00, "fourth", accepted=accepted)
        assert (dearer.value.facts["fee"], dearer.value.facts["fee_accepted"]) == (1_00, accepted)
    assert (await send(process, 1_00, "fourth", accepted=1_00)).fee == 1_00  # nothing was decided before


async def test_a_value_is_free_as_long_as_a_whole_operation_fits(world):
    process = world.process(TEN_EUROS)
    await world.fund(process, ALICE, "EUR", 100_00)
    fees = [(await send(process, amount, f"n{amount}")).fee for amount in (6_00, 4_01, 3_99, 2, 1)]
    assert fees == [0, 1_00, 0, 1_00, 0]
    world.clock.advance(timedelta(hours=1))  # December
    assert (await send(process, 10_00, "december")).fee == 0


async def test_a_value_that_cant_be_told_is_charged(world):
    usd = read(HEAD + 'free.transfer = { value = "10.00" }\n[[fees]]\noperation = "transfer"\npercent = "1"\n')
    process = world.process(usd)
    await world.fund(process, ALICE, "USD", 100_00)
    asked = {"sender": ALICE, "recipient": BOB, "asset": "USD", "amount": 2_00}
    assert (await process.transfers.send(key=key("known"), **asked)).fee == 0
    world.rates.known = False
    assert (await process.desk.preview(Move(ALICE, Operation.TRANSFER, "USD", 2_00))).price.fee == 2
    assert (await process.transfers.send(key=key("unknown"), **asked)).fee == 2


async def test_a_hold_has_an_allowance_of_its_own_or_uses_the_transfers(world):
    own = read(HEAD + "free.transfer = { operations = 1 }\nfree.hold = { operations = 1 }\n" + FEE)
    ends = world.clock.now() + timedelta(days=2)
    asked = {"sender": ALICE, "recipient": BOB, "asset": "EUR", "amount": 1_00}
    for number, (tariff, fees) in enumerate(((own, [0, 1_00, 0, 1_00]), (THREE, [0, 0, 1_00, 1_00]))):
        process = world.process(tariff)
        await world.fund(process, ALICE, "EUR", 100_00)
        sent = [await process.transfers.send(key=key(f"t{number}{n}"), **asked) for n in range(2)]
        held = [await process.holds.create(key=key(f"h{number}{n}"), **asked, expires_at=ends) for n in range(2)]
        assert [one.fee for one in (*sent, *held)] == fees


async def test_a_hold_let_go_whole_gives_its_free_operation_back(world):
    process = world.process(read(HEAD + "free.hold = { operations = 1 }\n" + FEE))
    await world.fund(process, ALICE, "EUR", 100_00)
    asked = {"sender": ALICE, "recipient": BOB, "asset": "EUR", "amount": 5_00}
    ends = world.clock.now() + timedelta(days=2)
    first = await process.holds.create(key=key("1"), **asked, expires_at=ends)
    await process.holds.void(key=key("void", owner=BOB), owner=BOB, hold=first.id)
    second = await process.holds.create(key=key("2"), **asked, expires_at=ends)
    third = await process.holds.create(key=key("3"), **asked, expires_at=ends)
    assert [one.fee for one in (first, second, third)] == [0, 0, 1_00]
