"""A throwaway PostgreSQL server for tests, with a migrated template that each test's database is cloned from.

A database that is back in the template's state after its test serves the next one (`tests.support.reused`): making one
takes longer than most tests. Never the database of ONEBOOK_DATABASE_URL. The server doesn't flush to disk: tests about
durability start a `PostgresServer` of their own.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from db.engine import create_engine
from db.errors import ServerInUse
from db.migrate import migrate
from db.server import (
    ADMIN,
    APP,
    OWNER,
    PostgresServer,
    Running,
    at_database,
    clean,
    create_database,
    drop_database,
    scram_verifier,
)
from tests.support.reused import give_back, leave, remember_template, take_spare
from tests.support.waiting import eventually

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 * 2**30
"""Room that must be in memory for servers to lie there: making and dropping hundreds of databases is hard on a disk."""

FOLDER = Path(__file__).parents[2] / ".onebook" / "tests"
TEMPLATE = "template_onebook"

THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_connections": "200",
}
"""Settings that trade durability for speed."""

KEEPERS = {"Batcher._run", "Gathering._run"}
"""Tasks that keep a connection for a while when nobody asks any more."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """One test's own database, migrated to head. `owner_url` owns it, `app_url` is the service's role."""

    name: str
    _server: Running = field(repr=False)
    _engines: list[AsyncEngine] = field(default_factory=list, repr=False)
    _reached: list[str] = field(default_factory=list, repr=False)
    """Roles whose address was told, or that connected."""

    @property
    def owner_url(self) -> str:
        return self._tell(OWNER)

    @property
    def app_url(self) -> str:
        return self._tell(APP)

    @property
    def admin_url(self) -> str:
        return self._tell(ADMIN)

    @property
    def untouched(self) -> bool:
        """Nobody connected, nor was told how: it is as it was handed out."""
        return not self._reached

    def engine(self, *, owner: bool = False, admin: bool = False, pool_size: int = 10) -> AsyncEngine:
        """A new engine as the service's role (or the owner, or the superuser); closed when the test ends."""
        role = ADMIN if admin else OWNER if owner else APP
        engine = create_engine(self._url(role), pool_size=pool_size)
        listen(engine.sync_engine, "connect", lambda *_: self._reached.append(role))
        self._engines.append(engine)
        return engine

    async def leave(self) -> None:
        """Nobody but the test is connected any more: for a copy of the database, say."""
        await leave(self._url(ADMIN))

    def _tell(self, role: str) -> str:
        self._reached.append(role)
        return self._url(role)

    def _url(self, role: str) -> str:
        urls = {OWNER: self._server.owner_url, APP: self._server.app_url, ADMIN: self._server.admin_url}
        return at_database(urls[role], self.name)


@contextmanager
def throwaway_server(name: str = "postgres", *, prefer: str | None = None) -> Iterator[Running]:
    """A running server with the migrated template; its files are removed at the end."""
    sweep_leftovers()
    folder = FOLDER / f"{name}-{os.getpid()}"
    clean(folder)
    try:
        with PostgresServer(folder, prefer=prefer, settings=THROWAWAY, outside=_place()) as running:
            asyncio.run(_ease_passwords(running))
            asyncio.run(_make_template(running))
            yield running
    finally:
        clean(folder)


@asynccontextmanager
async def fresh_database(server: Running, template: str = TEMPLATE) -> AsyncIterator[Database]:
    """A new database cloned from `template`, dropped at the end. Nobody may be connected to that."""
    name = await take_spare(server.admin_url) if template == TEMPLATE else None
    if name is None:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        await create_database(server.admin_url, name, template=template)
    database = Database(name, server)
    try:
        yield database
    finally:
        await _let_go(database._engines)
        for engine in database._engines:
            await engine.dispose()
        if template != TEMPLATE or not await give_back(server.admin_url, name, untouched=database.untouched):
            await drop_database(server.admin_url, name)


def _place() -> Path | None:
    """Where a server's files lie if it isn't in its folder: in memory where there is room."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return MEMORY if roomy else None


def sweep_leftovers() -> None:
    """Remove the servers of test runs that were killed: those whose process is gone."""
    if FOLDER.is_dir():
        for folder in FOLDER.iterdir():
            if not Path("/proc", folder.name.rpartition("-")[2]).exists():
                with contextlib.suppress(ServerInUse):
                    clean(folder)


async def _let_go(engines: Sequence[AsyncEngine]) -> None:
    """What a ledger that wasn't closed keeps for who might ask next comes back now.

    The loop's end would cancel the giving back too, if it came in the middle of it, and a connection would be lost to
    the garbage collector, who ends it in any later test.
    """
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__qualname__", None) in KEEPERS:
            task.cancel()
    pools = [engine.pool for engine in engines]

    async def all_are_back() -> bool:
        return not any(pool.checkedout() for pool in pools if isinstance(pool, QueuePool))

    await eventually("each connection is given back", all_are_back)


async def _ease_passwords(server: Running) -> None:
    """Let each login hash once, not 4,096 times: every test connects several times, and these passwords are random."""
    connection = await asyncpg.connect(server.admin_url)
    try:
        for url in (server.admin_url, server.owner_url, server.app_url):
            parts = urlsplit(url)
            verifier = scram_verifier(unquote(parts.password or ""), rounds=1)
            await connection.execute(f"ALTER ROLE {parts.username} PASSWORD '{verifier}'")
    finally:
        await connection.close()


async def _make_template(server: Running) -> None:
    await create_database(server.admin_url, TEMPLATE)
    await migrate(at_database(server.owner_url, TEMPLATE))
    await remember_template(server.admin_url, TEMPLATE)
