"""A user's history: their lines of the book, filtered and in pages, and as rows of a CSV file."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from base.errors import Rejected
from ledger.commands import BankEvidence, ChainEvidence, Evidence, RailEvidence, SignerEvidence
from ledger.engine import Ledger, Movement
from ledger.money import Asset, format_amount
from ledger.outcomes import LineKind
from ledger.statements import TimeKind
from wallet.receipts import PREFIXES, kind_for, owner_line

LIMIT_MAX = 500
"""Lines that one page has at most."""

HOUSE_KEYS = frozenset({"reason", "bank_line", "by"})
"""Metadata that the house writes for itself: nobody learns it by searching for it."""

_CHUNK = 500
_CHUNKS_MAX = 20
"""Pages read from the book at most to fill one filtered page; the rest is found from where it stopped."""

CSV_HEADER = (
    "number",
    "booked_at",
    "kind",
    "status",
    "subject",
    "asset",
    "amount",
    "balance",
    "counterparty",
    "memo",
    "evidence",
)


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line of a user's history. `amount` is signed (positive came in), smallest units; `balance` is the one after.

    `key` is its place in the book, `seq.line`: what the next page starts after. `internal` is as in a receipt's line.
    """

    key: str
    booked_at: datetime
    effective_at: datetime
    kind: str
    status: LineKind
    subject: str | None
    entry: str
    asset: str
    amount: int
    balance: int
    counterparty: str
    memo: str | None
    evidence: Evidence | None
    internal: bool = False
    effective_at_requested: datetime | None = None


class History:
    """Reads users' history."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def page(
        self,
        owner: str,
        *,
        asset: str | None = None,
        kind: str | None = None,
        statuses: Sequence[LineKind] = (LineKind.POSTED,),
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimeKind = TimeKind.BOOKED,
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[HistoryLine]:
        """At most `limit` lines, newest first (oldest first with `after`), older than `before` or newer than `after`.

        `since` is inclusive and `until` exclusive, by the time that `by` names. `kind` is a word such as `transfer`;
        `metadata` names pairs that the command must have. Raises Rejected for a kind, a key of metadata or a place
        that can't be asked for, UnknownAsset.
        """
        if asset is not None:
            await self._ledger.asset(asset)
        if kind is not None and kind not in PREFIXES:
            raise Rejected(
                f"{kind[:40]!r} is no kind; kinds are {', '.join(PREFIXES)}", code="unknown_kind", param="kind"
            )
        for name in metadata or {}:
            if name in HOUSE_KEYS:
                raise Rejected(
                    f"{name!r} is the house's own note and isn't searched",
                    code="not_searchable",
                    param=f"metadata.{name}",
                )
        limit = max(1, min(limit, LIMIT_MAX))
        low, high = parse_key(before, "before"), parse_key(after, "after")
        found: list[HistoryLine] = []
        for _ in range(_CHUNKS_MAX):
            chunk = await self._ledger.history(
                owner=owner,
                asset=asset,
                kinds=tuple(statuses),
                metadata=metadata,
                since=since,
                until=until,
                by=by,
                before=low,
                after=high,
                limit=limit if kind is None else _CHUNK,
            )
            found += [_line(owner, m) for m in chunk if kind is None or kind_for(owner, m) == kind]
            if kind is None or len(found) >= limit or len(chunk) < _CHUNK:
                break
            last = (chunk[-1].seq, chunk[-1].line)
            low, high = (low, last) if high is not None else (last, high)
        return found[:limit]


def csv_rows(lines: Iterable[HistoryLine], assets: dict[str, Asset]) -> Iterator[tuple[str, ...]]:
    """The lines as cells of text: exact decimal amounts, ISO instants, no cell that a spreadsheet would run."""
    for line in lines:
        asset = assets[line.asset]
        cells = (
            line.key,
            line.booked_at.isoformat(),
            line.kind,
            line.status.value,
            inert(line.subject or ""),
            line.asset,
        )
        texts = (line.counterparty, line.memo or "", evidence_text(line.evidence))
        amounts = (format_amount(line.amount, asset), format_amount(line.balance, asset))
        yield (*cells, *amounts, *(inert(text) for text in texts))


def evidence_text(evidence: Evidence | None) -> str:
    """Evidence on one line: `local block 12 tx 0x... log:0`, `bank main statement S1 line 3`."""
    match evidence:
        case ChainEvidence():
            sent = f"tx {evidence.transaction} " if evidence.transaction else ""
            return f"{evidence.network} block {evidence.block_number} {sent}{evidence.place}"
        case BankEvidence():
            return f"bank {evidence.account} statement {evidence.statement} line {evidence.line}"
        case SignerEvidence():
            return f"signer's journal row {evidence.journal_row}"
        case RailEvidence():
            return f"{evidence.rail} {evidence.object}"
        case None:
            return ""


def parse_key(text: str | None, param: str) -> tuple[int, int] | None:
    """The (seq, line) that a page key means. Raises Rejected."""
    if text is None:
        return None
    seq, _, line = text.partition(".")
    if not (seq.isascii() and seq.isdigit() and line.isascii() and line.isdigit() and len(text) <= 30):
        raise Rejected(f"{text[:40]!r} is no place in a history", code="invalid_cursor", param=param)
    return int(seq), int(line)


def _line(owner: str, movement: Movement) -> HistoryLine:
    own = owner_line(owner, movement)
    return HistoryLine(
        key=f"{movement.seq}.{movement.line}",
        booked_at=own.booked_at,
        effective_at=movement.effective_at,
        effective_at_requested=movement.effective_at_requested,
        kind=kind_for(owner, movement),
        status=own.status,
        subject=movement.subject,
        entry=own.entry,
        asset=own.asset,
        amount=own.amount,
        balance=own.balance,
        counterparty=own.counterparty,
        memo=movement.metadata.get("memo"),
        evidence=own.evidence,
        internal=own.internal,
    )


def inert(text: str) -> str:
    """`text` behind an apostrophe if a spreadsheet might run it: blanks and full-width signs are no cover."""
    seen = unicodedata.normalize("NFKC", text).lstrip()[:1]
    return f"'{text}" if seen in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text
