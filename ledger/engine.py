"""What an engine of the book offers. There are two: `ledger.memory` (the model) and `ledger.service` (PostgreSQL)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ledger.accounts import Account
from ledger.commands import Evidence, FreezeScope, Group
from ledger.money import Asset
from ledger.outcomes import Kind, LineKind, Outcome
from ledger.state import HeldPosting, HoldState
from ledger.statements import LINES_MAX, Statement, TimeKind


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the journal as an owner's history shows it, with the command that caused it.

    `effective_at` equals `booked_at` unless an earlier date was given. `reverses` is the seq of the entry that this one
    took back; `reversed` is how much of this line was taken back so far, in smallest units.
    """

    seq: int
    line: int
    booked_at: datetime
    effective_at: datetime
    command: str
    command_kind: Kind
    kind: LineKind
    subject: str | None
    debit: str
    credit: str
    asset: str
    amount: int
    debit_balance: int
    credit_balance: int
    hold: str | None
    reverses: int | None
    reversed: int
    evidence: Evidence | None
    metadata: Mapping[str, str]
    effective_at_requested: datetime | None = None
    """The date that was asked for, where a closed period moved it."""


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that still holds something, with what remains of its postings, and what it's for."""

    id: str
    subject: str | None
    booked_at: datetime
    expires_at: datetime | None
    postings: tuple[HeldPosting, ...]


@dataclass(frozen=True, slots=True)
class KnownHold(OpenHold):
    """A hold, whatever became of it, with all its postings."""

    state: HoldState


class Ledger(Protocol):
    """One book. Every method may raise `base.errors.Unavailable` when the store can't answer."""

    @property
    def book(self) -> str:
        """The book's name; every rider's key begins with it."""
        ...

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        """Decide these groups, in order, and return each one's outcomes once they are durable.

        Refusals are outcomes. A repeat returns the first outcomes marked `replayed`. Raises BookBusy (nothing written)
        and OutcomeUnknown (send the same ids again).
        """
        ...

    async def ensure_open(self, *accounts: str) -> None:
        """Open those of these accounts (ids) that are not open yet."""
        ...

    async def register_asset(self, asset: Asset) -> None:
        """Make an asset known. Raises AssetRedefined if it exists with another kind or scale."""
        ...

    async def assets(self) -> dict[str, Asset]:
        """Every known asset by its code."""
        ...

    async def asset(self, code: str) -> Asset:
        """The asset with this code. Raises UnknownAsset, which names the known ones."""
        ...

    async def account(self, account: str) -> Account | None:
        """The account with this id, as of now."""
        ...

    async def named(self, *accounts: str) -> dict[str, Account]:
        """Those of these accounts that are there, by id, as of now; read together."""
        ...

    async def accounts(
        self, *, owner: str | None = None, asset: str | None = None, purpose: str | None = None
    ) -> list[Account]:
        """The accounts of an owner, of an asset, for a purpose, or all, by id."""
        ...

    async def outcomes(self, *ids: str) -> list[Outcome]:
        """What was decided on these command ids, those known of them, in booking order."""
        ...

    async def open_holds(self, owner: str, *, limit: int = 200) -> list[OpenHold]:
        """Holds on what the owner has, newest first: those that debit one of their accounts and hold something yet."""
        ...

    async def hold(self, hold: str) -> KnownHold | None:
        """The hold with this id."""
        ...

    async def due_holds(self, *, limit: int = 500) -> list[str]:
        """Open holds (their ids) whose `expires_at` has come by the clock, the earliest first."""
        ...

    async def counters(self, *counters: str) -> dict[str, int]:
        """What charges have used up of each of these counters so far; 0 where there was none."""
        ...

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        """What is frozen now: scope and target, in order."""
        ...

    async def closed_until(self) -> datetime | None:
        """The first open instant of effective time; None before a period was closed."""
        ...

    async def history(
        self,
        *,
        owner: str | None = None,
        account: str | None = None,
        subject: str | None = None,
        asset: str | None = None,
        kinds: Sequence[LineKind] = (),
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimeKind = TimeKind.BOOKED,
        before: tuple[int, int] | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[Movement]:
        """Lines that touch the owner's or the account's accounts, newest first (oldest first with `after`).

        `since` is inclusive and `until` exclusive, by the time that `by` names; the order is always that of booking.
        By effective time only posted lines are told, and an owner or an account must be named (else InvalidCommand).
        `metadata` names pairs that the command must have. `before` and `after` are (seq, line) keys.
        """
        ...

    async def balance_at(
        self,
        account: str,
        at: datetime,
        *,
        by: TimeKind = TimeKind.BOOKED,
        known_at: datetime | None = None,
    ) -> int:
        """The account's posted balance after all that was booked (or took effect) at or before `at`, signed.

        `known_at`: as it would have been told then, without what was booked later. 0 for an account that isn't open.
        """
        ...

    async def statement(
        self,
        account: str,
        *,
        since: datetime,
        until: datetime,
        by: TimeKind = TimeKind.BOOKED,
        known: datetime | int | None = None,
        limit: int = LINES_MAX,
    ) -> Statement:
        """The account's statement from `since` (inclusive) to `until` (exclusive).

        `known` is the instant, or the seq of the last command, that it may know of; None means all. A statement made
        again with its `known_seq` is equal. Raises StatementTooLong above `limit` lines.
        """
        ...
