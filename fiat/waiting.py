"""What of the fiat rails waits for a person, read off the rows themselves by indexes that hold only such rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Date, Text, cast, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.rails.dispute_states import DisputeState
from fiat.rails.records import Dispute, Settlement
from fiat.rails.store import read_dispute, read_settlement
from fiat.rails.tables import disputes, refunds, settlements, webhooks
from fiat.tables import lines, payouts

LATE_AFTER = timedelta(days=5)
"""How long after its day of arrival a settlement may still come: banks' holidays are in it."""

UNKNOWN_AFTER = timedelta(days=1)
"""How old an unknown refund is when it's told: until then a lost answer is mostly found out."""

SUSPENSE_AFTER = timedelta(days=1)
"""How long a bank line may wait in suspense before it's told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Webhooks of one rail whose effect failed too often. `code`: why one of them did."""

    rail: str
    count: int
    code: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownPayouts:
    """Payouts of one account of ours of which nobody knows whether they were paid; `amount` in smallest units.

    `since`: when something was last heard of the oldest.
    """

    account: str
    asset: str
    count: int
    amount: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownRefunds:
    """Refunds of one rail of which nobody has known for too long whether they were made; `amount` in smallest units.

    `since`: when the oldest was asked for.
    """

    rail: str
    asset: str
    count: int
    amount: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """Lines of one bank account that have waited in suspense too long."""

    account: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidAfterEnd:
    """Debits of one bank account in suspense that name payouts which had ended: paid twice, or after given back."""

    account: str
    asset: str
    count: int
    amount: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """All of it. `differing`: settlements with what doesn't fit; `late`: those that should have arrived.

    `ended`: payouts' debits that came after their payouts' end.
    """

    dead: Sequence[DeadLetters]
    disputes: Sequence[Dispute]
    differing: Sequence[Settlement]
    late: Sequence[Settlement]
    unknown: Sequence[UnknownPayouts]
    unknown_refunds: Sequence[UnknownRefunds]
    suspended: Sequence[Suspended]
    ended: Sequence[PaidAfterEnd]


async def load_waiting(connection: AsyncConnection, book: str, *, now: datetime, limit: int) -> Waiting:
    """What waits now; of disputes and settlements `limit` at most of each, the most urgent first."""
    return Waiting(
        dead=await _dead(connection, book),
        disputes=await _disputes(connection, book, limit=limit),
        differing=await _differing(connection, book, limit=limit),
        late=await _late(connection, book, now=now, limit=limit),
        unknown=await _unknown(connection, book),
        unknown_refunds=await _unknown_refunds(connection, book, now=now),
        suspended=await _suspended(connection, book, now=now),
        ended=await _ended(connection, book),
    )


# States are written into the statements, not bound: only so does the planner know that a partial index has the rows.


async def _dead(connection: AsyncConnection, book: str) -> list[DeadLetters]:
    c = webhooks.c
    query = (
        select(
            c.rail, func.count().label("count"), func.max(c.code).label("code"), func.min(c.received_at).label("since")
        )
        .where(c.book == book, c.state == literal_column("'dead'"))
        .group_by(c.rail)
    )
    rows = await connection.execute(query.order_by(c.rail))
    return [DeadLetters(rail=row.rail, count=row._mapping["count"], code=row.code, since=row.since) for row in rows]


async def _disputes(connection: AsyncConnection, book: str, *, limit: int) -> list[Dispute]:
    """Those that we can still answer."""
    ours = (DisputeState.INQUIRY.value, DisputeState.OPEN.value)
    query = select(disputes).where(disputes.c.book == book, disputes.c.state.in_(ours))
    query = query.order_by(disputes.c.respond_by.nulls_last(), disputes.c.id).limit(limit)
    return [read_dispute(row) for row in await connection.execute(query)]


async def _differing(connection: AsyncConnection, book: str, *, limit: int) -> list[Settlement]:
    c = settlements.c
    wrong = (c.differences > literal_column("0")) | (c.unexplained != literal_column("0"))
    query = select(settlements).where(c.book == book, c.accepted_at.is_(None), wrong).order_by(c.id).limit(limit)
    return [read_settlement(row) for row in await connection.execute(query)]


async def _late(connection: AsyncConnection, book: str, *, now: datetime, limit: int) -> list[Settlement]:
    """Where the provider named no day, the day counts on which we heard of it."""
    c = settlements.c
    arrives_on = func.coalesce(c.arrives_on, cast(cast(func.timezone("UTC", c.created_at), Date), Text))
    last_day = (now - LATE_AFTER).date().isoformat()
    query = select(settlements).where(c.book == book, c.state == literal_column("'sent'"), arrives_on < last_day)
    return [read_settlement(row) for row in await connection.execute(query.order_by(arrives_on, c.id).limit(limit))]


async def _unknown(connection: AsyncConnection, book: str) -> list[UnknownPayouts]:
    c = payouts.c
    query = (
        select(c.account, c.asset, func.count(), func.sum(c.amount), func.min(c.updated_at))
        .where(c.book == book, c.state == literal_column("'unknown'"))
        .group_by(c.account, c.asset)
    )
    rows = await connection.execute(query.order_by(c.account, c.asset))
    return [
        UnknownPayouts(account=account, asset=asset, count=count, amount=int(amount), since=since)
        for account, asset, count, amount, since in rows
    ]


async def _unknown_refunds(connection: AsyncConnection, book: str, *, now: datetime) -> list[UnknownRefunds]:
    c = refunds.c
    old = c.created_at <= now - UNKNOWN_AFTER
    query = (
        select(c.rail, c.asset, func.count(), func.sum(c.amount), func.min(c.created_at))
        .where(c.book == book, c.state == literal_column("'unknown'"), old)
        .group_by(c.rail, c.asset)
    )
    rows = await connection.execute(query.order_by(c.rail, c.asset))
    return [
        UnknownRefunds(rail=rail, asset=asset, count=count, amount=int(amount), since=since)
        for rail, asset, count, amount, since in rows
    ]


async def _suspended(connection: AsyncConnection, book: str, *, now: datetime) -> list[Suspended]:
    c = lines.c
    old = c.recorded_at <= now - SUSPENSE_AFTER
    query = select(c.account, func.count(), func.min(c.recorded_at)).where(c.book == book, c.state == "suspended", old)
    rows = await connection.execute(query.group_by(c.account).order_by(c.account))
    return [Suspended(account=account, count=count, since=since) for account, count, since in rows]


async def _ended(connection: AsyncConnection, book: str) -> list[PaidAfterEnd]:
    c = lines.c
    those = (c.state == literal_column("'suspended'")) & (c.reason == "payout_ended") & (c.direction == "DBIT")
    query = (
        select(c.account, c.asset, func.count(), func.sum(c.amount), func.min(c.recorded_at))
        .where(c.book == book, those)
        .group_by(c.account, c.asset)
    )
    rows = await connection.execute(query.order_by(c.account, c.asset))
    return [
        PaidAfterEnd(account=account, asset=asset, count=count, amount=int(amount), since=since)
        for account, asset, count, amount, since in rows
    ]
