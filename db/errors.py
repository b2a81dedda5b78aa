"""What can go wrong with the database, and how foreign errors (SQLAlchemy, asyncpg, the OS) become these, once.

Unavailable
├── DatabaseUnavailable      no connection, connection lost, server starting or stopping, statement or lock timed out
│   ├── PoolExhausted        every connection that this process, or the server, allows is in use
│   └── DiskFull             the server has no disk or memory left to write
├── SerializationConflict    a deadlock or a serialization failure: nothing was written, the tx may run again
└── ServerInUse              another process runs the server of this folder
ConfigError
├── NoServerBinaries         no PostgreSQL server program fits
├── ServerFailed             the server doesn't start; carries the end of its log
├── DumpFailed               pg_dump or pg_restore ended with an error; carries its last words
└── AccessRefused            wrong password, unknown role or database, missing privilege
BrokenInvariant
├── NotAnAmount              something other than a whole number (or an instant, or a digest) was bound as one
├── AppendOnly               an UPDATE, DELETE or TRUNCATE on rows that are never changed
├── ConstraintBroken         a constraint refused a row; `facts["constraint"]` names it
│   └── UniqueBroken         ... because such a row is there already
└── QueryBroken              any other refusal of a statement: a bug
Rejected
└── AmountOutOfRange         a whole number outside the bounds of its type
"""

import errno
import socket
from collections.abc import Iterator

import asyncpg
from sqlalchemy import exc as sql
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from base.errors import BrokenInvariant, ConfigError, OnebookError, Rejected, Unavailable

APPEND_ONLY_STATE = "OB001"
"""SQLSTATE that the trigger function `refuse_change()` raises."""


class DatabaseUnavailable(Unavailable):
    default_code = "database_unavailable"


class PoolExhausted(DatabaseUnavailable):
    default_code = "database_busy"


class DiskFull(DatabaseUnavailable):
    default_code = "database_full"


class SerializationConflict(Unavailable):
    default_code = "serialization_conflict"


class ServerInUse(Unavailable):
    default_code = "server_in_use"


class NoServerBinaries(ConfigError):
    default_code = "no_server_binaries"


class ServerFailed(ConfigError):
    default_code = "server_failed"


class DumpFailed(ConfigError):
    default_code = "dump_failed"


class AccessRefused(ConfigError):
    default_code = "access_refused"


class NotAnAmount(BrokenInvariant, sql.DontWrapMixin):
    default_code = "not_an_amount"


class AppendOnly(BrokenInvariant):
    default_code = "append_only"


class ConstraintBroken(BrokenInvariant):
    default_code = "constraint_broken"


class UniqueBroken(ConstraintBroken):
    default_code = "unique_broken"


class QueryBroken(BrokenInvariant):
    default_code = "query_broken"


class AmountOutOfRange(Rejected, sql.DontWrapMixin):
    default_code = "amount_out_of_range"


_BY_STATE: dict[str, tuple[type[OnebookError], str]] = {
    # the whole code first, then its class (two characters); PostgreSQL manual, appendix A
    APPEND_ONLY_STATE: (AppendOnly, "these rows are never changed or removed"),
    "23505": (UniqueBroken, "such a row is there already"),
    "40001": (SerializationConflict, "concurrent work changed the same rows; try again"),
    "40P01": (SerializationConflict, "a deadlock was broken up; try again"),
    "42501": (AccessRefused, "the database role lacks a privilege"),
    "55P03": (DatabaseUnavailable, "waited too long for a lock in the database"),
    "57014": (DatabaseUnavailable, "the database took too long"),
    "25P03": (DatabaseUnavailable, "the database ended a tx that idled too long"),
    "25P04": (DatabaseUnavailable, "the database ended a tx that took too long"),
    "40003": (DatabaseUnavailable, "the database can't say whether the statement took effect"),
    "53300": (PoolExhausted, "the database has no connection left"),
    "3D000": (AccessRefused, "there is no such database"),
    "08": (DatabaseUnavailable, "the connection to the database was lost"),
    "23": (ConstraintBroken, "a constraint of the database refused the row"),
    "28": (AccessRefused, "the database refused the role or its password"),
    "53": (DiskFull, "the database has no room left"),
    "57": (DatabaseUnavailable, "the database is starting or stopping"),
    "58": (DatabaseUnavailable, "the database can't read or write its files"),
}


