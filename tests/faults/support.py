"""A follower whose nodes lie, and what the true chain holds, read without any of the follower's code."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import ConfigError, Unavailable
from chain import tables
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Follower
from tests.chain.support import BentRpc, Following, network_of
from tests.faults.lying_node import LyingNode
from tests.support.chain import RunningChain

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
STEPS_MAX = 80
"""Steps in which a follower must have come to the head once its nodes are honest."""


class Seconds:
    """A pool's clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@dataclasses.dataclass(slots=True)
class Stage:
    """A follower behind liars."""

    chain: RunningChain
    following: Following
    pool: Pool
    seconds: Seconds

    async def step(self) -> Any:
        return await self.following.follower.step()

    async def arrive(self) -> None:
        """Step until the true head is taken in, passing rests by."""
        for _ in range(STEPS_MAX):
            try:
                await self.step()
            except (Unavailable, ConfigError):
                self.seconds.at += 60
            if await self.height() == self.chain.height() and await self.on_chain():
                return
        raise AssertionError(f"not at the head after {STEPS_MAX} steps")

    async def height(self) -> int:
        rows = await self.following.rows(tables.networks, orphaned=None)
        return rows[0].height if rows else -1

    async def on_chain(self) -> bool:
        """Whether every live block is the true chain's, without a gap."""
        live = {row.number: row.block_hash for row in await self.following.rows(tables.blocks)}
        return live == {height: self.chain.block_hash(height) for height in range(await self.height() + 1)}

    async def recorded(self) -> list[tuple[Any, ...]]:
        rows = await self.following.observed()
        return sorted((row.block_hash, row.tx_hash, row.contract or "", row.recipient, row.amount) for row in rows)

    async def as_on_chain(self, own: Sequence[str]) -> None:
        """Nothing but the true chain is recorded, and all of it as far as the cursor is."""
        assert await self.on_chain()
        assert await self.recorded() == truth(self.chain, own, await self.height())


def stage(chain: RunningChain, engine: AsyncEngine, clock: Clock, *liars: LyingNode, **changes: Any) -> Stage:
    """A follower that knows the chain only through these liars."""
    network = dataclasses.replace(network_of(chain, **changes), rpc_urls=tuple(liar.url for liar in liars))
    seconds = Seconds()
    rpcs = [BentRpc(HttpRpc(url, seconds=5)) for url in network.rpc_urls]
    pool = Pool(network, [Node(network, rpc) for rpc in rpcs], now_seconds=seconds)
    follower = Follower(engine=engine, network=network, nodes=pool, clock=clock)
    return Stage(chain, Following(chain, engine, network, rpcs[0], pool, follower, clock), pool, seconds)


def truth(chain: RunningChain, own: Sequence[str], highest: int) -> list[tuple[Any, ...]]:
    """Every transfer to an own address up to a height, scanned from scratch at the real node."""
    found: list[tuple[Any, ...]] = []
    for height in range(highest + 1):
        block = chain.rpc("eth_getBlockByNumber", hex(height), True)
        for log in chain.rpc("eth_getLogs", {"blockHash": block["hash"], "topics": [TRANSFER]}):
            recipient, amount = "0x" + log["topics"][2][26:], int(log["data"], 16)
            if recipient in own and amount:
                found.append((block["hash"], log["transactionHash"], log["address"], recipient, amount))
        for sent in block["transactions"]:
            if sent["to"] in own and int(sent["value"], 16):
                found.append((block["hash"], sent["hash"], "", sent["to"], int(sent["value"], 16)))
    return sorted(found)
