"""SQL of what a treasurer proposes for a second one to confirm."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.riders import Advance, Insert
from treasury.operations.tables import proposals

TABLE = proposals.name


class ProposalKind(StrEnum):
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"
    CREDIT_LINE = "credit_line"
    PERIOD = "period"
    """Closing one though something stands open in it."""


class ProposalState(StrEnum):
    OPEN = "open"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Open, and its time is over: the clock tells it, no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What `maker` wants done. `terms` are its kind's, plain JSON: amounts as text, in smallest units.

    `made` is what it became: the id of an adjustment, a reversal or a closed period, or the account of a credit line.
    """

    id: str
    kind: ProposalKind
    state: ProposalState
    terms: Mapping[str, Any]
    reason: str
    maker: str
    created_at: datetime
    expires_at: datetime
    closed_by: str | None = None
    closed_at: datetime | None = None
    made: str | None = None
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
        "kind": proposal.kind.value,
        "state": proposal.state.value,
        "terms": dict(proposal.terms),
        "reason": proposal.reason,
        "maker": proposal.maker,
        "created_at": proposal.created_at,
        "expires_at": proposal.expires_at,
    }
    return Insert(TABLE, {"book": book, "id": proposal.id}, values)


def closed(book: str, proposal: str, to: ProposalState, *, by: str, at: datetime, made: str | None = None) -> Advance:
    """Compare and set: from open to confirmed or withdrawn."""
    change = {"state": to.value, "closed_by": by, "closed_at": at, "made": made}
    return Advance(TABLE, key={"book": book, "id": proposal}, expect={"state": "open"}, change=change)


def _proposal(row: Row[Any]) -> Proposal:
    return Proposal(
        id=row.id,
        kind=ProposalKind(row.kind),
        state=ProposalState(row.state),
        terms=row.terms,
        reason=row.reason,
        maker=row.maker,
        created_at=row.created_at,
        expires_at=row.expires_at,
        closed_by=row.closed_by,
        closed_at=row.closed_at,
        made=row.made,
    )
