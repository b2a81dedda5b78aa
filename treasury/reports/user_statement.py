"""A user's statement: per asset the opening balance, every line that took effect in the period, the closing. Pure.

It says to its owner what the book does, and not who stands at the other end of a payment that was settled here by an
address.
"""

from ledger.accounts import HOUSE, split_account_id
from ledger.errors import BookCorrupt
from treasury.reports.costs import OPERATIONS
from treasury.reports.figures import cell
from treasury.reports.model import Cell, Row, columns, instant_cell
from treasury.reports.records import OwnLine
from treasury.reports.valuing import Valuation

LINE_COLUMNS = columns(
    asset=Cell.TEXT,
    row=Cell.WORD,
    effective_at=Cell.INSTANT,
    booked_at=Cell.INSTANT,
    number=Cell.TEXT,
    operation=Cell.WORD,
    party=Cell.WORD,
    counterparty=Cell.TEXT,
    subject=Cell.TEXT,
    memo=Cell.TEXT,
    amount=Cell.AMOUNT,
    balance=Cell.AMOUNT,
)
SUMMARY_COLUMNS = columns(
    **{"asset": Cell.TEXT, "opening": Cell.AMOUNT, "in": Cell.AMOUNT, "out": Cell.AMOUNT, "closing": Cell.AMOUNT},
    lines=Cell.WHOLE,
)

PARTIES = {
    "custody": "party-chain",
    "bank": "party-bank",
    "provider": "party-rail",
    "in-transit": "party-on-its-way",
    "receivable": "party-receivable",
    "fx": "party-exchange",
    "fx-result": "party-exchange",
    "fees": "party-fees",
}
"""Who of the house stood at the other end, by the first part of a purpose; anything else is the house."""


class OwnAccountLines:
    """One account's rows: lines are added up from the opening balance, and must come to the closing one."""

    def __init__(self, asset: str, opening: int, valuation: Valuation) -> None:
        self._asset = asset
        self._opening = self._balance = opening
        self._valuation = valuation
        self._in = self._out = self._count = 0

    def opening_row(self) -> Row:
        return self._end("opening", self._opening)

    def line_row(self, one: OwnLine) -> Row:
        """A line with the balance after it, in the order of effective time."""
        self._balance += one.step
        self._in += max(one.step, 0)
        self._out += max(-one.step, 0)
        self._count += 1
        operation, party, counterparty = told(one)
        return (
            self._asset,
            "line",
            instant_cell(one.effective_at),
            instant_cell(one.booked_at),
            f"{one.seq}.{one.line}",
            operation,
            party,
            counterparty,
            one.subject or "",
            one.memo or "",
            cell(one.step, self._asset, self._valuation),
            cell(self._balance, self._asset, self._valuation),
        )

    def closing_row(self, closing: int) -> Row:
        """The last row. Raises BookCorrupt if the lines don't come to what the book says."""
        if self._balance != closing:
            raise BookCorrupt(f"a statement in {self._asset} doesn't add up", found=str(self._balance))
        return self._end("closing", closing)

    def summary_row(self) -> Row:
        amounts = (self._opening, self._in, self._out, self._balance)
        return (self._asset, *(cell(one, self._asset, self._valuation) for one in amounts), str(self._count))

    def _end(self, row: str, balance: int) -> Row:
        shown = cell(balance, self._asset, self._valuation)
        return (self._asset, row, None, None, None, None, None, None, None, None, None, shown)


def told(one: OwnLine) -> tuple[str, str, str]:
    """What a line was, who stood at its other end, and which of them, as its owner may know."""
    operation = OPERATIONS.get((one.subject or "").partition("_")[0], "other")
    owner, purpose, _ = split_account_id(one.other)
    if owner != HOUSE:
        if operation == "withdrawal":  # paid in the book, by an address: nobody learns whose it is
            return ("deposit" if one.step > 0 else operation), "party-somebody", ""
        return operation, "party-user", owner
    kind, _, place = purpose.partition(":")
    where = place.partition(":")[0] if kind in ("custody", "bank", "provider", "in-transit") else ""
    return operation, PARTIES.get(kind, "party-house"), where
