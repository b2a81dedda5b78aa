"""SQL of breaks: what a run found, what people said of it, and the history that can't be rewritten."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Numeric,
    Row,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.riders import Advance, Insert
from treasury.break_records import HistoryKind, HistoryLine, Resolution, ResolutionKind, ResolutionState
from treasury.break_states import BreakState
from treasury.records import Break, BreakReason, Cause, CauseCode, Likelihood
from treasury.tables import break_history, break_resolutions, breaks


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which breaks are wanted. No state: all that still stand."""

    states: tuple[BreakState, ...] = ()
    everything: bool = False
    reason: BreakReason | None = None
    network: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What happened to a break, to be written into its history. `by` is None for a cycle, or the clock."""

    kind: HistoryKind
    words: str
    at: datetime
    by: str | None = None


# Reading


async def load_standing(connection: AsyncConnection, book: str, *, lock: bool = False) -> list[Break]:
    """Every break that isn't resolved, the oldest first."""
    query = select(breaks).where(breaks.c.book == book, breaks.c.resolved_at.is_(None)).order_by(breaks.c.id)
    return [_break(row) for row in await connection.execute(query.with_for_update() if lock else query)]


async def load_oldest(connection: AsyncConnection, book: str, *, per_kind: int) -> list[Break]:
    """Of each kind the oldest breaks that aren't resolved."""
    row = breaks.c
    nth = func.row_number().over(partition_by=row.reason, order_by=row.id).label("nth")
    mine = select(breaks, nth).where(row.book == book, row.resolved_at.is_(None)).subquery()
    query = select(mine).where(mine.c.nth <= per_kind).order_by(mine.c.id)
    return [_break(found) for found in await connection.execute(query)]


