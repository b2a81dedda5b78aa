"""What the worker does with payouts: gathers requested ones, submits them by their rail, notes what became of it.

A batch is written down with its payouts before its rail acts, so who dies in between does the same act again, under the
same ids. A rail's `submit` must bear that: the same batch again has no second effect.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError, Unavailable
from base.ids import new_id
from db.engine import tx
from fiat import payout_entries as entries
from fiat import payout_store as store
from fiat.payout_memory import PayoutMemory, Remembering
from fiat.payouts import BATCH_PREFIX, BatchState, Payout, PayoutBatch, PayoutState
from fiat.personal import Vault
from ledger.accounts import HOUSE, house_account, split_account_id, user_account
from ledger.asking import stopping, work
from ledger.commands import FreezeScope, Group
from ledger.engine import Ledger

BATCHES_PER_STEP = 20
"""Batches submitted in one step."""

SILENT_PER_STEP = 500

_LOCK_SPACE = 0x6F62_7079
"""First half of the advisory lock's key ("obpy"); the second is a hash of what is locked."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of the act: SUBMITTED, UNKNOWN, or REJECTED with the rail's reason. Never guessed."""

    state: BatchState
    reason: str | None = None


class PayoutRail(Protocol):
    """A way out: a bank's files, a provider."""

    @property
    def rail(self) -> str:
        """Which one."""
        ...

    def paying(self, account: str, asset: str) -> str:
        """The house account of our account `account` there."""
        ...

    @property
    def memory(self) -> PayoutMemory | None:
        """What the rail's own side remembers; None where it has no memory that can be listed."""
        ...

    async def submit(self, batch: PayoutBatch, payouts: Sequence[Payout]) -> Submission:
        """Ask for these payments, under the batch's and the payouts' own names.

        Called again with the same batch after a crash: it must have one effect. Raises Unavailable if it surely had
        none; an answer that didn't come is UNKNOWN.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """How payouts are put together: so many at most, and none waits longer for others; so many batches in one step.

    `silent_after`: then unknown.
    """

    payouts_max: int = 500
    batches_max: int = 1
    wait: timedelta = timedelta(seconds=60)
    silent_after: timedelta = timedelta(days=5)


class PayoutSteps:
    """Brings payouts of one rail out."""

    def __init__(
        self,
        engine: AsyncEngine,
        ledger: Ledger,
        vault: Vault,
        rail: PayoutRail,
        *,
        gathering: Gathering,
        clock: Clock,
        entropy: Entropy,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`reached` is told the instants between durable steps: `prepared`, `submitted`, `noted`."""
        self._engine = engine
        self._ledger = ledger
        self._vault = vault
        self._rail = rail
        self._gathering = gathering
        self._clock = clock
        self._entropy = entropy
        self._reached = reached
        self._remembering = (
            None
            if rail.memory is None
            else Remembering(engine, rail.rail, rail.memory, book=ledger.book, clock=clock, entropy=entropy)
        )

    @property
    def rail(self) -> str:
        """The rail whose payouts it brings out."""
        return self._rail.rail

    async def step(self) -> int:
        """Submit what is prepared, then what is to be gathered; returns how many payouts moved.

        Does nothing while another process is at it. What the rail's `submit` raises for one batch stops no other: the
        first such error is raised once they are done. An account that can't be paid from now (Unavailable, ConfigError)
        gathers nothing new.
        """
        async with self._turn() as mine:
            if not mine:
                return 0
            if self._remembering is not None:
                await self._remembering.require()
            failed: list[tuple[str, Exception]] = []
            moved = await self._resume(failed)
            moved += await self._bring_out_waiting(failed)
            moved += await self._give_up_waiting()
            if failed:
                raise failed[0][1]
            return moved

    async def _bring_out_waiting(self, failed: list[tuple[str, Exception]]) -> int:
        """Gather and submit what waits long enough; (account, error) of what couldn't be goes to `failed`."""
        moved = 0
        stopped = {account for account, error in failed if isinstance(error, Unavailable | ConfigError)}
        for account, asset, count, oldest in await self._waiting():
            if account in stopped:
                continue
            if count >= self._gathering.payouts_max or oldest + self._gathering.wait <= self._clock.now():
                try:
                    moved += await self._bring_out(account, asset)
                except Exception as error:  # whatever it is, the other accounts' payouts go on
                    failed.append((account, error))
        return moved

    async def _bring_out(self, account: str, asset: str) -> int:
        moved = 0
        for _ in range(self._gathering.batches_max):
            batch = await self._gather(account, asset)
            if batch is None:
                break
            self._reached("prepared")
            moved += await self._submit(batch)
        return moved

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Whether it's this process's turn; the lock ends with its connection."""
        name = {"space": _LOCK_SPACE, "name": f"{self._ledger.book}:{self._rail.rail}"}
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            asked = text("SELECT pg_try_advisory_lock(:space, hashtext(:name))")
            mine = bool((await connection.execute(asked, name)).scalar_one())
            try:
                yield mine
            finally:
                if mine:
                    await connection.execute(text("SELECT pg_advisory_unlock(:space, hashtext(:name))"), name)

    async def _resume(self, failed: list[tuple[str, Exception]]) -> int:
        """Submit what is prepared; (account, error) of what couldn't be goes to `failed`."""
        async with tx(self._engine) as connection:
            batches = await store.prepared(connection, self._ledger.book, self._rail.rail, limit=BATCHES_PER_STEP)
        moved = 0
        for batch in batches:
            try:
                moved += await self._submit(batch)
            except Exception as error:  # whatever it is, the other batches go on
                failed.append((batch.account, error))
        return moved

    async def _waiting(self) -> list[tuple[str, str, int, datetime]]:
        async with tx(self._engine) as connection:
            return await store.waiting_with(connection, self._ledger.book, self._rail.rail)

    async def _gather(self, account: str, asset: str) -> PayoutBatch | None:
        """A batch of what may go out from this account now, written down; None if everything is frozen."""
        freezes = await self._ledger.freezes()
        on_its_way = house_account(f"in-transit:{self._rail.rail}:out", asset)
        if stopping(freezes, self._rail.paying(account, asset), on_its_way):
            return None
        frozen = _frozen_owners(freezes, asset)
        async with tx(self._engine) as connection:
            found = await store.requested(
                connection,
                self._vault,
                self._ledger.book,
                self._rail.rail,
                account,
                asset,
                besides=frozen,
                limit=self._gathering.payouts_max,
            )
            if not found:
                return None
            now = self._clock.now()
            batch = PayoutBatch(
                id=new_id(BATCH_PREFIX, self._clock, self._entropy),
                rail=self._rail.rail,
                account=account,
                asset=asset,
                payouts=len(found),
                total=sum(payout.amount for payout in found),
                state=BatchState.PREPARED,
                reason=None,
                created_at=now,
                updated_at=now,
            )
            await store.begin_batch(connection, self._ledger.book, batch, found)
        return batch

    async def _submit(self, batch: PayoutBatch) -> int:
        async with tx(self._engine) as connection:
            payouts = await store.members(connection, self._vault, self._ledger.book, [batch.id])
        done = await self._rail.submit(batch, payouts)
        self._reached("submitted")
        if done.state is BatchState.REJECTED:
            await self._release(payouts, done.reason)
        async with tx(self._engine) as connection:
            await store.end_batch(
                connection, self._ledger.book, batch, done.state, now=self._clock.now(), reason=done.reason
            )
        self._reached("noted")
        return len(payouts)

    async def _release(self, payouts: Sequence[Payout], reason: str | None) -> None:
        """The rail refused the act itself: every owner has the money back."""
        now, book = self._clock.now(), self._ledger.book
        refused = [payout for payout in payouts if payout.state is PayoutState.SUBMITTING]

        def maker(payout: Payout, attempt: int) -> Group:
            void = entries.released(payout, act=f"batch:{attempt}", said={"reason": reason or "rejected"})
            row = entries.moved(book, payout, PayoutState.REJECTED, now=now, reason=reason)
            return Group((void,), (row,))

        refusals = await work(self._ledger, *(partial(maker, payout) for payout in refused))
        if any(refusals):
            raise Unavailable("payouts of a rejected batch moved on meanwhile; they are looked at again")

    async def _give_up_waiting(self) -> int:
        """Nothing was heard of a submitted payout for so long that nobody knows: a person asks the bank."""
        before = self._clock.now() - self._gathering.silent_after
        async with tx(self._engine) as connection:
            return await store.silent_since(
                connection, self._ledger.book, self._rail.rail, before, limit=SILENT_PER_STEP
            )


def _frozen_owners(freezes: Sequence[tuple[FreezeScope, str]], asset: str) -> list[str]:
    """Users whose payouts in `asset` a freeze stops."""
    owners = {target for scope, target in freezes if scope is FreezeScope.OWNER}
    for scope, target in freezes:
        if scope is FreezeScope.ACCOUNT:
            owner, _, _ = split_account_id(target)
            if owner != HOUSE and target == user_account(owner, asset):
                owners.add(owner)
    return sorted(owners)
