"""SQL of the audit log."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.outcomes import Kind
from ledger.tables import books, commands
from treasury.operations.acts import ID_PREFIX, Act, Actor, ActOutcome
from treasury.operations.tables import audit_log

Sealed = tuple[str, Act | None, tuple[str, ...]]
"""A row's id, the row if it's there, and the digests that records in the book's sequence state of it."""


async def list_acts(
    connection: AsyncConnection,
    book: str,
    *,
    actor: str | None,
    action: str | None,
    subject: str | None,
    since: datetime | None,
    until: datetime | None,
    before: str | None,
    after: str | None,
    limit: int,
) -> list[Act]:
    """Rows that meet all of these, newest first; oldest first with `after`."""
    row = audit_log.c
    wanted = [row.book == book]
    if actor is not None:
        wanted.append(or_(row.actor_key == actor, row.actor_user == actor))
    wanted += [column == value for column, value in ((row.action, action), (row.subject, subject)) if value is not None]
    if since is not None:
        wanted.append(row.at >= since)
    if until is not None:
        wanted.append(row.at < until)
    if before is not None:
        wanted.append(row.id < before)
    if after is not None:
        wanted.append(row.id > after)
    order = row.id.desc() if after is None else row.id
    query = select(audit_log).where(and_(*wanted)).order_by(order).limit(limit)
    return [_act(found) for found in await connection.execute(query)]


async def load_sealed(connection: AsyncConnection, book: str, *, after: str, limit: int) -> list[Sealed]:
    """Rows, and records without one, by id behind `after`; both as of one snapshot."""
    number = select(books.c.number).where(books.c.book == book).scalar_subquery()
    is_record = and_(
        commands.c.book == number,
        commands.c.kind == Kind.RECORD.value,
        commands.c.refusal.is_(None),
        func.starts_with(commands.c.subject, f"{ID_PREFIX}_"),
    )
    known = union(
        select(audit_log.c.id).where(audit_log.c.book == book, audit_log.c.id > after),
        select(commands.c.subject).where(is_record, commands.c.subject > after),
    ).subquery()
    query = (
        select(
            known.c.id.label("row"),
            audit_log,
            select(func.array_agg(commands.c.detail))
            .where(is_record, commands.c.subject == known.c.id)
            .scalar_subquery()
            .label("details"),
        )
        .select_from(known)
        .outerjoin(audit_log, and_(audit_log.c.book == book, audit_log.c.id == known.c.id))
        .order_by(known.c.id)
        .limit(limit)
    )
    found = (await connection.execute(query)).all()
    return [(row.row, None if row.act is None else _act(row), _digests(row.details)) for row in found]


def _digests(details: list[str | None] | None) -> tuple[str, ...]:
    told = [json.loads(detail or "{}") for detail in details or ()]
    return tuple(str(one.get("terms", {}).get("facts", {}).get("audit_log")) for one in told)


def _act(row: Row[Any]) -> Act:
    return Act(
        id=row.id,
        act=row.act,
        at=row.at,
        actor=Actor(row.actor_key, row.actor_user),
        action=row.action,
        subject=row.subject,
        outcome=ActOutcome(row.outcome),
        reason_code=row.reason_code,
        reason=row.reason,
        request=row.request,
        detail=row.detail,
    )
