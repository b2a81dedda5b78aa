"""Finds the native coin that no transaction's value tells of, by traces and by balances.

Each step asks for the traces of new blocks, where the network is configured so; and at each new final block for the
balance of the house's addresses, and of some deposit addresses in turn. What an address holds beyond what is recorded
of it is looked for in the blocks since it was last looked at, whose traces are then asked for; what these don't tell is
recorded as a surplus, and what it holds too little as a shortage; both if two nodes tell so. What a trace tells is
recorded only as far as the balances around its block bear it out. Booking isn't done here.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import coin_store, coins, store
from chain.coin_store import Looked, OpenSurplus
from chain.coins import Stretch
from chain.errors import NodeMisbehaved, NodeUnavailable
from chain.evm import traces
from chain.evm.rpc import Json
from chain.networks import Network, Traces
from chain.observations import BlockRef, Observation
from chain.store import Followed
from db.engine import tx

BALANCES_AT_ONCE = 500
"""Addresses whose balances one step asks for at most, however many final blocks are new."""

TRACES_AT_ONCE = 16
"""Blocks whose traces one step asks for at most, and in which it looks for one address's surplus."""

STATE_BLOCKS = 128
"""For so many blocks nodes keep balances and can trace, unless they keep everything."""

REOPENED_AT_ONCE = 50
"""Surpluses, the newest ones, that are looked for again."""

REOPEN_FIRST, REOPEN_LONGEST = timedelta(seconds=30), timedelta(hours=6)
"""How long they wait for that after the process's start, where it's done at once; twice as long each time."""

TRIES_MAX = 5
"""So often a block's traces are asked for that don't come, until it's taken as one that can't be traced."""

CLOCKS_APART = timedelta(seconds=15)
"""A block that is older than an address by more than this holds nothing that was meant for its owner."""


class Coins(Protocol):
    """Who tells balances and traces; `chain.evm.pool.Pool` is one."""

    async def coins(self, asked: Sequence[tuple[str, str]]) -> list[int | None]: ...
    async def coins_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[int | None]: ...
    async def trace(self, block_hash: str) -> list[tuple[str, Json]] | None: ...


