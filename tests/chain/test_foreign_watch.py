"""What two nodes must tell of an own address before it's halted, and what one of them alone can't do."""

import pytest

from base.clock import SystemClock
from chain import foreign_store
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.foreign import AccountState
from chain.foreign_watch import ForeignWatch
from db.engine import tx
from tests.chain.support import BentRpc, Following, follow, unresting
from tests.support.chain import start_local_chain

pytestmark = pytest.mark.slow

OWN = "0x" + "0e" * 20
CODE = "0x60006000fd"


def lie(_: object, address: str, *__: object) -> str:
    return CODE


async def halted(following: Following) -> list[str]:
    async with tx(following.engine) as connection:
        return list((await foreign_store.halted_senders(connection, "local")).values())


async def test_f48_code_that_one_of_two_nodes_tells_alone_halts_nothing(following):
    await following.enrol(OWN)
    rpcs = [BentRpc(HttpRpc(following.chain.url)) for _ in range(2)]
    pool = unresting(*(Node(following.network, rpc) for rpc in rpcs))
    watch = ForeignWatch(following.engine, network=following.network, contracts=(), nodes=pool, clock=following.clock)
    for bent, found in ((rpcs[0], 0), (rpcs[1], 1)):
        bent.bends["eth_getCode"] = lie  # then both do
        following.chain.mine(5)
        await following.catch_up()
        assert await watch.step() == found
    assert ["it has code in block" in words for words in await halted(following)] == [True]
    following.chain.mine(1)
    await following.catch_up()
    assert await watch.step() == 0


@pytest.mark.parametrize("kind", ["anvil", "hardhat"])
async def test_nodes_tell_code_and_nonce_by_a_block_s_hash_and_nothing_of_a_block_they_lack(kind, tmp_path):
    with start_local_chain(tmp_path, kind) as chain:
        sender, token = chain.accounts[1].lower(), chain.token("USDC").lower()
        before = int(chain.rpc("eth_getTransactionCount", sender, "latest"), 16)
        old = chain.block_hash(chain.height())
        chain.transfer("ETH", OWN, 1)
        now = chain.block_hash(chain.height())
        following = follow(chain, None, SystemClock())  # type: ignore[arg-type]
        pool = Pool(following.network, [following.node])
        told = await pool.accounts_witnessed(
            [(sender, old), (sender, now), (OWN, now), (token, now), (OWN, "0x" + "77" * 32)]
        )
        assert told[:3] == [AccountState(before), AccountState(before + 1), AccountState(0)]
        assert told[3] is not None
        assert told[3].code_hash is not None
        assert told[4] is None
