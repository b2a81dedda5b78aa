"""Withdrawals against a real database; the broadcaster's rows are written by the test, as the chain would."""

import pytest

from base.errors import NotFound
from chain.errors import InvalidAddress, NotAWholeUnit, NotOnNetwork, ScreeningUnavailable
from chain.evm.addresses import show_address
from chain.observations import Outgoing
from chain.screening import ScreeningList
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, Post, Posting, Unfreeze, alone
from ledger.errors import RefusedByBook, RequestConflict
from tests.wallet.conftest import ALICE, BOB, USDC, FixedRates, OneSender, fund, key
from tests.wallet.scripted_chain import digest, paid
from wallet import withdrawal_store
from wallet.errors import BelowMinimum, FeesUnknown, NotCancellable, OwnAddress, TokenContract
from wallet.withdrawal_states import WaitingFor, WithdrawalState

pytestmark = pytest.mark.slow

TO = digest("recipient")[:42]
TX = digest("payout")
HIGHEST = 3_250_650
"""65,000 gas at 20 gwei at 2,500.50 USDC per ETH, in smallest units."""


@pytest.fixture
async def rich(house):
    """Alice has 100 USDC and 1 ETH, backed by the hot address."""
    for asset, amount in (("USDC", 100_000_000), ("ETH", 10**18)):
        await fund(house.ledger, user_account(ALICE, asset), amount, name=asset)
    return house


async def ask(house, name="w", *, asset="USDC", amount=40_000_000, to=TO, network="local"):
    return await house.withdrawals.request(
        key=key(name, [asset, amount, to]), owner=ALICE, asset=asset, network=network, to=to, amount=amount
    )


async def reserved(house, withdrawal):
    """Stepped until its nonce is reserved."""
    for _ in range(3):
        await house.withdrawals.step()
    found = await house.withdrawals.get(ALICE, withdrawal.id)
    assert found.state is WithdrawalState.NONCE_RESERVED
    return found


async def mined(house, withdrawal, *, succeeded=True, fee_wei=65_000 * 10**10, transfer=True, told=False):
    """Its transaction is in a block, and the block says so; `told`: also what it cost its sender."""
    seen = paid(TO, withdrawal.chain_amount, contract=USDC, tx_hash=TX, place="log:7", sender=house.hot)
    cost = Outgoing(TX, house.hot, 0, TO, succeeded, 65_000, 10**10)
    block_hash = await house.chain.mine(*([seen] if transfer else []), sent=(cost,) if told else ())
    await house.chain.set_transaction(
        withdrawal.id,
        state="mined",
        mined_attempt=1,
        tx_hash=TX,
        block_number=house.chain.height,
        block_hash=block_hash,
        succeeded=succeeded,
        gas_used=65_000,
        effective_gas_price=10**10,
        fee_wei=fee_wei,
    )


async def step_once_more_changes_nothing(house):
    before = await house.ledger.accounts()
    assert await house.withdrawals.step() == 0
    assert await house.ledger.accounts() == before


async def test_asking_holds_amount_and_highest_fee(rich):
    estimate = await rich.withdrawals.estimate(ALICE, asset="USDC", network="local", amount=40_000_000)
    assert (estimate.fee_highest, estimate.total) == (HIGHEST, 40_000_000 + HIGHEST)
    withdrawal = await ask(rich)
    assert (withdrawal.state, withdrawal.cancellable) == (WithdrawalState.HELD, True)
    account = await rich.user(ALICE, "USDC")
    assert (account.balance, account.available) == (100_000_000, 100_000_000 - 40_000_000 - HIGHEST)
    assert await rich.withdrawals.list_for(ALICE) == [await rich.withdrawals.get(ALICE, withdrawal.id)]
    with pytest.raises(NotFound):
        await rich.withdrawals.get(BOB, withdrawal.id)


async def test_f43_the_same_request_is_the_same_withdrawal(rich):
    first = await ask(rich)
    rich.fees.above_cap = True  # what changed since doesn't matter to a repeat
    again = await ask(rich)
    assert again.replayed
    assert again.id == first.id
    with pytest.raises(RequestConflict) as conflict:
        await ask(rich, amount=41_000_000)
    assert conflict.value.facts["first"] == first.id


