"""Each way in which a node can mislead the follower: what is recorded stays what the true chain holds."""

import pytest

from chain import tables
from chain.errors import NodeMisbehaved, NodeRefused, NodeUnavailable, WrongChain
from chain.follower import Did
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.faults.support import stage
from tests.support.chain import start_local_chain

pytestmark = pytest.mark.slow


@pytest.fixture
async def one(anvil, database, clock):
    """A follower with one node, which lies: (liar, stage)."""
    async with lying_node(anvil.url) as liar:
        found = stage(anvil, database.engine(), clock, liar)
        yield liar, found
        await found.following.follower.close()


@pytest.fixture
async def two(anvil, database, clock):
    """A follower with two nodes, the first of which lies: (liar, stage)."""
    async with lying_node(anvil.url) as liar, lying_node(anvil.url) as honest:
        found = stage(anvil, database.engine(), clock, liar, honest)
        yield liar, found
        await found.following.follower.close()


class TestLagging:
    async def test_f05_a_node_that_falls_behind_takes_nothing_back(self, one):
        liar, at = one
        own = await at.following.issue()
        at.chain.transfer("USDC", own.address, 5)
        at.chain.mine(4)
        await at.arrive()
        before = await at.height()
        liar.lie(Kind.OLD_HEAD, depth=4, times=None)
        for _ in range(3):
            assert (await at.step()).did is Did.WAITED
        assert liar.told[Kind.OLD_HEAD] >= 3
        assert await at.height() == before
        assert await at.following.rows(tables.blocks, orphaned=True) == []
        await at.as_on_chain([own.address])

    async def test_f05_a_node_on_another_fork_takes_nothing_back_while_another_disagrees(
        self, anvil, forked, database, clock
    ):
        async with lying_node(anvil.url, fork=forked.url) as liar, lying_node(anvil.url) as honest:
            at = stage(anvil, database.engine(), clock, liar, honest)
            own = await at.following.issue()
            anvil.transfer("USDC", own.address, 5)
            anvil.mine(3)
            await at.arrive()
            forked.mine(9)  # longer than ours, so that its blocks are asked for
            liar.lie(Kind.FORK, times=None)
            anvil.mine()
            assert forked.height() > anvil.height()
            for _ in range(4):
                assert (await at.step()).did in (Did.WAITED, Did.WENT_BACK)
            assert liar.told[Kind.FORK] >= 4
            assert await at.following.rows(tables.blocks, orphaned=True) == []
            await at.as_on_chain([own.address])
            liar.be_honest()
            await at.arrive()
            await at.as_on_chain([own.address])
            await at.following.follower.close()

    async def test_f06_heights_that_the_node_does_not_tell_are_not_passed(self, one):
        liar, at = one
        own = await at.following.issue()
        await at.arrive()
        before = await at.height()
        at.chain.mine(2)
        at.chain.transfer("USDC", own.address, 5)
        liar.lie(Kind.NULLS, height=before + 2, times=None)
        for _ in range(3):
            await at.step()
        assert liar.told[Kind.NULLS] >= 1
        assert await at.height() <= before + 1
        liar.be_honest()
        await at.arrive()
        await at.as_on_chain([own.address])


class TestContents:
    async def test_f07_receipts_of_an_earlier_block_are_not_taken(self, one):
        liar, at = one
        own = await at.following.issue()
        at.chain.transfer("USDC", own.address, 1)
        await at.arrive()
        at.chain.transfer("USDC", own.address, 2)
        liar.lie(Kind.REPEAT, method="eth_getBlockReceipts")
        with pytest.raises(NodeMisbehaved):
            await at.step()
        assert liar.told[Kind.REPEAT] == 1
        await at.as_on_chain([own.address])
        await at.arrive()
        await at.as_on_chain([own.address])
        assert len(await at.recorded()) == 2

    @pytest.mark.parametrize("kind", [Kind.OMIT_LOG, Kind.OMIT_LOG_WITH_ROOT, Kind.OMIT_RECEIPT])
    async def test_f08_what_one_node_leaves_out_is_read_from_another(self, two, kind):
        liar, at = two
        own = await at.following.issue()
        at.chain.transfer("USDC", own.address, 7)
        liar.lie(kind, method="eth_getBlockReceipts", height=at.chain.height(), times=None)
        await at.arrive()
        assert liar.told[kind] >= 1
        assert len(await at.recorded()) == 1
        await at.as_on_chain([own.address])

    @pytest.mark.parametrize("kind", [Kind.OMIT_LOG, Kind.OMIT_LOG_WITH_ROOT, Kind.OMIT_RECEIPT])
    async def test_f08_what_the_only_node_leaves_out_is_noticed_and_waited_for(self, one, kind):
        liar, at = one
        own = await at.following.issue()
        await at.arrive()
        before = await at.height()
        at.chain.transfer("USDC", own.address, 7)
        liar.lie(kind, method="eth_getBlockReceipts", height=at.chain.height(), times=2)
        for _ in range(2):
            with pytest.raises(NodeMisbehaved, match=f"block {at.chain.height()}"):
                await at.step()
            at.seconds.at += 60
        assert liar.told[kind] == 2
        assert (await at.height(), await at.recorded()) == (before, [])
        await at.arrive()
        await at.as_on_chain([own.address])

    async def test_f08_a_log_left_out_of_a_single_receipt_is_noticed_on_hardhat(self, tmp_path, database, clock):
        with start_local_chain(tmp_path, "hardhat") as chain:
            async with lying_node(chain.url) as liar, lying_node(chain.url) as honest:
                at = stage(chain, database.engine(), clock, liar, honest)
                own = await at.following.issue()
                chain.transfer("USDC", own.address, 7)
                liar.lie(Kind.OMIT_LOG, method="eth_getTransactionReceipt", height=chain.height(), times=None)
                await at.arrive()
                assert liar.told[Kind.OMIT_LOG] >= 1
                await at.as_on_chain([own.address])
                await at.following.follower.close()


