"""The book in PostgreSQL: group commit. Whoever waits is decided together, in one tx under the book's lock.

While one batch commits, the next gathers: no timer. Deciding is `ledger.core`'s; this file only queues, loads, writes
and answers. A tx is opened here and nowhere else for anything that moves a balance.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy, SystemEntropy
from base.errors import Unavailable
from db.engine import tx
from ledger import store
from ledger.accounts import Account, split_account_id
from ledger.commands import FreezeScope, Group, OpenAccount
from ledger.core import apply, check_group
from ledger.engine import Movement, OpenHold
from ledger.errors import BookBusy, OutcomeUnknown
from ledger.memory import check_redefinition, known_asset
from ledger.money import Asset
from ledger.outcomes import LineKind, Outcome
from ledger.requests import worker_id
from ledger.riders import Rider
from ledger.state import row_key
from ledger.tables import accounts

BATCH_MAX = 500
"""Groups decided in one tx at most; bounds how long the book's lock is held."""

QUEUE_MAX = 20_000
"""Groups that may wait at most; one more is refused as busy, so that memory can't grow."""

RETRY_SECONDS = 10.0
"""How long a batch is sent again after the database went away, before its callers are told the outcome is unknown."""

BUSY_ROW_ROUNDS = 200
"""How often a group whose rider's row another tx has locked is put back, about 10 ms apart."""


@dataclass(eq=False, slots=True)
class _Waiting:
    group: Group
    answer: asyncio.Future[tuple[Outcome, ...]]
    rounds: int = 0


