"""What an engine of the book offers. There are two: `ledger.memory` (the model) and `ledger.service` (PostgreSQL)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ledger.accounts import Account
from ledger.commands import Evidence, FreezeScope, Group
from ledger.money import Asset
from ledger.outcomes import Kind, LineKind, Outcome
from ledger.state import HeldPosting


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the journal as an owner's history shows it, with the command that caused it."""

    seq: int
    line: int
    booked_at: datetime
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
    evidence: Evidence | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that still holds something, with what remains of its postings, and what it's for."""

    id: str
    subject: str | None
    booked_at: datetime
    expires_at: datetime | None
    postings: tuple[HeldPosting, ...]


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

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        """What is frozen now: scope and target, in order."""
        ...

    async def history(
        self,
        *,
        owner: str | None = None,
        account: str | None = None,
        subject: str | None = None,
        asset: str | None = None,
        kinds: Sequence[LineKind] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        before: tuple[int, int] | None = None,
        after: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> list[Movement]:
        """Lines that touch the owner's or the account's accounts, newest first (oldest first with `after`).

        `since` is inclusive and `until` exclusive, by booking time. `before` and `after` are (seq, line) keys.
        """
        ...
