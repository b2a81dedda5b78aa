"""The book in PostgreSQL: what is asked of it is written by `ledger.batcher` and read by `ledger.reading`."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy, SystemEntropy
from db.engine import Driver, driver_of, tx
from db.gathering import Gathering
from ledger import reading, store
from ledger.accounts import HOUSE, Account, split_account_id
from ledger.batcher import Batcher
from ledger.bounds import check_group
from ledger.commands import FreezeScope, Group, OpenAccount
from ledger.engine import KnownHold, Movement, OpenHold
from ledger.memory import BEGINNING, check_history, check_redefinition, known_asset
from ledger.money import Asset
from ledger.outcomes import LineKind, Outcome
from ledger.requests import worker_id
from ledger.statements import LINES_MAX, Statement, TimeKind, make_statement
from ledger.tables import accounts

OPEN_KEPT = 50_000
"""Accounts that are remembered as open, so as not to ask for them again."""

QUEUE_MAX = 20_000
"""Commands that may wait at most; one more is refused as busy, so that memory can't grow."""

CLOSE_SECONDS = 10.0
"""How long commands that wait are still written when the service stops."""

ASSETS_SECONDS = 2.0
"""How long a process trusts what it read of the assets: a new one shows within this time everywhere."""

RETRY_SECONDS = 10.0
"""How long a batch is sent again after the database went away, before its callers are told the outcome is unknown."""


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
        self._number: int | None = None
        self._batcher = Batcher(
            engine,
            book=book,
            clock=clock,
            entropy=entropy or SystemEntropy(),
            retry_seconds=retry_seconds,
            queue_max=queue_max,
        )
        self._open: set[str] = set()
        self._assets: dict[str, Asset] = {}
        self._assets_until: float = 0  # of the monotonic clock
        self._every_asset: Gathering[str, dict[str, Asset]] = Gathering(engine, self._load_assets)
        self._named: Gathering[str, Account] = Gathering(engine, self._load_named)
        self._owned: Gathering[str, list[Account]] = Gathering(engine, self._load_owned)

    # Writing

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        for group in groups:
            check_group(group)
        return await self._batcher.submit(groups)

    async def aclose(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Take no more commands and write those that wait, for at most `seconds`; who then still waits is told so.

        What was answered stays. Raises nothing; `submit` raises BookBusy from now on.
        """
        await self._batcher.aclose(seconds=seconds)
        for gathering in (self._every_asset, self._named, self._owned):
            await gathering.aclose()

    @property
    def trouble(self) -> str | None:
        """The code of the error for which the book couldn't be written lately; None if it could, or nobody tried."""
        return self._batcher.trouble

    @property
    def decided(self) -> Counter[str]:
        """How many outcomes were decided `plain`, and how many `ordered` by the core itself, since the start."""
        return self._batcher.decided

    @property
    def batches(self) -> Counter[str]:
        """How many batches were decided `ahead` of the book's lock and how many `locked`, since the start.

        `apart` are those that the database refused, so that each group was written by itself.
        """
        return self._batcher.batches

    async def ensure_open(self, *accounts: str) -> None:
        unknown = [account for account in dict.fromkeys(accounts) if account not in self._open]
        if not unknown:
            return
        opened = await self.named(*unknown)  # mostly before this process began: nothing is to be written then
        missing = [account for account in unknown if account not in opened]
        for account in missing:
            await self.asset(split_account_id(account)[2])
        groups = [Group((OpenAccount(id=worker_id("open", account), account=account),)) for account in missing]
        await self.submit(*groups)
        if len(self._open) > OPEN_KEPT:
            self._open.clear()
        self._open.update(unknown)

    async def create_book(self) -> None:
        """Make this book, if it isn't there."""
        async with tx(self._engine) as connection:
            await reading.create_book(connection, self.book)

    async def erase_metadata(self, command: str) -> bool:
        """Erase what a command's metadata said; its leaf still proves the entry. False if there is nothing to erase."""
        async with self._reading() as (connection, _):
            return await reading.erase_metadata(connection, self.book, command)

    async def register_asset(self, asset: Asset) -> None:
        async with tx(self._engine) as connection:
            await reading.register_asset(connection, asset)
            self._assets = await reading.load_assets(connection)
        check_redefinition(self._assets.get(asset.code), asset)

    # Reading

    async def assets(self) -> dict[str, Asset]:
        if time.monotonic() >= self._assets_until:
            await self._read_assets()
        return dict(self._assets)

    async def asset(self, code: str) -> Asset:
        if code not in self._assets:
            await self._read_assets()
        return known_asset(self._assets, code)

    async def _read_assets(self) -> None:
        self._assets = await self._every_asset.ask("all") or {}
        self._assets_until = time.monotonic() + ASSETS_SECONDS

    async def _load_assets(self, raw: Driver, asked: Sequence[str]) -> dict[str, dict[str, Asset]]:
        return dict.fromkeys(asked, await store.load_assets(raw))

    async def account(self, account: str) -> Account | None:
        return await self._named.ask(account)

    async def named(self, *accounts: str) -> dict[str, Account]:
        answers = {account: self._named.put(account) for account in accounts}
        found = {name: await answer for name, answer in answers.items()}
        return {name: account for name, account in found.items() if account is not None}

    async def accounts(
        self, *, owner: str | None = None, asset: str | None = None, purpose: str | None = None
    ) -> list[Account]:
        if owner is not None and owner != HOUSE and asset is None and purpose is None:
            return list(await self._owned.ask(owner) or ())
        conditions = []
        if owner is not None:
            conditions.append(accounts.c.owner == owner)
        if asset is not None:
            conditions.append(accounts.c.asset == asset)
        if purpose is not None:
            conditions.append(accounts.c.purpose == purpose)
        async with self._reading() as (connection, number):
            return await reading.load_accounts(connection, number, *conditions)

    async def _load_named(self, raw: Driver, names: Sequence[str]) -> dict[str, Account]:
        return await store.load_accounts(raw, await self._number_by(raw), names)

    async def _load_owned(self, raw: Driver, owners: Sequence[str]) -> dict[str, list[Account]]:
        return await store.load_owned(raw, await self._number_by(raw), owners)

    async def _number_by(self, raw: Driver) -> int:
        if self._number is None:
            self._number = (await store.read_head(raw, self.book)).number
        return self._number

    async def outcomes(self, *ids: str) -> list[Outcome]:
        async with self._reading() as (connection, number):
            raw = await driver_of(connection)
            return await store.load_outcomes(raw, number, (await store.find_ids(raw, number, ids)).values())

    async def open_holds(self, owner: str, *, limit: int = 200) -> list[OpenHold]:
        async with self._reading() as (connection, number):
            return await reading.load_open_holds(connection, number, owner, limit=limit)

    async def hold(self, hold: str) -> KnownHold | None:
        async with self._reading() as (connection, number):
            return await reading.load_hold(connection, number, hold)

    async def due_holds(self, *, limit: int = 500) -> list[str]:
        async with self._reading() as (connection, number):
            return await reading.load_due_holds(connection, number, now=self._clock.now(), limit=limit)

    async def counters(self, *counters: str) -> dict[str, int]:
        async with self._reading() as (connection, number):
            return await reading.load_counters(connection, number, counters)

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        async with self._reading() as (connection, number):
            return await reading.load_freezes(connection, number)

    async def closed_until(self) -> datetime | None:
        async with self._reading() as (connection, number):
            return await reading.load_closed_until(connection, number)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A tx to read in, and the book's number."""
        async with tx(self._engine) as connection:
            if self._number is None:
                self._number = await reading.book_number(connection, self.book)
            yield connection, self._number

    async def history(
        self,
        *,
        owner: str | None = None,
        account: str | None = None,
        subject: str | None = None,
        asset: str | None = None,
        kinds: Sequence[LineKind] = (),
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimeKind = TimeKind.BOOKED,
        before: tuple[int, int] | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[Movement]:
        check_history(owner=owner, account=account, by=by)
        async with self._reading() as (connection, number):
            return await reading.load_movements(
                connection,
                number,
                owner=owner,
                account=account,
                subject=subject,
                asset=asset,
                kinds=kinds,
                metadata=metadata,
                since=since,
                until=until,
                by=by,
                before=before,
                after=after,
                limit=limit,
            )

    async def last_seq(self) -> int:
        """The seq of the last command decided."""
        async with self._reading() as (connection, number):
            return await reading.load_seq(connection, number)

    async def balance_at(
        self, account: str, at: datetime, *, by: TimeKind = TimeKind.BOOKED, known_at: datetime | None = None
    ) -> int:
        async with self._reading() as (connection, number):
            known_seq = await self._known(connection, number, known_at)
            return await reading.load_balance_at(connection, number, account, at, by=by, known_seq=known_seq)

    async def statement(
        self,
        account: str,
        *,
        since: datetime,
        until: datetime,
        by: TimeKind = TimeKind.BOOKED,
        known: datetime | int | None = None,
        limit: int = LINES_MAX,
    ) -> Statement:
        async with self._reading() as (connection, number):
            # What is known stands first: all that follows looks no further, whatever is booked meanwhile.
            known_seq = await self._known(connection, number, known)
            balance = partial(reading.load_balance_at, connection, number, account, by=by, known_seq=known_seq)
            return make_statement(
                account,
                await reading.load_statement_lines(
                    connection,
                    number,
                    account,
                    since=since,
                    until=until,
                    by=by,
                    known_seq=known_seq,
                    limit=limit + 1,
                ),
                by=by,
                since=since,
                until=until,
                known_at=await reading.booked_at_of(connection, number, known_seq) or BEGINNING,
                known_seq=known_seq,
                opening=await balance(since - timedelta(microseconds=1)),
                closing=await balance(until - timedelta(microseconds=1)),
                limit=limit,
            )

    async def _known(self, connection: AsyncConnection, number: int, known: datetime | int | None) -> int:
        """The seq of the last command that a question may know of."""
        if isinstance(known, datetime):
            return await reading.seq_at(connection, number, known)
        last = await reading.load_seq(connection, number)
        return last if known is None else max(0, min(known, last))
