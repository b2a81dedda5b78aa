"""Many balances in one question: the same as one by one, of coins and tokens, at the head and before."""

import pytest

from chain.errors import NodeRefused
from chain.evm import multicall
from chain.evm.node import Node
from chain.evm.rpc import HttpRpc
from tests.chain.support import network_of

pytestmark = pytest.mark.slow


class Counting:
    """An RPC that counts its questions, and may not know how to put code in for a call."""

    def __init__(self, rpc, *, overrides=True):
        self.rpc, self.overrides, self.asked = rpc, overrides, []

    async def call(self, method, *params):
        self.asked.append(method)
        if not self.overrides and len(params) > 2:
            raise NodeRefused("too many arguments, want at most 2")
        return await self.rpc.call(method, *params)

    async def batch(self, calls):
        self.asked += [method for method, _ in calls]
        return await self.rpc.batch(calls)


async def test_many_balances_come_in_one_question_as_they_come_one_by_one(either_node):
    chain, usdc = either_node, either_node.token("USDC")
    strangers = [f"0x{number + 2**80:040x}" for number in range(30)]
    for place, stranger in enumerate(strangers[:3]):
        chain.faucet(stranger, 10**18 + place)
        chain.transfer("USDC", stranger, 1_000 + place)
    told = chain.block_hash(chain.height())
    chain.transfer("USDC", strangers[0], 5)
    asked = [(contract, one) for one in strangers for contract in (None, usdc)]
    rpc = HttpRpc(chain.url)
    try:
        together, singly = Counting(rpc), Counting(rpc, overrides=False)
        network = network_of(chain)
        node = Node(network, together)
        found = await node.balances(asked, block=told)
        assert found[:6] == [10**18, 1_000, 10**18 + 1, 1_001, 10**18 + 2, 1_002]
        assert set(found[6:]) == {0}
        assert together.asked == ["eth_call", "eth_call"]
        limited = Node(network, singly)
        assert await limited.balances(asked, block=told) == found
        assert await limited.balances(asked[:4], block=told) == found[:4]
        assert singly.asked.count("eth_call") == 1 + 30 + 2, "tried once, then known"
        assert (await node.balances([(usdc, strangers[0])], block=chain.block_hash(chain.height()))) == [1_005]
        with pytest.raises(NodeRefused):
            await node.balances(asked, block="0x" + "77" * 32)
        assert node._has_overrides, "an unknown block says nothing about the node"
    finally:
        await rpc.close()


def test_an_answer_of_another_length_is_none():
    with pytest.raises(Exception, match="32 bytes of balances for 2 addresses"):
        multicall.read_balances("0x" + "00" * 32, 2)
    assert multicall.read_balances("0x" + "00" * 31 + "07", 1) == [7]
