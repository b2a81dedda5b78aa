"""The follower on real nodes: what it records, what it takes back, whom it doesn't believe."""

import asyncio
import time

import pytest
from sqlalchemy import text

from chain import local, tables
from chain.errors import ChainReset, LeadershipLost, NodeMisbehaved, WrongChain
from chain.evm.node import Node
from chain.evm.rpc import HttpRpc
from chain.follower import HALTED_BELOW_FINAL, Did, Follower
from chain.local import NodeKind
from chain.status import network_status
from db.engine import tx
from tests.chain.support import follow, network_of, unresting
from tests.support.chain import start_local_chain

pytestmark = pytest.mark.slow


async def status(following):
    async with tx(following.engine) as connection:
        return await network_status(connection, following.network)


def of_another_chain(block):
    """The block at the same height of a chain that has the same genesis and nothing else in common."""
    number = int(block["number"], 16)
    return {**block, "hash": f"0x{number:064x}", "parentHash": f"0x{number - 1:064x}"}


class TestRecording:
    async def test_transfers_to_an_own_address_are_recorded_with_verified_blocks(self, either):
        own = await either.issue()
        token = either.chain.transfer("USDC", own.address, 2_500_000)
        native = either.chain.transfer("ETH", own.address, 7)
        progress = await either.catch_up()
        assert progress.height == either.chain.height()
        sender = either.chain.accounts[1].lower()
        found = [(row.tx_hash, row.place, row.contract, row.sender, row.amount) for row in await either.observed()]
        assert found == [
            (token, "log:0", either.chain.token("USDC").lower(), sender, 2_500_000),
            (native, "value", None, sender, 7),
        ]
        stand = await status(either)
        assert stand.roots_verified
        assert stand.trusting_one_node
        assert (stand.height, stand.behind, stand.final_height) == (progress.height, 0, progress.height - 3)
        assert all(row.verified for row in await either.rows(tables.blocks))

    async def test_what_an_own_address_sends_is_recorded_with_its_exact_fee(self, either):
        own = await either.enrol(either.chain.accounts[5])
        before = either.chain.balance("ETH", own.address)
        paid = either.chain.transfer("ETH", either.chain.accounts[4], 12_345, sender=5)
        failed = either.chain.transfer("USDC", either.chain.accounts[4], 10**30, sender=5, gas=100_000)
        await either.catch_up()
        outgoing = sorted(await either.rows(tables.outgoing), key=lambda row: row.nonce)
        assert [(row.tx_hash, row.nonce, row.succeeded) for row in outgoing] == [(paid, 0, True), (failed, 1, False)]
        spent = before - either.chain.balance("ETH", own.address)
        assert sum(row.fee_wei for row in outgoing) == spent - 12_345
        assert [row.place for row in await either.observed()] == ["value"]

    async def test_f17_an_address_issued_after_the_follower_started_is_watched_at_once(self, following):
        await following.catch_up()
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 1)
        await following.catch_up()
        assert [row.recipient for row in await following.observed()] == [own.address]

    async def test_f18_a_reverted_transfer_is_no_observation(self, following):
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 10**30, gas=100_000)
        await following.catch_up()
        assert await following.observed() == []

    async def test_f23_zero_is_ignored_and_a_self_transfer_stands_once(self, following):
        own = await following.enrol(following.chain.accounts[5])
        following.chain.transfer("USDC", own.address, 5, sender=1)
        following.chain.transfer("USDC", own.address, 3, sender=5)
        following.chain.transfer("USDC", own.address, 0, sender=2)
        following.chain.transfer("ETH", own.address, 0, sender=2)
        await following.catch_up()
        stranger = following.chain.accounts[1].lower()
        found = [(row.sender, row.recipient, row.amount) for row in await following.observed()]
        assert found == [(stranger, own.address, 5), (own.address, own.address, 3)]

    async def test_f24_a_token_nobody_configured_is_recorded_too(self, following):
        own = await following.issue()
        following.chain.transfer("DAI", own.address, 10**18)
        await following.catch_up()
        assert [(row.contract, row.amount) for row in await following.observed()] == [
            (following.chain.token("DAI").lower(), 10**18)
        ]

    async def test_f15_a_follower_that_was_down_records_the_same(self, following):
        own = await following.issue()
        for units in range(1, 8):
            following.chain.transfer("USDC", own.address, units)
            following.chain.mine(20)
        progress = await following.catch_up()
        assert progress.height == following.chain.height()
        assert [row.amount for row in await following.observed()] == list(range(1, 8))


