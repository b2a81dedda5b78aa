"""Batches on a real chain with a real signer: who shares a transaction, what each leg comes to, what may go wrong."""

import sqlite3
from asyncio import gather
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import cbor2
import pytest

from base.errors import ConfigError
from chain import foreign_store
from chain.errors import NodeMisbehaved
from chain.evm.node import Node
from chain.evm.rpc import Call, HttpRpc
from chain.foreign import Finding
from chain.foreign import Kind as FoundKind
from chain.payout import LEG_TOPIC
from chain.payout_contract import allowance
from chain.transactions import find
from custody.signed_subjects import SubjectReading
from db.engine import tx
from ledger.accounts import user_account
from tests.support.chain import start_local_chain
from tests.wallet.batch_world import PER_TRANSFER, BatchWorld, KillAt, batch_signer, batch_world
from tests.wallet.conftest import ALICE, key
from wallet.batch_rules import Terms
from wallet.batches import REFUSES, UNUSED, allowance_subjects
from wallet.cancellations import Cancellations
from wallet.errors import NotCancellable
from wallet.lost_chains import LostChains
from wallet.withdrawal_moves import NOT_ALLOWED
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_store import load_past
from wiring.journal_payments import journal_payment
from wiring.signing import XpubAddresses

pytestmark = pytest.mark.slow

FINAL, REVERTED = WithdrawalState.FINAL, WithdrawalState.REVERTED

REVERTS = "0x60006000fd"
"""Code that refuses whatever comes."""


@pytest.fixture
def anvil(tmp_path):
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def signer(anvil, tmp_path):
    with batch_signer(tmp_path, anvil) as running:
        yield running


@pytest.fixture
async def world(anvil, signer, database):
    async with batch_world(anvil, signer, database) as made:
        yield made


async def test_a_token_batch_pays_each_leg_and_shares_its_gas(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000, 3_000_001)]
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL] * 3
    assert [world.chain.balance("USDC", one.address) for one in done] == [1_000_000, 2_000_000, 3_000_001]
    (batch,), legs, alone = await world.rows()
    assert (batch.state, batch.outcome, batch.amount) == ("ended", "final", 6_000_001)
    assert ([leg.result for leg in legs], alone) == (["paid"] * 3, {})
    (tx_hash,) = {one.tx_hash for one in done}
    allowed, paid = await world.sent_by(world.hot)
    assert paid == tx_hash
    cost = [int(world.chain.receipt(one)["gasUsed"], 16) for one in (allowed, paid)]
    price = [int(world.chain.receipt(one)["effectiveGasPrice"], 16) for one in (allowed, paid)]
    assert batch.cost_wei == sum(gas * each for gas, each in zip(cost, price, strict=True))
    assert sum(one.fee_wei for one in done) == batch.cost_wei
    assert all(0 < one.fee <= one.fee_highest for one in done)
    spent = 6_000_001 + sum(one.fee for one in done)
    assert await world.balance(user_account(ALICE, "USDC")) == 500_000_000 - spent
    await world.must_agree()


async def test_a_coin_batch_pays_known_recipients_and_leaves_new_ones_alone(world):
    await world.open()
    asked = [await world.ask(10**15 + n, asset="ETH", to=world.known()) for n in range(2)]
    new = await world.ask(10**15, asset="ETH")
    await world.follow(blocks=3)  # the recipients' wei is at a final block
    done = await world.bring_to_their_end([*asked, new])
    assert [one.state for one in done] == [FINAL] * 3
    assert [world.chain.balance("ETH", one.address) for one in done] == [10**15 + 1, 10**15 + 2, 10**15]
    (batch,), legs, alone = await world.rows()
    assert [leg.withdrawal for leg in legs] == [one.id for one in asked]
    assert (batch.contract, batch.amount, alone) == (None, 2 * 10**15 + 1, {new.id: UNUSED})
    assert await world.transactions("allowance") == []
    assert done[0].tx_hash == done[1].tx_hash != done[2].tx_hash
    await world.must_agree()


