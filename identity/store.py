"""The only SQL of identity: rows to values and back. Every function runs inside a tx that the caller opened."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from identity.keys import ApiKey
from identity.people import User
from identity.scopes import Scope
from identity.tables import api_keys, users


async def add_user(connection: AsyncConnection, book: str, user: User) -> None:
    """Insert a user. Raises UniqueBroken (by the tx) if the handle is taken."""
    await connection.execute(
        insert(users).values(book=book, id=user.id, handle=user.handle, name=user.name, created_at=user.created_at)
    )


async def find_user(
    connection: AsyncConnection, book: str, *, user_id: str | None = None, handle: str | None = None
) -> User | None:
    """The user with this id, or with this handle."""
    asked = users.c.id == user_id if user_id is not None else users.c.handle == handle
    row = (await connection.execute(select(users).where(users.c.book == book, asked))).mappings().first()
    return None if row is None else _user(row)


async def list_users(
    connection: AsyncConnection, book: str, *, before: str | None, after: str | None, limit: int
) -> list[User]:
    """Users by id, newest first: those made before `before`, or the next ones made after `after`."""
    rows = await _page(connection, users, users.c.book == book, before=before, after=after, limit=limit)
    return [_user(row) for row in rows]


async def add_key(connection: AsyncConnection, book: str, key: ApiKey, secret_hash: bytes) -> None:
    """Insert a key with the hash of its secret."""
    await connection.execute(
        insert(api_keys).values(
            book=book,
            id=key.id,
            user_id=key.user_id,
            label=key.label,
            secret_hash=secret_hash,
            hint=key.hint,
            scopes=sorted(key.scopes),
            rate_per_minute=key.rate_per_minute,
            created_at=key.created_at,
            created_by=key.created_by,
            expires_at=key.expires_at,
        )
    )


async def find_key(
    connection: AsyncConnection, book: str, *, key_id: str | None = None, secret_hash: bytes | None = None
) -> ApiKey | None:
    """The key with this id, or whose secret has this hash."""
    asked = api_keys.c.id == key_id if key_id is not None else api_keys.c.secret_hash == secret_hash
    row = (await connection.execute(select(api_keys).where(api_keys.c.book == book, asked))).mappings().first()
    return None if row is None else _key(row)


async def list_keys(
    connection: AsyncConnection, book: str, *, user_id: str | None, before: str | None, after: str | None, limit: int
) -> list[ApiKey]:
    """Keys by id, newest first, those of one user where `user_id` is given."""
    asked = api_keys.c.book == book
    if user_id is not None:
        asked &= api_keys.c.user_id == user_id
    return [_key(row) for row in await _page(connection, api_keys, asked, before=before, after=after, limit=limit)]


async def mark_revoked(connection: AsyncConnection, book: str, key_id: str, at: datetime) -> None:
    """Revoke a key, unless it was revoked before: the first instant stays."""
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.book == book, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )


async def mark_used(connection: AsyncConnection, book: str, key_id: str, at: datetime) -> None:
    """Note when a key was used."""
    await connection.execute(
        update(api_keys).where(api_keys.c.book == book, api_keys.c.id == key_id).values(last_used_at=at)
    )


async def _page(
    connection: AsyncConnection,
    table: Table,
    asked: ColumnElement[bool],
    *,
    before: str | None,
    after: str | None,
    limit: int,
) -> list[Mapping[str, Any]]:
    """Rows by id, newest first; with `after`, those nearest to it, oldest first."""
    order = table.c.id.desc()
    if before is not None:
        asked &= table.c.id < before
    if after is not None:
        asked, order = asked & (table.c.id > after), table.c.id.asc()
    found = await connection.execute(select(table).where(asked).order_by(order).limit(limit))
    return [dict(row) for row in found.mappings()]


def _user(row: Mapping[Any, Any]) -> User:
    return User(id=row["id"], handle=row["handle"], name=row["name"], created_at=row["created_at"])


def _key(row: Mapping[Any, Any]) -> ApiKey:
    return ApiKey(
        id=row["id"],
        user_id=row["user_id"],
        label=row["label"],
        hint=row["hint"],
        scopes=frozenset(Scope(name) for name in row["scopes"]),
        rate_per_minute=row["rate_per_minute"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
