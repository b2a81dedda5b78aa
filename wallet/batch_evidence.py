"""What the chain shows of a batch, read out of the whole block that it was mined in.

The block's hash is the one that was followed, and its roots are recomputed: a node that tells other logs is found out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from chain.errors import NodeUnavailable
from chain.evm.blocks import MinedTransaction
from chain.evm.node import Node
from chain.payments import Mined, OwnTransaction
from chain.signing import Batch as BatchOrder
from chain.signing import Leg
from db.engine import tx
from wallet import batch_store
from wallet.batch_results import JudgedLeg, LegResult, judge
from wallet.errors import WalletCorrupt
from wallet.resources import Batch


class BatchEvidence:
    """Asks `nodes`, by network, for the blocks that batches were mined in."""

    def __init__(self, engine: AsyncEngine, *, nodes: Mapping[str, Node]) -> None:
        self._engine = engine
        self._nodes = dict(nodes)

    async def judged(self, batch: Batch, own: OwnTransaction) -> Sequence[JudgedLeg]:
        """What became of each leg of a batch that succeeded, in order. Raises what `transaction` does."""
        mined = proof(own)
        judged = judge(signed_legs(own), await self.transaction(batch, mined), via=batch.via, contract=batch.contract)
        if batch.contract is not None:
            return judged
        recorded = await self.given_back(batch, mined)
        return [_on_record(leg, recorded) if leg.result is LegResult.FAILED else leg for leg in judged]

    async def given_back(self, batch: Batch, mined: Mined) -> Sequence[str]:
        """The places at which the chain's record has what the contract gave back of the batch's coin."""
        async with tx(self._engine) as connection:
            return await batch_store.load_given_back(connection, batch, mined)

    async def transaction(self, batch: Batch, mined: Mined) -> MinedTransaction:
        """The batch's transaction with its logs. Raises NodeUnavailable, NodeMisbehaved."""
        async with tx(self._engine) as connection:
            ref = await batch_store.load_block(connection, batch.network, mined.block_hash)
        if ref is None:
            raise WalletCorrupt(f"{batch.id} is final in {mined.block_hash}, which isn't a live block")
        block = await self._nodes[batch.network].block(ref)
        if block is None:
            raise NodeUnavailable(
                f"no node of network {batch.network} has block {ref.number} any more, in which {batch.id} was mined:"
                " add one to its rpc_urls that keeps receipts"
            )
        found = next((one for one in block.transactions if one.tx_hash == mined.tx_hash), None)
        if found is None:
            raise WalletCorrupt(f"{mined.tx_hash} isn't in block {ref.block_hash}, which was followed with it")
        return found


def signed_legs(own: OwnTransaction) -> tuple[Leg, ...]:
    """The legs that were signed, in order: also those that no row of ours stands for."""
    if not isinstance(own.payment.order, BatchOrder):
        raise WalletCorrupt(f"{own.id} carries a batch out and has no legs")
    return own.payment.order.legs


def proof(own: OwnTransaction) -> Mined:
    """The attempt of it that is in a block."""
    if own.mined is None:
        raise WalletCorrupt(f"{own.id} is {own.state}, but in no block")
    return own.mined


def _on_record(leg: JudgedLeg, recorded: Sequence[str]) -> JudgedLeg:
    """A leg with the place that the record has its refund at: its event, or a trace of what came back in one sum."""
    if leg.place in recorded:
        return leg
    return replace(leg, place=recorded[0]) if recorded else replace(leg, on_record=False)
