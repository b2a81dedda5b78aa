"""History and receipts: a user's own lines of the book, as JSON or CSV."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Annotated, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import owner
from api.bodies import is_plain_text
from api.door import resource
from api.errors import InvalidRequest
from api.instants import Instant
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from identity.scopes import Scope
from ledger.bounds import KEY_MAX, VALUE_MAX
from ledger.commands import BankEvidence, ChainEvidence, Evidence, RailEvidence, SignerEvidence
from ledger.money import Asset
from ledger.statements import TimeKind
from wallet.history import CSV_HEADER, HistoryLine, csv_rows
from wallet.receipts import Receipt, ReceiptLine

CSV_CHUNK = 500
CSV_LINES_MAX = 200_000
"""Lines of one CSV file. A longer history is taken in parts, by `until` or `starting_after`."""

METADATA = "metadata."
"""How a parameter begins that asks for a pair of metadata."""

PAIRS_MAX = 5
"""Pairs of metadata searched at once."""

_CSV = {"Content-Disposition": 'attachment; filename="history.csv"'}

router = resource("history")


class EvidenceView(TypedDict, total=False):
    kind: Literal["chain", "bank", "signer", "rail"]
    network: str
    block_number: int
    block_hash: str
    tx_hash: str | None
    place: str
    account: str
    statement: str
    line: int
    journal_row: int
    journal_hash: str
    rail: str
    object: str


"""What outside the book caused it: a place in a block, a line of a bank statement, a row of the signer's journal, a
provider's object."""


class HistoryView(TypedDict):
    id: str
    booked_at: str
    effective_at: str
    effective_at_requested: str | None
    kind: str
    status: str
    subject: str | None
    asset: str
    amount: str
    balance: str
    counterparty: str
    memo: str | None
    evidence: EvidenceView | None
    internal: bool


class HistoryList(TypedDict):
    items: list[HistoryView]
    has_more: bool


class ReceiptLineView(TypedDict):
    entry: str
    seq: int
    booked_at: str
    status: str
    asset: str
    amount: str
    counterparty: str
    balance: str
    evidence: EvidenceView | None
    internal: bool


class ReceiptView(TypedDict):
    subject: str
    kind: str
    memo: str | None
    lines: list[ReceiptLineView]


def evidence_view(evidence: Evidence | None) -> EvidenceView | None:
    match evidence:
        case ChainEvidence():
            return {
                "kind": "chain",
                "network": evidence.network,
                "block_number": evidence.block_number,
                "block_hash": evidence.block_hash,
                "tx_hash": evidence.transaction,
                "place": evidence.place,
            }
        case BankEvidence():
            return {
                "kind": "bank",
                "account": evidence.account,
                "statement": evidence.statement,
                "line": evidence.line,
            }
        case SignerEvidence():
            return {"kind": "signer", "journal_row": evidence.journal_row, "journal_hash": evidence.journal_hash}
        case RailEvidence():
            return {"kind": "rail", "rail": evidence.rail, "object": evidence.object}
        case None:
            return None


def history_view(line: HistoryLine, assets: Assets) -> HistoryView:
    """`amount` is signed: positive came in. `balance` is the one after it."""
    return {
        "id": line.key,
        "booked_at": instant(line.booked_at),
        "effective_at": instant(line.effective_at),
        "effective_at_requested": maybe_instant(line.effective_at_requested),
        "kind": line.kind,
        "status": line.status.value,
        "subject": line.subject,
        "asset": line.asset,
        "amount": money(line.amount, line.asset, assets),
        "balance": money(line.balance, line.asset, assets),
        "counterparty": line.counterparty,
        "memo": line.memo,
        "evidence": evidence_view(line.evidence),
        "internal": line.internal,
    }


def receipt_view(receipt: Receipt, assets: Assets) -> ReceiptView:
    lines = [_receipt_line(line, assets) for line in receipt.lines]
    return {"subject": receipt.subject, "kind": receipt.kind, "memo": receipt.memo, "lines": lines}


def _receipt_line(line: ReceiptLine, assets: Assets) -> ReceiptLineView:
    return {
        "entry": line.entry,
        "seq": line.seq,
        "booked_at": instant(line.booked_at),
        "status": line.status.value,
        "asset": line.asset,
        "amount": money(line.amount, line.asset, assets),
        "counterparty": line.counterparty,
        "balance": money(line.balance, line.asset, assets),
        "evidence": evidence_view(line.evidence),
        "internal": line.internal,
    }


Since = Annotated[Instant | None, Query(description="From this instant on (RFC 3339).")]
Until = Annotated[Instant | None, Query(description="Before this instant (RFC 3339).")]


@router.get(
    "/history",
    response_model=HistoryList,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    summary="Every movement of your balances",
)
async def list_history(
    request: Request,
    parts: Parts,
    page: Wanted,
    user: Annotated[str, owner(Scope.WALLET_READ)],
    asset: Annotated[str | None, Query(max_length=20)] = None,
    kind: Annotated[str | None, Query(max_length=20, description="transfer, conversion, deposit, ...")] = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[TimeKind, Query(description="Which time since and until are about.")] = TimeKind.BOOKED,
    format: Annotated[Literal["json", "csv"] | None, Query(description="Or by Accept: text/csv.")] = None,
) -> Response:
    """Also by metadata: `metadata.order=17` gives the entries that have this pair."""
    lines = partial(
        parts.history.page,
        user,
        asset=asset,
        kind=kind,
        metadata=_metadata_asked(request),
        since=since,
        until=until,
        by=by,
    )
    if format == "csv" or (format is None and "text/csv" in request.headers.get("accept", "")):
        first = await lines(before=page.starting_after, limit=CSV_CHUNK)
        return StreamingResponse(
            _csv(first, lines, await assets_of(parts)), media_type="text/csv; charset=utf-8", headers=_CSV
        )
    found = await page.of(lines)
    return answer(listing(*found, partial(history_view, assets=await assets_of(parts))))


@router.get("/receipts/{subject}", response_model=ReceiptView, summary="What the book says about one movement")
async def read_receipt(parts: Parts, subject: str, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(receipt_view(await parts.receipts.get(user, subject), await assets_of(parts)))


def _metadata_asked(request: Request) -> dict[str, str]:
    """The pairs that `metadata.key=value` asks for. Raises InvalidRequest."""
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if not name.startswith(METADATA):
            continue
        key = name.removeprefix(METADATA)
        if not 0 < len(key) <= KEY_MAX or len(value) > VALUE_MAX or not is_plain_text(key + value):
            raise InvalidRequest(f"{name[:40]!r} names no pair of metadata", param=name[:KEY_MAX])
        if pairs.setdefault(key, value) != value:
            raise InvalidRequest(f"{name} is asked for twice, with different values", param=name)
    if len(pairs) > PAIRS_MAX:
        raise InvalidRequest(f"at most {PAIRS_MAX} pairs of metadata are searched at once", param="metadata")
    return pairs


async def _csv(
    first: list[HistoryLine], lines: Callable[..., Awaitable[list[HistoryLine]]], assets: dict[str, Asset]
) -> AsyncIterator[str]:
    """The history as a CSV file (RFC 4180), newest first, a chunk at a time."""
    yield _csv_text([CSV_HEADER])
    chunk, written = first, 0
    while chunk and written < CSV_LINES_MAX:
        yield _csv_text(csv_rows(chunk, assets))
        written += len(chunk)
        chunk = await lines(before=chunk[-1].key, limit=CSV_CHUNK)


def _csv_text(rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
