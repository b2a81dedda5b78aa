"""Connections and tx: one pool per process, READ COMMITTED, bounded waits, foreign errors turned into ours."""

import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar, cast

import asyncpg
from sqlalchemy import URL, ExceptionContext, event, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from base.errors import ConfigError
from db.errors import SerializationConflict, hush, translate

CONNECT_SECONDS = 10
"""Longest wait for a new connection."""

REST_SECONDS = 1.0
"""A connection that rested longer in the pool is asked whether it still lives before it's used. What happened to one
that rested less is known to the system: its socket says so."""

STATEMENTS_PREPARED_MAX = 500
"""Statements that a connection keeps prepared. The worker's steps have hundreds between them, and go through them in a
ring: where fewer are kept, each is let go just before it comes round, and is prepared anew every time."""

_RESTS_SINCE = "rests since"

Result = TypeVar("Result")

Driver: TypeAlias = "asyncpg.Connection[Any]"
"""asyncpg's connection; statements outside a tx commit by themselves."""


def create_engine(
    url: str,
    *,
    pool_size: int = 10,
    pool_seconds: float = 5,
    statement_seconds: float = 30,
    lock_seconds: float = 10,
    idle_seconds: float = 60,
    application_name: str = "onebook",
) -> AsyncEngine:
    """An engine over asyncpg for a plain `postgresql://` address. It connects when first used.

    At most `pool_size` connections; a tx waits `pool_seconds` for one, then raises `PoolExhausted`. A statement, a wait
    for a lock, and a tx left idle end after their seconds, as `DatabaseUnavailable`. Raises `ConfigError` for an
    address of something else.
    """
    engine = create_async_engine(
        asyncpg_url(url),
        hide_parameters=True,  # they are people's names and account numbers, and would stand in each error's text
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_seconds,
        pool_use_lifo=True,  # the one last used knows the statements, so where one is enough only one learns them
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": CONNECT_SECONDS,
            "prepared_statement_cache_size": STATEMENTS_PREPARED_MAX,
            "server_settings": {
                "application_name": application_name,
                "timezone": "UTC",
                "statement_timeout": _milliseconds(statement_seconds),
                "lock_timeout": _milliseconds(lock_seconds),
                "idle_in_transaction_session_timeout": _milliseconds(idle_seconds),
            },
        },
    )
    event.listen(engine.sync_engine, "handle_error", _without_values)
    event.listen(engine.sync_engine, "checkin", _note_its_rest)
    event.listen(engine.sync_engine, "checkout", _require_alive)
    return engine


def _without_values(context: ExceptionContext) -> None:
    for error in (context.sqlalchemy_exception, context.original_exception):
        if error is not None:
            hush(error)


@asynccontextmanager
async def tx(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One database tx: commits at the end of the block, rolls back on any error, raises errors of `db.errors`.

    When the connection is lost during COMMIT, `DatabaseUnavailable` doesn't say whether the tx took effect.
    """
    connected = False
    try:
        async with engine.begin() as connection:
            connected = True
            yield connection
    except Exception as error:
        ours = translate(error, connecting=not connected)
        if ours is None or ours is error:
            raise
        raise ours from error


@asynccontextmanager
async def driver(engine: AsyncEngine) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """The driver's own connection, outside any tx: each statement commits by itself. Raises errors of `db.errors`."""
    connected = False
    try:
        async with engine.connect() as connection:
            connected = True
            yield await driver_of(connection)
    except Exception as error:
        ours = translate(error, connecting=not connected)
        if ours is None or ours is error:
            raise
        raise ours from error


async def driver_of(connection: AsyncConnection) -> "asyncpg.Connection[Any]":
    """The driver's own connection behind a SQLAlchemy one; inside a tx once that has executed something."""
    raw = await connection.get_raw_connection()
    return cast("asyncpg.Connection[Any]", raw.driver_connection)


async def retrying(work: Callable[[], Awaitable[Result]], *, attempts: int = 5) -> Result:
    """The result of `work`, a whole tx, run again after a deadlock or serialization failure, at most `attempts` times.

    Raises `SerializationConflict` when the last attempt failed too. `work` must have no effect outside the database.
    """
    policy = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.01, max=0.5),
        retry=retry_if_exception_type(SerializationConflict),
        reraise=True,
    )
    async for attempt in policy:
        with attempt:
            return await work()
    raise AssertionError("unreachable: tenacity raises the last error")


def asyncpg_url(url: str) -> URL:
    """`url` for SQLAlchemy over asyncpg: `sslmode=` becomes `ssl=`. Raises `ConfigError` for other databases."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise ConfigError("the database address can't be read; write postgresql://user:password@host/name") from error
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigError(f"the database must be PostgreSQL, not {parsed.get_backend_name()}")
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def _note_its_rest(_: Any, record: Any) -> None:
    record.info[_RESTS_SINCE] = time.monotonic()


def _require_alive(connection: Any, record: Any, _: Any) -> None:
    """A connection that the pool gives out again must live, or all are made anew.

    SQLAlchemy's own `pool_pre_ping` asks each time, in a tx of its own: three round trips before every tx.
    """
    since = record.info.pop(_RESTS_SINCE, None)
    if since is None:  # it was made a moment ago
        return
    if time.monotonic() - since <= REST_SECONDS and not _was_told_something(connection.driver_connection):
        return
    try:
        connection.run_async(lambda driver: driver.execute(";"))
    except Exception as error:
        raise InvalidatePoolError("the connection was lost while nobody used it") from error


def _was_told_something(driver: Driver) -> bool:
    """Whether the server closed a connection that rests, or said something, as it does before it closes it."""
    transport = driver._transport
    if driver.is_closed() or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
