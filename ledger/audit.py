"""The audit of a book: recompute outside the database all that its rows claim, and name the first that disagrees.

Reads commands and lines once, in seq order, and rebuilds from nothing but them: the counters and flags of every
account, the balance after every line, the remainder of every hold, every leaf, and the gapless seq.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import driver_of, tx
from ledger import store
from ledger.accounts import Account, new_account
from ledger.canonical import command_row, instant_text, leaf_hash, line_row
from ledger.outcomes import Kind, LineKind, Outcome
from ledger.reading import book_number, load_accounts
from ledger.tables import books, commands, holds


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row that isn't what the journal says: which, what, the figure it should have, and the one that it has."""

    where: str
    what: str
    expected: str
    found: str


@dataclass(slots=True)
class AuditReport:
    """What an audit looked at, and what it found wrong (at most `FINDINGS_MAX`)."""

    book: str
    commands: int = 0
    lines: int = 0
    accounts: int = 0
    through_seq: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.disagreements

    def expect(self, where: str, what: str, *, expected: object, found: object) -> None:
        """Note a disagreement unless both are equal."""
        if expected != found and len(self.disagreements) < FINDINGS_MAX:
            self.disagreements.append(Disagreement(where, what, str(expected), str(found)))


FINDINGS_MAX = 100
"""Disagreements that a report carries at most; the first ones tell where to look."""

CHUNK = 2_000
"""Commands read at a time."""


@dataclass(slots=True)
class _Rebuilt:
    accounts: dict[str, Account] = field(default_factory=dict)
    held: dict[tuple[str, int], int] = field(default_factory=dict)

    def account(self, account: str) -> Account:
        return self.accounts.get(account) or new_account(account)


async def audit(engine: AsyncEngine, book: str) -> AuditReport:
    """Audit one book as it stands at one instant. Takes no lock; what is written meanwhile isn't looked at."""
    report, rebuilt = AuditReport(book), _Rebuilt()
    async with tx(engine) as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        number = await book_number(connection, book)
        last_booked_at: datetime | None = None
        async for command, outcome in _commands(connection, number, book):
            report.through_seq += 1
            report.commands += 1
            where = f"command {outcome.seq}"
            report.expect(where, "seq", expected=report.through_seq, found=outcome.seq)
            report.through_seq = outcome.seq
            if last_booked_at is not None and outcome.booked_at < last_booked_at:
                report.expect(where, "booked_at", expected=f">= {last_booked_at}", found=outcome.booked_at)
            last_booked_at = outcome.booked_at
            _check_leaf(report, command, outcome)
            _replay(report, rebuilt, command, outcome)
        await _compare_head(report, connection, book)
        await _compare_accounts(report, connection, number, rebuilt)
        await _compare_holds(report, connection, number, rebuilt)
    return report


@dataclass(frozen=True, slots=True)
class _Stored:
    terms: dict[str, object]
    preimage: str
    leaf: bytes


async def _commands(connection: AsyncConnection, number: int, book: str) -> AsyncIterator[tuple[_Stored, Outcome]]:
    after = 0
    raw = await driver_of(connection)
    while True:
        query = select(commands).where(commands.c.book == number, commands.c.seq > after).order_by(commands.c.seq)
        rows = (await connection.execute(query.limit(CHUNK))).all()
        if not rows:
            return
        outcomes = {o.seq: o for o in await store.load_outcomes(raw, number, [row.seq for row in rows])}
        seqs = await store.find_ids(raw, number, {line.hold for o in outcomes.values() for line in o.lines if line.hold})
        for row in rows:
            outcome = outcomes[row.seq]
            first = command_row(
                book=book,
                seq=row.seq,
                command_id=row.id,
                kind=row.kind,
                subject=row.subject,
                content=row.content,
                booked_at=instant_text(row.booked_at),
                refusal=row.refusal,
                detail=row.detail,
                effective_at=None if row.effective_at is None else instant_text(row.effective_at),
                metadata=row.metadata_hash,
            )
            rest = [
                line_row(
                    line.kind,
                    line.debit,
                    line.credit,
                    str(line.amount),
                    str(line.debit_balance),
                    str(line.credit_balance),
                    *(("NULL", "NULL") if line.hold is None else (str(seqs[line.hold]), str(line.hold_posting))),
                )
                for line in outcome.lines
            ]
            terms = json.loads(row.detail).get("terms", {}) if row.detail else {}
            yield _Stored(terms, first + "".join(rest), row.leaf), outcome
        after = rows[-1].seq