async def test_final_books_the_whole_chart_in_one_group(rich):
    withdrawal = await reserved(rich, await ask(rich))
    assert await rich.withdrawals.step() == 0
    for state in ("signed", "broadcast"):
        await rich.chain.set_transaction(withdrawal.id, state=state)
        assert await rich.withdrawals.step() == 1
        assert (await rich.withdrawals.get(ALICE, withdrawal.id)).state == state
    await mined(rich, withdrawal)
    assert await rich.withdrawals.step() == 1
    assert (await rich.withdrawals.get(ALICE, withdrawal.id)).tx_hash == TX
    account = await rich.user(ALICE, "USDC")
    assert account.debits_pending == 40_000_000 + HIGHEST  # only final evidence ends it
    await rich.chain.set_transaction(withdrawal.id, state="final")
    assert await rich.withdrawals.step() == 1
    done = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (done.state, done.fee) == (WithdrawalState.FINAL, 1_625_325)
    account = await rich.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000 - 40_000_000 - 1_625_325, 0)
    assert await rich.balance(house_account("fees", "USDC")) == 1_625_325
    assert await rich.balance(house_account("in-transit:local:out", "USDC")) == 0
    assert await rich.balance(house_account("custody:local:hot", "USDC")) == 40_000_000
    assert await rich.balance(house_account("custody:local:hot", "ETH")) == 65_000 * 10**10
    assert await rich.balance(house_account("network-fees", "ETH")) == -65_000 * 10**10
    evidence = {movement.evidence for movement in await rich.ledger.history(subject=withdrawal.id) if movement.evidence}
    assert {(found.tx_hash, found.place, found.block_number) for found in evidence} == {
        (TX, "log:7", done.block_number)
    }
    await rich.assert_sums_to_zero()
    await step_once_more_changes_nothing(rich)


async def test_the_house_bears_gas_above_the_promise(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await mined(rich, withdrawal, fee_wei=10**18)
    await rich.chain.set_transaction(withdrawal.id, state="final")
    await rich.withdrawals.step()
    assert (await rich.withdrawals.get(ALICE, withdrawal.id)).fee == HIGHEST
    assert await rich.balance(house_account("network-fees", "ETH")) == -(10**18)


async def test_f40_a_reverted_payment_releases_the_hold_and_costs_the_house_its_gas(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await mined(rich, withdrawal, succeeded=False, transfer=False)
    await rich.chain.set_transaction(withdrawal.id, state="reverted")
    assert await rich.withdrawals.step() == 1
    account = await rich.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000, 0)
    assert await rich.balance(house_account("network-fees", "ETH")) == -65_000 * 10**10
    assert (await rich.withdrawals.get(ALICE, withdrawal.id)).state is WithdrawalState.REVERTED
    await rich.assert_sums_to_zero()
    await step_once_more_changes_nothing(rich)


async def test_f41_mined_then_reorged_out_is_broadcast_again(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await mined(rich, withdrawal)
    await rich.withdrawals.step()
    await rich.chain.set_transaction(
        withdrawal.id, state="broadcast", tx_hash=None, block_number=None, block_hash=None, fee_wei=None
    )
    await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.tx_hash) == (WithdrawalState.BROADCAST, None)


async def test_a_success_that_paid_nothing_is_for_a_person(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await mined(rich, withdrawal, transfer=False)
    await rich.chain.set_transaction(withdrawal.id, state="final")
    await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.reason) == (
        WithdrawalState.NEEDS_REVIEW,
        "the transaction succeeded, but paid nothing",
    )
    assert (await rich.user(ALICE, "USDC")).debits_pending == 40_000_000 + HIGHEST
    await step_once_more_changes_nothing(rich)


async def test_what_the_signer_refuses_is_rejected_and_released(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await rich.chain.set_transaction(withdrawal.id, state="refused", nonce=None, refusal="over the limit")
    assert await rich.withdrawals.step() == 1
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.reason) == (WithdrawalState.REJECTED, "the house's policy doesn't allow this payment")
    assert (await rich.user(ALICE, "USDC")).debits_pending == 0


async def test_a_stalled_one_says_what_it_waits_for(rich):
    withdrawal = await reserved(rich, await ask(rich))
    await rich.chain.set_transaction(withdrawal.id, waiting_for="signer")
    await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.waiting_for) == (WithdrawalState.NONCE_RESERVED, "signer")