class CoinWatch:
    """One network's step."""

    def __init__(self, engine: AsyncEngine, *, network: Network, nodes: Coins, clock: Clock) -> None:
        self.network = network
        self._engine = engine
        self._nodes = nodes
        self._clock = clock
        self._epoch = 0
        """Whose heights those below are: after the chain was re-anchored they're another chain's."""
        self._traced_through: int | None = None
        self._looked_through = -1
        self._looked_after = ""
        self._reopen_at: datetime | None = None
        self._reopen_after = REOPEN_FIRST
        self._tries: Counter[str] = Counter()

    async def step(self) -> int:
        """One bounded piece; how many inner transfers and surpluses were recorded.

        Raises NodeUnavailable and NodeMisbehaved where no node tells a balance.
        """
        async with tx(self._engine) as connection:
            at = await store.followed(connection, self.network.name)
        if at is None or at.block_hash is None:
            return 0
        if at.epoch != self._epoch:
            self._epoch, self._traced_through, self._looked_through = at.epoch, None, -1
        found = 0
        if self.network.traces is Traces.EVERY_BLOCK:
            found += await self._trace_new(at)
        if self.network.traces is not Traces.NEVER and (
            self._reopen_at is None or self._clock.now() >= self._reopen_at
        ):
            found += await self._reopen()
        all_traced = self._traced_through is not None and self._traced_through >= at.final_height
        if all_traced or self.network.traces is not Traces.EVERY_BLOCK:
            found += await self._look(at)
        return found

    # Traces

    async def _trace_new(self, at: Followed) -> int:
        """The next blocks' traces. Blocks that became final before tracing began are left to their balances."""
        async with tx(self._engine) as connection:
            if self._traced_through is None:
                first = await coin_store.first_traced(connection, self.network.name)
                self._traced_through = at.final_height - STATE_BLOCKS if first is None else first - 1
            above = min(self._traced_through, at.final_height)
            new = await coin_store.load_untraced(connection, self.network.name, above=above, limit=TRACES_AT_ONCE)
        found = 0
        for block, mined_at in new:
            found += await self._trace(block, mined_at) or 0
        self._traced_through = new[-1][0].number if len(new) == TRACES_AT_ONCE else at.height
        return found

    async def _trace(self, block: BlockRef, mined_at: datetime) -> int | None:
        """How many inner transfers of the block were recorded; None if no node can trace it."""
        told = await self._told(block)
        found = [] if told is None else await self._borne_out(block, mined_at, told)
        async with tx(self._engine) as connection:
            added = await coin_store.add_traces(
                connection, self.network.name, block, found, told=told is not None, now=self._clock.now()
            )
        return None if told is None else added

    async def _told(self, block: BlockRef) -> list[Observation] | None:
        try:
            answer = await self._nodes.trace(block.block_hash)
            return None if answer is None else traces.moves(answer)
        except NodeMisbehaved:  # as good as none, and no better when it's asked again
            return None
        except NodeUnavailable:
            self._tries[block.block_hash] += 1
            if self._tries[block.block_hash] < TRIES_MAX:
                raise
            del self._tries[block.block_hash]
            return None

    async def _borne_out(self, block: BlockRef, mined_at: datetime, told: list[Observation]) -> list[Observation]:
        """Of what was told that which the balances around the block bear out."""
        touched = sorted({one.recipient for one in told} | {one.sender for one in told})
        async with tx(self._engine) as connection:
            since = await coin_store.issued(connection, self.network.family, touched)
            own = sorted(address for address, at in since.items() if at <= mined_at + CLOCKS_APART)
            if not own:
                return []
            recorded = await coin_store.recorded_in(connection, self.network.name, block.block_hash, but=told, own=own)
        held = await self._nodes.coins_witnessed(
            [(address, at) for at in (block.block_hash, block.parent_hash) for address in own]
        )
        rises = {
            address: None if after is None or before is None else after - before - recorded[address]
            for address, after, before in zip(own, held[: len(own)], held[len(own) :], strict=True)
        }
        return coins.believed(told, rises)

    # Balances

    async def _look(self, at: Followed) -> int:
        """The house's addresses and the next ones in turn, once for each new final block so many."""
        if at.final_height <= self._looked_through:
            return 0
        new_blocks = 1 if self._looked_through < 0 else at.final_height - self._looked_through
        limit = min(BALANCES_AT_ONCE, self.network.balances_per_block * new_blocks)
        async with tx(self._engine) as connection:
            final = (await coin_store.load_blocks(connection, self.network.name, [at.final_height])).get(
                at.final_height
            )
            turn = await coin_store.load_looked(
                connection, self.network.name, self.network.family, after=self._looked_after, limit=limit
            )
            house = await coin_store.load_looked_house(connection, self.network.name, self.network.family)
        if final is None:
            return 0
        block, _ = final
        looked = house + turn
        held = await self._nodes.coins([(one.address, block.block_hash) for one in looked]) if looked else []
        found = 0
        for one, balance in zip(looked, held, strict=True):
            if balance is not None:
                found += await self._account(one, block, balance)
        self._looked_after = turn[-1].address if len(turn) == limit and turn else ""
        self._looked_through = at.final_height
        return found

    async def _account(self, before: Looked, block: BlockRef, balance: int) -> int:
        """What one address got up to a final block: looked for where nothing tells of it, then recorded."""
        found = 0
        since = before.block_number
        if since >= block.number:
            return 0  # another process has looked at a newer block: what moved in between would be missing here
        excess = balance - before.balance - await self._moved(before.address, since, block.number)
        if excess and await self._nodes.coins_witnessed([(before.address, block.block_hash)]) != [balance]:
            return found  # one node says so alone; it's looked at again in its turn
        if excess > 0 and self.network.traces is not Traces.NEVER:
            found += await self._search(before.address, Stretch(since, 0, block.number, excess), before.balance)
        name = self.network.name
        is_short = excess < 0
        async with tx(self._engine) as connection:
            await coin_store.lock(connection, name)
            (moved,) = await coin_store.moved(connection, name, [(before.address, since, block.number)])
            excess = balance - before.balance - moved
            if excess < 0 and not is_short:
                return found
            untold = _untold(block, before.address, excess)
            written = await coin_store.account_for(
                connection, name, before, block, balance=balance, untold=untold, now=self._clock.now()
            )
        if written and untold is not None:
            self._reopen_after = REOPEN_FIRST
            self._reopen_at = self._clock.now() + REOPEN_FIRST
        return found + (written and untold is not None)

    async def _search(self, address: str, stretch: Stretch, balance: int) -> int:
        """Trace the blocks of a stretch in which an address got more than is recorded; how many transfers were found.

        `balance`: what it held at the stretch's low end.
        """
        oldest = max(stretch.high - STATE_BLOCKS, self.network.start_height)
        waiting, singles = [stretch], list[Stretch]()
        if stretch.low < oldest < stretch.high:
            waiting = await self._excesses(address, stretch, [(stretch, oldest)], balance)
        while waiting:
            singles += [one for one in waiting if one.single]
            wide = coins.latest([one for one in waiting if not one.single], limit=TRACES_AT_ONCE)
            waiting = await self._excesses(address, stretch, [(one, one.middle) for one in wide], balance)
        async with tx(self._engine) as connection:
            chosen = [one.high for one in coins.latest(singles, limit=TRACES_AT_ONCE)]
            blocks = await coin_store.load_blocks(connection, self.network.name, chosen)
        found = 0
        for height in sorted(blocks):
            found += await self._trace(*blocks[height]) or 0
        return found

    async def _excesses(
        self, address: str, whole: Stretch, asked: Sequence[tuple[Stretch, int]], balance: int
    ) -> list[Stretch]:
        """Each stretch cut at a height, by the balances there: the parts in which something came. What no node
        tells the balance of is left out."""
        heights = [height for _, height in asked]
        async with tx(self._engine) as connection:
            blocks = await coin_store.load_blocks(connection, self.network.name, heights)
            moved = await coin_store.moved(
                connection, self.network.name, [(address, whole.low, height) for height in heights]
            )
        known = [place for place, height in enumerate(heights) if height in blocks]
        held = await self._nodes.coins([(address, blocks[heights[place]][0].block_hash) for place in known])
        parts: list[Stretch] = []
        for place, amount in zip(known, held, strict=True):
            if amount is not None:
                parts += asked[place][0].cut(heights[place], amount - balance - moved[place])
        return parts

    async def _moved(self, address: str, since: int, through: int) -> int:
        async with tx(self._engine) as connection:
            (found,) = await coin_store.moved(connection, self.network.name, [(address, since, through)])
        return found

    # Surpluses, once more

    async def _reopen(self) -> int:
        """Look once more for what surpluses were: the nodes may be others than before, or be well again."""
        async with tx(self._engine) as connection:
            known = await coin_store.load_open_surpluses(connection, self.network.name, limit=REOPENED_AT_ONCE)
        found = 0
        for one in known:
            found += await self._look_again(one)
        self._reopen_at = self._clock.now() + self._reopen_after
        self._reopen_after = min(REOPEN_LONGEST, 2 * self._reopen_after)
        return found

    async def _look_again(self, surplus: OpenSurplus) -> int:
        """Between the two balances that showed it, the excess grew by the surplus; its start is known from these."""
        recorded = await self._moved(surplus.address, surplus.since, surplus.block_number)
        before = surplus.balance - recorded  # with the surplus itself recorded at its block, nothing else is too much
        stretch = Stretch(surplus.since, 0, surplus.block_number, surplus.amount)
        return await self._search(surplus.address, stretch, before)


def _untold(block: BlockRef, address: str, excess: int) -> Observation | None:
    """What nothing tells of: a surplus, a shortage, or nothing."""
    if excess == 0:
        return None
    return coins.surplus(block, address, excess) if excess > 0 else coins.shortage(block, address, -excess)
