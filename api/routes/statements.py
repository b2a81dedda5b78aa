"""Bank statements: upload a file, look at its lines, give a waiting payment to the user whose it is."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, day, instant, money
from api.auth import caller
from api.bodies import read_body
from api.door import resource
from api.errors import InvalidRequest, WrongContentType
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.top_ups import TopUpView, top_up_view
from api.schemas import Asked
from fiat.bank.camt053 import FILE_BYTES_MAX
from fiat.bank.records import BankLine, ImportedStatement, LineState, StatementReceipt
from identity.scopes import Scope

router = resource("treasury")

_XML = ("application/xml", "text/xml")


class StatementView(TypedDict):
    id: str
    account: str
    bank_id: str
    asset: str
    opening: str
    closing: str
    closing_on: str
    lines: int
    pending: int
    credited: int
    suspended: int
    noted: int
    known: int
    gap: str
    reasons: dict[str, int]


class StatementReceiptView(TypedDict):
    file: str
    sha256: str
    replayed: bool
    credited: int
    suspended: int
    statements: list[StatementView]
    warnings: list[str]


class LineView(TypedDict):
    id: str
    account: str
    statement: str
    number: int
    direction: str
    state: str
    reason: str | None
    asset: str
    amount: str
    booked_on: str
    value_on: str
    bank_reference: str
    end_to_end_id: str
    remittance: str
    counterparty: str
    counterparty_account: str
    user: str | None
    top_up: str | None
    recorded_at: str


class LineList(TypedDict):
    items: list[LineView]
    has_more: bool


class Match(Asked):
    """Whose payment it is."""

    user: str = Field(max_length=64, examples=["@alice"], description="@handle, or a user id.")


def receipt_view(receipt: StatementReceipt, assets: Assets) -> StatementReceiptView:
    """`replayed`: this very file was taken before, and nothing was done."""
    return {
        "file": receipt.file,
        "sha256": receipt.sha256,
        "replayed": receipt.replayed,
        "credited": receipt.credited,
        "suspended": receipt.suspended,
        "statements": [statement_view(statement, assets) for statement in receipt.statements],
        "warnings": list(receipt.warnings),
    }


def statement_view(statement: ImportedStatement, assets: Assets) -> StatementView:
    """`gap`: what the closing balance holds beyond the one before it and these lines; not zero: one is missing."""
    asset = statement.asset
    return {
        "id": statement.id,
        "account": statement.account,
        "bank_id": statement.bank_id,
        "asset": asset,
        "opening": money(statement.opening, asset, assets),
        "closing": money(statement.closing, asset, assets),
        "closing_on": day(statement.closing_on),
        "lines": statement.lines,
        "pending": statement.pending,
        "credited": statement.credited,
        "suspended": statement.suspended,
        "noted": statement.noted,
        "known": statement.known,
        "gap": money(statement.gap, asset, assets),
        "reasons": {reason.value: count for reason, count in statement.reasons.items()},
    }


def line_view(line: BankLine, assets: Assets) -> LineView:
    return {
        "id": line.id,
        "account": line.account,
        "statement": line.statement,
        "number": line.number,
        "direction": line.direction.name.lower(),
        "state": line.state.value,
        "reason": line.reason.value if line.reason else None,
        "asset": line.asset,
        "amount": money(line.amount, line.asset, assets),
        "booked_on": day(line.booked_on),
        "value_on": day(line.value_on),
        "bank_reference": line.bank_reference,
        "end_to_end_id": line.end_to_end_id,
        "remittance": line.remittance,
        "counterparty": line.counterparty,
        "counterparty_account": line.counterparty_account,
        "user": line.owner,
        "top_up": line.top_up,
        "recorded_at": instant(line.recorded_at),
    }


@router.post(
    "/treasury/statements",
    response_model=StatementReceiptView,
    summary="Upload a bank statement (camt.053)",
    dependencies=[caller(Scope.TREASURY_WRITE)],
    openapi_extra={
        "requestBody": {"required": True, "content": {kind: {"schema": {"type": "string"}} for kind in _XML}}
    },
)
async def create_statement(
    request: Request,
    parts: Parts,
    filename: Annotated[str, Query(min_length=1, max_length=200, description="For messages and records.")] = "upload",
) -> Response:
    """The body is the file as the bank delivered it. The same file again, or overlapping ones, book each line once."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _XML:
        raise WrongContentType("this path takes a bank's file: send Content-Type: application/xml", expected=_XML[0])
    if not filename.isprintable():
        raise InvalidRequest("filename: only printable characters", param="filename")
    content = await read_body(request, bytes_max=FILE_BYTES_MAX)
    receipt = await parts.bank.import_statement(content, filename=filename)
    return answer(receipt_view(receipt, await assets_of(parts)), replayed=receipt.replayed)


@router.get(
    "/treasury/statement-lines",
    response_model=LineList,
    summary="List bank lines, the oldest first",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_statement_lines(
    parts: Parts, page: Onward, state: Annotated[LineState | None, Query(description="Only those.")] = None
) -> Response:
    states = () if state is None else (state,)
    found = await parts.bank.lines(*states, after=page.starting_after, limit=page.limit + 1)
    assets = await assets_of(parts)
    return answer(listing(found[: page.limit], len(found) > page.limit, partial(line_view, assets=assets)))


@router.post(
    "/treasury/statement-lines/{line}/match",
    response_model=TopUpView,
    status_code=201,
    summary="Give a payment in suspense to the user whose it is",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
async def match_statement_line(parts: Parts, line: str, key: IdempotencyKey, asked: Match) -> Response:
    owner = (await parts.identity.user(asked.user)).id
    made = await parts.bank.match(line, owner=owner, key=key)
    return answer(top_up_view(made, await assets_of(parts)), status=201, replayed=made.replayed)