async def test_f45_one_token_leg_fails_the_others_are_paid_and_none_twice(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000, 3_000_000)]
    await world.gathered(asked)
    world.chain.as_token_owner("USDC", "blacklist(address)", asked[1].address)
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL, REVERTED, FINAL]
    assert [world.chain.balance("USDC", one.address) for one in done] == [1_000_000, 0, 3_000_000]
    assert (done[1].reason, done[1].fee) == ("the token refused the payment", 0)
    _, legs, _ = await world.rows()
    assert [leg.result for leg in legs] == ["paid", "failed", "paid"]
    account = await world.ledger.account(user_account(ALICE, "USDC"))
    assert (account.balance, account.debits_pending) == (500_000_000 - 4_000_000 - done[0].fee - done[2].fee, 0)
    await world.must_agree()

    world.chain.as_token_owner("USDC", "unBlacklist(address)", asked[1].address)  # nothing is tried again by itself
    more = [await world.ask(amount) for amount in (5_000_000, 6_000_000)]
    assert [one.state for one in await world.bring_to_their_end(more)] == [FINAL] * 2
    assert world.chain.balance("USDC", asked[1].address) == 0
    amounts = [row.amount for row in await world.transactions("allowance")]
    assert amounts == [6_000_000, 0, 11_000_000]  # what the failed leg left is taken back before the next sum
    assert await allowed(world) == 0
    await world.must_agree()


async def test_f45_one_coin_leg_fails_and_its_money_is_where_the_book_says(world):
    await world.open()
    asked = [await world.ask(10**15 + n, asset="ETH", to=world.known()) for n in range(3)]
    await world.follow(blocks=3)
    await world.gathered(asked)
    world.chain.rpc("anvil_setCode", asked[0].address, REVERTS)
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [REVERTED, FINAL, FINAL]
    assert [world.chain.balance("ETH", one.address) for one in done] == [1, 10**15 + 2, 10**15 + 3]
    assert done[0].reason == "the recipient's contract refused the payment"
    assert (await world.ledger.account(user_account(ALICE, "ETH"))).debits_pending == 0
    assert await world.inflows.recent() == await world.inflows.recent(limit=3)  # ether and USDC at first, no more
    assert {one.asset for one in await world.inflows.recent()} == {"USDC", "ETH"}
    await world.must_agree()


@pytest.mark.parametrize("configured", [True, False])
async def test_f45_a_failed_coin_leg_s_refund_is_booked_once_whatever_the_policy_says_by_now(world, configured):
    """A policy that can't be read, or names another contract by now: the batch's own transaction knows the old one."""
    await world.open()
    asked = [await world.ask(10**15 + n, asset="ETH", to=world.known()) for n in range(2)]
    await world.follow(blocks=3)
    await world.gathered(asked)
    if not configured:
        await world.forget_contract()
    world.chain.rpc("anvil_setCode", asked[0].address, REVERTS)
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [REVERTED, FINAL]
    assert {one.asset for one in await world.inflows.recent()} == {"USDC", "ETH"}
    assert len(await world.inflows.recent()) == 3, "what was there at first, and no more"
    assert await world.house("in-transit:local:out", "ETH") == 0
    await world.must_agree()