class TestReorganisation:
    async def test_f1_a_reorganised_transfer_is_orphaned_and_kept(self, either):
        own = await either.issue()
        either.chain.mark()
        either.chain.transfer("USDC", own.address, 9)
        either.chain.transfer("ETH", own.address, 9)
        await either.catch_up()
        assert len(await either.observed()) == 2
        either.chain.reorg(2, longer=1)
        assert (await either.follower.step()).did is Did.WENT_BACK
        await either.catch_up()
        assert await either.observed() == []
        assert len(await either.observed(orphaned=True)) == 2
        assert (await status(either)).height == either.chain.height()
        assert (await status(either)).halted is None

    async def test_f3_a_transfer_mined_again_elsewhere_is_live_once(self, following):
        own = await following.issue()
        following.chain.set_automine(False)
        following.chain.transfer("USDC", own.address, 9, gas=100_000, seconds=None)
        following.chain.mine()
        raw = following.chain.rpc("eth_getBlockByNumber", "latest", True)["transactions"][0]
        await following.catch_up()
        pending = {key: raw[key] for key in ("from", "to", "gas", "input", "nonce")}
        following.chain.rpc("anvil_reorg", 1, [])
        following.chain.mine()
        following.chain.rpc("eth_sendTransaction", pending)
        following.chain.mine()
        await following.catch_up()
        assert len(await following.observed()) == 1
        assert len(await following.observed(orphaned=True)) == 1

    async def test_blocks_that_hang_on_none_are_no_reorganisation_and_say_what_makes_them(self, either):
        await either.catch_up()
        height = either.chain.height()
        either.chain.rpc("hardhat_mine", hex(40))
        if either.chain.kind is NodeKind.ANVIL:
            assert (await either.follower.step()).did is Did.ADVANCED
            return
        assert height < (await either.follower.step()).height, "the first few of them Hardhat makes for real"
        with pytest.raises(NodeMisbehaved, match="hardhat_mine"):
            await either.follower.step()
        assert height < (await status(either)).height < either.chain.height()

    async def test_a_block_that_comes_back_is_live_again_at_the_next_revision(self, tmp_path, database, clock):
        with start_local_chain(tmp_path, "hardhat") as chain:
            following = follow(chain, database.engine(), clock)
            own = await following.issue()
            height = chain.mark()
            chain.transfer("USDC", own.address, 4)
            await following.catch_up()
            seen = chain.rpc("eth_getBlockByNumber", hex(height + 1), True)
            receipt = chain.rpc("eth_getTransactionReceipt", seen["transactions"][0]["hash"])
            chain.reorg(1, longer=0)
            await following.catch_up()
            assert await following.observed() == []

            # the first branch wins after all: the node tells of it again
            other = chain.rpc("eth_getBlockByNumber", hex(height + 1), False)["hash"]

            def first_branch(answer, which, *_):
                return seen if which in ("latest", hex(height + 1), seen["hash"]) else answer

            following.rpc.bends = {
                "eth_getBlockByNumber": first_branch,
                "eth_getBlockByHash": first_branch,
                "eth_getTransactionReceipt": lambda answer, *_: receipt,
            }
            await following.catch_up()
            (row,) = await following.observed()
            assert (row.revision, row.block_hash) == (2, seen["hash"])
            assert [block.block_hash for block in await following.rows(tables.blocks, orphaned=True)] == [other]
            await following.follower.close()

    async def test_f4_a_reorganisation_below_final_is_taken_back_and_halts(self, following):
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 9)
        following.chain.mine(6)
        await following.catch_up()
        assert (await status(following)).final_height >= (await following.observed())[0].block_number
        following.chain.reorg(7, longer=1)
        await following.catch_up()
        assert await following.observed() == []
        assert (await status(following)).halted == HALTED_BELOW_FINAL


