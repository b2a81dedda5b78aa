"""What treasury's tables hold, as values. Pure. Amounts are smallest units of their asset."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ledger.commands import ChainEvidence
from treasury.break_states import EXPLAINED, BreakState


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
    POSITION_DIFFERS = "position_differs"
    """What is kept of the exchange's position isn't what its moves, or the book, come to."""
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


class CauseCode(StrEnum):
    """What may be behind a break. What a person does for each: docs/reconciliation.md."""

    UNBOOKED_GAS = "unbooked_gas"
    FOREIGN_TRANSACTION = "foreign_transaction"
    LATE_SETTLEMENT = "late_settlement"
    DUPLICATE = "duplicate"
    ORPHAN_CREDITED = "orphan_credited"
    FEE_ON_TRANSFER = "fee_on_transfer"
    WRONG_STATEMENT_LINE = "wrong_statement_line"
    MANUAL_CHANGE = "manual_change"
    SKIPPED_BLOCK = "skipped_block"
    MISSED_INNER_TRANSFER = "missed_inner_transfer"
    STORAGE_FAULT = "storage_fault"
    TIMING = "timing"


class Likelihood(StrEnum):
    """How much speaks for a cause, the most first."""

    EXACT = "exact"
    """Its evidence explains the difference to the last unit."""
    LIKELY = "likely"
    """Something is there that does such things."""
    POSSIBLE = "possible"
    """Nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What may be behind a break. `evidence` are the ids that speak for it: transactions, entries, lines, ..."""

    code: CauseCode
    likelihood: Likelihood
    sentence: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Break:
    """A finding that is remembered until a run no longer sees it.

    `causes` are what may be behind it, the likeliest first; `owner` is the treasurer who looks after it.
    `explained_at`: when two people accounted for it, by an entry or, until `accepted_until`, as a matter of time.
    """

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
    causes: tuple[Cause, ...] = ()
    state: BreakState = BreakState.OPEN
    owner: str | None = None
    explained_at: datetime | None = None
    accepted_until: datetime | None = None
    revision: int = 1

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What it's known by from run to run, as a `Finding` has it."""
        return self.reason.value, self.network, self.account, self.asset, self.detail

    @property
    def difference(self) -> int:
        """What is there beyond what the book says; negative: what is missing there."""
        return self.found - self.expected

    def age(self, now: datetime) -> timedelta:
        """How long it has been open, or was."""
        return (self.resolved_at or now) - self.first_seen_at

    def lapsed(self, now: datetime) -> bool:
        """Whether the date until which it was accepted has come."""
        return self.accepted_until is not None and self.accepted_until <= now

    def state_at(self, now: datetime) -> BreakState:
        """Its state by the clock: an acceptance ends at its date, whether or not a run has written that down."""
        return BreakState.OPEN if self.lapsed(now) else self.state

    def explained(self, now: datetime) -> bool:
        """Whether two people have accounted for it."""
        return self.state_at(now) in EXPLAINED


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
    ended in it, or it judged something else than the run before; of others only some are kept. `explained`: those
    of them that two people have accounted for.
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
    explained: int = 0

    @property
    def unexplained(self) -> int:
        """Open breaks that nobody has accounted for."""
        return self.open_breaks - self.explained

    @property
    def judged(self) -> bool:
        """Whether everything could be compared."""
        return all(network.skipped is None for network in self.networks)

    @property
    def clean(self) -> bool:
        """No break, and nothing left unjudged."""
        return not self.open_breaks and self.judged