async def test_a_batch_that_fails_as_a_whole_releases_every_hold(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    await world.gathered(asked)
    code = world.chain.rpc("eth_getCode", world.contract.address, "latest")
    world.chain.rpc("anvil_setCode", world.contract.address, REVERTS)
    done = await world.bring_to_their_end(asked)
    world.chain.rpc("anvil_setCode", world.contract.address, code)
    assert [one.state for one in done] == [REVERTED] * 2
    assert {one.reason for one in done} == {"the transaction that was to pay it and others failed as a whole"}
    (batch,), legs, _ = await world.rows()
    assert (batch.outcome, [leg.result for leg in legs]) == ("reverted", ["released"] * 2)
    account = await world.ledger.account(user_account(ALICE, "USDC"))
    assert (account.balance, account.debits_pending) == (500_000_000, 0)
    assert await allowed(world) == 3_000_000
    await world.must_agree()


async def test_who_would_be_refused_now_is_paid_alone_and_spoils_nothing(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000, 3_000_000)]
    world.chain.as_token_owner("USDC", "blacklist(address)", asked[2].address)
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL, FINAL, WithdrawalState.REJECTED]  # alone it's tried as well
    _, legs, alone = await world.rows()
    assert ([leg.result for leg in legs], alone) == (["paid"] * 2, {asked[2].id: REFUSES})
    await world.must_agree()


async def test_what_the_signer_refuses_as_a_batch_is_judged_alone(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000, PER_TRANSFER + 1)]
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL, FINAL, WithdrawalState.REJECTED]
    (batch,), legs, alone = await world.rows()
    assert (batch.outcome, [leg.result for leg in legs]) == ("refused", ["given_back"] * 3)
    assert alone.keys() == {one.id for one in asked}
    assert len({one.tx_hash for one in done[:2]}) == 2
    assert done[2].reason == NOT_ALLOWED  # its user isn't told the house's limits; the house is
    async with tx(world.engine) as connection:
        (past,) = (await load_past(connection, world.ledger.book, [done[2].id])).values()
    assert "over the limit" in past[1]
    await world.must_agree()


