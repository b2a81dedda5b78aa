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
    "out": "outflow",
    "adj": "adjustment",
    "hld": "hold",
    "rev": "reversal",
    "acf": "account fee",
}
"""What a subject's prefix says that it is."""

DEPOSIT, WITHDRAWAL = KINDS["dep"], KINDS["wdr"]

SOMEBODY_HERE = "another user here"
"""Who stands at the other end of a withdrawal that was settled in the book."""

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
    "fees-waived": "what the house let go of a fee",
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
    booked, only set aside, or let go again. `entry` is the command's id, `seq` its number in the book. `internal`: a
    withdrawal's amount that reached another user in the book, over no chain.
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
    internal: bool = False


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
        came_in = any(is_internal(movement) and arrives_at(owner, movement) for movement in movements)
        kind = DEPOSIT if came_in else kind_of(subject)
        return Receipt(subject=subject, kind=kind, owner=owner, memo=memo, lines=lines)


def kind_of(subject: str | None) -> str:
    """The people's word for what a subject is; `entry` for what has no word."""
    return KINDS.get((subject or "").partition("_")[0], "entry")


def kind_for(owner: str, movement: Movement) -> str:
    """The word for a line from the side of `owner`: a withdrawal settled in the book is a deposit to who gets it."""
    return DEPOSIT if is_internal(movement) and arrives_at(owner, movement) else kind_of(movement.subject)


def is_internal(movement: Movement) -> bool:
    """Whether it's a withdrawal's amount that went from one user to another in the book, over no chain."""
    users = HOUSE not in (split_account_id(movement.debit)[0], split_account_id(movement.credit)[0])
    return users and kind_of(movement.subject) == WITHDRAWAL


def arrives_at(owner: str, movement: Movement) -> bool:
    """Whether the line's credit is the owner's."""
    return split_account_id(movement.credit)[0] == owner


def other_side(account: str, movement: Movement) -> str:
    """Whom `account` dealt with in this line, in words. Who is paid by their address isn't named, nor who paid them."""
    if is_internal(movement):
        return SOMEBODY_HERE
    return in_words(movement.credit if movement.debit == account else movement.debit)


def touches(owner: str, movement: Movement) -> bool:
    """Whether one of the owner's own accounts stands in this line."""
    return owner in (split_account_id(movement.debit)[0], split_account_id(movement.credit)[0])


def owner_line(owner: str, movement: Movement) -> ReceiptLine:
    """A journal line from the side of `owner`, who stands in it."""
    arrives = arrives_at(owner, movement)
    return ReceiptLine(
        entry=movement.command,
        seq=movement.seq,
        booked_at=movement.booked_at,
        status=movement.kind,
        asset=movement.asset,
        amount=movement.amount if arrives else -movement.amount,
        counterparty=other_side(movement.credit if arrives else movement.debit, movement),
        balance=movement.credit_balance if arrives else movement.debit_balance,
        evidence=movement.evidence,
        internal=is_internal(movement),
    )


def in_words(account: str) -> str:
    """An account in words: a user's id, or what the house's purpose means."""
    owner, purpose, _ = split_account_id(account)
    if owner != HOUSE:
        return owner
    parts = purpose.split(":")
    words = _WORDS.get(parts[0])
    return purpose if words is None else words.format(*parts, *("", ""))
