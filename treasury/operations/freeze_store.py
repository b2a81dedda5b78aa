"""SQL of freezes' reasons."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.commands import FreezeScope
from ledger.riders import Advance, Insert
from treasury.operations.freeze_reasons import FreezeReason, StandingFreeze
from treasury.operations.tables import freezes


async def lock_target(connection: AsyncConnection, book: str, scope: FreezeScope, target: str) -> None:
    """Until the tx ends nobody else sets or lifts a freeze on this target."""
    name = f"freeze:{book}:{scope}:{target}"
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def load_freeze(connection: AsyncConnection, book: str, freeze: str) -> StandingFreeze | None:
    query = select(freezes).where(freezes.c.book == book, freezes.c.id == freeze)
    row = (await connection.execute(query)).first()
    return None if row is None else _freeze(row)


async def standing_on(connection: AsyncConnection, book: str, scope: FreezeScope, target: str) -> list[StandingFreeze]:
    """The reasons for which this target is frozen, the oldest first."""
    mine = (freezes.c.book == book) & (freezes.c.scope == scope.value) & (freezes.c.target == target)
    query = select(freezes).where(mine, freezes.c.lifted_at.is_(None)).order_by(freezes.c.id)
    return [_freeze(row) for row in await connection.execute(query)]


async def list_freezes(
    connection: AsyncConnection, book: str, *, lifted: bool, before: str | None, limit: int
) -> list[StandingFreeze]:
    """Freezes, newest first, those older than the id `before`; those that were lifted only if asked for."""
    query = select(freezes).where(freezes.c.book == book).order_by(freezes.c.id.desc()).limit(limit)
    if not lifted:
        query = query.where(freezes.c.lifted_at.is_(None))
    if before is not None:
        query = query.where(freezes.c.id < before)
    return [_freeze(row) for row in await connection.execute(query)]


async def due_freezes(connection: AsyncConnection, book: str, *, now: datetime, limit: int) -> list[StandingFreeze]:
    """Freezes that stand though their time is over, the earliest first."""
    mine = (freezes.c.book == book) & freezes.c.lifted_at.is_(None) & (freezes.c.expires_at <= now)
    query = select(freezes).where(mine).order_by(freezes.c.expires_at, freezes.c.id).limit(limit)
    return [_freeze(row) for row in await connection.execute(query)]


def added(book: str, freeze: StandingFreeze) -> Insert:
    """The row of a freeze that is set."""
    values: dict[str, object] = {
        "scope": freeze.scope.value,
        "target": freeze.target,
        "reason_code": freeze.reason_code.value,
        "reason": freeze.reason,
        "set_by": freeze.set_by,
        "set_at": freeze.set_at,
        "expires_at": freeze.expires_at,
    }
    return Insert(freezes.name, {"book": book, "id": freeze.id}, values)


def ended(book: str, freeze: StandingFreeze, *, by: str, at: datetime, reason: str) -> Advance:
    """Compare and set: lifted, if it still stands."""
    change = {"lifted_at": at, "lifted_by": by, "lift_reason": reason}
    return Advance(freezes.name, key={"book": book, "id": freeze.id}, expect={"lifted_at": None}, change=change)


def _freeze(row: Row[Any]) -> StandingFreeze:
    return StandingFreeze(
        id=row.id,
        scope=FreezeScope(row.scope),
        target=row.target,
        reason_code=FreezeReason(row.reason_code),
        reason=row.reason,
        set_by=row.set_by,
        set_at=row.set_at,
        expires_at=row.expires_at,
        lifted_at=row.lifted_at,
        lifted_by=row.lifted_by,
        lift_reason=row.lift_reason,
    )