class TestBatches:
    async def test_f10_batches_in_another_order_change_nothing(self, one):
        liar, at = one
        own = await at.following.issue()
        for amount in (1, 2, 3):
            at.chain.transfer("USDC", own.address, amount)
        liar.lie(Kind.REORDER, times=None)
        await at.arrive()
        assert liar.told[Kind.REORDER] >= 3
        await at.as_on_chain([own.address])

    @pytest.mark.parametrize("method", ["eth_chainId", "eth_getBlockByNumber", "eth_getBlockReceipts"])
    @pytest.mark.parametrize("kind", [Kind.SHORT_LIST, Kind.DOUBLED_ID, Kind.MISSING_ID, Kind.ITEM_ERROR])
    async def test_f10_a_broken_batch_commits_nothing_of_itself(self, one, kind, method):
        liar, at = one
        own = await at.following.issue()
        await at.arrive()
        before = await at.height()
        at.chain.transfer("USDC", own.address, 5)
        at.chain.transfer("USDC", own.address, 6)
        liar.lie(kind, method=method)
        with pytest.raises((NodeMisbehaved, NodeRefused)):
            await at.step()
        assert liar.told[kind] == 1
        assert (await at.height(), await at.recorded()) == (before, [])
        await at.arrive()
        await at.as_on_chain([own.address])


class TestNoAnswers:
    @pytest.mark.parametrize(
        "kind", [Kind.DROP, Kind.CUT_BODY, Kind.BUSY, Kind.DOWN, Kind.HTML, Kind.MALFORMED, Kind.NULLS]
    )
    async def test_f11_no_answer_changes_nothing_and_is_not_asked_for_again_at_once(self, one, kind):
        liar, at = one
        own = await at.following.issue()
        await at.arrive()
        before = await at.height()
        at.chain.transfer("USDC", own.address, 5)
        liar.lie(kind, times=3)
        for failures in (1, 2, 3):
            with pytest.raises((NodeUnavailable, NodeMisbehaved)):
                await at.step()
            asked = liar.requests
            with pytest.raises(NodeUnavailable, match="rests"):
                await at.step()
            assert liar.requests == asked
            assert liar.told[kind] == failures
            at.seconds.at += 60
        assert (await at.height(), await at.recorded()) == (before, [])
        await at.arrive()
        await at.as_on_chain([own.address])


class TestWhichChain:
    @pytest.mark.parametrize("kind", [Kind.CHAIN_ID, Kind.GENESIS])
    @pytest.mark.parametrize("first", [True, False])
    async def test_f13_a_chain_swapped_later_behind_either_node_stops_it(self, anvil, database, clock, kind, first):
        async with lying_node(anvil.url) as one, lying_node(anvil.url) as other:
            at = stage(anvil, database.engine(), clock, *((one, other) if first else (other, one)))
            own = await at.following.issue()
            anvil.transfer("USDC", own.address, 5)
            await at.arrive()
            before = await at.height()
            anvil.transfer("USDC", own.address, 6)
            one.lie(kind, times=None)
            for _ in range(2):
                with pytest.raises(WrongChain):
                    await at.step()
            assert one.told[kind] >= 2
            assert await at.height() == before
            await at.as_on_chain([own.address])
            one.be_honest()
            await at.arrive()
            await at.as_on_chain([own.address])
            await at.following.follower.close()
