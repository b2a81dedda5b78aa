"""What the bank rail keeps of lines and statements, and the states of a line. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from fiat.bank.camt053 import Direction
from fiat.bank.matching import Reason
from fiat.errors import BankMisconfigured, LineNotWaiting


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    """An account of ours at a bank. `name` is its name in the book (`bank:<name>`), `asset` its currency's code."""

    name: str
    iban: str
    asset: str

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "iban", str(IBAN(self.iban)))
        except SchwiftyException as error:
            raise BankMisconfigured(
                f"bank account {self.name!r}: {self.iban!r} is no IBAN ({error}); copy it from the bank's statement",
                param="iban",
            ) from error


class LineState(StrEnum):
    """CREDITED: to the user it names. SUSPENDED: nobody's yet. MATCHED: given to a user later. NOTED: over nothing.

    SETTLED: a payment provider's settlement, whose money it is.
    """

    CREDITED = "credited"
    SUSPENDED = "suspended"
    MATCHED = "matched"
    SETTLED = "settled"
    NOTED = "noted"


TRANSITIONS: Mapping[LineState, frozenset[LineState]] = MappingProxyType(
    {
        LineState.CREDITED: frozenset(),
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
    end_to_end_id: str
    remittance: str
    counterparty: str
    counterparty_account: str
    state: LineState
    reason: Reason | None
    owner: str | None
    top_up: str | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosingBalance:
    """What the bank last said that it owes us on an account, at the end of a day, in signed smallest units."""

    account: str
    asset: str
    balance: int
    as_of: date
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedStatement:
    """What became of a statement's lines: each is credited, suspended, noted, or was known already.

    `gap` is what the bank's closing balance holds beyond the closing balance before it and the new lines: not zero
    when a statement is missing between the two, or at the first one, when the account wasn't empty.
    """

    id: str
    account: str
    bank_id: str
    asset: str
    opening: int
    closing: int
    closing_on: date
    lines: int
    pending: int
    credited: int
    suspended: int
    noted: int
    known: int
    gap: int
    reasons: Mapping[Reason, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementReceipt:
    """What an import did. `replayed`: this very file was imported before, and nothing was done."""

    file: str
    sha256: str
    replayed: bool
    statements: tuple[ImportedStatement, ...]
    warnings: tuple[str, ...]

    @property
    def credited(self) -> int:
        """Lines credited to users by this import."""
        return sum(statement.credited for statement in self.statements)

    @property
    def suspended(self) -> int:
        """Lines that this import put into suspense."""
        return sum(statement.suspended for statement in self.statements)
