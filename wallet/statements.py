"""A statement as rows of a CSV file: the opening balance, a row for each line, the closing balance. Pure."""

from collections.abc import Iterator
from datetime import datetime

from ledger.accounts import split_account_id
from ledger.money import Asset, format_amount
from ledger.statements import Statement, StatementLine, TimeKind
from wallet.history import evidence_text, inert
from wallet.receipts import kind_for, other_side

STATEMENT_HEADER = (
    "row",
    "number",
    "booked_at",
    "effective_at",
    "kind",
    "subject",
    "asset",
    "amount",
    "balance",
    "counterparty",
    "memo",
    "evidence",
)


def statement_rows(statement: Statement, asset: Asset) -> Iterator[tuple[str, ...]]:
    """The statement as cells of text, in its own order: exact decimal amounts, ISO instants, nothing to be run."""
    yield _end("opening", statement.since, statement.opening, statement.by, asset)
    for line in statement.lines:
        yield _row(statement.account, line, asset)
    yield _end("closing", statement.until, statement.closing, statement.by, asset)


def counterparty_of(account: str, line: StatementLine) -> str:
    """The other side of a statement's line, in words."""
    return other_side(account, line.movement)


def kind_in(account: str, line: StatementLine) -> str:
    """The word for a statement's line, from the side of who has the account."""
    return kind_for(split_account_id(account)[0], line.movement)


def _row(account: str, line: StatementLine, asset: Asset) -> tuple[str, ...]:
    movement = line.movement
    texts = (counterparty_of(account, line), movement.metadata.get("memo", ""), evidence_text(movement.evidence))
    return (
        "line",
        f"{movement.seq}.{movement.line}",
        movement.booked_at.isoformat(),
        movement.effective_at.isoformat(),
        kind_in(account, line),
        inert(movement.subject or ""),
        asset.code,
        format_amount(line.step, asset),
        format_amount(line.balance, asset),
        *(inert(text) for text in texts),
    )


def _end(row: str, at: datetime, balance: int, by: TimeKind, asset: Asset) -> tuple[str, ...]:
    times = (at.isoformat(), "") if by is TimeKind.BOOKED else ("", at.isoformat())
    return (row, "", *times, "", "", asset.code, "", format_amount(balance, asset), "", "", "")
