"""Takes a network's blocks in, one after another, and takes them back when the chain does.

Every block is read whole, by hash, and hangs on the one before it; the block, what was seen in it and the cursor
commit together. One follower leads per network; a stale one's write fails. A lower head is a lagging node until a hash
differs. Booking what was seen isn't done here.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain import addresses, disagreements, store, transaction_store
from chain.errors import ChainReset, LeadershipLost, NodeMisbehaved, WrongChain
from chain.evm import transfers
from chain.evm.blocks import Block
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.networks import Network
from chain.observations import BlockRef, SeenBlock
from chain.reorg import common_ancestor, connected
from chain.store import Followed
from db.engine import tx
from db.errors import translate

BLOCKS_PER_STEP = 128
"""How many blocks one step takes in at most."""

BLOCKS_TOGETHER = 32
TRANSACTIONS_TOGETHER = 1_000
"""How many blocks are asked for, and commit, at once: fewer where they're full, by the last ones' transactions."""

WALK_BLOCKS = 128
"""How many heights are compared at once on the way back to the common ancestor."""

HALTED_BELOW_FINAL = "reorg_below_final"
"""Why a network is halted: blocks that were final are gone."""


HEAD_NOTED = timedelta(seconds=5)
"""How often a head that stays is noted: it says that the node was asked, and needs a write each time."""


class Did(StrEnum):
    """What a step came to."""

    STOOD_BY = "stood_by"
    """Another follower leads."""
    WAITED = "waited"
    """There was nothing new, or the nodes don't agree on it yet."""
    ADVANCED = "advanced"
    WENT_BACK = "went_back"
    """A reorganisation: blocks were orphaned."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step did, and the height (of the last block taken in) after it; -1 before any, or standing by."""

    did: Did
    height: int


