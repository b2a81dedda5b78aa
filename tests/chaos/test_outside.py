"""The chain of a run stays one chain, whatever is done to its node."""

import itertools

import pytest

from tests.chaos.outside import Outside
from tests.support.chain import start_local_chain


@pytest.mark.slow
async def test_a_restarted_node_has_its_own_chain_and_no_replaced_block(tmp_path):
    with start_local_chain(tmp_path) as chain:
        outside = Outside(chain, tmp_path)
        outside.furnish()
        try:
            genesis, recipient = chain.genesis_hash, "0x" + "5e" * 20
            for turn in range(4):
                outside.lowest = await outside.height()
                await outside.send(3, recipient, value=1)
                await outside.mine(4)
                assert await outside.reorganise(3, keep=True)
                head = await outside.height()
                known = [await outside.rpc("eth_getBlockByNumber", hex(height), False) for height in range(head + 1)]
                await outside.restart(0)
                again = [await outside.rpc("eth_getBlockByNumber", hex(height), False) for height in range(head + 1)]
                assert [block["hash"] for block in again] == [block["hash"] for block in known]
                assert (known[0]["hash"], await outside.height()) == (genesis, head)
                assert all(block["parentHash"] == before["hash"] for before, block in itertools.pairwise(again))
                assert int(await outside.rpc("eth_getBalance", recipient, "latest"), 16) == turn + 1
        finally:
            await outside.close()
            chain.node.stop()
