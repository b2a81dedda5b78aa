"""SQL of closed periods, and of what stands open in one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from fiat import tables as fiat
from ledger.riders import Insert
from treasury.operations.tables import periods
from treasury.tables import breaks, reconciliations

NAMED_MAX = 20
"""Open things of one kind that are named; the rest are counted."""


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A period that was closed; `seq` is its command's place in the book, `open_items` in spite of what.

    `confirmed_by`: the second person, where something stood open.
    """

    id: str
    command: str
    name: str | None
    until: datetime
    closed_at: datetime
    closed_by: str
    reason: str
    open_items: tuple[Mapping[str, str], ...]
    confirmed_by: str | None = None
    seq: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What of treasury and banks isn't settled at a period's end. Lists are cut, numbers aren't."""

    reconciled_at: datetime | None
    breaks: int
    break_ids: tuple[str, ...]
    lines: int
    line_ids: tuple[str, ...]
    late_accounts: tuple[str, ...]
    gaps: tuple[str, ...]


async def load_standing(connection: AsyncConnection, book: str, *, until: datetime, day: date) -> Standing:
    """As of now: the last reconciliation, breaks older than `until`, bank lines in suspense booked through `day`, bank
    accounts whose statements don't reach `day`, and statements through it with something missing before them."""
    mine, line, told = breaks.c, fiat.lines.c, fiat.statements.c
    is_open = (mine.book == book) & mine.resolved_at.is_(None) & (mine.first_seen_at < until)
    waits = (line.book == book) & (line.state == "suspended") & (line.booked_on <= day)
    is_statement = (told.book == book) & (told.kind == "statement") & told.imported_at.is_not(None)
    late = select(told.account).where(is_statement).group_by(told.account).having(func.max(told.closing_on) < day)
    gaps = select(told.bank_id).where(is_statement, told.gap != 0, told.closing_on <= day).order_by(told.closing_on)
    ran = select(func.max(reconciliations.c.finished_at)).where(reconciliations.c.book == book)
    return Standing(
        reconciled_at=await connection.scalar(ran),
        breaks=await connection.scalar(select(func.count()).select_from(breaks).where(is_open)) or 0,
        break_ids=await _ids(connection, select(mine.id).where(is_open).order_by(mine.id)),
        lines=await connection.scalar(select(func.count()).select_from(fiat.lines).where(waits)) or 0,
        line_ids=await _ids(connection, select(line.id).where(waits).order_by(line.id)),
        late_accounts=await _ids(connection, late.order_by(told.account)),
        gaps=await _ids(connection, gaps),
    )


async def _ids(connection: AsyncConnection, query: Any) -> tuple[str, ...]:
    return tuple(await connection.scalars(query.limit(NAMED_MAX)))


async def load_period(connection: AsyncConnection, book: str, period: str) -> ClosedPeriod | None:
    query = select(periods).where(periods.c.book == book, periods.c.id == period)
    row = (await connection.execute(query)).first()
    return None if row is None else _period(row)


async def list_periods(
    connection: AsyncConnection, book: str, *, before: datetime | None, limit: int
) -> list[ClosedPeriod]:
    """Periods, the latest first, those that end before `before`."""
    query = select(periods).where(periods.c.book == book).order_by(periods.c.until.desc()).limit(limit)
    if before is not None:
        query = query.where(periods.c.until < before)
    return [_period(row) for row in await connection.execute(query)]


async def period_over(connection: AsyncConnection, book: str, at: datetime) -> ClosedPeriod | None:
    """The closed period in which an instant lies: the first one that ends behind it."""
    query = select(periods).where(periods.c.book == book, periods.c.until > at).order_by(periods.c.until).limit(1)
    row = (await connection.execute(query)).first()
    return None if row is None else _period(row)


def added(book: str, period: ClosedPeriod) -> Insert:
    """The row of a period that is being closed."""
    values: dict[str, object] = {
        "command": period.command,
        "name": period.name,
        "until": period.until,
        "closed_at": period.closed_at,
        "closed_by": period.closed_by,
        "confirmed_by": period.confirmed_by,
        "reason": period.reason,
        "open_items": list(period.open_items),
    }
    return Insert(periods.name, {"book": book, "id": period.id}, values)


def items_of(standing: Standing, *, until: datetime) -> tuple[Mapping[str, str], ...]:
    """What stands open, in words: what it is, and which."""
    found: list[tuple[str, str]] = []
    if standing.reconciled_at is None or standing.reconciled_at < until:
        found.append(("not_reconciled", "no reconciliation was made since the period's end"))
    if standing.breaks:
        found.append(("open_breaks", _counted(standing.breaks, standing.break_ids)))
    if standing.lines:
        found.append(("unmatched_lines", _counted(standing.lines, standing.line_ids)))
    if standing.late_accounts:
        found.append(("statement_missing", f"no statement reaches the end: {', '.join(standing.late_accounts)}"))
    if standing.gaps:
        found.append(("statement_gap", f"something is missing before: {', '.join(standing.gaps)}"))
    return tuple({"item": item, "detail": detail} for item, detail in found)


def beyond(items: Iterable[Mapping[str, str]], borne: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Those of `items` that aren't among `borne`, or to which something has come since. Less of one is none of them."""
    told = {one["item"]: one["detail"] for one in borne}
    return [one for one in items if one["item"] not in told or not _within(one["detail"], told[one["item"]])]


def _within(detail: str, borne: str) -> bool:
    """Of a list that was cut, its number alone can be compared."""
    (number, names), (number_then, names_then) = _read(detail), _read(borne)
    was_cut = len(names_then) >= NAMED_MAX
    return detail == borne or (number <= number_then and (was_cut or names <= names_then))


def _read(detail: str) -> tuple[int, set[str]]:
    """How many open things `items_of` told, and those of them that it named."""
    head, _, listed = detail.partition(": ")
    names = {*listed.split(", ")} - {"..."}
    return (int(head) if head.isdecimal() else len(names)), names


def _counted(number: int, named: Sequence[str]) -> str:
    return f"{number}: {', '.join(named)}{', ...' if number > len(named) else ''}"


def _period(row: Row[Any]) -> ClosedPeriod:
    return ClosedPeriod(
        id=row.id,
        command=row.command,
        name=row.name,
        until=row.until,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        confirmed_by=row.confirmed_by,
        reason=row.reason,
        open_items=tuple(row.open_items),
    )
