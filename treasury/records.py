"""What treasury's tables hold, as values. Pure. Amounts are smallest units of their asset."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ledger.commands import ChainEvidence


class InflowState(StrEnum):
    BOOKED = "booked"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Inflow:
    """A final transfer to one of the house's own addresses that no transaction of ours explains.

    `source`: the purpose of the house that it's booked against, suspense or the cold address's custody.
    """

    id: str
    state: InflowState
    asset: str
    amount: int
    network: str
    role: str
    sender: str
    address: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    version: int
    source: str
    booked_at: datetime

    @property
    def evidence(self) -> ChainEvidence:
        return ChainEvidence(self.network, self.block_number, self.block_hash, self.tx_hash, self.place)


class OutflowState(StrEnum):
    BOOKED = "booked"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Outflow:
    """What left an own address for good in a transaction that isn't ours, or in none; `recipient` None: as gas.

    `accounted_by`: the adjustment or withdrawal that says what it was; None: nobody has.
    """

    id: str
    state: OutflowState
    asset: str
    amount: int
    network: str
    role: str
    address: str
    recipient: str | None
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    version: int
    booked_at: datetime
    accounted_by: str | None = None

    @property
    def evidence(self) -> ChainEvidence:
        return ChainEvidence(self.network, self.block_number, self.block_hash, self.tx_hash, self.place)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Value that the treasurer moved by hand from `source` to `target` (account ids), and why."""

    id: str
    treasurer: str
    source: str
    target: str
    asset: str
    amount: int
    reason: str
    evidence: str | None
    created_at: datetime
    replayed: bool = False


class BreakReason(StrEnum):
    """Why something is a break, in the order in which they are worth looking at."""

    COUNTER_DRIFT = "counter_drift"
    """A stored counter of an account isn't what the journal's lines add up to."""
    UNBALANCED = "unbalanced"
    """The stored balances of an asset don't sum to zero."""
    CHAIN_DIFFERS = "chain_differs"
    """Our addresses hold another amount than the book says."""
    BANK_DIFFERS = "bank_differs"
    """The bank's closing balance is another than the book says."""
    NO_STATEMENT = "no_statement"
    """The book has money at a bank that never told its balance."""
    RAIL_DIFFERS = "rail_differs"
    """A payment provider says that it owes us another amount than the book says."""
    SURPLUS = "surplus"
    """An address holds more of the native coin than anything tells of; it waits in suspense for its evidence."""
    FOREIGN_OUTFLOW = "foreign_outflow"
    """Something left an own address without us; it stands in suspense until somebody says what it was."""
    UNBOOKED = "unbooked"
    """A final movement on chain that the book should have had long ago."""
    HOLD_DRIFT = "hold_drift"
    """Open holds come to something else than an account's lines hold."""
    JOURNAL_DIFFERS = "journal_differs"
    """A line isn't any more what it was when it was checked before."""
    STATEMENT_GAP = "statement_gap"
    """A bank's statement doesn't begin where the one before it ended: one in between is missing."""
    STATEMENT_OVERLAP = "statement_overlap"
    """A bank's statement begins before the end of the one before it, and they don't come to what the bank says."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference as one run sees it. `expected` is what the book (or its journal) says, `found` what is there.

    `evidence`: ids of what speaks for it. `at`: the block or the bank's statement in which it was first seen.
    """

    reason: BreakReason
    account: str
    asset: str
    expected: int
    found: int
    network: str = ""
    detail: str = ""
    evidence: tuple[str, ...] = ()
    at: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes it the same break in the next run."""
        return self.reason.value, self.network, self.account, self.asset, self.detail


@dataclass(frozen=True, slots=True)
class Break:
    """A finding that is remembered until a run no longer sees it."""

    id: str
    reason: BreakReason
    account: str
    asset: str
    expected: int
    found: int
    network: str
    detail: str
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    evidence: tuple[str, ...] = ()
    at: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What it's known by from run to run, as a `Finding` has it."""
        return self.reason.value, self.network, self.account, self.asset, self.detail

    def age(self, now: datetime) -> timedelta:
        """How long it has been open, or was."""
        return (self.resolved_at or now) - self.first_seen_at


@dataclass(frozen=True, slots=True)
class InFlight:
    """A movement through the judged block that the book hasn't taken in yet. `amount` is what it adds to `account`."""

    network: str
    account: str
    asset: str
    amount: int
    block_number: int
    tx_hash: str
    place: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class JudgedNetwork:
    """Through which block a network was compared. `skipped` says why it wasn't; the block is then the one through which
    it last was, if it was. So stands there, as `rail:<name>`, a payment provider whose balances couldn't be compared,
    and as `bank:<account>` a bank account."""

    network: str
    block_number: int | None
    block_hash: str | None
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One run: how many comparisons it made, how many breaks were open after it, and what was on its way.

    `breaks` are those that are open; a run that is read back later has their number only. `changed`: a break began or
    ended in it, or it judged something else than the run before; of others only some are kept.
    """

    id: str
    started_at: datetime
    finished_at: datetime
    checks: int
    open_breaks: int
    breaks: tuple[Break, ...]
    networks: tuple[JudgedNetwork, ...]
    in_flight: tuple[InFlight, ...]
    changed: bool = True

    @property
    def clean(self) -> bool:
        """No break, and nothing left unjudged."""
        return not self.open_breaks and all(network.skipped is None for network in self.networks)