async def test_f48_a_batch_of_an_address_that_acted_without_us_is_given_back_and_its_legs_are_free(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = await world.gathered(asked)
    found = Finding(
        address=world.hot, kind=FoundKind.TRANSACTION, what="0xf0", words="drill", block_number=1, block_hash="0xb1"
    )
    async with tx(world.engine) as connection:
        assert await foreign_store.add_findings(connection, "local", [found], now=world.common["clock"].now()) == 1
    await worker.broadcaster.step()
    await worker.ends.step()
    assert [one.state for one in await world.now(asked)] == [WithdrawalState.APPROVED] * 2
    (batch,), legs, alone = await world.rows()
    assert (batch.state, [leg.result for leg in legs], alone.keys()) == (
        "ended",
        ["given_back"] * 2,
        {one.id for one in asked},
    )
    assert {row.state for row in await world.transactions("allowance")} == {"given_back"}
    assert len(await world.sent_by(world.hot)) == 0
    async with tx(world.engine) as connection:  # a treasurer has looked
        (halted,) = await foreign_store.load_open(connection, "local")
        now = world.common["clock"].now()
        assert await foreign_store.close_findings(connection, [halted.seq], by="usr_t", reason="a drill", now=now) == 1
    assert [one.state for one in await world.bring_to_their_end(asked)] == [FINAL] * 2
    await world.must_agree()


async def test_more_than_any_sender_has_is_paid_as_far_as_it_goes(world):
    await world.open(usdc=5_000_000)
    asked = [await world.ask(4_000_000), await world.ask(3_000_000)]
    worker = world.worker()
    for _ in range(12):
        await worker.step()
        await world.follow(blocks=1)
    states = {one.state: one.waiting_for for one in await world.now(asked)}
    assert states == {FINAL: None, WithdrawalState.APPROVED: "funds"}
    world.chain.transfer("USDC", world.hot, 5_000_000)
    assert [one.state for one in await world.bring_to_their_end(asked)] == [FINAL] * 2
    assert (await world.rows())[0] == []
    await world.must_agree()


async def test_one_that_shares_a_transaction_isn_t_cancelled_alone(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    await world.gathered(asked)
    treasury = Cancellations(world.engine, ledger=world.ledger, clock=world.common["clock"])
    with pytest.raises(NotCancellable, match="shares its transaction"):
        await treasury.ask(key=key("c"), treasurer="usr_t", withdrawal=asked[0].id, reason="a mistake")
    assert [one.state for one in await world.bring_to_their_end(asked)] == [FINAL] * 2
    await world.must_agree()


async def test_too_few_are_paid_alone_once_they_have_waited(world):
    world.terms = Terms(legs_min=3, legs_max=100, wait=timedelta(hours=1))
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = world.worker()
    for _ in range(4):
        await worker.step()
    assert {one.state for one in await world.now(asked)} == {WithdrawalState.APPROVED}  # they wait for a third
    world.terms = Terms(legs_min=3, legs_max=100, wait=timedelta(0))
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL] * 2
    assert (await world.rows())[0] == []
    await world.must_agree()


async def test_a_worker_that_has_not_looked_yet_pays_nobody_alone(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = world.worker()
    for _ in range(5):
        await worker.withdrawals.step()
    assert {one.state for one in await world.now(asked)} == {WithdrawalState.APPROVED}
    assert await worker.batches.step() == 2


async def test_without_the_contract_s_code_at_a_final_block_all_are_paid_alone(world):
    await world.open(deploy=False)
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    assert [one.state for one in await world.bring_to_their_end(asked)] == [FINAL] * 2
    assert (await world.rows())[0] == []
    await world.must_agree()


async def test_a_second_payout_of_the_policy_isn_t_created_with_another_nonce(world):
    await world.open(deploy=False)
    world.payouts.contract = replace(world.contract, nonce=4)
    with pytest.raises(ConfigError, match="with nonce 4, but its next one is 0"):
        await world.payouts.deploy()
    world.payouts.contract = world.contract
    first = await world.payouts.deploy()
    assert (await world.payouts.deploy()).id == first.id


async def test_reorganised_out_it_is_sent_again_and_paid_once(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = await world.gathered(asked)
    await worker.broadcaster.step()
    await world.follow()
    await worker.broadcaster.step()
    await worker.ends.step()
    assert {one.state for one in await world.now(asked)} == {WithdrawalState.MINED}
    world.chain.reorg(2)
    assert [world.chain.balance("USDC", one.address) for one in asked] == [0, 0]
    await world.follow()
    await worker.broadcaster.step()
    await worker.ends.step()
    assert {one.state for one in await world.now(asked)} == {WithdrawalState.BROADCAST}
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL] * 2
    assert [world.chain.balance("USDC", one.address) for one in done] == [1_000_000, 2_000_000]
    await world.must_agree()


@pytest.mark.parametrize(
    "moment",
    [
        "batch.gathered",
        "batch.reserving",
        "batch.reserved",
        "signing.after",
        "sending.before",
        "batch.final.seen",
        "batch.booked",
        "batch.legs.booked",
    ],
)
async def test_f45_killed_at_any_moment_each_leg_has_one_result(world, moment):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000, 3_000_000)]
    killer = KillAt(moment)
    done = await world.bring_to_their_end(asked, killer)
    assert killer.name is None, "the moment never came"
    assert [one.state for one in done] == [FINAL] * 3
    assert [world.chain.balance("USDC", one.address) for one in done] == [1_000_000, 2_000_000, 3_000_000]
    assert (len(await world.transactions("batch")), await world.transactions("withdrawal")) == (1, [])
    await world.must_agree()


async def test_f46_two_workers_at_once_make_and_book_each_batch_once(world):
    await world.open()
    asked = [await world.ask(1_000_000 + number) for number in range(8)]
    workers = [world.worker() for _ in range(2)]
    await world.approve_all(workers[0])
    await gather(*(worker.batches.step() for worker in workers), *(worker.withdrawals.step() for worker in workers))
    for _ in range(12):
        for worker in workers:
            await worker.broadcaster.step()
        await world.follow(blocks=1)
        await gather(*(worker.ends.step() for worker in workers), *(worker.gas.step() for worker in workers))
    done = await world.bring_to_their_end(asked)
    assert [one.state for one in done] == [FINAL] * 8
    assert [world.chain.balance("USDC", one.address) for one in done] == [1_000_000 + number for number in range(8)]
    _, legs, _ = await world.rows()
    assert sorted(leg.withdrawal for leg in legs) == sorted(one.id for one in asked)
    await world.must_agree()


