"""Deposits against a real database: what the follower recorded becomes balances, once, and is taken back rightly."""

import pytest

from base.errors import NotFound
from ledger.accounts import house_account, user_account
from ledger.asking import ATTEMPTS_MAX
from ledger.commands import Freeze, FreezeScope, Post, Posting, alone
from ledger.owing import receivable_account
from tests.wallet.conftest import ALICE, BOB, DAI, USDC, KnownPeople, fund, key
from tests.wallet.scripted_chain import digest, paid
from wallet.receivables import Receivables
from wallet.resources import DepositState
from wallet.transfers import Transfers

pytestmark = pytest.mark.slow

TX = digest("tx", 1)
CUSTODY = house_account("custody:local:deposit", "USDC")


async def settled(house) -> None:
    """Step until nothing moves."""
    for _ in range(20):
        if not await house.deposits.step():
            return
    raise AssertionError("deposits never came to rest")


async def test_one_address_per_user_and_each_their_own(house):
    first = await house.addresses.issue(ALICE, "local")
    assert await house.addresses.issue(ALICE, "local") == first
    assert (await house.addresses.issue(BOB, "local")).address != first.address
    assert await house.addresses.list_for(ALICE) == [first]
    assert first.networks == ("local",)


async def test_seen_is_incoming_spendable_is_theirs_and_final_stays(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await settled(house)
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.credits_pending) == (0, 5_000_000)

    await house.chain.mine_empty(1)  # depth 2: spendable
    await settled(house)
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.credits_pending) == (5_000_000, 0)
    assert await house.balance(CUSTODY) == -5_000_000

    (deposit,) = await house.deposits.list_for(ALICE)
    assert deposit.state is DepositState.CREDITED
    await house.chain.mine_empty(2)
    await settled(house)
    assert (await house.deposits.get(ALICE, deposit.id)).state is DepositState.FINAL
    with pytest.raises(NotFound):
        await house.deposits.get(BOB, deposit.id)
    await house.assert_sums_to_zero()


async def test_f01_reorg_before_credit_books_nothing(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await settled(house)
    await house.chain.reorg(1)
    await house.chain.mine_empty(5)
    await settled(house)
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.credits_pending) == (0, 0)
    (deposit,) = await house.deposits.list_for(ALICE)
    assert deposit.state is DepositState.ORPHANED


async def test_f02_reorg_after_credit_takes_back_and_what_was_spent_is_receivable(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(1)
    await settled(house)
    await spend(house, 2_000_000)
    await house.chain.reorg(2)
    await house.chain.mine_empty(2)
    await settled(house)
    assert await house.balance("usr_alice/wallet/USDC") == 0
    assert await house.balance(house_account(f"receivable:{ALICE}", "USDC")) == -2_000_000
    assert await house.balance(CUSTODY) == 0
    (deposit,) = await house.deposits.list_for(ALICE)
    assert deposit.state is DepositState.REVERSED
    await house.assert_sums_to_zero()


async def test_f02_what_a_debtor_gets_next_repays_first(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(1)
    await settled(house)
    await spend(house, 3_000_000)
    await house.chain.reorg(2)
    await settled(house)
    receivables = Receivables(house.ledger)
    assert await receivables.step() == 0
    for amount, left in ((1_000_000, 2_000_000), (4_000_000, 0)):
        await house.chain.mine(paid(to, amount, contract=USDC, tx_hash=digest("next", amount)))
        await house.chain.mine_empty(1)
        await settled(house)
        assert await receivables.step() == 1
        assert await receivables.step() == 0
        assert await house.balance(house_account(f"receivable:{ALICE}", "USDC")) == -left
    assert await house.balance("usr_alice/wallet/USDC") == 2_000_000
    assert await receivables.open() == []
    await house.assert_sums_to_zero()


@pytest.mark.parametrize("credited", [False, True])
async def test_f03_the_same_transaction_in_another_block_is_credited_once(house, credited):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX, place="log:3"))
    if credited:
        await house.chain.mine_empty(1)
    await settled(house)
    await house.chain.reorg(2 if credited else 1)
    await house.chain.mine()
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX, place="log:0"))
    await house.chain.mine_empty(4)
    await settled(house)
    assert await house.balance("usr_alice/wallet/USDC") == 5_000_000
    states = {deposit.state for deposit in await house.deposits.list_for(ALICE)}
    assert states == {DepositState.FINAL, DepositState.REVERSED if credited else DepositState.ORPHANED}
    await house.assert_sums_to_zero()


