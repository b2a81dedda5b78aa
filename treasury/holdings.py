"""What deposit addresses hold and may give away: by what was recorded, by a node, and by what must stay there."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from chain.evm.blocks import Block
from chain.fees import Market
from chain.networks import Network
from chain.observations import BlockRef
from chain.status import NetworkStatus
from db.engine import tx
from treasury import sample_store, sweep_store
from treasury.sweep_policy import Holding
from treasury.sweep_store import Place, Recorded


class KeptBack(Protocol):
    """Knows what must stay where it is; the wallet's deposit reviews do."""

    async def kept_back(self, network: str) -> Mapping[Place, int]:
        """Chain units by (address, contract): a listed sender's, and whatever isn't judged yet."""
        ...


class SweepNode(Protocol):
    """What sweeping asks of a node; the chain's `Node` answers."""

    async def balance(self, contract: str | None, owner: str, *, block: str | None = None) -> int:
        """Chain units at the block with this hash, or at the head."""
        ...

    async def block(self, ref: BlockRef) -> Block | None:
        """The whole block, checked."""
        ...

    async def market(self) -> Market:
        """What gas costs now."""
        ...


class Holdings:
    """Measures addresses of one book."""

    def __init__(self, engine: AsyncEngine, *, book: str, nodes: Mapping[str, SweepNode], kept_back: KeptBack) -> None:
        self._engine = engine
        self._book = book
        self._nodes = nodes
        self._kept_back = kept_back

    async def measure(self, network: Network, at: NetworkStatus, places: Sequence[Place]) -> dict[Place, Holding]:
        """What is at each of these places; nothing where no block is final yet. Raises what the node does.

        What must stay is asked first: what comes later can only make an address hold more.
        """
        kept = await self._kept_back.kept_back(network.name)
        async with tx(self._engine) as connection:
            block = await sample_store.load_block(connection, network.name, at.final_height)
            addresses = sorted({address for address, _ in places})
            recorded = await sweep_store.load_recorded(
                connection, network.name, addresses=addresses, through=at.final_height
            )
        if block is None:
            return {}
        node, found = self._nodes[network.name], {}
        for place in places:
            address, contract = place
            known = recorded.get(place, Recorded(0, None))
            found[place] = Holding(
                recorded=known.amount,
                at_final=await node.balance(contract, address, block=block.block_hash),
                now=await node.balance(contract, address),
                kept_back=kept.get(place, 0),
                oldest_at=known.oldest_at,
            )
        return found
