"""The book in memory: the specification as an engine. For tests, models and what-if questions; nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from base.clock import Clock
from ledger.accounts import Account, new_account, split_account_id
from ledger.commands import Command, FreezeScope, Group, OpenAccount
from ledger.core import apply, check_group
from ledger.engine import Movement, OpenHold
from ledger.errors import AssetRedefined, UnknownAsset
from ledger.money import Asset
from ledger.outcomes import LineKind, Outcome
from ledger.requests import worker_id
from ledger.riders import Row
from ledger.state import HoldState, State

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a book in which nothing has happened yet."""


@dataclass(slots=True)
class MemoryLedger:
    """One book in memory. Riders' rows land in `rows` by table and key."""

    clock: Clock
    book: str = "main"
    state: State = field(default_factory=lambda: State(seq=0, booked_at=BEGINNING))
    commands: dict[str, Command] = field(default_factory=dict)
    known_assets: dict[str, Asset] = field(default_factory=dict)

    async def submit(self, *groups: Group) -> list[tuple[Outcome, ...]]:
        for group in groups:
            check_group(group)
        layer, decided = apply(self.state, self.clock.now(), groups)
        for group in groups:
            for command in group.commands:
                self.commands.setdefault(command.id, command)
        self.state.absorb(layer)
        return decided

    async def ensure_open(self, *accounts: str) -> None:
        for account in dict.fromkeys(accounts):
            await self.asset(split_account_id(account)[2])
            if self.state.account(account) is None:
                await self.submit(Group((OpenAccount(id=worker_id("open", account), account=account),)))

    async def register_asset(self, asset: Asset) -> None:
        check_redefinition(self.known_assets.get(asset.code), asset)
        self.known_assets[asset.code] = asset

    async def assets(self) -> dict[str, Asset]:
        return dict(self.known_assets)

    async def asset(self, code: str) -> Asset:
        return known_asset(self.known_assets, code)

    async def account(self, account: str) -> Account | None:
        return self.state.account(account)

    async def accounts(
        self, *, owner: str | None = None, asset: str | None = None, purpose: str | None = None
    ) -> list[Account]:
        found = (account for _, account in sorted(self.state.accounts.items()))
        wanted = [a for a in found if owner in (None, a.owner) and asset in (None, a.asset)]
        return [account for account in wanted if purpose in (None, account.purpose)]

    async def outcomes(self, *ids: str) -> list[Outcome]:
        found = [outcome for command in ids if (outcome := self.state.outcome(command)) is not None]
        return sorted(found, key=lambda outcome: outcome.seq)

    async def open_holds(self, owner: str, *, limit: int = 200) -> list[OpenHold]:
        found = []
        for record in self.state.holds.values():
            outcome = self.state.outcomes[record.id]
            open_postings = tuple(posting for posting in record.postings if posting.remaining)
            owners = {new_account(posting.debit).owner for posting in open_postings}
            if record.state is HoldState.OPEN and owner in owners:
                found.append((outcome.seq, outcome, record.expires_at, open_postings))
        return [
            OpenHold(outcome.id, outcome.subject, outcome.booked_at, expires_at, postings)
            for _, outcome, expires_at, postings in sorted(found, key=lambda row: row[0], reverse=True)[:limit]
        ]

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        return sorted(place for place, frozen in self.state.frozen.items() if frozen)

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
        def wanted(m: Movement) -> bool:
            sides = (m.debit, m.credit)
            return (
                (owner is None or any(new_account(side).owner == owner for side in sides))
                and (account is None or account in sides)
                and subject in (None, m.subject)
                and asset in (None, m.asset)
                and (not kinds or m.kind in kinds)
                and (since is None or m.booked_at >= since)
                and (until is None or m.booked_at < until)
                and (before is None or (m.seq, m.line) < before)
                and (after is None or (m.seq, m.line) > after)
            )

        found = sorted((m for m in self._movements() if wanted(m)), key=lambda m: (m.seq, m.line))
        return found[:limit] if after is not None else found[::-1][:limit]

    def rows(self, table: str) -> list[Row]:
        """The rows that riders left in `table`."""
        return [row for (name, _), row in self.state.rows.items() if name == table and row is not None]

    def _movements(self) -> list[Movement]:
        return [
            Movement(
                seq=outcome.seq,
                line=number,
                booked_at=outcome.booked_at,
                command=outcome.id,
                command_kind=outcome.kind,
                kind=line.kind,
                subject=outcome.subject,
                debit=line.debit,
                credit=line.credit,
                asset=line.asset,
                amount=line.amount,
                debit_balance=line.debit_balance,
                credit_balance=line.credit_balance,
                hold=line.hold,
                evidence=self.commands[outcome.id].evidence,
                metadata=self.commands[outcome.id].metadata,
            )
            for outcome in self.state.outcomes.values()
            for number, line in enumerate(outcome.lines)
        ]


def check_redefinition(existing: Asset | None, asset: Asset) -> None:
    """Raise AssetRedefined if `asset` is known with another kind or scale."""
    if existing is not None and existing != asset:
        raise AssetRedefined(
            f"{asset.code} is {existing.kind} with scale {existing.scale}; both are fixed at creation",
            param="scale",
            scale=existing.scale,
        )


def known_asset(assets: dict[str, Asset], code: str) -> Asset:
    """The asset with this code. Raises UnknownAsset, which names the known ones."""
    if code not in assets:
        known = ", ".join(sorted(assets)) or "none"
        raise UnknownAsset(f"there is no asset {code[:40]!r}; known assets: {known}", param="asset")
    return assets[code]
