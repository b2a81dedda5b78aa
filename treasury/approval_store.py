"""Rows of approvals and their signatures: the only SQL about them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, Row, Text, any_, func, literal, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from custody.approval_requests import ApprovalRequest
from custody.approvals import Signature
from custody.intent_json import terms_to_json
from ledger.requests import RequestKey
from treasury.tables import approval_signatures, approvals


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A request that is to be stored."""

    id: str
    request: ApprovalRequest
    needed: int
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FirstRequest:
    """What an idempotency key was first used for."""

    id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """A row, with its signatures in the order in which they came."""

    id: str
    state: str
    terms: Mapping[str, object]
    statement: bytes
    maker: str
    made_by: tuple[str, bytes] | None
    not_after: datetime
    fee_wei_max: int
    policy_version: int
    policy_fingerprint: bytes
    needed: int
    created_by: str
    created_at: datetime
    closed_at: datetime | None
    signatures: tuple[tuple[Signature, datetime], ...]


async def find_request(connection: AsyncConnection, book: str, request: str) -> FirstRequest | None:
    """What this idempotency key made, if it was used."""
    query = select(approvals.c.id, approvals.c.content).where(approvals.c.book == book, approvals.c.request == request)
    row = (await connection.execute(query)).first()
    return None if row is None else FirstRequest(row.id, bytes(row.content))


async def insert_approval(connection: AsyncConnection, book: str, key: RequestKey, row: NewApproval) -> bool:
    """Store a request; False when one with its idempotency key is there."""
    mandate = row.request.mandate
    made = await connection.execute(
        insert(approvals)
        .values(
            book=book,
            id=row.id,
            request=key.id,
            content=key.content,
            state="open",
            subject=row.request.intent.subject,
            terms=terms_to_json(row.request.intent),
            statement=row.request.statement,
            maker=mandate.maker,
            made_by_scheme=None if mandate.made_by is None else mandate.made_by.scheme,
            made_by_payload=None if mandate.made_by is None else mandate.made_by.signature,
            not_after=datetime.fromtimestamp(mandate.not_after, UTC),
            fee_wei_max=mandate.fee_wei_max,
            policy_version=mandate.policy_version,
            policy_fingerprint=mandate.policy_fingerprint,
            needed=row.needed,
            created_by=row.created_by,
            created_at=row.created_at,
        )
        .on_conflict_do_nothing(index_elements=["book", "request"])
    )
    return bool(made.rowcount)


async def load_approval(
    connection: AsyncConnection, book: str, approval: str, *, lock: bool = False
) -> StoredApproval | None:
    """One request; with `lock` its row until the tx ends."""
    query = select(approvals).where(approvals.c.book == book, approvals.c.id == approval)
    rows = (await connection.execute(query.with_for_update() if lock else query)).all()
    return next(iter(await _whole(connection, book, rows)), None)


async def list_approvals(
    connection: AsyncConnection, book: str, *, before: str | None, limit: int
) -> list[StoredApproval]:
    """Requests, newest first, those older than the id `before`."""
    query = select(approvals).where(approvals.c.book == book).order_by(approvals.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(approvals.c.id < before)
    return await _whole(connection, book, (await connection.execute(query)).all())


async def load_latest(connection: AsyncConnection, book: str, subjects: Sequence[str]) -> dict[str, StoredApproval]:
    """The latest request about each of these subjects, by subject."""
    mine = (approvals.c.book == book) & (approvals.c.subject == any_(literal(list(subjects), ARRAY(Text))))
    query = select(approvals).ext(postgresql.distinct_on(approvals.c.subject)).where(mine)
    rows = (await connection.execute(query.order_by(approvals.c.subject, approvals.c.id.desc()))).all()
    whole = {one.id: one for one in await _whole(connection, book, rows)}
    return {row.subject: whole[row.id] for row in rows}


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that people haven't decided, and how many of the needed signatures are there."""

    id: str
    subject: str
    needed: int
    signed: int
    not_after: datetime
    created_at: datetime


async def load_open(connection: AsyncConnection, book: str, *, limit: int) -> list[OpenRequest]:
    """Requests that wait for signatures and whose time isn't over, the oldest first."""
    made = approvals.c
    signed = (
        select(func.count())
        .select_from(approval_signatures)
        .where(approval_signatures.c.book == made.book, approval_signatures.c.approval == made.id)
        .scalar_subquery()
    )
    query = (
        select(made.id, made.subject, made.needed, signed.label("signed"), made.not_after, made.created_at)
        .where(made.book == book, made.state == "open", made.not_after > func.now())
        .order_by(made.id)
        .limit(limit)
    )
    return [OpenRequest(*row) for row in await connection.execute(query)]


async def insert_signature(
    connection: AsyncConnection, book: str, approval: str, signature: Signature, *, now: datetime
) -> None:
    """Store a verified signature; only under the request's lock."""
    await connection.execute(
        insert(approval_signatures).values(
            book=book,
            approval=approval,
            approver=signature.by,
            scheme=signature.scheme,
            payload=signature.signature,
            received_at=now,
        )
    )


async def set_state(
    connection: AsyncConnection, book: str, approval: str, state: str, *, closed_at: datetime | None
) -> None:
    """Move a request on; only under its lock."""
    mine = (approvals.c.book == book) & (approvals.c.id == approval)
    await connection.execute(update(approvals).where(mine).values(state=state, closed_at=closed_at))


async def _whole(connection: AsyncConnection, book: str, rows: Iterable[Row[Any]]) -> list[StoredApproval]:
    rows = list(rows)
    under: dict[str, list[tuple[Signature, datetime]]] = defaultdict(list)
    own = approval_signatures.c
    query = select(approval_signatures).where(own.book == book, own.approval.in_([row.id for row in rows]))
    for row in await connection.execute(query.order_by(own.received_at, own.approver)):
        under[row.approval].append((Signature(row.approver, bytes(row.payload), row.scheme), row.received_at))
    return [
        StoredApproval(
            id=row.id,
            state=row.state,
            terms=row.terms,
            statement=bytes(row.statement),
            maker=row.maker,
            made_by=None if row.made_by_scheme is None else (row.made_by_scheme, bytes(row.made_by_payload)),
            not_after=row.not_after,
            fee_wei_max=row.fee_wei_max,
            policy_version=row.policy_version,
            policy_fingerprint=bytes(row.policy_fingerprint),
            needed=row.needed,
            created_by=row.created_by,
            created_at=row.created_at,
            closed_at=row.closed_at,
            signatures=tuple(under[row.id]),
        )
        for row in rows
    ]
