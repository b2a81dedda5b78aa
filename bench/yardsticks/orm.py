"""Yardstick ORM: what a careful service built on SQLAlchemy's async ORM does for each command, in a tx of its own.

The same rows as the engine's, in the same tables, by the same checks: accounts locked in the order of their numbers by
one `FOR UPDATE`, the id's row as the idempotency record, refusals remembered, both balances after every line, leaves.
Two things are easier here than for the engine: seq comes from a sequence, so it may have gaps and nobody waits for the
book's row; and booked_at may fall as seq rises.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from sqlalchemy import BigInteger, SmallInteger, and_, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from base.clock import SystemClock
from bench.stage import Place
from db.engine import asyncpg_url, tx
from db.types import Amount, Balance, Instant
from ledger.canonical import command_content, command_row, dump, id_key, instant_text, kind_of, leaf_hash, line_row
from ledger.commands import Command, Group, Hold, Post, Settle, Void
from ledger.money import AMOUNT_END
from ledger.outcomes import Kind, LineKind, Outcome, Refusal, Refused
from ledger.state import HoldState

POOL = 16
"""Connections."""


Big = Annotated[int, mapped_column(BigInteger)]
Units = Annotated[int, mapped_column(Amount)]
SignedUnits = Annotated[int, mapped_column(Balance)]
At = Annotated[datetime, mapped_column(Instant)]


class _Base(DeclarativeBase):
    pass


class Account(_Base):
    """An account's row."""

    __tablename__ = "ledger_accounts"
    book: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    asset: Mapped[str]
    limited: Mapped[bool]
    frozen: Mapped[bool]
    closed: Mapped[bool]
    credit_line: Mapped[Units]
    debits_posted: Mapped[Units]
    credits_posted: Mapped[Units]
    debits_pending: Mapped[Units]
    credits_pending: Mapped[Units]

    @property
    def balance(self) -> int:
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        return self.balance - self.debits_pending + self.credit_line


class Freeze(_Base):
    """A freeze's row."""

    __tablename__ = "ledger_freezes"
    book: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    frozen: Mapped[bool]


class Id(_Base):
    """An id's row: the idempotency record."""

    __tablename__ = "ledger_ids"
    book: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    seq: Mapped[Big]


class CommandRow(_Base):
    """A command's row."""

    __tablename__ = "ledger_commands"
    book: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[Big] = mapped_column(primary_key=True)
    booked_at: Mapped[At]
    kind: Mapped[str]
    id: Mapped[str]
    subject: Mapped[str | None]
    content: Mapped[bytes]
    refusal: Mapped[str | None]
    detail: Mapped[str | None]
    leaf: Mapped[bytes]


class LineRow(_Base):
    """A line's row."""

    __tablename__ = "ledger_lines"
    book: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[Big] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    kind: Mapped[str]
    debit: Mapped[int]
    credit: Mapped[int]
    amount: Mapped[Units]
    debit_balance: Mapped[SignedUnits]
    credit_balance: Mapped[SignedUnits]
    hold: Mapped[Big | None]
    hold_posting: Mapped[int | None] = mapped_column(SmallInteger)


class HoldRow(_Base):
    """A held posting's row."""

    __tablename__ = "ledger_holds"
    book: Mapped[int] = mapped_column(primary_key=True)
    hold: Mapped[Big] = mapped_column(primary_key=True)
    posting: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    debit: Mapped[int]
    credit: Mapped[int]
    amount: Mapped[Units]
    remaining: Mapped[Units]
    state: Mapped[str]
    expires_at: Mapped[At | None]


Accounts = dict[str | int, Account]
"""By name and by number."""


class _Refuse(Exception):
    def __init__(self, code: Refused, **facts: str | int) -> None:
        super().__init__(code)
        self.refusal = Refusal(code, facts)


@dataclass(slots=True)
class _Work:
    """One command's part of a tx: what was locked for it, and the rows it adds."""

    command: Command
    content: bytes
    seq: int
    held: list[HoldRow]
    lines: list[LineRow] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)


