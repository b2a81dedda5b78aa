"""The book in PostgreSQL: what is asked of it is written by `ledger.batcher` and read by `ledger.reading`."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy, SystemEntropy
from db.engine import driver_of, tx
from ledger import reading, store
from ledger.accounts import Account, split_account_id
from ledger.batcher import Batcher
from ledger.commands import FreezeScope, Group, OpenAccount
from ledger.core import check_group
from ledger.engine import Movement, OpenHold
from ledger.memory import check_redefinition, known_asset
from ledger.money import Asset
from ledger.outcomes import LineKind, Outcome
from ledger.requests import worker_id
from ledger.tables import accounts

OPEN_KEPT = 50_000
"""Accounts that are remembered as open, so as not to ask for them again."""

QUEUE_MAX = 20_000
"""Groups that may wait at most; one more is refused as busy, so that memory can't grow."""

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

    # Writing

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        for group in groups:
            check_group(group)
        return await self._batcher.submit(groups)

    @property
    def decided(self) -> Counter[str]:
        """How many outcomes were decided `plain`, and how many `ordered` by the core itself, since the start."""
        return self._batcher.decided

    @property
    def batches(self) -> Counter[str]:
        """How many batches were decided `ahead` of the book's lock, and how many `locked`, since the start."""
        return self._batcher.batches

    async def ensure_open(self, *accounts: str) -> None:
        missing = [account for account in dict.fromkeys(accounts) if account not in self._open]
        if not missing:
            return
        for account in missing:
            await self.asset(split_account_id(account)[2])
        groups = [Group((OpenAccount(id=worker_id("open", account), account=account),)) for account in missing]
        await self.submit(*groups)
        if len(self._open) > OPEN_KEPT:
            self._open.clear()
        self._open.update(missing)

    async def create_book(self) -> None:
        """Make this book, if it isn't there."""
        async with tx(self._engine) as connection:
            await reading.create_book(connection, self.book)

    async def register_asset(self, asset: Asset) -> None:
        async with tx(self._engine) as connection:
            await reading.register_asset(connection, asset)
            self._assets = await reading.load_assets(connection)
        check_redefinition(self._assets.get(asset.code), asset)

    # Reading

    async def assets(self) -> dict[str, Asset]:
        async with tx(self._engine) as connection:
            self._assets = await reading.load_assets(connection)
        return dict(self._assets)

    async def asset(self, code: str) -> Asset:
        if code not in self._assets:
            await self.assets()
        return known_asset(self._assets, code)

    async def account(self, account: str) -> Account | None:
        async with self._reading() as (connection, number):
            found = await reading.load_accounts(connection, number, accounts.c.name == account)
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
        async with self._reading() as (connection, number):
            return await reading.load_accounts(connection, number, *conditions)

    async def outcomes(self, *ids: str) -> list[Outcome]:
        async with self._reading() as (connection, number):
            raw = await driver_of(connection)
            return await store.load_outcomes(raw, number, (await store.find_ids(raw, number, ids)).values())

    async def open_holds(self, owner: str, *, limit: int = 200) -> list[OpenHold]:
        async with self._reading() as (connection, number):
            return await reading.load_open_holds(connection, number, owner, limit=limit)

    async def due_holds(self, *, limit: int = 500) -> list[str]:
        async with self._reading() as (connection, number):
            return await reading.load_due_holds(connection, number, now=self._clock.now(), limit=limit)

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        async with self._reading() as (connection, number):
            return await reading.load_freezes(connection, number)

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
        since: datetime | None = None,
        until: datetime | None = None,
        before: tuple[int, int] | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[Movement]:
        async with self._reading() as (connection, number):
            return await reading.load_movements(
                connection,
                number,
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
