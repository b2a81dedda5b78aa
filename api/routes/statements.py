"""Bank statements: upload a file, look at its lines, give a waiting payment to the user whose it is."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, day, instant, maybe_money, money
from api.auth import caller
from api.bodies import read_body
from api.door import resource
from api.errors import InvalidRequest, WrongContentType
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.payouts import AnyPayoutView, any_payout_view
from api.routes.top_ups import TopUpView, top_up_view
from api.schemas import Asked
from fiat.bank.records import BankLine, ImportedStatement, LineState, MessageResult, StatementReceipt
from fiat.bank.xml import MESSAGE_BYTES_MAX
from identity.scopes import Scope

router = resource("treasury")

_XML = ("application/xml", "text/xml", "text/plain")
"""Plain text is MT940's."""


class StatementView(TypedDict):
    id: str
    kind: str
    account: str
    bank_id: str
    asset: str
    opening: str | None
    closing: str | None
    closing_on: str | None
    lines: int
    pending: int
    credited: int
    paid: int
    returned: int
    suspended: int
    noted: int
    known: int
    ahead: int
    gap: str
    reasons: dict[str, int]


class MessageView(TypedDict):
    id: str
    kind: str
    bank_id: str
    told: int
    accepted: int
    rejected: int
    moved: int


class StatementReceiptView(TypedDict):
    file: str
    sha256: str
    format: str
    replayed: bool
    credited: int
    suspended: int
    statements: list[StatementView]
    messages: list[MessageView]
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
    payout: str | None
    recorded_at: str


class LineList(TypedDict):
    items: list[LineView]
    has_more: bool


class PayoutMatch(Asked):
    """Which payout the line was."""

    payout: str = Field(max_length=64, examples=["pyo_01jd0000000000000000000000"])


class Match(Asked):
    """Whose payment it is."""

    user: str = Field(max_length=64, examples=["@alice"], description="@handle, or a user id.")


def receipt_view(receipt: StatementReceipt, assets: Assets) -> StatementReceiptView:
    """`replayed`: this very file was taken before, and nothing was done."""
    return {
        "file": receipt.file,
        "sha256": receipt.sha256,
        "format": receipt.format,
        "replayed": receipt.replayed,
        "credited": receipt.credited,
        "suspended": receipt.suspended,
        "statements": [statement_view(statement, assets) for statement in receipt.statements],
        "messages": [message_view(message) for message in receipt.messages],
        "warnings": list(receipt.warnings),
    }


def message_view(message: MessageResult) -> MessageView:
    """`told`: payments in it; `moved`: payouts that it moved on."""
    return {
        "id": message.id,
        "kind": message.kind,
        "bank_id": message.bank_id,
        "told": message.told,
        "accepted": message.accepted,
        "rejected": message.rejected,
        "moved": message.moved,
    }


def statement_view(statement: ImportedStatement, assets: Assets) -> StatementView:
    """`gap`: what the closing balance holds beyond the one before it and these lines; not zero: one is missing."""
    asset = statement.asset
    return {
        "id": statement.id,
        "kind": statement.kind,
        "account": statement.account,
        "bank_id": statement.bank_id,
        "asset": asset,
        "opening": maybe_money(statement.opening, asset, assets),
        "closing": maybe_money(statement.closing, asset, assets),
        "closing_on": None if statement.closing_on is None else day(statement.closing_on),
        "lines": statement.lines,
        "pending": statement.pending,
        "credited": statement.credited,
        "paid": statement.paid,
        "returned": statement.returned,
        "suspended": statement.suspended,
        "noted": statement.noted,
        "known": statement.known,
        "ahead": statement.ahead,
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
        "payout": line.payout,
        "recorded_at": instant(line.recorded_at),
    }


@router.post(
    "/treasury/statements",
    response_model=StatementReceiptView,
    summary="Upload a bank's file: camt.053, camt.054, MT940, pain.002, pacs.004",
    dependencies=[caller(Scope.TREASURY_WRITE)],
    openapi_extra={
        "requestBody": {"required": True, "content": {kind: {"schema": {"type": "string"}} for kind in _XML}}
    },
)
@noted("bank_file.import")
async def create_statement(
    request: Request,
    parts: Parts,
    filename: Annotated[str, Query(min_length=1, max_length=200, description="For messages and records.")] = "upload",
) -> Response:
    """The body is the file as the bank delivered it. The same file again, or overlapping ones, book each line once."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _XML:
        raise WrongContentType(
            "this path takes a bank's file: send Content-Type: application/xml, or text/plain for MT940",
            expected=_XML[0],
        )
    if not filename.isprintable():
        raise InvalidRequest("filename: only printable characters", param="filename")
    content = await read_body(request, bytes_max=MESSAGE_BYTES_MAX)
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
@noted("bank_line.match", subject="line")
async def match_statement_line(parts: Parts, line: str, key: IdempotencyKey, asked: Match) -> Response:
    owner = (await parts.identity.user(asked.user)).id
    made = await parts.bank.match(line, owner=owner, key=key)
    return answer(top_up_view(made, await assets_of(parts)), status=201, replayed=made.replayed)


@router.post(
    "/treasury/statement-lines/{line}/match-payout",
    response_model=AnyPayoutView,
    status_code=201,
    summary="Say that a line in suspense was a payout, leaving or coming back",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("bank_line.match_payout", subject="line")
async def match_statement_line_to_payout(parts: Parts, line: str, key: IdempotencyKey, asked: PayoutMatch) -> Response:
    """Money out settles the payout's hold; money in brings a paid payout back to its owner."""
    found = await parts.bank.match_payout(line, payout=asked.payout, key=key)
    return answer(any_payout_view(found, await assets_of(parts)), status=201, replayed=found.replayed)
