"""The rails' SQL. Rows that commit with an entry are written by the ledger as riders, not here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, Select, case, func, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.bank.camt053 import Direction
from fiat.bank.matching import Reason
from fiat.bank.records import BankLine, ClosingBalance, LineState
from fiat.tables import lines, references, statements


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRow:
    """A statement as it's kept; `gap` and `imported_at` are known once all its lines are in the book."""

    id: str
    account: str
    asset: str
    bank_id: str
    sequence: int | None
    opening: int
    closing: int
    closing_on: date
    lines: int
    pending: int
    file: str
    file_sha256: bytes
    received_at: datetime
    imported_at: datetime | None = None
    gap: int | None = None


# References


async def reference_of(connection: AsyncConnection, book: str, owner: str) -> str | None:
    query = select(references.c.reference).where(references.c.book == book, references.c.owner == owner)
    return (await connection.execute(query)).scalar_one_or_none()


async def add_reference(connection: AsyncConnection, book: str, owner: str, reference: str, now: datetime) -> None:
    """Keep the reference unless the owner has one, or another has this one."""
    row = {"book": book, "reference": reference, "owner": owner, "issued_at": now}
    await connection.execute(insert(references).values(row).on_conflict_do_nothing())


async def owners_of(connection: AsyncConnection, book: str, wanted: Iterable[str]) -> dict[str, str]:
    """Owner by reference, for those of `wanted` that were issued."""
    query = select(references.c.reference, references.c.owner).where(
        references.c.book == book, references.c.reference.in_(list(wanted))
    )
    return {row.reference: row.owner for row in await connection.execute(query)}


# Statements


async def add_statement(connection: AsyncConnection, book: str, row: StatementRow) -> StatementRow:
    """Keep the statement if it's new; return it as it's kept."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    await connection.execute(insert(statements).values(book=book, **values).on_conflict_do_nothing())
    query = select(statements).where(statements.c.book == book, statements.c.id == row.id)
    return _statement((await connection.execute(query)).one())


async def told_before(connection: AsyncConnection, book: str, row: StatementRow) -> bool:
    """Whether this statement, by its name and balances, was wholly imported from another file."""
    same = [statements.c[name] == getattr(row, name) for name in ("account", "bank_id", "opening", "closing")]
    query = select(statements.c.id).where(
        statements.c.book == book,
        *same,
        statements.c.closing_on == row.closing_on,
        statements.c.id != row.id,
        statements.c.imported_at.is_not(None),
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def finish_statement(connection: AsyncConnection, book: str, row: StatementRow, now: datetime) -> int:
    """Note that all its lines are in the book, and return its gap."""
    came_in = case((lines.c.direction == Direction.CREDIT.value, lines.c.amount), else_=-lines.c.amount)
    brought = select(func.coalesce(func.sum(came_in), 0)).where(lines.c.book == book, lines.c.statement == row.id)
    earlier = (
        _latest_first(book, row.account)
        .where(statements.c.id != row.id)
        .where(
            tuple_(statements.c.closing_on, func.coalesce(statements.c.sequence, 0), statements.c.received_at)
            <= tuple_(literal(row.closing_on), literal(row.sequence or 0), literal(row.received_at))
        )
    )
    previous = (await connection.execute(earlier.limit(1))).one_or_none()
    moved = int((await connection.execute(brought)).scalar_one())
    gap = row.closing - (previous.closing if previous else 0) - moved
    is_it = (statements.c.book == book) & (statements.c.id == row.id) & statements.c.imported_at.is_(None)
    await connection.execute(update(statements).where(is_it).values(imported_at=now, gap=gap))
    return gap


async def latest_statement(connection: AsyncConnection, book: str, account: str) -> ClosingBalance | None:
    """The closing balance of the account's latest wholly imported statement."""
    row = (await connection.execute(_latest_first(book, account).limit(1))).one_or_none()
    if row is None:
        return None
    return ClosingBalance(
        account=row.account, asset=row.asset, balance=row.closing, as_of=row.closing_on, statement=row.bank_id
    )


def _latest_first(book: str, account: str) -> Select[Any]:
    return (
        select(statements)
        .where(statements.c.book == book, statements.c.account == account, statements.c.imported_at.is_not(None))
        .order_by(
            statements.c.closing_on.desc(),
            func.coalesce(statements.c.sequence, 0).desc(),
            statements.c.received_at.desc(),
            statements.c.id.desc(),
        )
    )


# Lines


async def known_lines(connection: AsyncConnection, book: str, ids: Sequence[str]) -> set[str]:
    query = select(lines.c.id).where(lines.c.book == book, lines.c.id.in_(ids))
    return set((await connection.execute(query)).scalars())


async def add_lines(connection: AsyncConnection, book: str, rows: Sequence[dict[str, object]]) -> None:
    """Keep lines that no entry goes with."""
    if rows:
        await connection.execute(insert(lines).values([{"book": book, **row} for row in rows]).on_conflict_do_nothing())


async def load_line(connection: AsyncConnection, book: str, line: str) -> BankLine | None:
    row = (await connection.execute(select(lines).where(lines.c.book == book, lines.c.id == line))).one_or_none()
    return read_line(row) if row else None


async def list_lines(
    connection: AsyncConnection, book: str, *, states: Sequence[LineState], after: str | None, limit: int
) -> list[BankLine]:
    """Lines in these states (all if none are named), oldest record first, from behind the line `after`."""
    query = select(lines).where(lines.c.book == book).order_by(lines.c.recorded_at, lines.c.id).limit(limit)
    if states:
        query = query.where(lines.c.state.in_([state.value for state in states]))
    if after is not None:
        place = select(lines.c.recorded_at).where(lines.c.book == book, lines.c.id == after).scalar_subquery()
        query = query.where(or_(lines.c.recorded_at > place, (lines.c.recorded_at == place) & (lines.c.id > after)))
    return [read_line(row) for row in await connection.execute(query)]


def _statement(row: Row[Any]) -> StatementRow:
    return StatementRow(**{field.name: row._mapping[field.name] for field in fields(StatementRow)})


def read_line(row: Row[Any]) -> BankLine:
    values = {field.name: row._mapping[field.name] for field in fields(BankLine)}
    values["direction"] = Direction(row.direction)
    values["state"] = LineState(row.state)
    values["reason"] = Reason(row.reason) if row.reason else None
    return BankLine(**values)
