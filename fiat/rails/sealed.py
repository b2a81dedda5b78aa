"""What is personal or secret in rails' rows, sealed: saved methods' tokens and digits, webhooks' bodies."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.personal import NoVault, Vault
from fiat.rails.tables import payment_methods, webhooks

BODIES_KEPT = timedelta(days=30)
"""How long a webhook's body is kept, for dead letters to be looked at."""

BODIES_DROPPED_MAX = 1000
"""Bodies that one step drops."""

METHOD_FIELDS = ("token", "customer", "last4")
"""What is sealed of a saved method."""

_BODY = "base64"


class BodySealer:
    """Seals webhooks' bodies by the vault (`fiat.rails.inbox.Sealer`)."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, plain: bytes, *, book: str, row: str) -> bytes:
        return self._vault.seal({_BODY: b64encode(plain).decode("ascii")}, book=book, table=webhooks.name, row=row)

    def open(self, sealed: bytes, *, book: str, row: str) -> bytes:
        """The very bytes that came. Raises PersonalKeyMissing, BrokenInvariant."""
        opened = self._vault.open(sealed, book=book, table=webhooks.name, row=row)
        return b64decode(opened.get(_BODY, ""))


def sealer_of(vault: Vault) -> BodySealer | None:
    """None where there is no key: no body is kept then."""
    return None if isinstance(vault, NoVault) else BodySealer(vault)


async def load_body(connection: AsyncConnection, book: str, webhook: str) -> bytes | None:
    """A webhook's sealed body, if it's kept."""
    query = select(webhooks.c.body_sealed).where(webhooks.c.book == book, webhooks.c.id == webhook)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else bytes(found)


async def drop_bodies(connection: AsyncConnection, book: str, *, before: datetime) -> int:
    """Drop bodies that came before; how many, BODIES_DROPPED_MAX at most."""
    c = webhooks.c
    old = (
        select(c.id)
        .where(c.book == book, c.received_at < before, c.body_sealed.is_not(None))
        .order_by(c.received_at)
        .limit(BODIES_DROPPED_MAX)
        .with_for_update(skip_locked=True)
    )
    done = await connection.execute(update(webhooks).where(c.book == book, c.id.in_(old)).values(body_sealed=None))
    return int(done.rowcount)


async def methods_in_clear(connection: AsyncConnection, book: str, *, limit: int) -> list[tuple[str, dict[str, str]]]:
    """(id, what is to be sealed) of methods that an older version kept in clear; their rows are locked."""
    c = payment_methods.c
    query = select(payment_methods).where(c.book == book, c.personal.is_(None)).limit(limit).with_for_update()
    rows = await connection.execute(query)
    return [(row.id, {name: row._mapping[name] or "" for name in METHOD_FIELDS}) for row in rows]


async def methods_sealed_by_others(
    connection: AsyncConnection, book: str, head: bytes, *, limit: int
) -> Sequence[tuple[str, bytes]]:
    """(id, sealed) of methods that don't begin as the newest key's do; their rows are locked."""
    c = payment_methods.c
    query = select(c.id, c.personal).where(c.book == book, func.substring(c.personal, 1, len(head)) != head)
    return [(row.id, bytes(row.personal)) for row in await connection.execute(query.limit(limit).with_for_update())]


async def reseal_method(connection: AsyncConnection, book: str, method: str, personal: bytes) -> None:
    """Keep what is personal sealed so, and nothing of it in clear."""
    c = payment_methods.c
    change = update(payment_methods).where(c.book == book, c.id == method)
    await connection.execute(change.values(personal=personal, **dict.fromkeys(METHOD_FIELDS)))


async def bodies_sealed_by_others(
    connection: AsyncConnection, book: str, head: bytes, *, limit: int
) -> Sequence[tuple[str, bytes]]:
    """(id, sealed) of webhooks whose body doesn't begin as the newest key's do; their rows are locked."""
    c = webhooks.c
    query = select(c.id, c.body_sealed).where(c.book == book, func.substring(c.body_sealed, 1, len(head)) != head)
    return [(row.id, bytes(row.body_sealed)) for row in await connection.execute(query.limit(limit).with_for_update())]


async def reseal_body(connection: AsyncConnection, book: str, webhook: str, sealed: bytes) -> None:
    change = update(webhooks).where(webhooks.c.book == book, webhooks.c.id == webhook)
    await connection.execute(change.values(body_sealed=sealed))