class TestDoubt:
    async def test_f5_a_lower_head_is_waited_for(self, following):
        following.chain.mine(5)
        before = await following.catch_up()
        following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
            following.chain.rpc("eth_getBlockByNumber", "0x3", False) if which == "latest" else answer
        )
        assert await following.follower.step() == before
        assert await following.rows(tables.blocks, orphaned=True) == []

    async def test_f6_the_cursor_stops_before_a_height_that_the_node_does_not_tell(self, following):
        following.chain.mine(5)
        following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: None if which == "0x4" else answer
        progress = await following.catch_up()
        assert progress.height == 3
        following.rpc.bends.clear()
        assert (await following.catch_up()).height == following.chain.height()

    async def test_f7_receipts_of_another_block_are_not_taken(self, following):
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 1)
        following.chain.transfer("USDC", own.address, 2)
        following.rpc.bends["eth_getBlockReceipts"] = lambda answer, *_: following.chain.rpc(
            "eth_getBlockReceipts", "latest"
        )
        with pytest.raises(NodeMisbehaved):
            await following.catch_up()
        assert await following.observed() == []
        following.rpc.bends.clear()
        await following.catch_up()
        assert [row.amount for row in await following.observed()] == [1, 2]

    async def test_f8_a_log_left_out_is_noticed_and_nothing_is_written(self, following):
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 1)
        following.rpc.bends["eth_getBlockReceipts"] = lambda answer, *_: [{**one, "logs": []} for one in answer]
        with pytest.raises(NodeMisbehaved):
            await following.catch_up()
        assert await following.observed() == []
        assert (await status(following)).height < following.chain.height()

    async def test_f8_another_node_is_asked_after_one_misbehaved(self, anvil, database, clock):
        liar = follow(anvil, database.engine(), clock)
        liar.rpc.bends["eth_getBlockReceipts"] = lambda answer, *_: [{**one, "logs": []} for one in answer]
        honest = Node(liar.network, HttpRpc(anvil.url))
        both = Follower(engine=liar.engine, network=liar.network, nodes=unresting(liar.node, honest), clock=clock)
        assert (await both.step()).height == anvil.height()
        assert "eth_getBlockReceipts" in liar.rpc.asked
        await both.close()

    async def test_a_block_that_a_witness_does_not_know_is_waited_for(self, anvil, database, clock):
        anvil.mine(3)
        first = follow(anvil, database.engine(), clock)
        doubter = follow(anvil, database.engine(), clock)
        doubter.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
            {**answer, "hash": "0x" + "11" * 32} if which == "0x2" else answer
        )
        both = Follower(
            engine=first.engine, network=first.network, nodes=unresting(first.node, doubter.node), clock=clock
        )
        assert (await both.step()).height == 1
        assert (await both.step()).did is Did.WAITED
        await both.close()