_FOREIGN = (sql.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_NETWORK = (ConnectionError, TimeoutError, socket.gaierror)


def translate(error: BaseException, *, connecting: bool = False) -> OnebookError | None:
    """The error of ours that `error` means, or None if it has nothing to do with the database.

    While `connecting`, every error of the operating system counts; later only those of the network or a full disk.
    """
    if isinstance(error, OnebookError):
        return error
    if not isinstance(error, _FOREIGN):
        return None
    hush(error)
    if isinstance(error, sql.TimeoutError):
        return PoolExhausted("every connection to the database is in use")
    for cause in _causes(error):
        if isinstance(cause, OnebookError):
            return cause
        if isinstance(cause, asyncpg.InvalidCachedStatementError):
            return DatabaseUnavailable("the schema changed under a prepared statement; try again")
        if isinstance(cause, asyncpg.PostgresError) and cause.sqlstate:
            return _from_state(cause)
        if isinstance(cause, asyncpg.InterfaceError | asyncpg.InternalClientError) and _lost(error, cause):
            return DatabaseUnavailable("the connection to the database was lost")
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull("the disk is full")
        if isinstance(cause, _NETWORK) or (connecting and isinstance(cause, OSError)):
            return DatabaseUnavailable(f"the database can't be reached: {cause or type(cause).__name__}")
    if isinstance(error, sql.DBAPIError) and error.connection_invalidated:
        return DatabaseUnavailable("the connection to the database was lost")
    if isinstance(error, sql.SQLAlchemyError | asyncpg.InterfaceError):
        return QueryBroken(f"the database layer failed: {type(error).__name__}: {error}")
    return None


def hush(error: BaseException) -> None:
    """Take a row's values out of what a database's error says, and of what it came from: they may be personal.

    The server puts them into its detail (`Key (...)=(...)`, `Failing row contains (...)`), and, where a value can't be
    read as its type, into the message; the driver does so, too. Names of tables and constraints stay.
    """
    unread = any(_tells_value(cause) for cause in _causes(error))
    for cause in _causes(error):
        if isinstance(cause, asyncpg.PostgresError | asyncpg.InterfaceError) and not _is_ours(cause):
            cause.detail = cause.hint = None
        if unread and cause.args and isinstance(cause, _DRIVERS):
            cause.args = (f"{type(cause).__name__}: a value can't be taken as its column's type", *cause.args[1:])
            if isinstance(cause, asyncpg.PostgresError):
                cause.message = cause.args[0]


_DRIVERS = (sql.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, AsyncAdapt_asyncpg_dbapi.Error)


_UNREAD = frozenset({"22000", "22003", "22007", "22008", "22018", "22021", "22030", "22032", "22P02", "22P03"})
"""States whose messages repeat the value that can't be read as its type; the driver's own errors are 22000."""


def _tells_value(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _UNREAD


def _is_ours(error: BaseException) -> bool:
    return (getattr(error, "sqlstate", None) or "").startswith("OB")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it wraps, what that came from, and so on, each once."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        wrapped = at.orig if isinstance(at, sql.StatementError) else None
        at = wrapped or at.__cause__


def _from_state(error: asyncpg.PostgresError) -> OnebookError:
    state = str(error.sqlstate)
    kind, message = _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or (QueryBroken, "the database refused")
    named = {"constraint": error.constraint_name, "table": error.table_name}
    if state.startswith("OB"):
        named["detail"] = error.detail  # of our own making: no row's values
    facts = {name: text for name, text in named.items() if text}
    return kind(f"{message}: {error.message or error}", sqlstate=state, **facts)


_LOST = ("connection is closed", "connection was closed", "released back", "another operation (2) is in progress")
"""How asyncpg says so. The last: the server has said why it ends the connection, unasked, and its end isn't there yet
(state 2 of its protocol, PROTOCOL_ERROR_CONSUME)."""


def _lost(outer: BaseException, cause: BaseException) -> bool:
    """Whether a client-side error of asyncpg means a dead connection (not a misuse of the client)."""
    if isinstance(outer, sql.DBAPIError) and outer.connection_invalidated:
        return True
    return any(word in str(cause) for word in _LOST)
