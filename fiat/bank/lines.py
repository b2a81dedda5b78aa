"""What a bank's file says of our account, whatever its format: statements, and their lines one by one. Pure values."""

from datetime import date
from enum import StrEnum
from typing import Protocol

import msgspec


class Direction(StrEnum):
    """Seen from our account, as the bank says it."""

    CREDIT = "CRDT"
    DEBIT = "DBIT"


class Kind(StrEnum):
    """STATEMENT: closes with a balance. NOTIFICATION: tells lines ahead of the statement that will bring them again."""

    STATEMENT = "statement"
    NOTIFICATION = "notification"


class StatementLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One booked movement of our account, in smallest units: an entry, or one payment of an entry that holds several.

    `number` counts from 1 in its statement, `file_line` is the entry's place in the file. `bank_reference` is the
    bank's own (AcctSvcrRef). `texts` is all that the payer or the bank wrote; each is to be searched as a whole.
    `names` are the references that the bank itself carries for us: end-to-end id, our payment's and message's id.
    `unclear_batch`: the entry holds several payments whose amounts don't make up its own, so it stands as one line.
    `own_account`: the account number of ours that the payer named, where the bank tells it (a virtual IBAN).
    `firm`: told by the bank with one reference of its own and a booking date without a time (whose day could be another
    zone's), so the same in every file that tells it.
    """

    number: int
    file_line: int
    direction: Direction
    amount: int
    booked_on: date
    value_on: date
    bank_reference: str
    end_to_end_id: str
    remittance: str
    texts: tuple[str, ...]
    names: tuple[str, ...]
    counterparty: str
    counterparty_account: str
    own_account: str
    reversal: bool
    returned: bool
    return_reason: str
    unclear_batch: bool
    firm: bool

    @property
    def signed_amount(self) -> int:
        """Positive: money came in."""
        return self.amount if self.direction is Direction.CREDIT else -self.amount

    def __repr__(self) -> str:
        return f"StatementLine(number={self.number})"  # the rest is personal, and would reach logs by a traceback


class Statement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One account's statement, checked; its lines are elsewhere. Balances are signed smallest units; positive: theirs
    to us. A notification has none.

    `id` and `sequence` are the bank's; `lines` counts them; `pending` counts entries that are not booked yet and so not
    among the lines.
    """

    kind: Kind
    format: str
    id: str
    sequence: int | None
    account: str
    currency: str
    opening: int | None
    closing: int | None
    closing_on: date | None
    lines: int
    pending: int
    file_line: int


class LineSink(Protocol):
    """Takes lines while a file is being checked; `ordinal` counts its statements from 0."""

    def add(self, ordinal: int, line: StatementLine) -> None:
        """Keep the line."""
        ...