async def test_f03_a_block_that_comes_back_revives_its_deposit_as_a_new_version(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    before = house.chain.branch
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(1)
    await settled(house)
    await house.chain.reorg(2)
    await settled(house)
    assert await house.balance("usr_alice/wallet/USDC") == 0
    house.chain.branch = before
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(4)
    await settled(house)
    assert await house.balance("usr_alice/wallet/USDC") == 5_000_000
    assert sorted(deposit.version for deposit in await house.deposits.list_for(ALICE)) == [1, 2]


async def test_f04_a_halted_network_credits_nothing_but_takes_back(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(4)
    await settled(house)
    await house.chain.reorg(5, halted="reorg_below_final")
    await house.chain.mine(paid(to, 7_000_000, contract=USDC, tx_hash=digest("tx", 2)))
    await house.chain.mine_empty(5)
    await settled(house)
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.credits_pending) == (0, 7_000_000)


async def test_f23_several_transfers_in_one_transaction_count_each_once(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    transfers = [paid(to, 1_000_000 * n, contract=USDC, tx_hash=TX, place=f"log:{n}") for n in (1, 2, 3)]
    await house.chain.mine(*transfers, paid(to, 10**18, contract=None, tx_hash=TX, place="value"))
    await house.chain.mine_empty(3)
    await settled(house)
    await settled(house)
    assert await house.balance("usr_alice/wallet/USDC") == 6_000_000
    assert await house.balance("usr_alice/wallet/ETH") == 10**18


async def test_f24_too_little_goes_to_suspense_and_an_unknown_token_is_recorded(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(
        paid(to, 999_999, contract=USDC, tx_hash=TX, place="log:0"),
        paid(to, 10**30, contract="0x" + "66" * 20, tx_hash=TX, place="log:1"),
    )
    await house.chain.mine_empty(5)
    await settled(house)
    found = {deposit.state: deposit for deposit in await house.deposits.list_for(ALICE)}
    assert set(found) == {DepositState.BELOW_MINIMUM, DepositState.UNKNOWN_TOKEN}
    assert found[DepositState.UNKNOWN_TOKEN].chain_amount == 10**30
    assert await house.balance(house_account("suspense", "USDC")) == 999_999
    assert await house.balance(CUSTODY) == -999_999
    assert await house.balance("usr_alice/wallet/USDC") == 0


async def test_chain_units_become_the_assets_own(house):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 3, contract=DAI, tx_hash=TX))
    await house.chain.mine_empty(2)
    await settled(house)
    assert await house.balance("usr_alice/wallet/DAI") == 3 * 10**12


async def test_a_worker_started_anew_changes_nothing(house, database, clock, entropy):
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(5)
    await settled(house)
    again = type(house.deposits)(
        database.engine(), ledger=house.ledger, registry=house.registry, clock=clock, entropy=entropy
    )
    assert await again.step() == 0
    assert await house.balance("usr_alice/wallet/USDC") == 5_000_000


async def spend(house, amount: int) -> None:
    """Alice's money goes to Bob."""
    transfers = Transfers(
        ledger=house.ledger, directory=KnownPeople(), clock=house.chain.clock, entropy=house.deposits._entropy
    )
    await transfers.send(key=key("spend"), sender=ALICE, recipient="@bob", asset="USDC", amount=amount)


async def test_what_left_the_chain_is_never_credited_however_much_of_it_there_is(house, monkeypatch):
    """More deposits vanish at once than one step takes back; the new branch is already deep enough to spend on."""
    monkeypatch.setattr("wallet.deposits.BATCH", 1)
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(*(paid(to, 5_000_000, contract=USDC, tx_hash=digest("gone", n)) for n in range(3)))
    await settled(house)
    assert (await house.user(ALICE, "USDC")).credits_pending == 15_000_000
    await house.chain.reorg(1)
    await house.chain.mine_empty(5)
    for _ in range(5):
        await house.deposits.step()
        assert (await house.user(ALICE, "USDC")).balance == 0
    assert (await house.user(ALICE, "USDC")).credits_pending == 0
    assert {deposit.state for deposit in await house.deposits.list_for(ALICE)} == {DepositState.ORPHANED}


async def test_a_frozen_debtor_keeps_nobody_elses_debt_from_being_repaid(house):
    receivables = Receivables(house.ledger)
    for owner in (ALICE, BOB):
        await fund(house.ledger, user_account(owner, "USDC"), 1_000_000, name=owner)
        debt = (receivable_account(owner, "USDC"), house_account("capital", "USDC"))
        await house.ledger.ensure_open(*debt)
        owes = Post(id=f"test:owe:{owner}", postings=(Posting(*debt, "USDC", 3_000_000),))
        await house.ledger.submit(alone(owes))
    await house.ledger.submit(alone(Freeze(id="test:freeze", scope=FreezeScope.OWNER, target=ALICE)))
    for _ in range(ATTEMPTS_MAX + 1):
        await receivables.step()
    await fund(house.ledger, user_account(BOB, "USDC"), 1_000_000, name="more")
    assert await receivables.step() == 1
    assert (await house.user(BOB, "USDC")).balance == 0
    assert (await house.user(ALICE, "USDC")).balance == 1_000_000
