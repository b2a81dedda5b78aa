"""What reports are made of: sums of groups of accounts, fees by place, what is aged, a user's lines. Pure."""

from dataclasses import dataclass
from datetime import datetime

AGES = (7, 30, 60, 90)
"""Days up to which something belongs to a bucket of ages; the last bucket has what is older."""


@dataclass(frozen=True, slots=True)
class Balances:
    """What a group of accounts came to, credits less debits: those above zero, and those below."""

    group: str
    asset: str
    above: int
    below: int

    @property
    def net(self) -> int:
        return self.above + self.below


@dataclass(frozen=True, slots=True)
class Turnover:
    """What was debited and credited to a group of accounts."""

    group: str
    asset: str
    debits: int
    credits: int


@dataclass(frozen=True, slots=True)
class FeeTurnover:
    """What was debited and credited to an account of fees or costs by one kind of operation at one place.

    `operation`: the prefix of what the entries were about. `kind`: `custody`, `bank` or `provider`, `place` which of
    them; empty for what happened in the book alone.
    """

    operation: str
    kind: str
    place: str
    purpose: str
    asset: str
    debits: int
    credits: int


@dataclass(frozen=True, slots=True)
class AgedReceivable:
    """What a user owed, how old the oldest part is, and how much was at most so many days old (`AGES`), and older."""

    user: str
    asset: str
    owed: int
    oldest_at: datetime
    by_age: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenBreak:
    """A break that was open at an instant, as a run had seen it last by then."""

    id: str
    reason: str
    account: str
    asset: str
    expected: int
    found: int
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class OwnLine:
    """A line of a user's account. `step` is signed: credits raise."""

    seq: int
    line: int
    booked_at: datetime
    effective_at: datetime
    subject: str | None
    other: str
    step: int
    memo: str | None
