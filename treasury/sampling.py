"""Asks nodes what all own addresses hold at a block, and finds those that hold something else than was seen of them.

Nodes forget a block's state soon, so they are asked at the head and the answer is kept until its block is final. All
addresses are asked each time, since what no event tells of can change anywhere. What was seen of them is added up only
for those whose balance or history changed since the last time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain.networks import Deployment, Network, to_ledger_units
from db.engine import tx
from treasury import sample_store as store
from treasury.comparison_store import Seen
from treasury.sample_store import At, OwnedBy
from treasury.samples import DEVIATIONS_MAX, ROLES, Deviation, Sample, custody

BALANCES_AT_ONCE = 1_000
"""Balances asked of a node in one call."""

CALLS_AT_ONCE = 4
"""Calls to a node that are under way together."""

ADDED_UP_SINGLY_MAX = 2_000
"""For more addresses than this, what was seen is added up for all."""


class BalanceReader(Protocol):
    """A node that tells balances at a block; the chain's `Node` is one."""

    async def balances(self, owners: Sequence[tuple[str | None, str]], *, block: str) -> list[int]:
        """The balances of (contract or None for the native coin, address) at the block with this hash, in order."""
        ...


class LeftTheChain(Unavailable):
    default_code = "reorg_under_way"


@dataclass(slots=True)
class _Memory:
    """What was heard last: at which block, of whom, by asset and in the order of `addresses`."""

    at: At
    seen: Seen
    fingerprint: tuple[int, int]
    addresses: list[OwnedBy]
    held: dict[str, list[int]]
    deviating: set[str]


class Sampler:
    """Samples one network's balances. Remembers the last ones, so that little changed costs little."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        network: Network,
        deployments: Sequence[Deployment],
        node: BalanceReader,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._network = network
        self._deployments = deployments
        self._node = node
        self._clock = clock
        self._memory: _Memory | None = None

    def has(self, at: At) -> bool:
        """Whether this block was the last one asked for."""
        return self._memory is not None and self._memory.at == at

    async def take(self, at: At, scales: dict[str, int]) -> None:
        """Ask for the balances at a live block and keep them. Raises Unavailable when no node can tell now, and
        LeftTheChain when the block was replaced meanwhile."""
        async with tx(self._engine) as connection:
            fingerprint = await store.fingerprint(connection, self._network)
            last = await self._usable(connection, at, fingerprint)
            addresses = last.addresses if last else await store.load_own_addresses(connection, self._network)
            seen = Seen(at.number, await store.last_seen(connection, self._network.name))  # before what was touched
            touched = await store.load_touched(connection, self._network, last.seen) if last else set()
        held = await self._ask(addresses, at)
        doubtful = None if last is None else touched | last.deviating | _changed(addresses, last.held, held)
        if doubtful is not None and len(doubtful) > ADDED_UP_SINGLY_MAX:
            doubtful = None
        async with tx(self._engine) as connection:
            if not await store.is_live(connection, self._network.name, at.block_hash):
                raise LeftTheChain(f"block {at.number} left the chain: a reorganisation is under way")
            expected = await store.load_expected(connection, self._network, through=at.number, only=doubtful)
            deviating = self._deviating(addresses, held, expected, doubtful, scales)
            await store.keep_sample(connection, self._sample(at, addresses, held, deviating, scales))
        self._memory = _Memory(at, seen, fingerprint, addresses, held, {one.address for one in deviating})

    async def _usable(self, connection: AsyncConnection, at: At, fingerprint: tuple[int, int]) -> _Memory | None:
        """What was heard last, if this block stands above it and it's about the same addresses."""
        last = self._memory
        if last is None or last.fingerprint != fingerprint or at.number < last.at.number:
            return None
        return last if await store.is_live(connection, self._network.name, last.at.block_hash) else None

    async def _ask(self, addresses: Sequence[OwnedBy], at: At) -> dict[str, list[int]]:
        room = asyncio.Semaphore(CALLS_AT_ONCE)

        async def part(contract: str | None, start: int) -> list[int]:
            async with room:
                owners = [(contract, own.address) for own in addresses[start : start + BALANCES_AT_ONCE]]
                return await self._node.balances(owners, block=at.block_hash)

        held = {}
        for deployment in self._deployments:
            starts = range(0, len(addresses), BALANCES_AT_ONCE)
            parts = await asyncio.gather(*(part(deployment.contract, start) for start in starts))
            held[deployment.asset] = [units for found in parts for units in found]
        return held

    def _deviating(
        self,
        addresses: Sequence[OwnedBy],
        held: dict[str, list[int]],
        expected: dict[tuple[str | None, str], int],
        doubtful: set[str] | None,
        scales: dict[str, int],
    ) -> list[Deviation]:
        places = [place for place, own in enumerate(addresses) if doubtful is None or own.address in doubtful]
        return [
            Deviation(
                custody(self._network.name, addresses[place].role, deployment.asset),
                deployment.asset,
                addresses[place].address,
                to_ledger_units(held[deployment.asset][place], deployment, scale=scales[deployment.asset]),
            )
            for deployment in self._deployments
            for place in places
            if held[deployment.asset][place] != expected.get((deployment.contract, addresses[place].address), 0)
        ]

    def _sample(
        self,
        at: At,
        addresses: Sequence[OwnedBy],
        held: dict[str, list[int]],
        deviating: Sequence[Deviation],
        scales: dict[str, int],
    ) -> Sample:
        sums = {custody(self._network.name, role, one.asset): 0 for one in self._deployments for role in ROLES}
        for deployment in self._deployments:
            by_role = dict.fromkeys(ROLES, 0)
            for own, units in zip(addresses, held[deployment.asset], strict=True):
                by_role[own.role] += units
            for role, units in by_role.items():
                account = custody(self._network.name, role, deployment.asset)
                sums[account] = to_ledger_units(units, deployment, scale=scales[deployment.asset])
        return Sample(
            network=self._network.name,
            block_number=at.number,
            block_hash=at.block_hash,
            mined_at=at.mined_at,
            taken_at=self._clock.now(),
            held=sums,
            deviating=tuple(deviating[:DEVIATIONS_MAX]),
        )


async def held_at(engine: AsyncEngine, network: str, at: int | datetime) -> Sample | None:
    """The last final sample of a network up to a block's number, or up to an instant by the blocks' own time.

    Its `held` is by custody account, in smallest units. None: none is kept from then or before. Samples stand some
    blocks apart, and further apart the older they are: the sample says of which block it is.
    """
    async with tx(engine) as connection:
        if isinstance(at, datetime):
            return await store.newest_sample(connection, network, by=at, judged=True)
        return await store.newest_sample(connection, network, through=at, judged=True)


def _changed(addresses: Sequence[OwnedBy], before: dict[str, list[int]], now: dict[str, list[int]]) -> set[str]:
    """Addresses whose balance of any asset isn't what it was."""
    return {
        own.address
        for asset, held in now.items()
        if held != before.get(asset)
        for own, old, new in zip(addresses, before.get(asset, held), held, strict=True)
        if old != new
    }
