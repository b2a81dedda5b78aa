"""Outcomes: what the book decided on a command. Accepted ones carry the lines booked, refused ones the numbers why.

Every outcome is remembered under its command's id, refusals too; only a conflict of ids isn't one of its own, and a
spent allowance leaves the command undecided.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from ledger.errors import RefusedByBook


class Kind(StrEnum):
    """What the command was."""

    OPEN = "open"
    CLOSE = "close"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    CREDIT_LINE = "credit_line"
    POST = "post"
    HOLD = "hold"
    SETTLE = "settle"
    VOID = "void"
    EXPIRE = "expire"
    REVERSE = "reverse"
    CLOSE_PERIOD = "close_period"
    RECORD = "record"


class Refused(StrEnum):
    """Why a command was refused, in the order in which the core looks."""

    ID_CONFLICT = "id_conflict"
    DUPLICATE_ROW = "duplicate_row"
    STALE_STATE = "stale_state"
    EFFECTIVE_IN_FUTURE = "effective_in_future"
    PERIOD_CLOSED = "period_closed"
    NO_POSTINGS = "no_postings"
    INVALID_AMOUNT = "invalid_amount"
    UNKNOWN_ENTRY = "unknown_entry"
    NOT_REVERSIBLE = "not_reversible"
    SAME_ACCOUNT = "same_account"
    UNKNOWN_ACCOUNT = "unknown_account"
    ASSET_MISMATCH = "asset_mismatch"
    ACCOUNT_CLOSED = "account_closed"
    FROZEN = "frozen"
    RECEIVABLE_OPEN = "receivable_open"
    EXPIRES_IN_PAST = "expires_in_past"
    UNKNOWN_HOLD = "unknown_hold"
    HOLD_CLOSED = "hold_closed"
    HOLD_EXPIRED = "hold_expired"
    NOT_YET = "not_yet"
    UNKNOWN_POSTING = "unknown_posting"
    EXCEEDS_REMAINDER = "exceeds_remainder"
    ACCOUNT_IN_USE = "account_in_use"
    NOT_LIMITED = "not_limited"
    CREDIT_LINE_IN_USE = "credit_line_in_use"
    LIMIT_EXCEEDED = "limit_exceeded"
    ALLOWANCE_SPENT = "allowance_spent"
    AMOUNT_OVERFLOW = "amount_overflow"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    OUT_OF_BOUNDS = "out_of_bounds"
    GROUP_REFUSED = "group_refused"


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A refusal's code and the numbers that explain it (`required`, `available`, `remaining`, in smallest units)."""

    code: Refused
    facts: Mapping[str, str | int]


class LineKind(StrEnum):
    """What a line did: moved value, set it aside, or let it go. A posted line of a hold also consumes what was held."""

    POSTED = "posted"
    HELD = "held"
    RELEASED = "released"


class Line(msgspec.Struct, frozen=True, gc=False):
    """One debit and one credit of the journal. The balances are both accounts' posted balances after this line."""

    kind: LineKind
    debit: str
    credit: str
    asset: str
    amount: int
    debit_balance: int
    credit_balance: int
    hold: str | None = None
    hold_posting: int | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a command. `refusal` is None when it was accepted. `replayed`: it had been decided before.

    `effective_at` is None where it equals `booked_at`; in a closed period it's the first open instant, whatever the
    command asked for. `reverses` is the seq of the entry that a reversal took back.
    """

    id: str
    seq: int
    booked_at: datetime
    kind: Kind
    subject: str | None
    content: bytes
    refusal: Refusal | None = None
    lines: tuple[Line, ...] = ()
    effective_at: datetime | None = None
    reverses: int | None = None
    replayed: bool = False

    @property
    def accepted(self) -> bool:
        return self.refusal is None


def require_accepted(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """The outcomes, if their group was accepted; else RefusedByBook with the refusal that stopped it."""
    for outcome in outcomes:
        refusal = outcome.refusal
        if refusal is not None and refusal.code is not Refused.GROUP_REFUSED:
            error = RefusedByBook(f"{outcome.kind} {outcome.id}: {refusal.code}", code=refusal.code)
            error.facts = dict(refusal.facts)
            raise error
    return outcomes
