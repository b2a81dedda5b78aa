"""SQL of adjustments that a second treasurer is to confirm."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.riders import Advance, Insert
from treasury.operations.tables import proposals

TABLE = proposals.name


class ProposalState(StrEnum):
    OPEN = "open"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Open, and its time is over: the clock tells it, no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An adjustment that `maker` wants made. Amounts are smallest units."""

    id: str
    state: ProposalState
    source: str
    target: str
    asset: str
    amount: int
    reason: str
    evidence: str | None
    maker: str
    created_at: datetime
    expires_at: datetime
    closed_by: str | None = None
    closed_at: datetime | None = None
    adjustment: str | None = None
    replayed: bool = False

    def at(self, now: datetime) -> ProposalState:
        """Its state by the clock."""
        is_late = self.state is ProposalState.OPEN and now >= self.expires_at
        return ProposalState.EXPIRED if is_late else self.state


async def load_proposal(connection: AsyncConnection, book: str, proposal: str) -> Proposal | None:
    query = select(proposals).where(proposals.c.book == book, proposals.c.id == proposal)
    row = (await connection.execute(query)).first()
    return None if row is None else _proposal(row)


async def list_proposals(
    connection: AsyncConnection, book: str, *, open_at: datetime | None, before: str | None, limit: int
) -> list[Proposal]:
    """Proposals, newest first, those older than the id `before`; with `open_at` those alone that wait then."""
    query = select(proposals).where(proposals.c.book == book).order_by(proposals.c.id.desc()).limit(limit)
    if open_at is not None:
        query = query.where(proposals.c.state == "open", proposals.c.expires_at > open_at)
    if before is not None:
        query = query.where(proposals.c.id < before)
    return [_proposal(row) for row in await connection.execute(query)]


def added(book: str, proposal: Proposal) -> Insert:
    values: dict[str, object] = {
        name: getattr(proposal, name)
        for name in ("source", "target", "asset", "amount", "reason", "evidence", "maker", "created_at", "expires_at")
    }
    return Insert(TABLE, {"book": book, "id": proposal.id}, {**values, "state": proposal.state.value})


def closed(
    book: str, proposal: str, to: ProposalState, *, by: str, at: datetime, adjustment: str | None = None
) -> Advance:
    """Compare and set: from open to confirmed or withdrawn."""
    change = {"state": to.value, "closed_by": by, "closed_at": at, "adjustment": adjustment}
    return Advance(TABLE, key={"book": book, "id": proposal}, expect={"state": "open"}, change=change)


def _proposal(row: Row[Any]) -> Proposal:
    return Proposal(
        id=row.id,
        state=ProposalState(row.state),
        source=row.source,
        target=row.target,
        asset=row.asset,
        amount=row.amount,
        reason=row.reason,
        evidence=row.evidence,
        maker=row.maker,
        created_at=row.created_at,
        expires_at=row.expires_at,
        closed_by=row.closed_by,
        closed_at=row.closed_at,
        adjustment=row.adjustment,
    )
