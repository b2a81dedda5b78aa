"""What the bank rail keeps of lines and statements, and the states of a line. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from fiat.bank.lines import Direction
from fiat.bank.matching import Reason
from fiat.errors import BankMisconfigured, LineNotWaiting


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    """An account of ours at a bank. `name` is its name in the book (`bank:<name>`), `asset` its currency's code.

    `holder` is our own name there, `bic` the bank's (may be left out). `virtual_prefix`: the first digits of the
    account numbers that the bank lets us give to users, None where it has no virtual IBANs.
    """

    name: str
    iban: str
    asset: str
    holder: str = "Onebook"
    bic: str | None = None
    virtual_prefix: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "iban", str(IBAN(self.iban)))
        except SchwiftyException as error:
            raise BankMisconfigured(
                f"bank account {self.name!r}: {self.iban!r} is no IBAN ({error}); copy it from the bank's statement",
                param="iban",
            ) from error


class LineState(StrEnum):
    """CREDITED: to the user it names. PAID: a payout left by it. RETURNED: a payout came back by it. SUSPENDED:
    nobody's yet. MATCHED: given to a user or a payout later. SETTLED: a payment provider's settlement, whose money it
    is. NOTED: over nothing, or told in other words before."""

    CREDITED = "credited"
    PAID = "paid"
    RETURNED = "returned"
    SUSPENDED = "suspended"
    MATCHED = "matched"
    SETTLED = "settled"
    NOTED = "noted"


TRANSITIONS: Mapping[LineState, frozenset[LineState]] = MappingProxyType(
    {
        LineState.CREDITED: frozenset(),
        LineState.PAID: frozenset(),
        LineState.RETURNED: frozenset(),
        LineState.SUSPENDED: frozenset({LineState.MATCHED, LineState.SETTLED}),
        LineState.MATCHED: frozenset(),
        LineState.SETTLED: frozenset(),
        LineState.NOTED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankLine:
    """A line as it's kept. `statement` is our id of the statement that brought it first, `number` its place there."""

    id: str
    account: str
    statement: str
    number: int
    direction: Direction
    asset: str
    amount: int
    booked_on: date
    value_on: date
    bank_reference: str
    end_to_end_id: str = field(repr=False)
    remittance: str = field(repr=False)
    counterparty: str = field(repr=False)
    counterparty_account: str = field(repr=False)
    state: LineState
    reason: Reason | None
    owner: str | None
    top_up: str | None
    payout: str | None
    recorded_at: datetime


def advance(line: BankLine, state: LineState) -> LineState:
    """The line's next state. Raises LineNotWaiting unless it's an incoming payment that may go there."""
    if line.direction is Direction.DEBIT or state not in TRANSITIONS[line.state]:
        raise LineNotWaiting(
            f"line {line.id} is {line.state}: only an incoming payment in suspense can be {state}",
            state=line.state.value,
            direction=line.direction.value,
        )
    return state


def require_suspended(line: BankLine) -> None:
    """Raises LineNotWaiting unless the line waits in suspense."""
    if line.state is not LineState.SUSPENDED:
        raise LineNotWaiting(f"line {line.id} is {line.state}; it doesn't wait in suspense", state=line.state.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discontinuity:
    """A statement that doesn't begin (`opens`) where the one before it ended (`closed`), in signed smallest units.

    Both by the bank's names. `again`: it tells lines that another told before, so the two overlap; else one between
    them is missing.
    """

    before: str
    statement: str
    closed: int
    opens: int
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosingBalance:
    """What the bank last said that it owes us on an account, at the end of a day, in signed smallest units.

    `coming`: a file that isn't wholly taken in yet, whose lines are in the book in part.
    """

    account: str
    asset: str
    balance: int
    as_of: date
    statement: str
    coming: str | None = None
    discontinuities: tuple[Discontinuity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedStatement:
    """What became of a statement's lines: each is credited, paid or returned (a payout), suspended, noted, or known.

    A notification has no balances (None), and `ahead` counts those of its lines that wait for their statement.
    `gap` is what the bank's closing balance holds beyond the closing balance before it and the new lines: not zero
    when a statement is missing between the two, or at the first one, when the account wasn't empty.
    """

    id: str
    kind: str
    account: str
    bank_id: str
    asset: str
    opening: int | None
    closing: int | None
    closing_on: date | None
    lines: int
    pending: int
    credited: int
    paid: int
    returned: int
    suspended: int
    noted: int
    known: int
    ahead: int
    gap: int
    reasons: Mapping[Reason, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResult:
    """What a pain.002 or pacs.004 told of payouts. `told`: transactions in it; `moved`: payouts that it moved on."""

    id: str
    kind: str
    bank_id: str
    told: int
    accepted: int
    rejected: int
    moved: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementReceipt:
    """What an import did. `format` is the file's; `replayed`: this very file was imported before, nothing was done."""

    file: str
    sha256: str
    format: str
    replayed: bool
    statements: tuple[ImportedStatement, ...]
    warnings: tuple[str, ...]
    messages: tuple[MessageResult, ...] = ()

    @property
    def credited(self) -> int:
        """Lines credited to users by this import."""
        return sum(statement.credited for statement in self.statements)

    @property
    def suspended(self) -> int:
        """Lines that this import put into suspense."""
        return sum(statement.suspended for statement in self.statements)