async def test_a_node_that_tells_other_logs_decides_no_leg(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = await world.gathered(asked)
    for _ in range(5):
        await worker.broadcaster.step()
        await world.follow(blocks=1)
    liar = world.worker(node=Node(world.network, DeniesLegs(world.chain.url)))
    with pytest.raises(NodeMisbehaved, match="receiptsRoot"):
        await liar.ends.step()
    assert [leg.result for leg in (await world.rows())[1]] == ["open"] * 2
    assert [one.state for one in await world.bring_to_their_end(asked)] == [FINAL] * 2
    await world.must_agree()


async def test_the_journal_knows_whose_each_leg_is(world, tmp_path):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    await world.bring_to_their_end(asked)
    with closing(sqlite3.connect(f"file:{tmp_path / 'signer/journal.sqlite'}?mode=ro", uri=True)) as journal:
        rows = journal.execute("SELECT body FROM rows WHERE kind = 'intent' AND subject LIKE 'bat_%'").fetchall()
    (body,) = (cbor2.loads(row[0]) for row in rows)
    assert [leg[0] for leg in body["intent"]["legs"]] == [one.id for one in asked]
    account = user_account(ALICE, "USDC")
    assert [(one["account"], one["amount"]) for one in body["claims"]] == [(account, "1000000"), (account, "2000000")]
    assert all(len(one["key_hash"]) == 32 for one in body["claims"])


async def test_f47_a_batch_reads_from_the_journal_as_it_stands_in_the_database(world, tmp_path, signer):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    await world.bring_to_their_end(asked)
    reading = SubjectReading()
    for row in await signer.client().rows(first=1, count=200):
        reading.take(row)
    (batch,), _, _ = await world.rows()
    addresses = XpubAddresses(signer.xpubs)
    async with tx(world.engine) as connection:
        for subject in (batch.id, *allowance_subjects(batch.id)[1:]):
            own = await find(connection, book=world.ledger.book, subject=subject)
            assert own is not None
            found = journal_payment(
                reading.subjects[subject], book=world.ledger.book, registry=world.registry, addresses=addresses
            )
            assert (found.payment.order, found.payment.amount) == (own.payment.order, own.payment.amount)
            assert (found.nonce, found.payment.kind) == (own.nonce, own.payment.kind)


async def test_what_was_given_up_with_a_lost_chain_ends_its_batch(world):
    await world.open()
    asked = [await world.ask(amount) for amount in (1_000_000, 2_000_000)]
    worker = await world.gathered(asked)
    lost = LostChains(world.engine, ledger=world.ledger, deposits=world.deposits, clock=world.common["clock"])
    assert await lost.give_up(world.network) == 2
    assert await worker.ends.step() == 2
    (batch,), legs, _ = await world.rows()
    assert (batch.state, batch.outcome, [leg.result for leg in legs]) == ("ended", "lost", ["lost"] * 2)
    assert await worker.ends.step() == 0
    assert (await world.ledger.account(user_account(ALICE, "USDC"))).debits_pending == 0


class DeniesLegs(HttpRpc):
    """A node that tells of every leg that it wasn't paid."""

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        answers = await super().batch(calls)
        for answer in answers:
            for receipt in answer if isinstance(answer, list) else []:
                for log in receipt["logs"]:
                    if log["topics"][0] == LEG_TOPIC:
                        log["data"] = log["data"][:-1] + "0"
        return answers


async def allowed(world: BatchWorld) -> int:
    """What the payout contract may take of the hot address's USDC now."""
    return await allowance(
        world.node, world.chain.token("USDC").lower(), owner=world.hot, spender=world.contract.address
    )
