"""SQL of reconciliations; what they found is in `treasury.break_store`."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from treasury.records import InFlight, JudgedNetwork, Reconciliation
from treasury.tables import reconciliations


async def lock_runs(connection: AsyncConnection, book: str) -> None:
    """Let one run at a time record its findings; until the tx ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"reconcile:{book}", 0))))


async def insert_run(connection: AsyncConnection, book: str, run: Reconciliation) -> None:
    await connection.execute(
        insert(reconciliations).values(
            book=book,
            id=run.id,
            started_at=run.started_at,
            finished_at=run.finished_at,
            checks=run.checks,
            breaks=run.open_breaks,
            explained=run.explained,
            changed=run.changed,
            networks=[asdict(network) for network in run.networks],
            in_flight=[
                asdict(item) | {"amount": str(item.amount), "seen_at": item.seen_at.isoformat()}
                for item in run.in_flight
            ],
        )
    )


async def load_last_skips(connection: AsyncConnection, book: str) -> dict[str, str | None]:
    """By network, why the newest run didn't judge it."""
    query = select(reconciliations.c.networks).where(reconciliations.c.book == book)
    networks = await connection.scalar(query.order_by(reconciliations.c.id.desc()).limit(1))
    return {judged["network"]: judged["skipped"] for judged in networks or ()}


async def thin_out(connection: AsyncConnection, book: str, *, now: datetime, every: timedelta, kept: timedelta) -> None:
    """Drop runs in which nothing changed: of those older than `every` all but each hour's first; in the end all."""
    row, first = reconciliations.c, reconciliations.alias("first")
    an_hour = func.date_trunc("hour", row.finished_at) == func.date_trunc("hour", first.c.finished_at)
    earlier = exists().where(first.c.book == row.book, ~first.c.changed, first.c.id < row.id, an_hour)
    useless = or_((row.finished_at < now - every) & earlier, row.finished_at < now - kept)
    await connection.execute(delete(reconciliations).where(row.book == book, ~row.changed, useless))


async def load_runs(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Reconciliation]:
    """Runs, newest first. Breaks aren't kept per run, so only the newest one carries those that are open."""
    query = select(reconciliations).where(reconciliations.c.book == book)
    if before is not None:
        query = query.where(reconciliations.c.id < before)
    rows = await connection.execute(query.order_by(reconciliations.c.id.desc()).limit(limit))
    return [_run(row) for row in rows]


def _run(row: Row[Any]) -> Reconciliation:
    return Reconciliation(
        id=row.id,
        started_at=row.started_at,
        finished_at=row.finished_at,
        checks=row.checks,
        open_breaks=row.breaks,
        explained=row.explained,
        breaks=(),
        networks=tuple(JudgedNetwork(**network) for network in row.networks),
        in_flight=tuple(
            InFlight(**item | {"amount": int(item["amount"]), "seen_at": datetime.fromisoformat(item["seen_at"])})
            for item in row.in_flight
        ),
        changed=row.changed,
    )
