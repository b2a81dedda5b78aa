"""The rails' SQL. Rows that commit with an entry are written by the ledger as riders, not here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, Select, Text, bindparam, case, func, literal, or_, select, tuple_, union_all, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat.bank.lines import Direction, Kind
from fiat.bank.matching import Reason
from fiat.bank.records import BankLine, ClosingBalance, Discontinuity, LineState
from fiat.bank.retelling import Day, Neighbours, Told
from fiat.personal import Vault
from fiat.tables import bank_messages, lines, references, statements, virtual_ibans

DISCONTINUITIES_MAX = 20
"""So many statements that don't meet the one before are told, the latest ones."""

PERSONAL = ("end_to_end_id", "remittance", "counterparty", "counterparty_account")
"""What is sealed of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRow:
    """A statement as it's kept; `gap` and `imported_at` are known once all its lines are in the book.

    A notification has neither balances nor a gap.
    """

    id: str
    kind: Kind
    format: str
    account: str
    asset: str
    bank_id: str
    sequence: int | None
    opening: int | None
    closing: int | None
    closing_on: date | None
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
    values = {field.name: getattr(row, field.name) for field in fields(row)} | {"kind": row.kind.value}
    await connection.execute(insert(statements).values(book=book, **values).on_conflict_do_nothing())
    query = select(statements).where(statements.c.book == book, statements.c.id == row.id)
    return _statement((await connection.execute(query)).one())


async def told_before(connection: AsyncConnection, book: str, row: StatementRow) -> bool:
    """Whether this statement, by its balances and its name or number, was wholly imported from another file."""
    same = [statements.c[name] == getattr(row, name) for name in ("account", "opening", "closing")]
    query = select(statements.c.id).where(
        statements.c.book == book,
        *same,
        or_(statements.c.bank_id == row.bank_id, statements.c.sequence == row.sequence),
        statements.c.closing_on == row.closing_on,
        statements.c.id != row.id,
        statements.c.imported_at.is_not(None),
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def told_otherwise(connection: AsyncConnection, book: str, row: StatementRow) -> tuple[str, date] | None:
    """The other family of formats (camt or MT940) in which the account's lines came, and the last day told in it.

    A line has another id there. By closed statements, and by the lines of those without an end: notifications, and
    statements whose import was cut off.
    """
    is_camt = statements.c.format.like("camt.%")
    of_others = (
        (statements.c.book == book)
        & (statements.c.account == row.account)
        & (~is_camt if row.format.startswith("camt.") else is_camt)
    )
    endless = (statements.c.kind == Kind.NOTIFICATION.value) | statements.c.imported_at.is_(None)
    closed = select(statements.c.format, statements.c.closing_on.label("day")).where(of_others, ~endless)
    told = (
        select(statements.c.format, lines.c.booked_on.label("day"))
        .join(lines, (lines.c.book == statements.c.book) & (lines.c.statement == statements.c.id))
        .where(of_others, endless)
    )
    found = union_all(closed, told).subquery()
    last = (await connection.execute(select(found).order_by(found.c.day.desc()).limit(1))).one_or_none()
    return None if last is None else (last.format, last.day)


async def finish_statement(connection: AsyncConnection, book: str, row: StatementRow, now: datetime) -> int | None:
    """Note that all its lines are in the book, and return its gap; None for a notification, which has none."""
    is_it = (statements.c.book == book) & (statements.c.id == row.id) & statements.c.imported_at.is_(None)
    if row.closing is None:
        await connection.execute(update(statements).where(is_it).values(imported_at=now))
        return None
    came_in = case((lines.c.direction == Direction.CREDIT.value, lines.c.amount), else_=-lines.c.amount)
    brought = select(func.coalesce(func.sum(came_in), 0)).where(
        lines.c.book == book, lines.c.statement == row.id, lines.c.state != LineState.NOTED.value
    )
    moved = int((await connection.execute(brought)).scalar_one())
    gap = row.closing - ((await neighbours(connection, book, row)).closing_before or 0) - moved
    await connection.execute(update(statements).where(is_it).values(imported_at=now, gap=gap))
    return gap


async def neighbours(connection: AsyncConnection, book: str, row: StatementRow) -> Neighbours:
    """What stands before and behind a statement, of those that were wholly imported."""
    place = (statements.c.closing_on, func.coalesce(statements.c.sequence, 0), statements.c.received_at)
    here = (literal(row.closing_on), literal(row.sequence or 0), literal(row.received_at))
    others = _latest_first(book, row.account).where(statements.c.id != row.id)
    before = (await connection.execute(others.where(tuple_(*place) <= tuple_(*here)).limit(1))).one_or_none()
    behind = others.where(tuple_(*place) > tuple_(*here)).order_by(None).order_by(*place, statements.c.id)
    after = (await connection.execute(behind.limit(1))).one_or_none()
    return Neighbours(closing_before=before.closing if before else None, opening_after=after.opening if after else None)


async def closed_through(connection: AsyncConnection, book: str, account: str) -> date | None:
    """The last day that a statement of the account has told."""
    latest = (await connection.execute(_latest_first(book, account).limit(1))).one_or_none()
    return latest.closing_on if latest else None


async def latest_statement(connection: AsyncConnection, book: str, account: str) -> ClosingBalance | None:
    """The closing balance of the account's latest wholly imported statement, with what was notified since.

    Notified lines are in the book though no statement has brought them yet, so that both agree in between too.
    """
    row = (await connection.execute(_latest_first(book, account).limit(1))).one_or_none()
    if row is None:
        return None
    came_in = case((lines.c.direction == Direction.CREDIT.value, lines.c.amount), else_=-lines.c.amount)
    notified = (
        select(func.coalesce(func.sum(came_in), 0))
        .join(statements, (statements.c.book == lines.c.book) & (statements.c.id == lines.c.statement))
        .where(
            lines.c.book == book,
            statements.c.kind == Kind.NOTIFICATION.value,
            statements.c.account == account,
            lines.c.booked_on > row.closing_on,
        )
    )
    since = int((await connection.execute(notified)).scalar_one())
    return ClosingBalance(
        account=row.account,
        asset=row.asset,
        balance=row.closing + since,
        as_of=row.closing_on,
        statement=row.bank_id,
        coming=await _coming(connection, book, account),
        discontinuities=await _discontinuities(connection, book, account),
    )


async def _coming(connection: AsyncConnection, book: str, account: str) -> str | None:
    """A file of the account whose lines aren't all in the book yet."""
    query = select(statements.c.bank_id).where(
        statements.c.book == book, statements.c.account == account, statements.c.imported_at.is_(None)
    )
    return (await connection.execute(query.limit(1))).scalar_one_or_none()