def _check_leaf(report: AuditReport, stored: _Stored, outcome: Outcome) -> None:
    leaf = leaf_hash(stored.preimage)
    report.expect(f"command {outcome.seq}", "leaf", expected=leaf.hex(), found=stored.leaf.hex())


def _replay(report: AuditReport, rebuilt: _Rebuilt, stored: _Stored, outcome: Outcome) -> None:
    if not outcome.accepted:
        report.expect(f"command {outcome.seq}", "lines of a refusal", expected=0, found=len(outcome.lines))
        return
    _replay_flags(rebuilt, stored, outcome)
    for number, line in enumerate(outcome.lines):
        report.lines += 1
        posted = line.amount if line.kind is LineKind.POSTED else 0
        pending = {LineKind.HELD: line.amount, LineKind.RELEASED: -line.amount}.get(
            line.kind, -line.amount if line.hold is not None else 0
        )
        debit = rebuilt.account(line.debit).add(debits_posted=posted, debits_pending=pending)
        credit = rebuilt.account(line.credit).add(credits_posted=posted, credits_pending=pending)
        rebuilt.accounts |= {debit.id: debit, credit.id: credit}
        if line.hold is not None and line.hold_posting is not None:
            held = line.hold, line.hold_posting
            rebuilt.held[held] = rebuilt.held.get(held, 0) + pending
        where = f"line {outcome.seq}.{number}"
        report.expect(f"{where} ({debit.id})", "balance after", expected=debit.balance, found=line.debit_balance)
        report.expect(f"{where} ({credit.id})", "balance after", expected=credit.balance, found=line.credit_balance)


def _replay_flags(rebuilt: _Rebuilt, stored: _Stored, outcome: Outcome) -> None:
    terms = stored.terms
    match outcome.kind:
        case Kind.OPEN:
            rebuilt.accounts.setdefault(str(terms["account"]), new_account(str(terms["account"])))
        case Kind.CLOSE:
            account = rebuilt.account(str(terms["account"]))
            rebuilt.accounts[account.id] = replace(account, closed=True)
        case Kind.CREDIT_LINE:
            account = rebuilt.account(str(terms["account"]))
            rebuilt.accounts[account.id] = replace(account, credit_line=int(str(terms["cap"])))
        case Kind.FREEZE | Kind.UNFREEZE if terms["scope"] == "account":
            account = rebuilt.account(str(terms["target"]))
            rebuilt.accounts[account.id] = replace(account, frozen=outcome.kind is Kind.FREEZE)
        case _:
            pass


async def _compare_head(report: AuditReport, connection: AsyncConnection, book: str) -> None:
    head = await connection.scalar(select(books.c.seq).where(books.c.book == book))
    report.expect(f"book {book}", "seq of the last command", expected=report.through_seq, found=head)


async def _compare_accounts(report: AuditReport, connection: AsyncConnection, number: int, rebuilt: _Rebuilt) -> None:
    """Every stored account against the one rebuilt: flags, credit line and the four counters."""
    stored = {account.id: account for account in await load_accounts(connection, number)}
    report.accounts = len(stored)
    for name in sorted(stored.keys() | rebuilt.accounts.keys()):
        if name not in stored or name not in rebuilt.accounts:
            report.expect(f"account {name}", "row", expected=name in rebuilt.accounts, found=name in stored)
            continue
        ours, theirs = rebuilt.accounts[name], stored[name]
        for column in ACCOUNT_COLUMNS:
            report.expect(f"account {name}", column, expected=getattr(ours, column), found=getattr(theirs, column))


ACCOUNT_COLUMNS = (
    "owner",
    "purpose",
    "asset",
    "limited",
    "frozen",
    "closed",
    "credit_line",
    "debits_posted",
    "credits_posted",
    "debits_pending",
    "credits_pending",
)
"""What the journal determines of an account's row."""


async def _compare_holds(report: AuditReport, connection: AsyncConnection, number: int, rebuilt: _Rebuilt) -> None:
    query = (
        select(holds.c.posting, holds.c.remaining, commands.c.id)
        .join(commands, and_(commands.c.book == holds.c.book, commands.c.seq == holds.c.hold))
        .where(holds.c.book == number)
    )
    for row in await connection.execute(query):
        report.expect(
            f"hold {row.id} posting {row.posting}",
            "remaining",
            expected=rebuilt.held.pop((row.id, row.posting), None),
            found=row.remaining,
        )
    for hold, posting in rebuilt.held:
        report.expect(f"hold {hold} posting {posting}", "row", expected=True, found=False)
