"""Where benchmarks run: a PostgreSQL of their own as production starts it, every commit flushed, and fresh books in it.

Never the database of a configuration. A book comes as a clone of one prepared once: its accounts open and funded.
"""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from base.clock import Clock, SystemClock
from base.progress import Progress
from bench.mix import AMOUNT_AVERAGE, CAPITAL, FEES, FUNDED, HOT_FUNDED_AVERAGES, HOT_HOUSE, USDC, user_accounts
from db.engine import create_engine
from db.migrate import migrate
from db.server import PostgresServer, Running, at_database, clean, create_database, drop_database
from ledger.commands import Group, OpenAccount, Post, Posting
from ledger.requests import worker_id
from ledger.service import PostgresLedger

FOLDER = Path(__file__).parents[1] / ".onebook" / "bench"
BOOK = "main"

_BLANK, _BASE = "bench_blank", "bench_base"
"""Templates: migrated only; with the book, its accounts open and funded."""

FOUNDED = timedelta(days=400)
"""How long ago every book was founded."""

_CHUNK = 1000
"""Accounts opened or funded at a time."""

_QUIET_SECONDS = 10
"""Longest wait for a book's writer to give its connections back."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """One database with a book, and the service's engine on it. Addresses carry passwords; `postmaster` is a pid."""

    name: str
    postmaster: int
    app_url: str
    admin_url: str
    engine: AsyncEngine
    ledger: PostgresLedger


class Stage:
    """A running server, its two templates, and the users' accounts of every book cloned from them."""

    def __init__(self, server: Running, accounts: Sequence[str]) -> None:
        self.server = server
        self.accounts = accounts

    @asynccontextmanager
    async def book(self) -> AsyncIterator[Place]:
        """A fresh book, every account open and funded; dropped at the end."""
        async with self._clone(_BASE) as place:
            yield place

    @asynccontextmanager
    async def blank(self) -> AsyncIterator[Place]:
        """A migrated database without any book; dropped at the end."""
        async with self._clone(_BLANK) as place:
            yield place

    @asynccontextmanager
    async def _clone(self, template: str) -> AsyncIterator[Place]:
        name = f"bench_{next(_numbers)}"
        await create_database(self.server.admin_url, name, template=template)
        try:
            async with opened(self.server, name) as place:
                yield place
        finally:
            await drop_database(self.server.admin_url, name)


@dataclass(frozen=True, slots=True)
class Ago:
    """A clock that runs behind by so much: history that is written with it lies in the past."""

    behind: timedelta

    def now(self) -> datetime:
        return SystemClock().now() - self.behind


@dataclass(slots=True)
class Stepping:
    """A clock that moves on by a step whenever it's asked: every batch has an instant of its own."""

    instant: datetime
    step: timedelta

    def now(self) -> datetime:
        self.instant += self.step
        return self.instant


@asynccontextmanager
async def opened(server: Running, name: str, *, clock: Clock | None = None) -> AsyncIterator[Place]:
    """The database `name` as the service's process opens it."""
    app, admin = at_database(server.app_url, name), at_database(server.admin_url, name)
    engine = create_engine(app, application_name="onebook bench")
    try:
        yield Place(
            name, server.pid, app, admin, engine, PostgresLedger(engine, clock=clock or SystemClock(), book=BOOK)
        )
    finally:
        await _quiet(engine)
        await engine.dispose()


async def _quiet(engine: AsyncEngine) -> None:
    """Until the engine's writer has given its connections back: a database in use can't be cloned or dropped."""
    pool = engine.sync_engine.pool
    deadline = time.monotonic() + _QUIET_SECONDS
    while isinstance(pool, QueuePool) and pool.checkedout() and time.monotonic() < deadline:  # noqa: ASYNC110 - the pool tells nobody
        await asyncio.sleep(0.01)


@contextmanager
def server(name: str) -> Iterator[Running]:
    """A server for one run of benchmarks, durable as production's; its files are removed at the end.

    Call it from the main thread.
    """
    for leftover in FOLDER.glob("*-*") if FOLDER.is_dir() else ():
        pid = leftover.name.rpartition("-")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():  # others' folders, of whatever name, may be in use
            clean(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
    folder = FOLDER / f"{name}-{os.getpid()}"
    try:
        with PostgresServer(folder) as running:
            yield running
    finally:
        clean(folder)


async def prepare(running: Running, *, accounts: int, seed: int, progress: Progress) -> Stage:
    """Make the templates, with so many users' accounts. The first account is the limited hot one."""
    await create_database(running.admin_url, _BLANK)
    await migrate(at_database(running.owner_url, _BLANK))
    await create_database(running.admin_url, _BASE, template=_BLANK)
    names = user_accounts(accounts, seed=seed, clock=SystemClock())
    async with opened(running, _BASE, clock=Ago(FOUNDED)) as place:
        await found(place.ledger, names, progress)
        connection = await asyncpg.connect(place.admin_url)
        try:
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()
    return Stage(running, names)


async def found(ledger: PostgresLedger, accounts: Sequence[str], progress: Progress) -> None:
    """Create the book and its asset, open the accounts and give each its funds."""
    await ledger.create_book()
    await ledger.register_asset(USDC)
    groups = founding(accounts)
    with progress.bar("founding a book", len(groups)) as advance:
        for start in range(0, len(groups), _CHUNK):
            chunk = groups[start : start + _CHUNK]
            await ledger.submit(*chunk)
            advance(len(chunk))


def founding(accounts: Sequence[str]) -> list[Group]:
    """Open the house's accounts and these, and fund these; the first one is the limited hot one."""
    names = (CAPITAL, FEES, HOT_HOUSE, *accounts)
    opening = [Group((OpenAccount(id=worker_id("open", name), account=name),)) for name in names]
    return opening + [_funding(account, hot=account == accounts[0]) for account in accounts]


def _funding(account: str, *, hot: bool) -> Group:
    amount = HOT_FUNDED_AVERAGES * AMOUNT_AVERAGE if hot else FUNDED
    posting = Posting(CAPITAL, account, USDC.code, amount)
    return Group((Post(id=worker_id("bench:fund", account), postings=(posting,)),))