async def _discontinuities(connection: AsyncConnection, book: str, account: str) -> tuple[Discontinuity, ...]:
    """The latest statements that don't begin where the one before ended, in the order of their days."""
    ours = _latest_first(book, account).subquery()
    order = [ours.c.closing_on, func.coalesce(ours.c.sequence, 0), ours.c.received_at, ours.c.id]
    before = select(
        ours,
        func.lag(ours.c.closing).over(order_by=order).label("closed"),
        func.lag(ours.c.bank_id).over(order_by=order).label("before"),
    ).subquery()
    brought = (
        select(func.count()).where(lines.c.book == before.c.book, lines.c.statement == before.c.id).scalar_subquery()
    )
    query = (
        select(before, (brought < before.c.lines).label("again"))
        .where(before.c.closed != before.c.opening)
        .order_by(before.c.closing_on.desc(), before.c.received_at.desc())
        .limit(DISCONTINUITIES_MAX)
    )
    found = [
        Discontinuity(
            before=row.before, statement=row.bank_id, closed=int(row.closed), opens=row.opening, again=row.again
        )
        for row in await connection.execute(query)
    ]
    return tuple(reversed(found))


def _latest_first(book: str, account: str) -> Select[Any]:
    return (
        select(statements)
        .where(
            statements.c.book == book,
            statements.c.account == account,
            statements.c.kind == Kind.STATEMENT.value,
            statements.c.imported_at.is_not(None),
        )
        .order_by(
            statements.c.closing_on.desc(),
            func.coalesce(statements.c.sequence, 0).desc(),
            statements.c.received_at.desc(),
            statements.c.id.desc(),
        )
    )


# Lines