class PostgresLedger:
    """One book in PostgreSQL; see `ledger.engine.Ledger` for what each method promises."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        clock: Clock,
        book: str = "main",
        entropy: Entropy | None = None,
        retry_seconds: float = RETRY_SECONDS,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self.book = book
        self._engine = engine
        self._clock = clock
        self._entropy = entropy or SystemEntropy()
        self._retry_seconds = retry_seconds
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._drain: asyncio.Task[None] | None = None
        self._open: set[str] = set()
        self._assets: dict[str, Asset] = {}

    # Writing

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        for group in groups:
            check_group(group)
        if len(self._queue) + len(groups) > self._queue_max:
            raise BookBusy("too many commands are waiting; try again in a second", retry_after=1)
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(group, loop.create_future()) for group in groups]
        self._queue.extend(waiting)
        if self._drain is None or self._drain.done():
            self._drain = loop.create_task(self._run())
        return list(await asyncio.gather(*(item.answer for item in waiting)))

    async def _run(self) -> None:
        """Commit batches until nobody waits. A cancelled caller's command is decided all the same."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            try:
                await self._settle(batch)
            except Exception as error:
                _answer_all(batch, error)
            except BaseException:
                _answer_all([*batch, *self._queue], OutcomeUnknown("the service is stopping; send the same id again"))
                self._queue.clear()
                raise

    async def _settle(self, batch: list[_Waiting]) -> None:
        """Decide a batch and answer its callers. A group that can't be written fails alone."""
        try:
            decided = await self._commit_for_sure(batch)
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                _answer_all(batch, error)
                return
            for item in batch:
                await self._settle([item])
            return
        put_back = []
        for item, outcomes in zip(batch, decided, strict=True):
            if outcomes is not None:
                _answer(item, outcomes)
            elif item.rounds < BUSY_ROW_ROUNDS:
                item.rounds += 1
                put_back.append(item)
            else:
                _answer_all([item], BookBusy("a row that this needs stayed locked; nothing was written", retry_after=1))
        if put_back:
            self._queue.extendleft(reversed(put_back))
            if len(put_back) == len(batch):
                await asyncio.sleep(0.01)  # only locked rows are left: give their owner time

    async def _commit_for_sure(self, batch: Sequence[_Waiting]) -> list[tuple[Outcome, ...] | None]:
        """Commit a batch, sending the same ids again while the database is away: a lost COMMIT may have happened."""
        deadline = time.monotonic() + self._retry_seconds
        pause = 0.02
        sent: set[str] = set()
        while True:
            try:
                earlier = frozenset(sent)
                return _as_first(batch, await self._commit(batch, sent), earlier)
            except Unavailable as error:
                if time.monotonic() + pause > deadline:
                    raise OutcomeUnknown(
                        "the database went away; the outcome is unknown, send the same id again", retry_after=1
                    ) from error
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def _commit(self, batch: Sequence[_Waiting], sent: set[str]) -> list[tuple[Outcome, ...] | None]:
        """One tx: lock, load, decide, write. None stands for a group whose rider's row is locked elsewhere.

        The ids decided here go into `sent`: if this COMMIT's answer is lost, their repeat is no replay to its caller.
        """
        async with tx(self._engine) as connection:
            head = await store.lock_book(connection, self.book)
            riders = [rider for item in batch for rider in item.group.riders]
            rows, busy = await store.load_rows(connection, riders)
            ready = [item for item in batch if not any(row_key(r.table, r.key) in busy for r in item.group.riders)]
            groups = [item.group for item in ready]
            state = await store.load_state(connection, self.book, groups, head=head)
            state.rows.update(rows)
            layer, decided = apply(state, self._clock.now(), groups)
            fresh = [
                (command, outcome)
                for group, outcomes in zip(groups, decided, strict=True)
                for command, outcome in zip(group.commands, outcomes, strict=True)
                if outcome.seq > head[0] and not outcome.replayed
            ]
            if fresh:
                sent.update(outcome.id for _, outcome in fresh)
                salts = [self._entropy.draw(16) for _ in fresh]
                await store.write_decisions(
                    connection, self.book, head_seq=head[0], layer=layer, decided=fresh, salts=salts
                )
                await store.write_riders(connection, _accepted_riders(groups, decided))
        answers = dict(zip(map(id, ready), decided, strict=True))
        return [answers.get(id(item)) for item in batch]

    async def ensure_open(self, *accounts: str) -> None:
        missing = [account for account in dict.fromkeys(accounts) if account not in self._open]
        if not missing:
            return
        for account in missing:
            await self.asset(split_account_id(account)[2])
        groups = [Group((OpenAccount(id=worker_id("open", account), account=account),)) for account in missing]
        await self.submit(*groups)
        self._open.update(missing)

    async def create_book(self) -> None:
        """Make this book, if it isn't there."""
        async with tx(self._engine) as connection:
            await store.create_book(connection, self.book)

    async def register_asset(self, asset: Asset) -> None:
        async with tx(self._engine) as connection:
            await store.register_asset(connection, asset)
            self._assets = await store.load_assets(connection)
        check_redefinition(self._assets.get(asset.code), asset)

    # Reading

    async def assets(self) -> dict[str, Asset]:
        async with tx(self._engine) as connection:
            self._assets = await store.load_assets(connection)
        return dict(self._assets)

    async def asset(self, code: str) -> Asset:
        if code not in self._assets:
            await self.assets()
        return known_asset(self._assets, code)

    async def account(self, account: str) -> Account | None:
        async with tx(self._engine) as connection:
            found = await store.load_accounts(connection, self.book, accounts.c.account == account)
        return found[0] if found else None

    async def accounts(
        self, *, owner: str | None = None, asset: str | None = None, purpose: str | None = None
    ) -> list[Account]:
        conditions = []
        if owner is not None:
            conditions.append(accounts.c.owner == owner)
        if asset is not None:
            conditions.append(accounts.c.asset == asset)
        if purpose is not None:
            conditions.append(accounts.c.purpose == purpose)
        async with tx(self._engine) as connection:
            return await store.load_accounts(connection, self.book, *conditions)

    async def outcomes(self, *ids: str) -> list[Outcome]:
        async with tx(self._engine) as connection:
            return await store.load_outcomes(connection, self.book, ids)

    async def open_holds(self, owner: str, *, limit: int = 200) -> list[OpenHold]:
        async with tx(self._engine) as connection:
            return await store.load_open_holds(connection, self.book, owner, limit=limit)

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        async with tx(self._engine) as connection:
            return await store.load_freezes(connection, self.book)

    async def history(
        self,
        *,
        owner: str | None = None,
        account: str | None = None,
        subject: str | None = None,
        asset: str | None = None,
        kinds: Sequence[LineKind] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        before: tuple[int, int] | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[Movement]:
        async with tx(self._engine) as connection:
            return await store.load_movements(
                connection,
                self.book,
                owner=owner,
                account=account,
                subject=subject,
                asset=asset,
                kinds=kinds,
                since=since,
                until=until,
                before=before,
                after=after,
                limit=limit,
            )


def _as_first(
    batch: Sequence[_Waiting], answers: list[tuple[Outcome, ...] | None], sent: frozenset[str]
) -> list[tuple[Outcome, ...] | None]:
    """The answers, those that we ourselves sent before a lost COMMIT no longer marked as replays.

    Of several groups with one id only the one that was decided then is the first, told by its place and its subject.
    """
    unclaimed = set(sent)
    corrected: list[tuple[Outcome, ...] | None] = []
    for item, outcomes in zip(batch, answers, strict=True):
        subjects = [command.subject for command in item.group.commands]
        if outcomes is not None and subjects == [outcome.subject for outcome in outcomes]:
            ours = {outcome.id for outcome in outcomes} & unclaimed
            unclaimed -= ours
            outcomes = tuple(replace(o, replayed=o.replayed and o.id not in ours) for o in outcomes)
        corrected.append(outcomes)
    return corrected


def _accepted_riders(groups: Sequence[Group], decided: Sequence[tuple[Outcome, ...]]) -> list[Rider]:
    return [
        rider
        for group, outcomes in zip(groups, decided, strict=True)
        if all(outcome.accepted and not outcome.replayed for outcome in outcomes)
        for rider in group.riders
    ]


def _answer(item: _Waiting, outcomes: tuple[Outcome, ...]) -> None:
    if not item.answer.done():
        item.answer.set_result(outcomes)


def _answer_all(items: Sequence[_Waiting], error: Exception) -> None:
    for item in items:
        if not item.answer.done():
            item.answer.set_exception(error)
