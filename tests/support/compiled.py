"""Statements that one test's engine has compiled serve the next one's: making one's text takes longer than running it.

An engine keeps what it compiled, by the dialect and the statement's shape; both die with it, and every test makes
engines. Here all engines of a test process keep it together, and a dialect is whatever is like it: the same driver, and
a server of the same version.
"""

from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache

STATEMENTS_MAX = 3_000
"""As many as all of the tests' houses have between them."""


def share_compiled_statements() -> None:
    """From now on engines share what they compile. Once in a process, before the first engine."""
    shared: LRUCache[Any, Any] = LRUCache(STATEMENTS_MAX)
    Engine._compiled_cache = property(lambda _: shared, lambda *_: None)  # type: ignore[assignment]
    PGDialect_asyncpg.__eq__ = _is_like  # type: ignore[assignment,method-assign]
    PGDialect_asyncpg.__hash__ = _hash  # type: ignore[assignment,method-assign]


def _is_like(one: PGDialect_asyncpg, other: object) -> bool:
    return type(one) is type(other) and one.server_version_info == getattr(other, "server_version_info", None)


def _hash(one: PGDialect_asyncpg) -> int:
    return hash(type(one))