async def known_lines(connection: AsyncConnection, book: str, ids: Sequence[str]) -> dict[str, Kind]:
    """Those of these lines that are kept, and what told of them last.

    Each is looked up by its key. A plain join lets the planner, which knows nothing yet of a table that an import is
    filling, read all lines for every batch.
    """
    wanted = func.unnest(bindparam("ids", list(ids), ARRAY(Text))).table_valued("id", name="wanted").render_derived()
    is_it = (lines.c.book == book) & (lines.c.id == wanted.c.id)
    kept = select(lines.c.statement).where(is_it).limit(1).lateral("kept")
    teller = (statements.c.book == book) & (statements.c.id == kept.c.statement)
    told_by = select(statements.c.kind).where(teller).limit(1).lateral("told_by")
    query = select(wanted.c.id, told_by.c.kind).select_from(wanted, kept, told_by)
    return {row.id: Kind(row.kind) for row in await connection.execute(query)}


async def told_lines(connection: AsyncConnection, book: str, ids: Sequence[str]) -> dict[str, Told]:
    """Those of these lines that are kept, with what told of them last; looked up as `known_lines` does."""
    wanted = func.unnest(bindparam("ids", list(ids), ARRAY(Text))).table_valued("id", name="wanted").render_derived()
    is_it = (lines.c.book == book) & (lines.c.id == wanted.c.id)
    kept = select(lines.c.statement, lines.c.state).where(is_it).limit(1).lateral("kept")
    teller = (statements.c.book == book) & (statements.c.id == kept.c.statement)
    told_by = select(statements.c.kind).where(teller).limit(1).lateral("told_by")
    query = select(wanted.c.id, kept.c.statement, kept.c.state, told_by.c.kind).select_from(wanted, kept, told_by)
    rows = await connection.execute(query)
    return {row.id: Told(Kind(row.kind), row.statement, row.state == LineState.NOTED.value) for row in rows}


async def notified_on(connection: AsyncConnection, book: str, account: str, day: Day) -> dict[str, int]:
    """Lines of a day and side that only a notification has told, with their amounts."""
    query = (
        select(lines.c.id, lines.c.amount)
        .join(statements, (statements.c.book == lines.c.book) & (statements.c.id == lines.c.statement))
        .where(
            lines.c.book == book,
            lines.c.account == account,
            lines.c.booked_on == day[0],
            lines.c.direction == day[1].value,
            lines.c.amount > 0,
            statements.c.kind == Kind.NOTIFICATION.value,
        )
    )
    return {row.id: row.amount for row in await connection.execute(query)}


async def count_by_day(
    connection: AsyncConnection, book: str, account: str, first: date, last: date
) -> dict[tuple[Day, Kind], int]:
    """How many lines of the account are kept, by day of booking, side, and what told of them; none over nothing."""
    query = (
        select(lines.c.booked_on, lines.c.direction, statements.c.kind, func.count())
        .join(statements, (statements.c.book == lines.c.book) & (statements.c.id == lines.c.statement))
        .where(
            lines.c.book == book,
            lines.c.account == account,
            lines.c.booked_on.between(first, last),
            lines.c.amount > 0,
        )
        .group_by(lines.c.booked_on, lines.c.direction, statements.c.kind)
    )
    rows = await connection.execute(query)
    return {((day, Direction(side)), Kind(kind)): count for day, side, kind, count in rows}


async def adopt_lines(connection: AsyncConnection, book: str, statement: str, numbers: Mapping[str, int]) -> None:
    """Lines that a notification told ahead become the statement's that brought them again; `numbers` there, by id."""
    if not numbers:
        return
    change = update(lines).where(lines.c.book == book, lines.c.id == bindparam("line"))
    rows = [{"line": line, "place": number} for line, number in numbers.items()]
    await connection.execute(change.values(statement=statement, number=bindparam("place")), rows)


async def add_lines(connection: AsyncConnection, book: str, rows: Sequence[dict[str, object]]) -> set[str]:
    """Keep lines that no entry goes with, unless they are; the ids of those that were new."""
    if not rows:
        return set()
    new = insert(lines).values([{"book": book, **row} for row in rows]).on_conflict_do_nothing()
    return set((await connection.execute(new.returning(lines.c.id))).scalars())


async def load_line(connection: AsyncConnection, vault: Vault, book: str, line: str) -> BankLine | None:
    row = (await connection.execute(select(lines).where(lines.c.book == book, lines.c.id == line))).one_or_none()
    return read_line(row, vault) if row else None


