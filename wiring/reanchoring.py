"""Re-anchoring a network whose local chain was reset: chain, wallet and treasury in the one order that is right.

1. Left: the lost chain's blocks are orphaned, the network is halted. One tx.
2. Given up: withdrawals under way end, their holds come back. A group commit per batch. So do sweeps. One tx.
3. Taken back: deposits, inflows and outflows of the lost chain, as after a deep reorganisation. Likewise.
4. Cleared: what custody still shows goes to suspense. One group commit.
5. Settled: the halt is lifted. One tx.

Killed in between, it's begun again and goes on: each part does what is still to be done.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain import addresses, reanchor
from chain import store as chain_store
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.evm.pool import Pool
from chain.networks import Network
from chain.reanchor import Reset
from chain.signing import OwnKey, Role
from db.engine import tx
from ledger.engine import Ledger
from treasury.inflow_store import count_booked_inflows
from treasury.inflows import Inflows
from treasury.lost_custody import Left, clear_custody, in_custody
from treasury.outflow_store import count_booked_outflows
from treasury.outflows import Outflows
from treasury.sweep_store import give_up as give_up_sweeps
from wallet.deposit_store import Standing, load_standing
from wallet.deposits import Deposits
from wallet.lost_chains import LostChains

ROUNDS_MAX = 100_000
"""Batches of one part; more than any local chain has."""


class AnotherIsAtIt(Unavailable):
    default_code = "reanchoring_already"


class NotAllTakenBack(Unavailable):
    default_code = "not_all_taken_back"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What re-anchoring would do. `deposits` and `withdrawals` are what the wallet has on the network, by state."""

    reset: Reset
    deposits: tuple[Standing, ...]
    withdrawals: tuple[Standing, ...]
    inflows: int
    custody: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done by this call; with `Reset.begun` an earlier one did the rest."""

    withdrawals: int
    deposits: int
    inflows: int
    to_suspense: tuple[Left, ...]


class Reanchoring:
    """Re-anchors one network of one book."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        network: Network,
        pool: Pool,
        deposits: Deposits,
        inflows: Inflows,
        outflows: Outflows,
        clock: Clock,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`checkpoint` is told after each part: `reanchor.left`, `.given_up`, `.taken_back`, `.cleared`, `.settled`."""
        self._engine = engine
        self._ledger = ledger
        self._network = network
        self._pool = pool
        self._lost = LostChains(engine, ledger=ledger, deposits=deposits, clock=clock)
        self._inflows = inflows
        self._outflows = outflows
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()

    async def outlook(self) -> Outlook:
        """Look, and change nothing. Raises what `chain.reanchor.look` does."""
        book, network = self._ledger.book, self._network.name
        reset = await reanchor.look(self._engine, self._network, self._pool, book=book)
        async with tx(self._engine) as connection:
            deposits, withdrawals = await load_standing(connection, book, network)
            inflows = await count_booked_inflows(connection, book, network)
        custody = await in_custody(self._ledger, network)
        return Outlook(reset, tuple(deposits), tuple(withdrawals), inflows, tuple(custody))

    async def run(self) -> Done:
        """Do it, or go on with it. Raises what `outlook` does, AnotherIsAtIt, NotAllTakenBack (run it again)."""
        name = f"reanchor {self._network.name}"
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            if not await chain_store.try_lock(connection, name):
                raise AnotherIsAtIt(f"another process is re-anchoring {self._network.name}: wait for its end")
            try:
                return await self._run()
            finally:
                await chain_store.unlock(connection, name)

    async def _run(self) -> Done:
        network = self._network
        reset = await reanchor.look(self._engine, network, self._pool, book=self._ledger.book)
        first_nonces = await self._first_nonces()
        if not reset.begun:
            await reanchor.leave(self._engine, reset, first_nonces=first_nonces, now=self._clock.now())
        self._checkpoint.reached("reanchor.left")
        withdrawals = await self._all(partial(self._lost.give_up, network))
        async with tx(self._engine) as connection:
            why, now = "the chain on which it was to be swept was reset", self._clock.now()
            await give_up_sweeps(connection, self._ledger.book, network.name, reason=why, now=now)
        self._checkpoint.reached("reanchor.given_up")
        deposits = await self._all(partial(self._lost.take_back, network))
        inflows = await self._all(partial(self._inflows.take_back, network))
        await self._all(partial(self._outflows.take_back, network))
        await self._check_all_is_taken_back()
        self._checkpoint.reached("reanchor.taken_back")
        reason = f"chain {network.name} was reset; re-anchored at genesis block {reset.genesis_hash}"
        left = await in_custody(self._ledger, network.name)
        await clear_custody(self._engine, self._ledger, network.name, reason=reason)
        await self._check_all_is_cleared()
        self._checkpoint.reached("reanchor.cleared")
        await reanchor.settled(self._engine, network, first_nonces=first_nonces, now=self._clock.now())
        self._checkpoint.reached("reanchor.settled")
        return Done(withdrawals, deposits, inflows, tuple(left))

    async def _all(self, part: Callable[[], Awaitable[int]]) -> int:
        """Call `part` until it moves nothing; how much it moved."""
        moved = 0
        for _ in range(ROUNDS_MAX):
            now = await part()
            if not now:
                return moved
            moved += now
        raise _unfinished(f"after {ROUNDS_MAX} batches there is still something to take back")

    async def _check_all_is_taken_back(self) -> None:
        left = await self._lost.remaining(self._network)
        async with tx(self._engine) as connection:
            left["inflows"] = await count_booked_inflows(connection, self._ledger.book, self._network.name)
            left["outflows"] = await count_booked_outflows(connection, self._ledger.book, self._network.name)
        if any(left.values()):
            counted = ", ".join(f"{count} {name}" for name, count in left.items() if count)
            raise _unfinished(f"{counted} of the lost chain could not be taken back now")

    async def _check_all_is_cleared(self) -> None:
        left = await in_custody(self._ledger, self._network.name)
        if left:
            raise _unfinished(f"{left[0].account} was booked meanwhile")

    async def _first_nonces(self) -> dict[str, int]:
        """How many transactions the house's senders have on the new chain, by address."""
        found = {}
        async with tx(self._engine) as connection:
            own = [await addresses.house(connection, key=OwnKey(role, 0)) for role in (Role.HOT, Role.GAS)]
        for sender in own:
            if sender is not None:
                found[sender.address] = await self._pool.next_nonce(sender.address)
        return found


def _unfinished(why: str) -> NotAllTakenBack:
    return NotAllTakenBack(f"{why}; the network stays halted ({reanchor.HALTED_RESET}): run it again")