async def test_cancelling_works_until_a_nonce_is_reserved(rich):
    first, second = await ask(rich, "1", amount=10_000_000), await ask(rich, "2", amount=11_000_000)
    done = await rich.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=first.id)
    assert done.state is WithdrawalState.CANCELLED
    assert (await rich.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=first.id)).replayed
    assert (await rich.user(ALICE, "USDC")).debits_pending == 11_000_000 + HIGHEST
    await reserved(rich, second)
    with pytest.raises(NotCancellable) as refused:
        await rich.withdrawals.cancel(key=key("d"), owner=ALICE, withdrawal=second.id)
    assert refused.value.facts == {"state": "nonce_reserved"}
    with pytest.raises(NotCancellable):
        await rich.withdrawals.cancel(key=key("e"), owner=ALICE, withdrawal=first.id)


async def test_f44_a_cancel_that_lost_the_race_leaves_the_payment_alone(rich):
    withdrawal = await ask(rich)
    await reserved(rich, withdrawal)
    stale = rich.withdrawals.get

    async def as_it_was(owner, name):
        return withdrawal

    rich.withdrawals.get = as_it_was  # what the caller read before the worker reserved
    try:
        with pytest.raises(NotCancellable):
            await rich.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=withdrawal.id)
    finally:
        rich.withdrawals.get = stale
    assert (await rich.user(ALICE, "USDC")).debits_pending == 40_000_000 + HIGHEST


async def test_f46_a_second_worker_reserves_no_second_nonce(rich, database, clock, entropy):
    await ask(rich)
    other = type(rich.withdrawals)(
        database.engine(),
        ledger=rich.ledger,
        registry=rich.registry,
        fees=rich.fees,
        rates=FixedRates(),
        senders=OneSender(database.engine()),
        clock=clock,
        entropy=entropy,
    )
    for _ in range(3):
        await rich.withdrawals.step()
        await other.step()
    (found,) = await rich.withdrawals.list_for(ALICE)
    assert found.state is WithdrawalState.NONCE_RESERVED


class Away:
    async def objections(self, addresses, *, block):
        raise ScreeningUnavailable("no answer")


async def test_f56_without_screening_it_waits(rich, tmp_path):
    withdrawal = await ask(rich)
    rich.withdrawals.steps.screening["local"] = Away()
    await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.waiting_for) == (WithdrawalState.HELD, "screening")
    path = tmp_path / "listed.txt"
    rich.withdrawals.steps.screening["local"] = ScreeningList(path)
    await rich.withdrawals.step()
    assert (await rich.withdrawals.get(ALICE, withdrawal.id)).waiting_for == "screening"  # a list that isn't there
    path.write_text(f"{TO}  # somebody\n")
    await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.reason) == (WithdrawalState.REJECTED, "the recipient can't be paid")
    assert (await rich.user(ALICE, "USDC")).debits_pending == 0


async def test_a_recipient_that_nobody_lists_is_paid(rich, tmp_path):
    path = tmp_path / "listed.txt"
    path.write_text(f"{'0x' + '11' * 20}\n")
    rich.withdrawals.steps.screening["local"] = ScreeningList(path)
    withdrawal = await ask(rich)
    for _ in range(3):
        await rich.withdrawals.step()
    assert (await rich.withdrawals.get(ALICE, withdrawal.id)).state is WithdrawalState.NONCE_RESERVED


async def test_f04_a_halted_network_pays_nothing(rich):
    withdrawal = await ask(rich)
    await rich.chain.mine_empty(3)
    await rich.chain.reorg(1, halted="reorg_below_final")
    for _ in range(5):
        await rich.withdrawals.step()
    found = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (found.state, found.waiting_for, found.reason) == (WithdrawalState.APPROVED, "node", "reorg_below_final")


