"""What a decision may look at, in layers: a decision writes into a layer of its own and the one below never changes.

Pure. An engine fills the lowest layer (a book, or what a batch touches of one), `ledger.core` decides on layers
above it, and the engine keeps the result or drops it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from ledger.accounts import Account
from ledger.commands import Charge, FreezeScope
from ledger.outcomes import Outcome
from ledger.riders import Row


class HoldState(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    VOIDED = "voided"
    EXPIRED = "expired"


class HeldPosting(msgspec.Struct, frozen=True, gc=False):
    """A pending posting; `remaining` of its `amount` is still held."""

    debit: str
    credit: str
    asset: str
    amount: int
    remaining: int


class HoldRecord(msgspec.Struct, frozen=True, gc=False):
    """A hold: open until its remainder is zero, or it's closed, voided or expired."""

    id: str
    state: HoldState
    expires_at: datetime | None
    postings: tuple[HeldPosting, ...]
    charges: tuple[Charge, ...] = ()

    def without(self, index: int, amount: int) -> "HoldRecord":
        """The hold with `amount` less remaining on the posting at `index`."""
        posting = self.postings[index]
        lessened = replace(posting, remaining=posting.remaining - amount)
        return replace(self, postings=(*self.postings[:index], lessened, *self.postings[index + 1 :]))


RowKey = tuple[str, tuple[tuple[str, object], ...]]
"""A rider's row: its table and its key's columns with their values, sorted by name."""


def row_key(table: str, key: Row) -> RowKey:
    return table, tuple(sorted(key.items()))


@dataclass(slots=True)
class State:
    """A layer of a book's state. `seq` and `booked_at` are those of the last command decided.

    `closed_until` is the first open instant of effective time, None before a period was closed. `counters` are what
    charges have used up; `reversed` is how much of a line, by (entry's seq, line's index), was taken back.
    """

    seq: int
    booked_at: datetime
    closed_until: datetime | None = None
    below: "State | None" = None
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, HoldRecord] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    frozen: dict[tuple[FreezeScope, str], bool] = field(default_factory=dict)
    rows: dict[RowKey, Row | None] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    reversed: dict[tuple[int, int], int] = field(default_factory=dict)

    def layer(self) -> "State":
        """A layer above this one, empty, that reads through to it."""
        return State(seq=self.seq, booked_at=self.booked_at, closed_until=self.closed_until, below=self)

    def absorb(self, above: "State") -> None:
        """Take over all that a layer directly above this one has written."""
        self.seq, self.booked_at, self.closed_until = above.seq, above.booked_at, above.closed_until
        self.accounts.update(above.accounts)
        self.holds.update(above.holds)
        self.outcomes.update(above.outcomes)
        self.frozen.update(above.frozen)
        self.rows.update(above.rows)
        self.counters.update(above.counters)
        self.reversed.update(above.reversed)

    def account(self, account: str) -> Account | None:
        found = self.accounts.get(account)
        return found if found is not None or self.below is None else self.below.account(account)

    def hold(self, hold: str) -> HoldRecord | None:
        found = self.holds.get(hold)
        return found if found is not None or self.below is None else self.below.hold(hold)

    def outcome(self, command: str) -> Outcome | None:
        found = self.outcomes.get(command)
        return found if found is not None or self.below is None else self.below.outcome(command)

    def is_frozen(self, scope: FreezeScope, target: str) -> bool:
        found = self.frozen.get((scope, target))
        return bool(found) if found is not None or self.below is None else self.below.is_frozen(scope, target)

    def counter(self, counter: str) -> int:
        found = self.counters.get(counter)
        if found is None:
            return 0 if self.below is None else self.below.counter(counter)
        return found

    def reversed_of(self, line: tuple[int, int]) -> int:
        found = self.reversed.get(line)
        if found is None:
            return 0 if self.below is None else self.below.reversed_of(line)
        return found

    def row(self, key: RowKey) -> Mapping[str, object] | None:
        if key in self.rows or self.below is None:
            return self.rows.get(key)
        return self.below.row(key)
