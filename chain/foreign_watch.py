"""Finds what own addresses did, or became, without us, and so halts them: the worker's step `foreign:<network>`.

What blocks tell (a transaction that we didn't make, a token that an allowance of ours moved) is found as soon as the
follower has taken the block in; it's proof of a key in other hands, and stays so if the block leaves the chain. What
only the state tells (code, a nonce) is asked for at each new final block: of all the house's addresses, and in turn of
the deposit addresses that hold something. Of two nodes two must tell the same.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import coin_store, foreign_store, store
from chain.foreign import AccountState, judge
from chain.networks import Network
from chain.store import Followed
from db.engine import tx

FOUND_AT_ONCE = 500
"""Findings that one step records at most of each kind."""

DEPOSITS_AT_ONCE = 500
"""Deposit addresses that one step looks through for such as hold something."""


class Accounts(Protocol):
    """Who tells what addresses are; `chain.evm.pool.Pool` is one."""

    async def accounts_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[AccountState | None]: ...


class ForeignWatch:
    """One network's step. `contracts`: the tokens that are configured on it."""

    def __init__(
        self, engine: AsyncEngine, *, network: Network, contracts: Iterable[str], nodes: Accounts, clock: Clock
    ) -> None:
        self.network = network
        self._engine = engine
        self._contracts = sorted(contracts)
        self._nodes = nodes
        self._clock = clock
        self._epoch = 0
        """Whose heights those below are: after the chain was re-anchored they're another chain's."""
        self._read_through = -1
        self._late = 0
        self._looked_through = -1
        self._looked_after = ""

    async def step(self) -> int:
        """One bounded piece; how many findings were recorded or closed.

        Raises NodeUnavailable and NodeMisbehaved where no node tells what addresses are.
        """
        async with tx(self._engine) as connection:
            at = await store.followed(connection, self.network.name)
        if at is None or at.block_hash is None:
            return 0
        if at.epoch != self._epoch:
            self._epoch, self._read_through, self._late, self._looked_through = at.epoch, -1, 0, -1
        return await self._read(at) + await self._look(at)

    async def _read(self, at: Followed) -> int:
        """What blocks tell that weren't final when they were last read, and what was told of others since."""
        name = self.network.name
        async with tx(self._engine) as connection:
            sent = await foreign_store.load_foreign_transactions(
                connection, name, above=self._read_through, limit=FOUND_AT_ONCE
            )
            left = await foreign_store.load_foreign_outflows(
                connection,
                name,
                self.network.family,
                contracts=self._contracts,
                above=self._read_through,
                late=self._late,
                limit=FOUND_AT_ONCE,
            )
            changed = await foreign_store.close_explained(connection, name, now=self._clock.now())
            changed += await foreign_store.add_findings(connection, name, sent + left, now=self._clock.now())
        if max(len(sent), len(left)) < FOUND_AT_ONCE:
            self._read_through, self._late = at.final_height, at.late
        return changed

    async def _look(self, at: Followed) -> int:
        """What addresses are at the final block, if it's a new one."""
        if at.final_height <= self._looked_through:
            return 0
        name = self.network.name
        async with tx(self._engine) as connection:
            block, _ = (await coin_store.load_blocks(connection, name, [at.final_height])).get(
                at.final_height, (None, None)
            )
            watched, end = await foreign_store.load_watched(
                connection,
                name,
                self.network.family,
                contracts=self._contracts,
                after=self._looked_after,
                page=DEPOSITS_AT_ONCE,
            )
        if block is None:
            return 0
        answers = await self._nodes.accounts_witnessed([(address, block.block_hash) for address in watched])
        told = {address: one for address, one in zip(watched, answers, strict=True) if one is not None}
        async with tx(self._engine) as connection:
            await coin_store.lock(connection, name)
            known = await foreign_store.load_states(connection, name, self.network.family, list(told))
            if not await coin_store.is_live(connection, name, block.block_hash):
                return 0  # what it showed is gone with it
            # What another worker has looked at since is not judged by an older block.
            known = {address: one for address, one in known.items() if one.block_number < block.number}
            sent = await foreign_store.load_sent(connection, name, known, through=block.number)
            found = [
                finding for address, one in known.items() for finding in judge(one, told[address], sent[address], block)
            ]
            added = await foreign_store.add_findings(connection, name, found, now=self._clock.now())
            await foreign_store.write_states(connection, name, block, {address: told[address] for address in known})
        self._looked_through, self._looked_after = at.final_height, end
        return added
