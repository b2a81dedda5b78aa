"""Receipts: what a movement was, assembled from the book alone, in words that its owner knows."""

from dataclasses import dataclass
from datetime import datetime

from base.errors import NotFound
from ledger.accounts import HOUSE, split_account_id
from ledger.commands import Evidence
from ledger.engine import Ledger, Movement
from ledger.outcomes import LineKind

LINES_MAX = 200
"""Lines that one receipt shows at most; a movement has a handful."""

KINDS = {
    "trf": "transfer",
    "cnv": "conversion",
    "dep": "deposit",
    "wdr": "withdrawal",
    "top": "top-up",
    "pay": "payout",
    "inf": "inflow",
    "adj": "adjustment",
    "hld": "hold",
    "rev": "reversal",
}
"""What a subject's prefix says that it is."""

PREFIXES = {kind: prefix for prefix, kind in KINDS.items()}

_WORDS = {
    "custody": "the house's coins on {1} ({2})",
    "bank": "the house's bank account {1}",
    "provider": "the payment provider {1}",
    "receivable": "what {1} owes the house",
    "in-transit": "on its way {2} over {1}",
    "suspense": "not assigned yet",
    "quarantine": "quarantine",
    "capital": "the house's capital",
    "fees": "fees",
    "fx": "the exchange",
    "fx-result": "the exchange's spread",
    "network-fees": "network fees",
    "rail-fees": "rail fees",
    "rounding": "rounding",
    "promotion": "promotion",
}


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One line of the book as its owner sees it.

    `amount` is in smallest units and signed: positive came to the owner, negative left. `status` tells whether it was
    booked, only set aside, or let go again. `entry` is the command's id, `seq` its number in the book.
    """

    entry: str
    seq: int
    booked_at: datetime
    status: LineKind
    asset: str
    amount: int
    counterparty: str
    balance: int
    evidence: Evidence | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything the book says to one owner about one movement, oldest first."""

    subject: str
    kind: str
    owner: str
    memo: str | None
    lines: tuple[ReceiptLine, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What outside the book caused or proved it: blocks and bank lines, each once."""
        return tuple(dict.fromkeys(line.evidence for line in self.lines if line.evidence is not None))


class Receipts:
    """Writes receipts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def get(self, owner: str, subject: str) -> Receipt:
        """The owner's receipt for `subject` (`trf_...`, `dep_...`). Raises NotFound, also for others' movements."""
        movements = await self._ledger.history(subject=subject, limit=LINES_MAX)
        lines = tuple(owner_line(owner, movement) for movement in reversed(movements) if touches(owner, movement))
        if not lines:
            raise NotFound(f"there is no movement {subject[:40]!r}", param="subject")
        memo = next((m.metadata["memo"] for m in movements if "memo" in m.metadata), None)
        return Receipt(subject=subject, kind=kind_of(subject), owner=owner, memo=memo, lines=lines)


def kind_of(subject: str | None) -> str:
    """The people's word for what a subject is; `entry` for what has no word."""
    return KINDS.get((subject or "").partition("_")[0], "entry")


def touches(owner: str, movement: Movement) -> bool:
    """Whether one of the owner's own accounts stands in this line."""
    return owner in (split_account_id(movement.debit)[0], split_account_id(movement.credit)[0])


def owner_line(owner: str, movement: Movement) -> ReceiptLine:
    """A journal line from the side of `owner`, who stands in it."""
    arrives = split_account_id(movement.credit)[0] == owner
    return ReceiptLine(
        entry=movement.command,
        seq=movement.seq,
        booked_at=movement.booked_at,
        status=movement.kind,
        asset=movement.asset,
        amount=movement.amount if arrives else -movement.amount,
        counterparty=in_words(movement.debit if arrives else movement.credit),
        balance=movement.credit_balance if arrives else movement.debit_balance,
        evidence=movement.evidence,
    )


def in_words(account: str) -> str:
    """An account in words: a user's id, or what the house's purpose means."""
    owner, purpose, _ = split_account_id(account)
    if owner != HOUSE:
        return owner
    parts = purpose.split(":")
    words = _WORDS.get(parts[0])
    return purpose if words is None else words.format(*parts, *("", ""))