async def list_lines(
    connection: AsyncConnection, vault: Vault, book: str, *, states: Sequence[LineState], after: str | None, limit: int
) -> list[BankLine]:
    """Lines in these states (all if none are named), oldest record first, from behind the line `after`."""
    query = select(lines).where(lines.c.book == book).order_by(lines.c.recorded_at, lines.c.id).limit(limit)
    if states:
        query = query.where(lines.c.state.in_([state.value for state in states]))
    if after is not None:
        place = select(lines.c.recorded_at).where(lines.c.book == book, lines.c.id == after).scalar_subquery()
        query = query.where(or_(lines.c.recorded_at > place, (lines.c.recorded_at == place) & (lines.c.id > after)))
    return [read_line(row, vault) for row in await connection.execute(query)]


# Sealing anew


async def lines_in_clear(connection: AsyncConnection, book: str, *, limit: int) -> list[tuple[str, dict[str, str]]]:
    """(id, what is personal) of lines that an older version kept in clear; their rows are locked."""
    query = select(lines).where(lines.c.book == book, lines.c.remittance.is_not(None)).limit(limit).with_for_update()
    rows = await connection.execute(query)
    return [(row.id, {name: row._mapping[name] or "" for name in PERSONAL}) for row in rows]


async def lines_sealed_by_others(
    connection: AsyncConnection, book: str, head: bytes, *, limit: int
) -> list[tuple[str, bytes]]:
    """(id, sealed) of lines that don't begin as the newest key's do; their rows are locked."""
    query = (
        select(lines.c.id, lines.c.personal)
        .where(lines.c.book == book, func.substring(lines.c.personal, 1, len(head)) != head)
        .limit(limit)
        .with_for_update()
    )
    return [(row.id, bytes(row.personal)) for row in await connection.execute(query)]


async def reseal_line(connection: AsyncConnection, book: str, line: str, personal: bytes) -> None:
    """Keep what is personal sealed so, and nothing of it in clear."""
    change = update(lines).where(lines.c.book == book, lines.c.id == line)
    await connection.execute(change.values(personal=personal, **dict.fromkeys(PERSONAL)))


# Messages about payouts


async def message_known(connection: AsyncConnection, book: str, message: str) -> bool:
    query = select(bank_messages.c.id).where(bank_messages.c.book == book, bank_messages.c.id == message)
    return (await connection.execute(query)).first() is not None


async def keep_message(connection: AsyncConnection, book: str, row: Mapping[str, object]) -> None:
    """Note that all it told has had its effect."""
    await connection.execute(insert(bank_messages).values(book=book, **row).on_conflict_do_nothing())


# Virtual IBANs


async def virtual_number_of(connection: AsyncConnection, book: str, account: str, owner: str) -> int | None:
    query = select(virtual_ibans.c.number).where(
        virtual_ibans.c.book == book, virtual_ibans.c.account == account, virtual_ibans.c.owner == owner
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def add_virtual_number(connection: AsyncConnection, book: str, account: str, owner: str, now: datetime) -> None:
    """Give the owner the account's next number, unless they have one, or another is given it in this instant."""
    there = (virtual_ibans.c.book == book) & (virtual_ibans.c.account == account)
    next_one = select(func.coalesce(func.max(virtual_ibans.c.number), 0) + 1).where(there).scalar_subquery()
    row = {"book": book, "account": account, "number": next_one, "owner": owner, "issued_at": now}
    await connection.execute(insert(virtual_ibans).values(row).on_conflict_do_nothing())


async def owners_of_numbers(
    connection: AsyncConnection, book: str, account: str, wanted: Iterable[int]
) -> dict[int, str]:
    """Owner by number, for those of `wanted` that were given."""
    query = select(virtual_ibans.c.number, virtual_ibans.c.owner).where(
        virtual_ibans.c.book == book, virtual_ibans.c.account == account, virtual_ibans.c.number.in_(list(wanted))
    )
    return {row.number: row.owner for row in await connection.execute(query)}


def _statement(row: Row[Any]) -> StatementRow:
    values = {field.name: row._mapping[field.name] for field in fields(StatementRow)}
    return StatementRow(**values | {"kind": Kind(row.kind)})


def read_line(row: Row[Any], vault: Vault) -> BankLine:
    values = {field.name: row._mapping[field.name] for field in fields(BankLine)}
    if row.personal is not None:
        opened = vault.open(bytes(row.personal), book=row.book, table=lines.name, row=row.id)
        values |= {name: opened.get(name, "") for name in PERSONAL}
    values["direction"] = Direction(row.direction)
    values["state"] = LineState(row.state)
    values["reason"] = Reason(row.reason) if row.reason else None
    return BankLine(**values)