class Orm:
    """Submits groups by an ORM session each."""

    def __init__(self, engine: AsyncEngine, *, book: int, name: str) -> None:
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._book = book
        self._name = name
        self._clock = SystemClock()

    async def submit(self, groups: Sequence[Group]) -> list[tuple[Outcome, ...]]:
        return [await self._group(group) for group in groups]

    async def _group(self, group: Group) -> tuple[Outcome, ...]:
        async with self._sessions.begin() as session:
            works = []
            for command in group.commands:
                content = group.content or command_content(command)
                seq, known = await self._new_seq(session, command.id)
                if known is not None:
                    return (await self._first(session, known, content),)
                works.append(_Work(command, content, seq, await self._hold_of(session, command)))
            accounts, stopped = await self._lock_accounts(session, works)
            booked_at = self._clock.now()
            refusal: Refusal | None = None
            try:
                for work in works:
                    self._decide(work, accounts, stopped, booked_at)
            except _Refuse as refused:
                refusal = refused.refusal
                session.expunge_all()  # what was changed on the way isn't written
                for work in works:
                    work.lines, work.holds = [], []
            names = {account.account: account.name for account in accounts.values()}
            return tuple(self._record(session, work, refusal, booked_at, names) for work in works)

    async def _new_seq(self, session: AsyncSession, command_id: str) -> tuple[int, int | None]:
        """A new seq, and the seq under which this id was decided before."""
        before = select(Id.seq).where(Id.book == self._book, Id.key == id_key(command_id)).scalar_subquery()
        seq, known = (await session.execute(select(func.nextval("bench_seq"), before))).one()
        return seq, known

    async def _first(self, session: AsyncSession, seq: int, content: bytes) -> Outcome:
        """The first outcome of an id, or the conflict."""
        row = await session.get_one(CommandRow, {"book": self._book, "seq": seq})
        refusal = None if row.refusal is None else Refusal(Refused(row.refusal), {})
        if row.content != content:
            refusal = Refusal(Refused.ID_CONFLICT, {})
        return Outcome(
            id=row.id,
            seq=seq,
            booked_at=row.booked_at,
            kind=Kind(row.kind),
            subject=row.subject,
            content=row.content,
            refusal=refusal,
            replayed=True,
        )

    async def _hold_of(self, session: AsyncSession, command: Command) -> list[HoldRow]:
        """The postings of the hold that a command ends, locked."""
        if not isinstance(command, Settle | Void):
            return []
        hold = select(Id.seq).where(Id.book == self._book, Id.key == id_key(command.hold)).scalar_subquery()
        query = select(HoldRow).where(HoldRow.book == self._book, HoldRow.hold == hold).order_by(HoldRow.posting)
        return list(await session.scalars(query.with_for_update()))

    async def _lock_accounts(self, session: AsyncSession, works: Sequence[_Work]) -> tuple[Accounts, set[str]]:
        """Every account that these commands touch, locked in the order of their numbers, and those that are frozen."""
        names = {
            side
            for work in works
            if isinstance(work.command, Post | Hold)
            for posting in work.command.postings
            for side in (posting.debit, posting.credit)
        }
        numbers = {side for work in works for row in work.held for side in (row.debit, row.credit)}
        frozen = exists().where(
            Freeze.book == self._book,
            Freeze.frozen,
            or_(
                and_(Freeze.scope == "owner", Freeze.target == Account.owner),
                and_(Freeze.scope == "asset", Freeze.target == Account.asset),
            ),
        )
        which = Account.name.in_(names) if names else Account.account.in_(numbers)
        query = select(Account, frozen).where(Account.book == self._book, which).order_by(Account.account)
        found: Accounts = {}
        stopped: set[str] = set()
        for account, is_frozen in await session.execute(query.with_for_update(of=Account)):
            found[account.name] = found[account.account] = account
            if is_frozen or account.frozen:
                stopped.add(account.name)
        return found, stopped

    # Deciding

    def _decide(self, work: _Work, accounts: Accounts, stopped: set[str], now: datetime) -> None:
        match work.command:
            case Post() | Hold():
                self._enter(work, work.command, accounts, stopped)
            case Settle() | Void():
                self._end(work, work.command, accounts, now)
            case _:
                raise TypeError(f"the mix has no {type(work.command).__name__}")

    def _enter(self, work: _Work, command: Post | Hold, accounts: Accounts, stopped: set[str]) -> None:
        for posting in command.postings:
            if not 0 < posting.amount < AMOUNT_END:
                raise _Refuse(Refused.INVALID_AMOUNT, amount=str(posting.amount))
            if posting.debit == posting.credit:
                raise _Refuse(Refused.SAME_ACCOUNT, account=posting.debit)
            for side in (posting.debit, posting.credit):
                account = accounts.get(side)
                if account is None:
                    raise _Refuse(Refused.UNKNOWN_ACCOUNT, account=side)
                if account.asset != posting.asset:
                    raise _Refuse(Refused.ASSET_MISMATCH, account=side)
                if account.closed:
                    raise _Refuse(Refused.ACCOUNT_CLOSED, account=side)
                if side in stopped:
                    raise _Refuse(Refused.FROZEN, target=side)
        is_hold = isinstance(command, Hold)
        before = {posting.debit: accounts[posting.debit].available for posting in command.postings}
        for index, posting in enumerate(command.postings):
            debit, credit = accounts[posting.debit], accounts[posting.credit]
            posted, held = (0, posting.amount) if is_hold else (posting.amount, 0)
            _move(debit, credit, posted=posted, held=held)
            kind = LineKind.HELD if is_hold else LineKind.POSTED
            self._line(work, kind, debit, credit, posting.amount, (work.seq, index) if is_hold else None)
            if is_hold:
                work.holds.append(
                    HoldRow(
                        book=self._book,
                        hold=work.seq,
                        posting=index,
                        debit=debit.account,
                        credit=credit.account,
                        amount=posting.amount,
                        remaining=posting.amount,
                        state=HoldState.OPEN.value,
                    )
                )
        for name, earlier in before.items():
            available = accounts[name].available
            if accounts[name].limited and available < 0 and available < earlier:
                raise _Refuse(
                    Refused.INSUFFICIENT_FUNDS, account=name, required=earlier - available, available=max(0, earlier)
                )

    def _end(self, work: _Work, command: Settle | Void, accounts: Accounts, now: datetime) -> None:
        if not work.held:
            raise _Refuse(Refused.UNKNOWN_HOLD, hold=command.hold)
        first = work.held[0]
        if first.state != HoldState.OPEN:
            raise _Refuse(Refused.HOLD_CLOSED, hold=command.hold, state=first.state)
        if first.expires_at is not None and first.expires_at <= now:
            raise _Refuse(Refused.HOLD_EXPIRED, hold=command.hold)
        amounts = {row.posting: row.remaining for row in work.held}
        if isinstance(command, Void):
            amounts = {}
        elif command.amounts is not None:
            amounts = dict(command.amounts)
        closes = isinstance(command, Void) or command.close
        for row in work.held:
            settled = amounts.get(row.posting, 0)
            if settled > row.remaining:
                raise _Refuse(Refused.EXCEEDS_REMAINDER, required=settled, remaining=row.remaining)
            released = row.remaining - settled if closes else 0
            debit, credit = accounts[row.debit], accounts[row.credit]
            for kind, amount in ((LineKind.POSTED, settled), (LineKind.RELEASED, released)):
                if amount:
                    _move(debit, credit, posted=amount if kind is LineKind.POSTED else 0, held=-amount)
                    self._line(work, kind, debit, credit, amount, (row.hold, row.posting))
            row.remaining -= settled + released
        if not any(row.remaining for row in work.held):
            for row in work.held:
                row.state = HoldState.VOIDED.value if isinstance(command, Void) else HoldState.SETTLED.value

    def _line(
        self, work: _Work, kind: LineKind, debit: Account, credit: Account, amount: int, hold: tuple[int, int] | None
    ) -> None:
        work.lines.append(
            LineRow(
                book=self._book,
                seq=work.seq,
                line=len(work.lines),
                kind=kind.value,
                debit=debit.account,
                credit=credit.account,
                amount=amount,
                debit_balance=debit.balance,
                credit_balance=credit.balance,
                hold=hold[0] if hold else None,
                hold_posting=hold[1] if hold else None,
            )
        )

    # Writing

    def _record(
        self, session: AsyncSession, work: _Work, refusal: Refusal | None, now: datetime, names: dict[int, str]
    ) -> Outcome:
        """Add a command's rows to the session."""
        command, kind = work.command, kind_of(work.command)
        detail = dump({"facts": refusal.facts}).decode() if refusal is not None and refusal.facts else None
        code = None if refusal is None else refusal.code.value
        preimage = command_row(
            book=self._name,
            seq=work.seq,
            command_id=command.id,
            kind=kind.value,
            subject=command.subject,
            content=work.content,
            booked_at=instant_text(now),
            refusal=code,
            detail=detail,
        )
        for line in work.lines:
            held = () if line.hold is None else (str(line.hold), str(line.hold_posting))
            numbers = (str(line.amount), str(line.debit_balance), str(line.credit_balance))
            preimage += line_row(line.kind, names[line.debit], names[line.credit], *numbers, *held)
        session.add(Id(book=self._book, key=id_key(command.id), seq=work.seq))
        session.add(
            CommandRow(
                book=self._book,
                seq=work.seq,
                booked_at=now,
                kind=kind.value,
                id=command.id,
                subject=command.subject,
                content=work.content,
                refusal=code,
                detail=detail,
                leaf=leaf_hash(preimage),
            )
        )
        session.add_all([*work.lines, *work.holds])
        return Outcome(
            id=command.id,
            seq=work.seq,
            booked_at=now,
            kind=kind,
            subject=command.subject,
            content=work.content,
            refusal=refusal,
        )


def _move(debit: Account, credit: Account, *, posted: int, held: int) -> None:
    debit.debits_posted += posted
    credit.credits_posted += posted
    debit.debits_pending += held
    credit.credits_pending += held


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Orm]:
    """The yardstick in this place's book."""
    settings = {"server_settings": {"timezone": "UTC"}}
    engine = create_async_engine(
        asyncpg_url(place.admin_url), pool_size=POOL, max_overflow=0, pool_timeout=60, connect_args=settings
    )
    try:
        async with tx(engine) as connection:
            number, name, seq = (await connection.execute(text("SELECT number, book, seq FROM ledger_books"))).one()
            await connection.execute(text("CREATE SEQUENCE bench_seq"))
            await connection.execute(text("SELECT setval('bench_seq', :seq)"), {"seq": seq})
        yield Orm(engine, book=number, name=name)
    finally:
        await engine.dispose()