async def load_break(connection: AsyncConnection, book: str, id: str, *, lock: bool = False) -> Break | None:
    query = select(breaks).where(breaks.c.book == book, breaks.c.id == id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _break(row)


async def list_breaks(
    connection: AsyncConnection, book: str, wanted: Wanted, *, now: datetime, after: str | None, limit: int
) -> list[Break]:
    """Those that are wanted, the oldest first, from the one behind the id `after` on. States are those by the clock."""
    query = select(breaks).where(breaks.c.book == book, *_conditions(wanted, now))
    if after is not None:
        query = query.where(breaks.c.id > after)
    return [_break(row) for row in await connection.execute(query.order_by(breaks.c.id).limit(limit))]


def _conditions(wanted: Wanted, now: datetime) -> list[ColumnElement[bool]]:
    row = breaks.c
    lapsed = and_(row.state == BreakState.ACCEPTED, row.accepted_until <= now)
    found: list[ColumnElement[bool]] = []
    if wanted.states:
        found.append(or_(*(_in_state(state, lapsed) for state in wanted.states)))
    elif not wanted.everything:
        found.append(row.resolved_at.is_(None))
    for column, value in ((row.reason, wanted.reason), (row.network, wanted.network), (row.owner, wanted.owner)):
        if value is not None:
            found.append(column == value)
    return found


def _in_state(state: BreakState, lapsed: ColumnElement[bool]) -> ColumnElement[bool]:
    match state:
        case BreakState.OPEN:
            return or_(breaks.c.state == state, lapsed)
        case BreakState.ACCEPTED:
            return and_(breaks.c.state == state, ~lapsed)
        case _:
            return breaks.c.state == state


async def load_history(connection: AsyncConnection, book: str, id: str, *, limit: int) -> list[HistoryLine]:
    """What happened to a break, in order; of a longer history the latest lines."""
    said = break_history.c
    query = select(break_history).where(said.book == book, said.break_id == id)
    rows = list(await connection.execute(query.order_by(said.number.desc()).limit(limit)))
    return [HistoryLine(row.number, row.at, row.by, HistoryKind(row.kind), row.words) for row in reversed(rows)]


async def load_resolutions(connection: AsyncConnection, book: str, id: str, *, limit: int) -> list[Resolution]:
    """How a break was, or is, to be resolved, the latest first."""
    row = break_resolutions.c
    query = _resolutions(book).where(row.break_id == id).order_by(row.id.desc()).limit(limit)
    return [_resolution(row) for row in await connection.execute(query)]


async def load_resolution(connection: AsyncConnection, book: str, id: str, *, lock: bool = False) -> Resolution | None:
    query = _resolutions(book).where(break_resolutions.c.id == id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _resolution(row)


async def load_proposal(connection: AsyncConnection, book: str, id: str) -> Resolution | None:
    """The resolution of a break that waits for somebody to confirm it."""
    row = break_resolutions.c
    query = _resolutions(book).where(row.break_id == id, row.state == ResolutionState.PROPOSED)
    found = (await connection.execute(query)).first()
    return None if found is None else _resolution(found)


async def load_proposals(connection: AsyncConnection, book: str, *, limit: int) -> list[Resolution]:
    """All that wait to be confirmed, the oldest first."""
    query = _resolutions(book).where(break_resolutions.c.state == ResolutionState.PROPOSED)
    return [_resolution(row) for row in await connection.execute(query.order_by(break_resolutions.c.id).limit(limit))]


def _resolutions(book: str) -> Select[Any]:
    return select(break_resolutions).where(break_resolutions.c.book == book)


async def load_corrections(connection: AsyncConnection, network: str) -> dict[tuple[str, str], int]:
    """What entries of two people have added to own addresses that held something else than was seen of them.

    By (asset, address), over all books: nothing on chain tells of it, so it's added to what is expected there.
    """
    made, entry = break_resolutions.c, breaks.c
    sign = case((type_coerce(made.found, Numeric()) > type_coerce(made.expected, Numeric()), 1), else_=-1)
    moved = func.sum(type_coerce(made.amount, Numeric()) * sign)
    query = (
        select(entry.asset, entry.detail, moved.label("moved"))
        .join(breaks, and_(entry.book == made.book, entry.id == made.break_id))
        .where(
            made.kind == ResolutionKind.ENTRY,
            made.state == ResolutionState.CONFIRMED,
            entry.reason == BreakReason.CHAIN_DIFFERS,
            entry.network == network,
            entry.detail != "",
        )
        .group_by(entry.asset, entry.detail)
    )
    return {(row.asset, row.detail): int(row.moved) for row in await connection.execute(query)}


# Writing


async def insert_breaks(connection: AsyncConnection, book: str, found: Sequence[Break], *, run: str) -> None:
    """Breaks that a run sees for the first time, with the first line of their histories."""
    if not found:
        return
    rows = [
        _kept(entry)
        | {
            "book": book,
            "id": entry.id,
            "reason": entry.reason,
            "network": entry.network,
            "account": entry.account,
            "asset": entry.asset,
            "detail": entry.detail,
            "seen_in": entry.at,
            "first_run": run,
            "last_run": run,
            "first_seen_at": entry.first_seen_at,
            "last_seen_at": entry.last_seen_at,
        }
        for entry in found
    ]
    await connection.execute(insert(breaks), rows)
    opened = [(entry, Said(HistoryKind.OPENED, entry.at, entry.first_seen_at)) for entry in found]
    await _tell(connection, book, opened)


async def see_again(connection: AsyncConnection, book: str, seen: Sequence[Break], *, run: str, now: datetime) -> None:
    """What a run knows now of breaks that it sees again: figures, evidence and causes."""
    if not seen:
        return
    names = ("expected", "found", "evidence", "causes")
    change = (
        update(breaks)
        .where(breaks.c.book == book, breaks.c.id == bindparam("seen"))
        .values({name: bindparam(f"new_{name}") for name in names} | {"last_run": run, "last_seen_at": now})
    )
    rows = [{"seen": entry.id} | {f"new_{name}": _kept(entry)[name] for name in names} for entry in seen]
    await connection.execute(change, rows)


async def change_breaks(connection: AsyncConnection, book: str, changed: Sequence[tuple[Break, Said]]) -> None:
    """Breaks as they are now, each with the line of history that says why; their rows are locked by this tx.

    A break may stand in it several times, in order: `revision` is then that of the row before each of its lines.
    """
    if not changed:
        return
    names = ("state", "owner", "explained_at", "accepted_until", "resolved_at", "revision")
    change = (
        update(breaks)
        .where(breaks.c.book == book, breaks.c.id == bindparam("changed"))
        .values({name: bindparam(f"new_{name}") for name in names})
    )
    now = {entry.id: entry for entry, _ in changed}  # the last of each
    rows = [{"changed": id} | {f"new_{name}": getattr(entry, name) for name in names} for id, entry in now.items()]
    await connection.execute(change, rows)
    await _tell(connection, book, changed)


async def _tell(connection: AsyncConnection, book: str, said: Sequence[tuple[Break, Said]]) -> None:
    rows = [
        {
            "book": book,
            "break_id": entry.id,
            "number": entry.revision,
            "at": line.at,
            "by": line.by,
            "kind": line.kind,
            "words": line.words,
        }
        for entry, line in said
    ]
    await connection.execute(insert(break_history), rows)


async def insert_resolution(connection: AsyncConnection, book: str, resolution: Resolution) -> None:
    columns = {column.name for column in break_resolutions.columns} - {"book"}
    values = {name: value for name, value in asdict(resolution).items() if name in columns}
    await connection.execute(insert(break_resolutions).values(book=book, **values))


async def close_proposals(
    connection: AsyncConnection,
    book: str,
    of_breaks: Sequence[str],
    state: ResolutionState,
    *,
    by: str | None,
    now: datetime,
) -> None:
    """The proposals that wait for these breaks come to their end without an entry."""
    if not of_breaks:
        return
    row = break_resolutions.c
    waiting = and_(row.book == book, row.state == ResolutionState.PROPOSED)
    named = row.break_id == any_(literal(list(of_breaks), ARRAY(Text)))
    ended = update(break_resolutions).where(waiting, named)
    await connection.execute(ended.values(state=state, decided_by=by, decided_at=now))


# What rides with the entry that resolves a break


def posted(book: str, before: Break, after: Break, resolution: Resolution, said: Said) -> tuple[Advance | Insert, ...]:
    """The rows of a break whose entry is posted, of its resolution and of its history.

    Refused (`stale_state`) unless the break still is as `before`, difference included, and its resolution waits.
    """
    expect = {name: getattr(before, name) for name in ("expected", "found", "revision")} | {"state": before.state.value}
    change = {"state": after.state.value, "explained_at": after.explained_at, "revision": after.revision}
    change["accepted_until"] = after.accepted_until
    decided = {name: getattr(resolution, name) for name in ("decided_by", "decided_at", "entry")}
    line = {"at": said.at, "by": said.by, "kind": said.kind.value, "words": said.words}
    return (
        Advance(breaks.name, {"book": book, "id": before.id}, expect, change),
        Advance(
            break_resolutions.name,
            {"book": book, "id": resolution.id},
            {"state": ResolutionState.PROPOSED.value},
            decided | {"state": resolution.state.value},
        ),
        Insert(break_history.name, {"book": book, "break_id": before.id, "number": after.revision}, line),
    )


def _kept(entry: Break) -> dict[str, Any]:
    """What a run knows of a break, and where it stands, as columns."""
    return {
        "expected": entry.expected,
        "found": entry.found,
        "evidence": list(entry.evidence),
        "causes": [asdict(cause) for cause in entry.causes],
        "state": entry.state,
        "revision": entry.revision,
    }


def _break(row: Row[Any]) -> Break:
    return Break(
        id=row.id,
        reason=BreakReason(row.reason),
        account=row.account,
        asset=row.asset,
        expected=row.expected,
        found=row.found,
        network=row.network,
        detail=row.detail,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
        at=row.seen_in,
        evidence=tuple(row.evidence),
        causes=tuple(_cause(told) for told in row.causes),
        state=BreakState(row.state),
        owner=row.owner,
        explained_at=row.explained_at,
        accepted_until=row.accepted_until,
        revision=row.revision,
    )


def _cause(told: Mapping[str, Any]) -> Cause:
    return Cause(
        CauseCode(told["code"]), Likelihood(told["likelihood"]), str(told["sentence"]), tuple(told["evidence"])
    )


def _resolution(row: Row[Any]) -> Resolution:
    values = {column.name: getattr(row, column.name) for column in break_resolutions.columns if column.name != "book"}
    kinds = {"kind": ResolutionKind(row.kind), "state": ResolutionState(row.state)}
    return Resolution(**values | kinds)


def revised(entry: Break, **changes: Any) -> Break:
    """The break after something happened to it that its history tells."""
    return replace(entry, revision=entry.revision + 1, **changes)
