"""Reconciliation: quiet where all agree, precise about what is in flight, and loud about one unit of drift."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from base.errors import Unavailable
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, Post, Posting, alone
from tests.treasury.conftest import Told
from tests.wallet.conftest import ALICE, USDC, key
from tests.wallet.scripted_chain import digest, paid
from tests.wallet.test_withdrawals import TO
from tests.wallet.test_withdrawals import mined as mine_payment
from treasury.break_store import Wanted
from treasury.records import BreakReason

pytestmark = pytest.mark.slow

DEPOSIT = house_account("custody:local:deposit", "USDC")
HOT = house_account("custody:local:hot", "USDC")


async def journey(treasury):
    """The house is funded, Alice deposits 50 USDC, and half of it leaves again; the node tells the same."""
    house = treasury.house
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(
        paid(house.hot, 900_000_000, contract=USDC, tx_hash=digest("f"), place="log:0"),
        paid(house.hot, 10**18, contract=None, tx_hash=digest("e"), place="value"),
        paid(to, 50_000_000, contract=USDC, tx_hash=digest("d")),
    )
    await house.chain.mine_empty(4)
    await treasury.work()
    treasury.node.held[USDC, house.hot] = 900_000_000
    treasury.node.held[None, house.hot] = 10**18
    treasury.node.held[USDC, to] = 50_000_000
    return to


async def withdraw(treasury, *, final_blocks: int, gas: bool = False):
    house = treasury.house
    withdrawal = await house.withdrawals.request(
        key=key("w"), owner=ALICE, asset="USDC", network="local", to=TO, amount=25_000_000
    )
    await treasury.work()
    await mine_payment(house, withdrawal, told=gas)
    await house.chain.mine_empty(final_blocks)
    return withdrawal


async def test_an_empty_house_agrees(treasury):
    await treasury.house.chain.mine_empty(4)
    run = await treasury.reconciler.run()
    assert run.clean
    assert run.checks > 0
    assert run.networks[0].block_number == 1


async def test_after_a_journey_book_and_chain_agree_at_the_final_block(treasury):
    await journey(treasury)
    withdrawal = await withdraw(treasury, final_blocks=4, gas=True)
    await treasury.house.chain.set_transaction(withdrawal.id, state="final")
    treasury.node.held[USDC, treasury.house.hot] -= 25_000_000
    treasury.node.held[None, treasury.house.hot] -= 65_000 * 10**10
    await treasury.work()
    run = await treasury.reconciler.run()
    assert run.breaks == ()
    assert run.in_flight == ()
    assert run.networks[0].block_hash == treasury.house.chain.hashes[run.networks[0].block_number]
    assert (await treasury.reconciler.recent())[0].id == run.id


async def test_what_is_final_but_not_yet_booked_is_in_flight_and_no_break_until_patience_ends(treasury, clock):
    to = await journey(treasury)
    await treasury.house.chain.mine(paid(to, 7_000_000, contract=USDC, tx_hash=digest("late")))
    await treasury.house.chain.mine_empty(4)
    treasury.node.held[USDC, to] += 7_000_000
    run = await treasury.reconciler.run()
    assert run.clean
    (late,) = run.in_flight
    assert (late.account, late.amount, late.tx_hash) == (DEPOSIT, 7_000_000, digest("late"))

    clock.advance(timedelta(minutes=11))
    (overdue,) = (await treasury.reconciler.run()).breaks
    assert (overdue.reason, overdue.account) == (BreakReason.UNBOOKED, DEPOSIT)
    await treasury.work()
    assert (await treasury.reconciler.run()).clean


async def test_a_payment_that_is_final_but_not_booked_is_in_flight_too(treasury):
    await journey(treasury)
    await withdraw(treasury, final_blocks=4)
    treasury.node.held[USDC, treasury.house.hot] -= 25_000_000
    run = await treasury.reconciler.run()
    assert run.clean
    assert [(item.account, item.amount) for item in run.in_flight] == [(HOT, -25_000_000)]


async def test_what_is_not_final_yet_is_left_out_on_both_sides(treasury):
    to = await journey(treasury)
    await treasury.house.chain.mine(paid(to, 7_000_000, contract=USDC, tx_hash=digest("late")))
    await treasury.house.chain.mine_empty(2)  # spendable and credited, but not final
    await treasury.work()
    assert await treasury.house.balance(user_account(ALICE, "USDC")) == 57_000_000
    assert (await treasury.reconciler.run()).clean


async def test_a_compensation_under_way_is_no_break(treasury):
    to = await journey(treasury)
    await treasury.house.chain.mine(paid(to, 7_000_000, contract=USDC, tx_hash=digest("late")))
    await treasury.house.chain.mine_empty(2)
    await treasury.work()
    await treasury.house.chain.reorg(3)
    await treasury.house.chain.mine_empty(6)
    assert (await treasury.reconciler.run()).clean  # not taken back yet
    await treasury.work()
    assert (await treasury.reconciler.run()).clean


@pytest.mark.parametrize("step", [1, -1])
async def test_f57_one_unit_on_chain_names_network_asset_and_account(treasury, step):
    to = await journey(treasury)
    treasury.node.held[USDC, to] += step
    (found,) = (await treasury.reconciler.run()).breaks
    assert (found.reason, found.network, found.account, found.asset) == (
        BreakReason.CHAIN_DIFFERS,
        "local",
        DEPOSIT,
        "USDC",
    )
    assert (found.expected, found.found) == (50_000_000, 50_000_000 + step)


@pytest.mark.parametrize("counter", ["credits_posted", "debits_posted", "debits_pending", "credits_pending"])
@pytest.mark.parametrize("account", [user_account(ALICE, "USDC"), HOT])
async def test_f57_one_unit_in_a_stored_counter_names_the_account(treasury, database, counter, account):
    await journey(treasury)
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(
            text(f"UPDATE ledger_accounts SET {counter} = {counter} + 1 WHERE name = :account"), {"account": account}
        )
    run = await treasury.reconciler.run()
    drift = [found for found in run.breaks if found.reason is BreakReason.COUNTER_DRIFT]
    assert [(found.account, found.asset, found.detail) for found in drift] == [(account, "USDC", counter)]
    assert drift[0].found - drift[0].expected == 1
    posted = counter.endswith("posted")
    assert [found.asset for found in run.breaks if found.reason is BreakReason.UNBALANCED] == ["USDC"] * posted


async def test_a_break_keeps_its_identity_grows_older_and_is_resolved(treasury, clock):
    to = await journey(treasury)
    treasury.node.held[USDC, to] += 1
    (first,) = (await treasury.reconciler.run()).breaks
    clock.advance(timedelta(hours=1))
    treasury.node.held[USDC, to] += 1
    (again,) = (await treasury.reconciler.run()).breaks
    assert (again.id, again.found) == (first.id, 50_000_002)
    assert again.age(clock.now()) == timedelta(hours=1)
    treasury.node.held[USDC, to] -= 2
    assert (await treasury.reconciler.run()).clean
    assert await treasury.breaks.list() == []
    (kept,) = await treasury.breaks.list(Wanted(everything=True))
    assert kept.resolved_at == clock.now()


async def test_a_network_that_cannot_be_asked_is_named_and_its_breaks_stay_open(treasury):
    to = await journey(treasury)
    treasury.node.held[USDC, to] += 1
    await treasury.reconciler.run()
    treasury.node.error = Unavailable("the node is away")
    run = await treasury.reconciler.run()
    assert run.networks[0].skipped == "the node is away"
    assert len(run.breaks) == 1
    treasury.node.error = None
    treasury.node.held[USDC, to] -= 1
    assert (await treasury.reconciler.run()).clean


async def test_the_bank_is_compared_with_the_journal(treasury):
    ledger = treasury.house.ledger
    bank, user = house_account("bank:main", "EUR"), user_account(ALICE, "EUR")
    await ledger.ensure_open(bank, user)
    posting = Posting(bank, user, "EUR", 120_00)
    await ledger.submit(alone(Post(id="line", evidence=BankEvidence("main", "S1", 1), postings=(posting,))))
    (silent,) = (await treasury.reconciler.run()).breaks
    assert (silent.reason, silent.account, silent.expected) == (BreakReason.NO_STATEMENT, bank, 120_00)
    treasury.bank.told = [Told("main", "EUR", 120_01)]
    (differs,) = (await treasury.reconciler.run()).breaks
    assert (differs.reason, differs.expected, differs.found) == (BreakReason.BANK_DIFFERS, 120_00, 120_01)
    treasury.bank.told = [Told("main", "EUR", 120_00)]
    assert (await treasury.reconciler.run()).breaks == ()
