"""The book in memory: the specification as an engine. For tests, models and what-if questions; nothing is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from base.clock import Clock
from ledger.accounts import Account, new_account, split_account_id
from ledger.bounds import check_group
from ledger.commands import Command, FreezeScope, Group, OpenAccount
from ledger.core import apply
from ledger.engine import KnownHold, Movement, OpenHold
from ledger.errors import AssetRedefined, InvalidCommand, UnknownAsset
from ledger.money import Asset
from ledger.outcomes import LineKind, Outcome
from ledger.requests import worker_id
from ledger.riders import Row
from ledger.state import HoldState, State
from ledger.statements import LINES_MAX, Statement, TimeKind, make_statement

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

    async def named(self, *accounts: str) -> dict[str, Account]:
        found = {account: self.state.account(account) for account in accounts}
        return {name: account for name, account in found.items() if account is not None}

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

    async def hold(self, hold: str) -> KnownHold | None:
        record = self.state.hold(hold)
        if record is None:
            return None
        made = self.state.outcomes[hold]
        return KnownHold(hold, made.subject, made.booked_at, record.expires_at, record.postings, record.state)

    async def due_holds(self, *, limit: int = 500) -> list[str]:
        now = self.clock.now()
        due = [
            (record.expires_at, self.state.outcomes[record.id].seq, record.id)
            for record in self.state.holds.values()
            if record.state is HoldState.OPEN and record.expires_at is not None and record.expires_at <= now
        ]
        return [hold for _, _, hold in sorted(due)[:limit]]

    async def counters(self, *counters: str) -> dict[str, int]:
        return {counter: self.state.counter(counter) for counter in counters}

    async def freezes(self) -> list[tuple[FreezeScope, str]]:
        return sorted(place for place, frozen in self.state.frozen.items() if frozen)

    async def closed_until(self) -> datetime | None:
        return self.state.closed_until

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
        check_history(owner=owner, account=account, by=by)

        def wanted(m: Movement) -> bool:
            sides, at = (m.debit, m.credit), _time(m, by)
            return (
                (owner is None or any(new_account(side).owner == owner for side in sides))
                and (account is None or account in sides)
                and subject in (None, m.subject)
                and asset in (None, m.asset)
                and (not kinds or m.kind in kinds)
                and (by is TimeKind.BOOKED or m.kind is LineKind.POSTED)
                and all(m.metadata.get(key) == value for key, value in (metadata or {}).items())
                and (since is None or at >= since)
                and (until is None or at < until)
                and (before is None or (m.seq, m.line) < before)
                and (after is None or (m.seq, m.line) > after)
            )

        found = sorted((m for m in self._movements() if wanted(m)), key=lambda m: (m.seq, m.line))
        return found[:limit] if after is not None else found[::-1][:limit]

    async def balance_at(
        self, account: str, at: datetime, *, by: TimeKind = TimeKind.BOOKED, known_at: datetime | None = None
    ) -> int:
        known = self.state.seq if known_at is None else self._seq_at(known_at)
        return sum(_step(m, account) for m in self._posted(account, known) if _time(m, by) <= at)

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
        known_seq = self.state.seq if known is None else known if isinstance(known, int) else self._seq_at(known)
        known_seq = min(known_seq, self.state.seq)
        posted = self._posted(account, known_seq)
        return make_statement(
            account,
            sorted((m for m in posted if since <= _time(m, by) < until), key=lambda m: (_time(m, by), m.seq, m.line)),
            by=by,
            since=since,
            until=until,
            known_at=next((o.booked_at for o in self.state.outcomes.values() if o.seq == known_seq), BEGINNING),
            known_seq=known_seq,
            opening=sum(_step(m, account) for m in posted if _time(m, by) < since),
            closing=sum(_step(m, account) for m in posted if _time(m, by) < until),
            limit=limit,
        )

    def _posted(self, account: str, known_seq: int) -> list[Movement]:
        """The posted lines of an account that are known with this command."""
        return [
            m
            for m in self._movements()
            if m.kind is LineKind.POSTED and m.seq <= known_seq and account in (m.debit, m.credit)
        ]

    def _seq_at(self, at: datetime) -> int:
        return max((o.seq for o in self.state.outcomes.values() if o.booked_at <= at), default=0)

    def rows(self, table: str) -> list[Row]:
        """The rows that riders left in `table`."""
        return [row for (name, _), row in self.state.rows.items() if name == table and row is not None]

    def _movements(self) -> list[Movement]:
        return [
            Movement(
                seq=outcome.seq,
                line=number,
                booked_at=outcome.booked_at,
                effective_at=outcome.effective_at or outcome.booked_at,
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
                reverses=outcome.reverses,
                reversed=self.state.reversed_of((outcome.seq, number)),
                evidence=self.commands[outcome.id].evidence,
                metadata=self.commands[outcome.id].metadata,
                effective_at_requested=_requested(self.commands[outcome.id].effective_at, outcome),
            )
            for outcome in self.state.outcomes.values()
            for number, line in enumerate(outcome.lines)
        ]


def _requested(asked: datetime | None, outcome: Outcome) -> datetime | None:
    """The date that was asked for, if it isn't the one that the entry has."""
    return None if asked == (outcome.effective_at or outcome.booked_at) else asked


def _time(movement: Movement, by: TimeKind) -> datetime:
    return movement.effective_at if by is TimeKind.EFFECTIVE else movement.booked_at


def _step(movement: Movement, account: str) -> int:
    return movement.amount if movement.credit == account else -movement.amount


def check_history(*, owner: str | None, account: str | None, by: TimeKind) -> None:
    """Raise InvalidCommand for a history that can't be asked for."""
    if by is TimeKind.EFFECTIVE and owner is None and account is None:
        raise InvalidCommand("a history by effective time is that of an owner or of an account: name one", param="by")


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
