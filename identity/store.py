"""The only SQL of identity: rows to values and back. Every function runs inside a tx that the caller opened."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import Driver
from identity.keys import ApiKey
from identity.people import User
from identity.scopes import Scope
from identity.tables import api_keys, users


async def add_user(connection: AsyncConnection, book: str, user: User) -> None:
    """Insert a user. Raises UniqueBroken (by the tx) if the handle is taken."""
    await connection.execute(
        insert(users).values(book=book, id=user.id, handle=user.handle, name=user.name, created_at=user.created_at)
    )


async def find_users(driver: Driver, book: str, names: Sequence[str]) -> dict[str, User]:
    """Users by id or by handle, whichever each of these names is."""
    rows = await driver.fetch(
        "SELECT id, handle, name, created_at FROM identity_users"
        " WHERE book = $1 AND (id = ANY($2::text[]) OR handle = ANY($2::text[]))",
        book,
        list(names),
    )
    found = [_user(row) for row in rows]
    return {user.id: user for user in found} | {user.handle: user for user in found}


async def find_keys(driver: Driver, book: str, hashes: Sequence[bytes]) -> dict[bytes, ApiKey]:
    """Keys by the hash of their secret."""
    rows = await driver.fetch(
        "SELECT * FROM identity_api_keys WHERE book = $1 AND secret_hash = ANY($2::bytea[])", book, list(hashes)
    )
    return {row["secret_hash"]: _key(row) for row in rows}


async def mark_used(driver: Driver, book: str, uses: Mapping[str, datetime]) -> None:
    """Note when keys were used, by their ids."""
    await driver.execute(
        "UPDATE identity_api_keys k SET last_used_at = u.at FROM unnest($2::text[], $3::timestamptz[]) AS u(id, at)"
        " WHERE k.book = $1 AND k.id = u.id",
        book,
        list(uses),
        list(uses.values()),
    )


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
            person=key.person,
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


async def find_staff_keys(
    connection: AsyncConnection, book: str, *, scope: Scope, at: datetime, person: str | None, limit: int
) -> list[ApiKey]:
    """Keys of this person (None: of nobody) that have this scope and could be used at `at`, oldest first."""
    is_theirs = api_keys.c.person.is_(None) if person is None else api_keys.c.person == person
    return await _usable(connection, book, is_theirs, scopes=[scope], at=at, limit=limit)


async def find_keys_that_may(
    connection: AsyncConnection, book: str, *, scopes: Sequence[Scope], at: datetime, limit: int
) -> list[ApiKey]:
    """Keys that have all of these scopes and could be used at `at`, oldest first."""
    return await _usable(connection, book, true(), scopes=scopes, at=at, limit=limit)


async def _usable(
    connection: AsyncConnection,
    book: str,
    which: ColumnElement[bool],
    *,
    scopes: Sequence[Scope],
    at: datetime,
    limit: int,
) -> list[ApiKey]:
    row = api_keys.c
    usable = row.revoked_at.is_(None) & (row.expires_at.is_(None) | (row.expires_at > at))
    asked = (row.book == book) & usable & which & row.scopes.contains([scope.value for scope in scopes])
    found = await connection.execute(select(api_keys).where(asked).order_by(row.id).limit(limit))
    return [_key(dict(one)) for one in found.mappings()]


async def mark_revoked(connection: AsyncConnection, book: str, key_id: str, at: datetime) -> None:
    """Revoke a key, unless it was revoked before: the first instant stays."""
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.book == book, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=at)
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
        person=row["person"],
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