class Follower:
    """Follows `network` through its nodes: what one tells, a second one must tell too, where there is one."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        network: Network,
        nodes: Pool,
        clock: Clock,
        name: str = "follower",
        payouts: Collection[str] = (),
    ) -> None:
        """`payouts`: addresses (lower-case hex) of our payout contracts there, as far as they're configured.

        Those that batches of ours were paid through are known from these, whatever the configuration says by now.
        """
        self.network = network
        self._engine = engine
        self._nodes = nodes
        self._clock = clock
        self._name = name
        self._payouts = frozenset(payouts)
        self._lock: AsyncConnection | None = None
        self._epoch: int | None = None
        self._together = 1
        self._disagreed = True
        """Whether the nodes were noted to disagree: so it may stand in the database until it was ended there once."""

    async def step(self) -> Progress:
        """One bounded piece: up to BLOCKS_PER_STEP blocks, or one walk back.

        Raises WrongChain and ChainReset (nothing is written, and nothing will be until somebody looks), LeadershipLost,
        NodeUnavailable and NodeMisbehaved (no node had an answer; the next step goes on from what is written), and what
        `db.errors` says of the database.
        """
        try:
            progress = await self._step()
            await self._note_disagreement()
            return progress
        except LeadershipLost:
            await self.close()
            raise
        except (SQLAlchemyError, OSError) as error:
            raise translate(error) or error from error

    async def close(self) -> None:
        """Let another follower lead."""
        lock, self._lock, self._epoch = self._lock, None, None
        if lock is not None:
            await lock.invalidate()  # not back to the pool, where the lock would live on
            await lock.close()

    async def _step(self) -> Progress:
        node = self._nodes
        async with tx(self._engine) as connection:
            known = await store.followed(connection, self.network.name)
        if known is not None:
            self._must_be_configured(known)  # before leading: who leads a chain that is gone ends its leaving
        genesis_hash = await node.check(known.genesis_hash if known else None)
        at = await self._lead(genesis_hash)
        if at is None:
            return Progress(Did.STOOD_BY, -1)
        head = await node.head()
        if head.number <= at.height:
            return await self._compare_lower_head(at, node, head)
        ahead = await self._refs_ahead(at, node, head)
        following = connected(at.block_hash, ahead)
        if ahead and not following:
            return await self._walk_back(at, node)
        return await self._take_in(at, node, head, await node.witnessed(following))

    async def _note_disagreement(self) -> None:
        """What the nodes were last seen to disagree about, for whoever credits, pays, or looks."""
        found = self._nodes.disagreement
        if self._epoch is None or not self._nodes.compared or (found is None and not self._disagreed):
            return
        now = self._clock.now()
        async with tx(self._engine) as connection:
            if found is not None:
                await disagreements.note(connection, self.network.name, found, now=now)
            else:
                await disagreements.end(connection, self.network.name, now=now)
        self._disagreed = found is not None

    async def _lead(self, genesis_hash: str) -> Followed | None:
        """Where the cursor stands, if this follower leads; the first time it takes the lock and a new epoch."""
        if self._lock is None or not await _alive(self._lock):
            await self.close()
            self._lock = await self._engine.connect()
            await self._lock.execution_options(isolation_level="AUTOCOMMIT")
        if self._epoch is None:
            if not await store.try_lock(self._lock, f"follow {self.network.name}"):
                return None
            async with tx(self._engine) as connection:
                now = self._clock.now()
                await store.make_known(connection, self.network, genesis_hash=genesis_hash, now=now)
                self._epoch = await store.begin_epoch(connection, self.network.name, leader=self._name)
        async with tx(self._engine) as connection:
            at = await store.followed(connection, self.network.name)
        if at is None or at.epoch != self._epoch:
            raise LeadershipLost(f"another follower leads network {self.network.name}")
        self._must_be_configured(at)
        return at

    def _must_be_configured(self, at: Followed) -> None:
        if at.chain_id != self.network.chain_id:
            raise WrongChain(
                f"this database followed chain {at.chain_id} as network {self.network.name}, now configured as"
                f" {self.network.chain_id}: if the old one was a local chain that is gone,"
                f" `onebook chain reanchor {self.network.name}` goes on with this one (docs/local-chain.md)",
                followed=at.chain_id,
                configured=self.network.chain_id,
            )

    async def _compare_lower_head(self, at: Followed, node: Pool, head: BlockRef) -> Progress:
        """A head at or below the cursor: nothing new, a lagging node, or (only by another hash) another branch."""
        async with tx(self._engine) as connection:
            ours = await store.live_hashes(connection, at.network, lowest=head.number, highest=head.number)
        if ours.get(head.number, head.block_hash) != head.block_hash:
            return await self._walk_back(at, node)
        if node.disagreement is not None:  # nothing new to compare them by
            await node.witnessed([head])
        finalized = await self._finalized(node)
        now = self._clock.now()
        async with tx(self._engine) as connection:
            if head.number != at.head_height or not timedelta(0) <= now - at.updated_at < HEAD_NOTED:
                await store.note_head(connection, at, head_height=head.number, now=now)
            await self._settle_finality(connection, at, finalized)
        return Progress(Did.WAITED, at.height)

    async def _refs_ahead(self, at: Followed, node: Node, head: BlockRef) -> list[BlockRef]:
        """The next blocks' places, as far as the node tells them without a gap."""
        last = min(head.number, at.height + BLOCKS_PER_STEP)
        found = await node.refs(range(at.height + 1, last + 1))
        refs: list[BlockRef] = []
        for height in sorted(found):
            ref = found[height]
            if ref is None:
                break
            refs.append(ref)
        return refs

    async def _take_in(self, at: Followed, node: Node, head: BlockRef, refs: Sequence[BlockRef]) -> Progress:
        """Blocks that come together commit together, each with what was seen in it; meanwhile the next ones come."""
        started_at = at.height
        finalized = await self._finalized(node)
        asked = refs[: self._together]
        coming = asyncio.create_task(node.blocks(asked))
        try:
            while asked:
                blocks, refs = await coming, refs[len(asked) :]
                if len(blocks) < len(asked):  # one was replaced since its place was told: the next step sees
                    refs = []
                self._together = _fitting(blocks)
                asked = refs[: self._together]
                coming = asyncio.create_task(node.blocks(asked))
                if blocks:
                    at = await self._commit(at, head, blocks, finalized)
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        return Progress(Did.ADVANCED if at.height > started_at else Did.WAITED, at.height)

    async def _commit(
        self, at: Followed, head: BlockRef, blocks: Sequence[Block], finalized: BlockRef | None
    ) -> Followed:
        touched = frozenset().union(*map(transfers.touched, blocks))
        async with tx(self._engine) as connection:
            now = self._clock.now()
            own = await addresses.own_among(connection, self.network.family, touched)
            payouts = self._payouts | await self._paid_through(connection, blocks, own)
            seen = [_seen(block, own, payouts) for block in blocks]
            after = await store.add_blocks(connection, at, seen, head_height=head.number, now=now)
            await self._settle_finality(connection, after, finalized)
        return after

    async def _paid_through(
        self, connection: AsyncConnection, blocks: Sequence[Block], own: frozenset[str]
    ) -> frozenset[str]:
        """The payout contracts that these blocks' batches of the coin, sent by us, went through."""
        sent = [one for block in blocks for one in block.transactions if one.value and one.sender in own]
        unknown = [(one.sender, one.nonce) for one in sent if one.recipient not in self._payouts]
        return await transaction_store.payout_contracts(connection, self.network.name, unknown)

    async def _finalized(self, node: Node) -> BlockRef | None:
        return await node.finalized() if self.network.final_depth is None else None

    async def _settle_finality(self, connection: AsyncConnection, at: Followed, finalized: BlockRef | None) -> None:
        if self.network.final_depth is not None:
            await store.raise_final_height(connection, at, at.height - self.network.final_depth + 1)
        elif finalized is not None:
            await store.raise_final(connection, at, finalized)

    async def _walk_back(self, at: Followed, node: Node) -> Progress:
        """Go back to where our chain and the node's were last one."""
        highest = at.height
        above: dict[int, str] = {}
        while True:
            lowest = max(0, highest - WALK_BLOCKS + 1)
            async with tx(self._engine) as connection:
                ours = await store.live_hashes(connection, at.network, lowest=lowest, highest=highest)
            if not ours:
                raise self._reset(at)
            theirs = await node.refs(sorted(ours))
            ancestor = common_ancestor(
                ours, {height: ref.block_hash if ref else None for height, ref in theirs.items()}
            )
            if ancestor is not None:
                break
            highest, above = lowest - 1, ours
        if ancestor == 0 and at.final_height > 0:
            raise self._reset(at)
        if ancestor == at.height:
            raise NodeMisbehaved(
                f"network {at.network}: block {ancestor + 1} doesn't hang on block {ancestor}, which the node still"
                " has. On Hardhat hardhat_mine leaves such blocks: `onebook chain mine` doesn't"
            )
        lost = (above | ours).get(ancestor + 1)
        if lost is not None and not await self._nodes.replaced(BlockRef(ancestor + 1, lost, ours[ancestor])):
            return Progress(Did.WAITED, at.height)  # one node says that it's gone, as many have it
        async with tx(self._engine) as connection:
            await store.go_back(
                connection,
                at,
                height=ancestor,
                block_hash=ours[ancestor],
                halted=HALTED_BELOW_FINAL if ancestor < at.final_height else None,
                now=self._clock.now(),
            )
        return Progress(Did.WENT_BACK, ancestor)

    def _reset(self, at: Followed) -> ChainReset:
        return ChainReset(
            f"network {at.network}: none of the blocks that this database took in is on the node's chain any more,"
            f" not even block {at.block_hash} at height {at.height}. The chain was reset: if it's a local one,"
            f" `onebook chain reanchor {at.network}` takes back what was booked from it (docs/local-chain.md)",
            height=at.height,
            block_hash=at.block_hash,
        )


def _fitting(blocks: Sequence[Block]) -> int:
    """How many blocks like these are asked for at once."""
    transactions = sum(len(block.transactions) for block in blocks)
    return max(1, min(BLOCKS_TOGETHER, TRANSACTIONS_TOGETHER * len(blocks) // max(1, transactions)))


def _seen(block: Block, own: frozenset[str], payouts: frozenset[str]) -> SeenBlock:
    return SeenBlock(
        ref=block.ref,
        mined_at=block.mined_at,
        base_fee_per_gas=block.base_fee_per_gas,
        verified=block.verified,
        observations=transfers.observations(block, own, payouts),
        outgoing=transfers.outgoing(block, own),
    )


async def _alive(connection: AsyncConnection) -> bool:
    """Whether the connection, and so the lock that it holds, is still there."""
    try:
        await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        return False
    return True