class TestWhichChain:
    async def test_f13_another_chain_id_refuses(self, anvil, database, clock):
        wrong = follow(anvil, database.engine(), clock)
        wrong.rpc.bends["eth_chainId"] = lambda *_: "0x1"
        with pytest.raises(WrongChain) as caught:
            await wrong.follower.step()
        assert caught.value.facts == {"configured": anvil.chain_id, "served": 1}

    async def test_f13_a_node_that_is_swapped_later_refuses(self, following):
        await following.catch_up()
        following.rpc.bends["eth_chainId"] = lambda *_: "0x1"
        following.chain.mine()
        with pytest.raises(WrongChain):
            await following.follower.step()

    async def test_f13_another_genesis_than_configured_refuses(self, anvil, database, clock):
        wrong = follow(anvil, database.engine(), clock, genesis_hash="0x" + "00" * 32)
        with pytest.raises(WrongChain):
            await wrong.follower.step()

    async def test_f14_a_local_chain_started_anew_is_told_and_nothing_is_written(
        self, anvil, database, clock, tmp_path
    ):
        first = follow(anvil, database.engine(), clock)
        anvil.mine(5)
        await first.catch_up()
        began = int(anvil.rpc("eth_getBlockByNumber", "0x0", False)["timestamp"], 16)
        while time.time() < began + 1:  # a genesis block of the same second would be the same block
            await asyncio.sleep(0.05)
        with start_local_chain(tmp_path / "again", chain_id=anvil.chain_id) as reset:
            again = follow(reset, database.engine(), clock)
            await first.follower.close()
            with pytest.raises(WrongChain, match="started anew"):
                await again.follower.step()
            assert (await status(first)).height == anvil.height()

    async def test_f14_stored_blocks_that_are_gone_stop_it(self, following):
        following.chain.mine(8)
        await following.catch_up()
        height = following.chain.height()
        following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
            answer if which == "0x0" or answer is None else of_another_chain(answer)
        )
        following.chain.mine()
        with pytest.raises(ChainReset, match="chain was reset"):
            await following.follower.step()
        assert (await status(following)).height == height


class TestFinality:
    async def test_the_node_s_finalized_tag_is_believed_by_hash_and_never_goes_back(self, tmp_path, database, clock):
        with start_local_chain(tmp_path, "anvil", epoch_slots=2) as chain:
            following = follow(chain, database.engine(), clock, final_depth=None)
            chain.mine(10)
            await following.catch_up()
            told = int(chain.rpc("eth_getBlockByNumber", "finalized", False)["number"], 16)
            assert (await status(following)).final_height == told
            chain.mine()
            following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
                {**answer, "hash": "0x" + "77" * 32} if which == "finalized" else answer
            )
            await following.catch_up()
            assert (await status(following)).final_height == told
            following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
                chain.rpc("eth_getBlockByNumber", "0x1", False) if which == "finalized" else answer
            )
            chain.mine()
            await following.catch_up()
            assert (await status(following)).final_height == told
            following.rpc.bends.clear()
            await following.catch_up()
            assert (await status(following)).final_height == told + 2
            await following.follower.close()

    async def test_spendable_and_final_are_depths_from_the_last_block_taken_in(self, anvil, database, clock):
        following = follow(anvil, database.engine(), clock, spendable_depth=3, final_depth=5)
        anvil.mine(20)
        height = (await following.catch_up()).height
        stand = await status(following)
        assert (stand.spendable_height, stand.final_height) == (height - 2, height - 4)
        await following.follower.close()


class TestLeading:
    async def test_f16_a_second_follower_stands_by_until_the_first_ends(self, following, clock):
        await following.catch_up()
        second = follow(following.chain, following.engine, clock, name="second")
        assert (await second.follower.step()).did is Did.STOOD_BY
        await following.follower.close()
        following.chain.mine()
        assert (await second.follower.step()).did is Did.ADVANCED
        await second.follower.close()

    async def test_f16_a_stale_leader_writes_nothing(self, following, database, clock):
        await following.catch_up()
        following.chain.mine()
        gate = asyncio.Event()
        following.rpc.gates["eth_getBlockByHash"] = gate
        stale = asyncio.create_task(following.follower.step())
        while "eth_getBlockByHash" not in following.rpc.asked[-2:]:
            await asyncio.sleep(0)
        async with tx(database.engine()) as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database ="
            await connection.execute(text(ended + " (SELECT oid FROM pg_database WHERE datname = current_database())"))
        second = follow(following.chain, database.engine(), clock, name="second")
        assert (await second.catch_up()).height == following.chain.height()
        gate.set()
        with pytest.raises(LeadershipLost):
            await stale
        await second.follower.close()

    async def test_status_before_the_first_step_says_so(self, anvil, database):
        async with tx(database.engine()) as connection:
            with pytest.raises(Exception, match="never been followed"):
                await network_status(connection, network_of(anvil))


def test_the_local_token_is_there(anvil):
    assert local.token_at(anvil.url, "USDC").decimals == 6
