"""What is kept of the exchange's position, against its moves and the book: one part too much anywhere is found."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from chain.networks import Registry
from db.engine import tx
from exchange import position_check
from exchange.position_check import ANEW_EVERY, KeptDiffers, PositionCheck
from ledger.accounts import house_account
from tests.wallet.conftest import ALICE, fund, key
from treasury.comparison import position_differs
from treasury.reconciliation import Reconciler
from treasury.records import BreakReason, Finding

pytestmark = pytest.mark.slow


@pytest.fixture
def check(exchange) -> PositionCheck:
    return PositionCheck(exchange.engine, book=exchange.ledger.book, clock=exchange.clock)


@pytest.fixture
async def traded(exchange):
    """Some was brought in, bought, sold and earned; all of it is taken in."""
    for number, (sell, buy, amount) in enumerate((("ETH", "USD", 2 * 10**18), ("USD", "ETH", 100_00))):
        quote = await exchange.quotes.create(ALICE, sell=sell, buy=buy, sell_amount=amount)
        await exchange.conversions.convert(key=key(f"c{number}"), owner=ALICE, quote=quote.id)
    await taken_in(exchange)
    return exchange


async def taken_in(exchange) -> None:
    while await exchange.positions.step():
        pass


async def alter(database, statement: str) -> None:
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        assert (await connection.execute(text(statement))).rowcount == 1


def named(found: list[KeptDiffers]) -> set[tuple[str, str, int]]:
    return {(one.asset, one.figure, one.found - one.expected) for one in found}


async def test_positions_as_they_were_kept_agree_however_often_they_are_looked_at(check, traded):
    assert await check.differences(whole=False) == (2, [])
    for number in range(3):
        await fund(traded.ledger, house_account("fx", "ETH"), 10**15, name=f"more {number}")
        assert await check.differences(whole=False) == (2, [])  # of what isn't taken in nothing is said
        await taken_in(traded)
        assert await check.differences(whole=bool(number % 2)) == (2, [])


ALTERED = [
    # figure       what is named of ETH
    ("quantity",   {("ETH", "quantity", 1), ("ETH", "booked", 1)}),
    ("cost",       {("ETH", "cost", 1)}),
    ("realised",   {("ETH", "realised", 1)}),
    ("earned",     {("ETH", "earned", 1)}),
]  # fmt: skip


async def test_one_part_more_of_any_figure_is_named(check, traded, database):
    assert (await check.differences(whole=False))[1] == []
    for figure, told in ALTERED:
        await alter(database, f"UPDATE exchange_positions SET {figure} = {figure} + 1 WHERE asset = 'ETH'")
        assert named((await check.differences(whole=False))[1]) == told
        await alter(database, f"UPDATE exchange_positions SET {figure} = {figure} - 1 WHERE asset = 'ETH'")
    assert (await check.differences(whole=False))[1] == []


async def test_moves_and_position_altered_alike_differ_from_the_book(check, traded, database):
    first = "(SELECT min(seq) FROM exchange_moves WHERE asset = 'ETH')"
    await alter(database, f"UPDATE exchange_moves SET quantity = quantity + 1 WHERE asset = 'ETH' AND seq = {first}")
    await alter(database, "UPDATE exchange_positions SET quantity = quantity + 1 WHERE asset = 'ETH'")
    found = named((await check.differences(whole=False))[1])
    assert ("ETH", "booked", 1) in found
    assert ("ETH", "quantity", 1) not in found


async def test_of_many_moves_an_old_one_that_was_altered_shows_when_all_are_computed_anew(
    check, traded, database, monkeypatch
):
    monkeypatch.setattr(position_check, "ANEW_MAX", 1)
    assert (await check.differences(whole=False))[1] == []
    first = "(SELECT min(seq) FROM exchange_moves WHERE asset = 'USD')"
    await alter(database, f"UPDATE exchange_moves SET value = value + 1 WHERE asset = 'USD' AND seq = {first}")
    assert (await check.differences(whole=False))[1] == []  # only what came since was read
    await alter(database, "UPDATE exchange_positions SET cost = cost + 5 WHERE asset = 'ETH'")
    assert named((await check.differences(whole=False))[1]) == {("ETH", "cost", 5)}  # what is kept is, each time
    await alter(database, "UPDATE exchange_positions SET cost = cost - 5 WHERE asset = 'ETH'")
    assert {asset for asset, _, _ in named((await check.differences(whole=True))[1])} == {"USD"}
    await alter(database, f"UPDATE exchange_moves SET value = value - 1 WHERE asset = 'USD' AND seq = {first}")
    assert (await check.differences(whole=False))[1] != []
    traded.clock.advance(ANEW_EVERY)
    assert (await check.differences(whole=False))[1] == []


async def test_a_cycle_makes_a_break_of_it_that_is_critical_at_once_and_ends_with_it(check, traded, database):
    reconciler = Reconciler(
        traded.engine,
        ledger=traded.ledger,
        registry=Registry((), ()),
        nodes={},
        banks=[],
        exchange=check,
        clock=traded.clock,
        entropy=traded.entropy,
    )
    assert (await reconciler.run_changes()).breaks == ()
    await alter(database, "UPDATE exchange_positions SET cost = cost + 1 WHERE asset = 'ETH'")
    traded.clock.advance(timedelta(minutes=1))
    (found,) = (await reconciler.run_changes()).breaks
    told = (found.reason, found.account, found.asset, found.detail, found.difference)
    assert told == (BreakReason.POSITION_DIFFERS, "house/fx/ETH", "USD", "cost", 1)
    assert found.causes
    await alter(database, "UPDATE exchange_positions SET cost = cost - 1 WHERE asset = 'ETH'")
    traded.clock.advance(timedelta(minutes=1))
    assert (await reconciler.run()).breaks == ()


TOLD = [
    # parts  expected  found   as smallest units, no difference lost
    (1,      5,        7,      (5, 7)),
    (1000,   5_000,    7_000,  (5, 7)),
    (1000,   5_999,    6_000,  (5, 6)),
    (1000,   6_000,    5_999,  (6, 5)),
    (1000,   -1,       0,      (-1, 0)),
    (1000,   500,      2_501,  (0, 3)),
]  # fmt: skip


def test_a_difference_of_less_than_a_smallest_unit_is_told_as_one():
    for parts, expected, found, units in TOLD:
        (told,) = position_differs([KeptDiffers("ETH", "cost", "USD", parts, expected, found)])
        assert told == Finding(BreakReason.POSITION_DIFFERS, "house/fx/ETH", "USD", *units, detail="cost")