async def test_wrong_requests_say_what_is_wrong(rich):
    checksummed = show_address(TO)
    mistyped = checksummed[:-1] + ("0" if checksummed[-1] != "0" else "1")
    with pytest.raises(InvalidAddress):
        await ask(rich, to=mistyped)
    with pytest.raises(InvalidAddress):
        await ask(rich, to="0x" + "00" * 20)
    with pytest.raises(TokenContract):
        await ask(rich, to=USDC)
    with pytest.raises(OwnAddress):
        await ask(rich, to=rich.hot)
    with pytest.raises(NotOnNetwork):
        await ask(rich, network="mars")
    with pytest.raises(NotOnNetwork):
        await ask(rich, asset="EUR")
    with pytest.raises(BelowMinimum) as refused:
        await ask(rich, amount=499_999)
    assert refused.value.facts == {"minimum": 500_000, "amount": 499_999}
    with pytest.raises(NotAWholeUnit):
        await ask(rich, asset="DAI", amount=10**12 + 1)
    with pytest.raises(RefusedByBook) as short:
        await ask(rich, amount=100_000_000)
    assert short.value.facts["required"] == 100_000_000 + HIGHEST
    rich.fees.above_cap = True
    with pytest.raises(FeesUnknown):
        await ask(rich, "later")
    assert await rich.withdrawals.list_for(ALICE) == []


async def test_f02_who_owes_the_house_withdraws_nothing(rich):
    await fund(rich.ledger, "usr_bob/wallet/ETH", 5, name="other side")
    debt = house_account(f"receivable:{ALICE}", "ETH")
    await rich.ledger.ensure_open(debt)
    await rich.ledger.submit(
        alone(Post(id="owe", postings=(Posting(debt, house_account("capital", "ETH"), "ETH", 7),)))
    )
    with pytest.raises(RefusedByBook) as refused:
        await ask(rich)
    assert (refused.value.code, refused.value.facts) == ("receivable_open", {"asset": "ETH", "owed": 7})


async def test_withdrawing_the_networks_own_coin_pays_its_fee_in_it(rich):
    withdrawal = await ask(rich, asset="ETH", amount=10**17)
    assert withdrawal.fee_highest == 65_000 * 20 * 10**9


@pytest.mark.parametrize("place", [(FreezeScope.OWNER, ALICE), (FreezeScope.NETWORK, "local")])
async def test_a_freeze_stops_a_withdrawal_that_was_asked_for_before_it(rich, place):
    withdrawal = await ask(rich)
    for name, command in (("freeze", Freeze), ("lift", Unfreeze)):
        await rich.ledger.submit(alone(command(id=f"test:{name}", scope=place[0], target=place[1])))
        for _ in range(4):
            await rich.withdrawals.step()
        found = await rich.withdrawals.get(ALICE, withdrawal.id)
        if command is Freeze:
            assert (found.state, found.waiting_for) == (WithdrawalState.APPROVED, WaitingFor.APPROVAL)
            assert (found.reason, found.cancellable) == ("frozen", True)
    assert (found.state, found.waiting_for) == (WithdrawalState.NONCE_RESERVED, None)


async def test_f46_a_worker_that_read_it_long_ago_does_not_make_it_cancellable_again(rich, database):
    """It read it when its nonce had been given back; by now others have reserved another."""
    withdrawal = await ask(rich)
    await reserved(rich, withdrawal)
    stale = await rich.withdrawals.get(ALICE, withdrawal.id)
    back = {"state": WithdrawalState.APPROVED, "cancellable": True, "updated_at": stale.updated_at}
    async with tx(database.engine()) as connection:
        assert await withdrawal_store.save_withdrawals(connection, rich.ledger.book, [(stale, back)]) == 0
    assert await rich.withdrawals.get(ALICE, withdrawal.id) == stale
    with pytest.raises(NotCancellable):
        await rich.withdrawals.cancel(key=key("c", withdrawal.id), owner=ALICE, withdrawal=withdrawal.id)
