"""F14: users' deposits and withdrawals on a chain that is gone, in every state they can be in."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from chain import reanchor
from chain.reanchor import Reset
from chain.store import followed
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.outcomes import require_accepted
from ledger.owing import receivable_account
from tests.wallet.conftest import ALICE, BOB, USDC, fund
from tests.wallet.scripted_chain import digest, paid
from tests.wallet.test_withdrawals import ask, mined, reserved
from treasury.lost_custody import Left, clear_custody, in_custody
from wallet.lost_chains import REASON, LostChains
from wallet.resources import DepositState
from wallet.tables import withdrawals
from wallet.withdrawal_states import ENDED, WithdrawalState

pytestmark = pytest.mark.slow

NEW_CHAIN = 222
"""The chain id after the reset."""


async def left(house) -> LostChains:
    """The chain is gone and left; what was booked from it isn't taken back yet."""
    chain = house.chain
    network = replace(chain.network, chain_id=NEW_CHAIN)
    async with tx(chain.engine) as connection:
        at = await followed(connection, network.name)
    assert at is not None
    reset = Reset(network, at, genesis_hash=digest("new genesis"), head_height=3, begun=False)
    await reanchor.leave(chain.engine, reset, first_nonces={}, now=chain.clock.now())
    return LostChains(chain.engine, ledger=house.ledger, deposits=house.deposits, clock=chain.clock)


async def all_taken_back(house, lost: LostChains) -> None:
    for part in (lost.give_up, lost.take_back):
        while await part(house.chain.network):
            pass
    assert await lost.remaining(house.chain.network) == {"withdrawals": 0, "deposits": 0}


async def deposited(house, owner: str, amount: int, *, blocks: int) -> None:
    to = (await house.addresses.issue(owner, "local")).address
    seen = paid(to, amount, contract=USDC, tx_hash=digest("deposit", owner, amount))
    await house.chain.mine(seen)
    await house.chain.mine_empty(blocks - 1)
    for _ in range(3):
        await house.deposits.step()


async def booked(house, name: str, debit: str, credit: str, amount: int) -> None:
    """An entry without a block."""
    await house.ledger.ensure_open(debit, credit)
    post = Post(id=f"test:{name}", postings=(Posting(debit, credit, "USDC", amount),))
    (outcomes,) = await house.ledger.submit(alone(post))
    require_accepted(outcomes)


async def states_of(house, owner: str) -> list[DepositState]:
    return [deposit.state for deposit in await house.deposits.list_for(owner)]


async def test_f14_a_pending_deposit_is_voided_and_a_credited_one_taken_back(house):
    await deposited(house, ALICE, 7_000_000, blocks=4)
    await deposited(house, BOB, 5_000_000, blocks=1)
    assert (await states_of(house, ALICE), await states_of(house, BOB)) == (
        [DepositState.FINAL],
        [DepositState.PENDING],
    )
    await all_taken_back(house, await left(house))
    assert await states_of(house, ALICE) == [DepositState.REVERSED]
    assert await states_of(house, BOB) == [DepositState.ORPHANED]
    for owner in (ALICE, BOB):
        account = await house.user(owner, "USDC")
        assert (account.balance, account.credits_pending, account.debits_pending) == (0, 0, 0)
    assert await in_custody(house.ledger, "local") == []
    await house.assert_sums_to_zero()


async def test_f14_what_was_spent_of_a_lost_deposit_is_owed(house):
    await deposited(house, ALICE, 7_000_000, blocks=4)
    await booked(house, "spent", user_account(ALICE, "USDC"), user_account(BOB, "USDC"), 4_000_000)
    await all_taken_back(house, await left(house))
    assert await house.balance(user_account(ALICE, "USDC")) == 0
    assert await house.balance(receivable_account(ALICE, "USDC")) == -4_000_000
    await house.assert_sums_to_zero()


@pytest.mark.parametrize("state", sorted(set(WithdrawalState) - ENDED - {WithdrawalState.REQUESTED}))
async def test_f14_a_withdrawal_under_way_is_given_up_and_all_of_its_hold_comes_back(house, state):
    await fund(house.ledger, user_account(ALICE, "USDC"), 100_000_000, name="USDC")
    withdrawal = await ask(house)
    if state not in ("held", "screened", "awaiting_approval", "approved"):
        withdrawal = await reserved(house, withdrawal)
        if state is WithdrawalState.MINED:
            await mined(house, withdrawal)
    early = state in ("held", "screened", "awaiting_approval", "approved")
    async with tx(house.chain.engine) as connection:
        await connection.execute(update(withdrawals).values(state=state, cancellable=early))
    lost = await left(house)
    assert await lost.give_up(house.chain.network) == 1
    assert await lost.give_up(house.chain.network) == 0
    ended = await house.withdrawals.get(ALICE, withdrawal.id)
    assert (ended.state, ended.reason, ended.cancellable) == (WithdrawalState.CANCELLED, REASON, False)
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.available) == (100_000_000, 100_000_000)
    assert await house.withdrawals.step() == 0
    assert (await house.withdrawals.get(ALICE, withdrawal.id)).state is WithdrawalState.CANCELLED


async def test_f14_what_is_held_for_a_withdrawal_is_there_to_take_a_lost_deposit_back(house):
    await deposited(house, ALICE, 60_000_000, blocks=4)
    await ask(house, amount=50_000_000)
    await all_taken_back(house, await left(house))
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (0, 0)
    assert await house.balance(receivable_account(ALICE, "USDC")) == 0


async def test_f14_what_left_the_lost_chain_and_what_never_had_a_block_goes_to_suspense_once(house):
    chain, ledger = house.chain, house.ledger
    await fund(ledger, user_account(ALICE, "USDC"), 100_000_000, name="USDC")
    opening = house_account("custody:local:hot", "USDC")
    await booked(house, "opening", opening, house_account("capital", "USDC"), 30_000_000)
    withdrawal = await reserved(house, await ask(house))
    await mined(house, withdrawal)
    await chain.mine_empty(4)
    await chain.set_transaction(withdrawal.id, state="final")
    await house.withdrawals.step()
    assert (await house.withdrawals.get(ALICE, withdrawal.id)).state is WithdrawalState.FINAL
    gas = 65_000 * 10**10
    shown = await in_custody(ledger, "local")
    assert shown == [
        Left(house_account("custody:local:hot", "ETH"), "ETH", -gas),
        Left(opening, "USDC", 30_000_000 - 40_000_000),
    ]
    await all_taken_back(house, await left(house))
    for moved in (3, 0):
        assert await clear_custody(chain.engine, ledger, "local", reason="of the test") == moved
    assert await in_custody(ledger, "local") == []
    assert await house.balance(house_account("suspense", "ETH")) == gas
    assert await house.balance(house_account("suspense", "USDC")) == 10_000_000
    await house.assert_sums_to_zero()
