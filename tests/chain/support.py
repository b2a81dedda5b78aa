"""What the chain's tests share: a followed local chain on its own database, own addresses, nodes that misbehave."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import addresses, tables
from chain.errors import NodeRefused
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import Call, HttpRpc, Rpc
from chain.follower import Did, Follower, Progress
from chain.networks import Network
from chain.signing import OwnAddress, OwnKey, Role
from db.engine import tx
from tests.support.chain import RunningChain

BOOK = "main"


class NumberedAddresses:
    """Addresses that nobody has keys for, another one for each key."""

    can_derive = True

    def address(self, key: OwnKey) -> str:
        return "0x" + keccak(text=str(key))[-20:].hex()


class BentRpc:
    """A node behind `rpc` as a liar or a laggard would show it: every result of a method passes through `bend`."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self.bends: dict[str, Callable[..., Any]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []

    async def call(self, method: str, *params: object) -> Any:
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, NodeRefused):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        self.asked += [method for method, _ in calls]
        for method, _ in calls:
            if method in self.gates:
                await self.gates[method].wait()
        answers = await self._rpc.batch(calls)
        return [
            self.bends[method](answer, *params) if method in self.bends else answer
            for (method, params), answer in zip(calls, answers, strict=True)
        ]


@dataclass(slots=True)
class Following:
    """A follower on a local chain, and what it wrote."""

    chain: RunningChain
    engine: AsyncEngine
    network: Network
    rpc: BentRpc
    node: Node
    follower: Follower
    clock: Clock

    async def catch_up(self, *, steps: int = 50) -> Progress:
        """Step until nothing moves."""
        for _ in range(steps):
            progress = await self.follower.step()
            if progress.did in (Did.WAITED, Did.STOOD_BY):
                return progress
        raise AssertionError(f"still moving after {steps} steps")

    async def issue(self, owner: str = "usr_a") -> OwnAddress:
        async with tx(self.engine) as connection:
            return await addresses.issue(connection, NumberedAddresses(), book=BOOK, owner=owner, clock=self.clock)

    async def enrol(self, address: str, role: Role = Role.HOT) -> OwnAddress:
        """Make any address the house's own."""

        class Given:
            can_derive = True

            def address(self, key: OwnKey) -> str:
                return address.lower()

        async with tx(self.engine) as connection:
            return await addresses.enrol(connection, Given(), key=OwnKey(role, 0), clock=self.clock)

    async def rows(self, table: Table, *, orphaned: bool | None = False) -> list[Any]:
        asked = select(table).where(table.c.network == self.network.name)
        if orphaned is not None:
            asked = asked.where(table.c.orphaned == orphaned)
        async with tx(self.engine) as connection:
            return list(await connection.execute(asked))

    async def observed(self, *, orphaned: bool | None = False) -> list[Any]:
        found = await self.rows(tables.observations, orphaned=orphaned)
        return sorted(found, key=lambda row: (row.block_number, row.tx_hash, row.place))


def network_of(chain: RunningChain, **changes: Any) -> Network:
    """The configuration of a local chain."""
    settings = {"spendable_depth": 1, "final_depth": 4, "tip_floor": 10**9} | changes
    return Network(name="local", chain_id=chain.chain_id, rpc_urls=(chain.url,), native_asset="ETH", **settings)


def unresting(*nodes: Node) -> Pool:
    """A pool whose endpoints are asked again at once after a failure."""
    return Pool(nodes[0].network, nodes, rest_seconds=0)


def follow(chain: RunningChain, engine: AsyncEngine, clock: Clock, *, name: str = "first", **changes: Any) -> Following:
    """A follower with a node of its own that can be bent."""
    network = network_of(chain, **changes)
    rpc = BentRpc(HttpRpc(chain.url))
    node = Node(network, rpc)
    follower = Follower(engine=engine, network=network, nodes=unresting(node), clock=clock, name=name)
    return Following(chain, engine, network, rpc, node, follower, clock)
