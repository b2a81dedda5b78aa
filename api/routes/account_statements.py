"""Statements of an account: opening balance, lines, closing balance, by either of the book's two times; JSON or CSV."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant, maybe_instant, money
from api.auth import any_caller
from api.door import resource
from api.errors import InvalidRequest
from api.instants import Instant
from api.parts import Parts
from api.routes.history import EvidenceView, evidence_view
from base.errors import NotFound
from identity.keys import Principal
from identity.scopes import Scope
from ledger.accounts import split_account_id, user_account
from ledger.errors import StatementTooLong
from ledger.money import Asset
from ledger.statements import Statement, StatementLine, TimeKind
from wallet.statements import STATEMENT_HEADER, counterparty_of, kind_in, statement_rows

router = resource("statements")

SEQ_MAX = 2**63 - 1


class StatementLineView(TypedDict):
    id: str
    booked_at: str
    effective_at: str
    effective_at_requested: str | None
    kind: str
    subject: str | None
    amount: str
    balance: str
    counterparty: str
    memo: str | None
    evidence: EvidenceView | None


AccountStatementView = TypedDict(
    "AccountStatementView",
    {
        "account": str,
        "asset": str,
        "by": str,
        "from": str,
        "to": str,
        "known_at": str,
        "known_seq": int,
        "opening": str,
        "lines": list[StatementLineView],
        "closing": str,
    },
)


def statement_view(statement: Statement, asset: Asset) -> AccountStatementView:
    """`opening` and the lines' signed amounts come to `closing`; with its `known_seq` it's the same again."""
    assets = {asset.code: asset}
    return {
        "account": statement.account,
        "asset": asset.code,
        "by": statement.by.value,
        "from": instant(statement.since),
        "to": instant(statement.until),
        "known_at": instant(statement.known_at),
        "known_seq": statement.known_seq,
        "opening": money(statement.opening, asset.code, assets),
        "lines": [_line(statement.account, line, asset) for line in statement.lines],
        "closing": money(statement.closing, asset.code, assets),
    }


def _line(account: str, line: StatementLine, asset: Asset) -> StatementLineView:
    movement, assets = line.movement, {asset.code: asset}
    return {
        "id": f"{movement.seq}.{movement.line}",
        "booked_at": instant(movement.booked_at),
        "effective_at": instant(movement.effective_at),
        "effective_at_requested": maybe_instant(movement.effective_at_requested),
        "kind": kind_in(account, line),
        "subject": movement.subject,
        "amount": money(line.step, asset.code, assets),
        "balance": money(line.balance, asset.code, assets),
        "counterparty": counterparty_of(account, line),
        "memo": movement.metadata.get("memo"),
        "evidence": evidence_view(movement.evidence),
    }


@router.get(
    "/statements",
    response_model=AccountStatementView,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    summary="A statement of one account",
)
async def read_statement(
    request: Request,
    parts: Parts,
    principal: Annotated[Principal, Depends(any_caller)],
    since: Annotated[Instant, Query(alias="from", description="From this instant on (RFC 3339).")],
    until: Annotated[Instant | None, Query(alias="to", description="Before this instant; else all up to now.")] = None,
    asset: Annotated[
        str | None, Query(max_length=20, examples=["USDC"], description="Your own account in this asset.")
    ] = None,
    account: Annotated[
        str | None,
        Query(
            max_length=300,
            examples=["house/fees/USDC"],
            description="Or an account's name; others' need treasury:read.",
        ),
    ] = None,
    by: Annotated[TimeKind, Query(description="Which time orders and bounds it.")] = TimeKind.BOOKED,
    known_at: Annotated[
        Instant | None, Query(description="As it would have been told then, without what was booked later.")
    ] = None,
    known_seq: Annotated[
        int | None, Query(ge=0, le=SEQ_MAX, description="Or as an earlier answer's known_seq says: the same again.")
    ] = None,
    format: Annotated[Literal["json", "csv"] | None, Query(description="Or by Accept: text/csv.")] = None,
) -> Response:
    """Needs wallet:read for your own accounts, treasury:read for any other."""
    if known_at is not None and known_seq is not None:
        raise InvalidRequest("give known_at or known_seq, not both", param="known_seq")
    end = parts.clock.now() + timedelta(microseconds=1) if until is None else until
    if end <= since:
        raise InvalidRequest("a statement ends after it begins: `to` is later than `from`", param="to")
    name = _account_asked(principal, asset=asset, account=account)
    kept = await _kept_in(parts, name, own=asset is not None)
    known = known_seq if known_at is None else known_at
    try:
        statement = await parts.ledger.statement(name, since=since, until=end, by=by, known=known)
    except StatementTooLong as error:
        error.param = "to"
        raise
    if format == "csv" or (format is None and "text/csv" in request.headers.get("accept", "")):
        return _csv(statement, kept)
    return answer(statement_view(statement, kept))


def _account_asked(principal: Principal, *, asset: str | None, account: str | None) -> str:
    """The account that is meant, if this key may see it. Raises InvalidRequest, InvalidCommand, ScopeMissing."""
    if (asset is None) == (account is None):
        raise InvalidRequest("say which account: `asset` for your own, or `account` with its name", param="asset")
    if account is None:
        principal.require(Scope.WALLET_READ)
        return user_account(str(principal.user_id), str(asset))
    mine = split_account_id(account)[0] == principal.user_id
    principal.require(Scope.WALLET_READ if mine else Scope.TREASURY_READ)
    return account


async def _kept_in(parts: Parts, account: str, *, own: bool) -> Asset:
    """The account's asset. Raises UnknownAsset, and NotFound for a named account that doesn't exist."""
    asset = await parts.ledger.asset(split_account_id(account)[2])
    if not own and await parts.ledger.account(account) is None:
        raise NotFound(f"there is no account {account[:60]!r}", code="unknown_account", param="account")
    return asset


def _csv(statement: Statement, asset: Asset) -> Response:
    text = io.StringIO()
    csv.writer(text).writerows((STATEMENT_HEADER, *statement_rows(statement, asset)))
    name = f"statement-{asset.code}-{_day(statement.since)}-{_day(statement.until)}-{statement.known_seq}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()
