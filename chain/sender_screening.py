"""Asks who sent what reached deposit addresses, before anybody is credited for it.

A transfer's sender is screened, and of ETH that a contract paid inside a call also whoever sent the transaction. It's
asked as of the transfer's own block, and kept beside the observation; while it can't be told, nothing is kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain import screening_store, store
from chain.errors import NodeUnavailable
from chain.evm.node import Node
from chain.networks import Deployment, Network
from chain.screening import Screening
from chain.screening_store import Unscreened
from chain.store import Followed
from chain.token_watch import STATE_BLOCKS
from db.engine import tx

SENDERS_AT_ONCE = 100
"""Transfers that one step asks about at most."""

TRACED = "trace:"
"""How the place of ETH begins that a contract paid."""


class SenderScreening:
    """One network's step. `tokens`: its deployments by contract; what nobody configured is screened once it is."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        network: Network,
        tokens: Mapping[str, Deployment],
        screening: Screening,
        node: Node,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._network = network.name
        self._contracts = list(tokens)
        self._screening = screening
        self._node = node
        self._clock = clock
        self._done_through: dict[int, tuple[int, int]] = {}
        """By epoch, the final height up to which every sender was asked about, and how many of the transfers that were
        told later than their blocks; only saves looking again."""

    async def step(self) -> int:
        """Ask once; about how many transfers it could be told. Raises Unavailable if about some it couldn't."""
        async with tx(self._engine) as connection:
            at = await store.followed(connection, self._network)
            if at is None or at.block_hash is None:
                return 0
            if at.halted:  # what was final isn't: nothing known of it counts any more
                self._done_through = {}
            above, late_above = self._done_through.get(at.epoch, (-1, 0))
            found = await screening_store.load_unscreened(
                connection, self._network, self._contracts, above=above, late_above=late_above, limit=SENDERS_AT_ONCE
            )
        blocks: dict[str, list[Unscreened]] = defaultdict(list)
        for one in found:
            blocks[_asked_in(one, at)].append(one)
        problem: Unavailable | None = None
        for block, transfers in blocks.items():
            try:  # one block that a node doesn't know, or not any more, keeps no other's senders waiting
                await self._ask(block, transfers)
            except Unavailable as error:
                problem = error
        if problem is not None:
            raise problem
        if len(found) < SENDERS_AT_ONCE and not at.halted:
            self._done_through = {at.epoch: (at.final_height, at.late)}
        return len(found)

    async def _ask(self, block: str, transfers: Sequence[Unscreened]) -> None:
        traced = sorted({one.tx_hash for one in transfers if one.contract is None and one.place.startswith(TRACED)})
        origins = await self._node.senders(traced) if traced else {}
        parties = {one: {one.sender} for one in transfers}
        for one in transfers:
            if one.tx_hash in origins:
                origin = origins[one.tx_hash]
                if origin is None:
                    raise NodeUnavailable(f"the node doesn't know transaction {one.tx_hash}")
                parties[one].add(origin)
        everybody = frozenset().union(*parties.values())
        objections = await self._screening.objections(everybody, block=block)
        told = {one: _why(named, objections) for one, named in parties.items()}
        async with tx(self._engine) as connection:
            await screening_store.insert_screenings(
                connection, self._network, told, asked_in=block, now=self._clock.now()
            )


def _asked_in(one: Unscreened, at: Followed) -> str:
    """The transfer's own block; the newest one where no node keeps the state of that any more."""
    if one.block_number > at.final_height - STATE_BLOCKS or at.block_hash is None:
        return one.block_hash
    return at.block_hash


def _why(named: set[str], objections: Mapping[str, str]) -> str | None:
    found = [f"{address}: {objections[address]}" for address in sorted(named) if address in objections]
    return "; ".join(found) or None
