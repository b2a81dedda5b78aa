"""The questions that are asked of a book, as SQL; plans go over indexes that begin with the book (docs/plans.md).

Reads no lock and writes nothing. What the write path needs is in `ledger.store`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Row, Text, any_, bindparam, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.types import Instant
from ledger.accounts import Account
from ledger.canonical import id_key
from ledger.commands import BankEvidence, ChainEvidence, Evidence, FreezeScope, RailEvidence, SignerEvidence
from ledger.engine import KnownHold, Movement, OpenHold
from ledger.errors import BookCorrupt
from ledger.money import Asset, AssetKind
from ledger.outcomes import Kind, LineKind
from ledger.state import HeldPosting, HoldState
from ledger.statements import TimeKind
from ledger.tables import accounts, assets, books, commands, counters, freezes

ENDLESS = 2**62
"""Beyond every seq."""


async def book_number(connection: AsyncConnection, book: str) -> int:
    """The number that stands for a book in rows. Raises BookCorrupt if there is none of this name."""
    number = await connection.scalar(select(books.c.number).where(books.c.book == book))
    if number is None:
        raise BookCorrupt(f"there is no book {book!r}: create it with `onebook init`")
    return int(number)


async def create_book(connection: AsyncConnection, book: str) -> None:
    await connection.execute(text("SELECT ledger_create_book(:book)"), {"book": book})


async def erase_metadata(connection: AsyncConnection, book: str, command: str) -> bool:
    query = text("SELECT ledger_erase_metadata(:book, :key)")
    return bool(await connection.scalar(query, {"book": book, "key": id_key(command)}))


async def register_asset(connection: AsyncConnection, asset: Asset) -> None:
    await connection.execute(
        text("SELECT ledger_register_asset(:code, :kind, CAST(:scale AS smallint))"),
        {"code": asset.code, "kind": asset.kind.value, "scale": asset.scale},
    )


async def load_assets(connection: AsyncConnection) -> dict[str, Asset]:
    rows = await connection.execute(select(assets).order_by(assets.c.asset))
    return {row.asset: Asset(row.asset, AssetKind(row.kind), row.scale) for row in rows}


async def load_accounts(connection: AsyncConnection, number: int, *conditions: ColumnElement[bool]) -> list[Account]:
    query = select(accounts).where(accounts.c.book == number, *conditions).order_by(accounts.c.name)
    return [account_of(row) for row in await connection.execute(query)]


_OPEN_HOLDS = text(
    """
    WITH newest AS (
        SELECT DISTINCT h.hold FROM ledger_accounts a JOIN ledger_holds h ON h.book = a.book AND h.debit = a.account
         WHERE a.book = :book AND a.owner = :owner AND h.state = 'open' AND h.remaining > 0
         ORDER BY h.hold DESC LIMIT :limit
    )
    SELECT h.hold, m.id, m.subject, m.booked_at, h.expires_at, d.name AS debit, c.name AS credit, d.asset,
           h.amount::text AS amount, h.remaining::text AS remaining
      FROM newest n
      JOIN ledger_holds h ON h.book = :book AND h.hold = n.hold
      JOIN ledger_commands m ON m.book = :book AND m.seq = n.hold
      JOIN ledger_accounts d ON d.book = :book AND d.account = h.debit
      JOIN ledger_accounts c ON c.book = :book AND c.account = h.credit
     WHERE h.remaining > 0 ORDER BY h.hold DESC, h.posting
    """
)


async def load_open_holds(connection: AsyncConnection, number: int, owner: str, *, limit: int) -> list[OpenHold]:
    """Holds that debit an account of the owner's and hold something yet, newest first."""
    rows = await connection.execute(_OPEN_HOLDS, {"book": number, "owner": owner, "limit": limit})
    found: dict[int, OpenHold] = {}
    for row in rows:
        posting = HeldPosting(row.debit, row.credit, row.asset, int(row.amount), int(row.remaining))
        earlier = found[row.hold].postings if row.hold in found else ()
        found[row.hold] = OpenHold(row.id, row.subject, row.booked_at, row.expires_at, (*earlier, posting))
    return list(found.values())


_HOLD = text(
    """
    SELECT m.id, m.subject, m.booked_at, h.expires_at, h.state, d.name AS debit, c.name AS credit, d.asset,
           h.amount::text AS amount, h.remaining::text AS remaining
      FROM ledger_ids i
      JOIN ledger_commands m ON m.book = i.book AND m.seq = i.seq
      JOIN ledger_holds h ON h.book = i.book AND h.hold = i.seq
      JOIN ledger_accounts d ON d.book = i.book AND d.account = h.debit
      JOIN ledger_accounts c ON c.book = i.book AND c.account = h.credit
     WHERE i.book = :book AND i.key = :key ORDER BY h.posting
    """
)


async def load_hold(connection: AsyncConnection, number: int, hold: str) -> KnownHold | None:
    """The hold with this id (its command's), with all its postings."""
    rows = (await connection.execute(_HOLD, {"book": number, "key": id_key(hold)})).all()
    if not rows:
        return None
    postings = tuple(HeldPosting(row.debit, row.credit, row.asset, int(row.amount), int(row.remaining)) for row in rows)
    first = rows[0]
    return KnownHold(first.id, first.subject, first.booked_at, first.expires_at, postings, HoldState(first.state))


async def load_due_holds(connection: AsyncConnection, number: int, *, now: datetime, limit: int) -> list[str]:
    """Ids of open holds whose time has come, the earliest first."""
    query = text(
        "SELECT DISTINCT h.expires_at, h.hold, c.id FROM ledger_holds h"
        " JOIN ledger_commands c ON c.book = h.book AND c.seq = h.hold"
        " WHERE h.book = :book AND h.state = 'open' AND h.expires_at <= :now ORDER BY h.expires_at, h.hold LIMIT :limit"
    )
    rows = await connection.execute(query, {"book": number, "now": now, "limit": limit})
    return [row.id for row in rows]


async def load_freezes(connection: AsyncConnection, number: int) -> list[tuple[FreezeScope, str]]:
    query = select(freezes.c.scope, freezes.c.target).where(freezes.c.book == number, freezes.c.frozen)
    return sorted((FreezeScope(row.scope), row.target) for row in await connection.execute(query))


async def load_counters(connection: AsyncConnection, number: int, named: Sequence[str]) -> dict[str, int]:
    """What was used of each; 0 where nothing was."""
    asked = any_(literal(list(named), ARRAY(Text)))
    query = select(counters.c.counter, counters.c.used).where(counters.c.book == number, counters.c.counter == asked)
    return dict.fromkeys(named, 0) | {row.counter: row.used for row in await connection.execute(query)}


async def load_closed_until(connection: AsyncConnection, number: int) -> datetime | None:
    found: datetime | None = await connection.scalar(select(books.c.closed_until).where(books.c.number == number))
    return found


async def load_movements(
    connection: AsyncConnection,
    number: int,
    *,
    owner: str | None,
    account: str | None,
    subject: str | None,
    asset: str | None,
    kinds: Sequence[LineKind],
    metadata: Mapping[str, str] | None,
    since: datetime | None,
    until: datetime | None,
    by: TimeKind,
    before: tuple[int, int] | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[Movement]:
    """One page of journal lines with their commands; see `ledger.engine.Ledger.history`.

    For an owner or an account each of their accounts gives its own newest lines by index, debits and credits apart, and
    the page is cut from all of them; so a page costs as much in a long history as in a short one.
    """
    values: dict[str, Any] = {"book": number, "limit": limit}
    place = ["l.book = :book"]
    low, high = await _span(connection, number, since, until)
    first, last = 0, ENDLESS
    if before is not None:
        last = before[0]
        place.append("(l.seq, l.line) < (:before_seq, :before_line)")
        values |= {"before_seq": before[0], "before_line": before[1]}
    if after is not None:
        first = after[0] - 1
        place.append("(l.seq, l.line) > (:after_seq, :after_line)")
        values |= {"after_seq": after[0], "after_line": after[1]}
    if kinds:
        place.append("l.kind = ANY(:kinds)")
        values["kinds"] = [kind.value for kind in kinds]
    if subject is not None:
        place.append("l.seq = ANY(ARRAY(SELECT seq FROM ledger_commands WHERE book = :book AND subject = :subject))")
        values["subject"] = subject
    if metadata:
        having = "SELECT seq FROM ledger_metadata WHERE book = :book AND metadata @> CAST(:metadata AS jsonb)"
        place.append(f"l.seq = ANY(ARRAY({having}))")
        values["metadata"] = json.dumps(dict(metadata))
    order = "ORDER BY l.seq, l.line" if after is not None else "ORDER BY l.seq DESC, l.line DESC"
    mine = ["a.book = :book"]
    for column, value in (("owner", owner), ("name", account), ("asset", asset)):
        if value is not None:
            mine.append(f"a.{column} = :{column}")
            values[column] = value
    span = max(low, first), min(high, last)
    newest = after is None
    where, accounts_where = " AND ".join(place), " AND ".join(mine)
    if owner is None and account is None:
        source = (
            "SELECT l.* FROM ledger_lines l JOIN ledger_accounts a ON a.book = l.book AND a.account = l.debit"
            f" WHERE {where} AND {_within(span)} AND {accounts_where} {order} LIMIT :limit"
        )
    elif by is TimeKind.BOOKED:
        source = _of_accounts(where, accounts_where, span, newest=newest)
    else:
        dated = [_within((max(low, first), last))]
        if since is not None:
            dated.append("b.effective_at >= :since")
            values["since"] = since
        if until is not None:
            dated.append("b.effective_at < :until")
            values["until"] = until
        on_time = _of_accounts(f"{where} AND l.kind = 'posted' AND {_ON_TIME}", accounts_where, span, newest=newest)
        source = (
            f"({on_time}) UNION (SELECT l.* FROM ledger_accounts a {_DATED_LINES}"
            f" WHERE {accounts_where} AND {where} AND {' AND '.join(dated)} {order} LIMIT :limit)"
        )
    return await _movements(connection, f"SELECT found.* FROM ({source}) found", f"{order} LIMIT :limit", values)


_ON_TIME = (
    "(SELECT b.seq FROM ledger_backdated b WHERE b.book = l.book AND b.account = a.account AND b.seq = l.seq"
    " AND b.line = l.line LIMIT 1) IS NULL"
)
"""A line took effect when it was booked. LIMIT keeps this a probe per line: a join would sort all of an account's."""

_DATED_LINES = (
    "JOIN ledger_backdated b ON b.book = a.book AND b.account = a.account"
    " JOIN ledger_lines l ON l.book = b.book AND l.seq = b.seq AND l.line = b.line"
)
"""Lines that took effect before they were booked."""


def _of_accounts(where: str, accounts_where: str, span: tuple[int, int], *, newest: bool) -> str:
    """Lines in `span` that meet `where` of accounts `a` that meet `accounts_where`: each account's first ones by index.

    The pairs (account, seq) leave the planner one way to go, whatever it thinks of an account: to begin at an end of
    the span in the index of that side and to stop when there are enough. An equal sign would let it walk the whole
    book backwards instead, which takes for ever for an account at rest. Ties are cut by whoever orders the whole.
    """
    low, high = span
    falling = " DESC" if newest else ""
    return " UNION ".join(
        f"SELECT found.* FROM ledger_accounts a, LATERAL (SELECT l.* FROM ledger_lines l WHERE {where}"
        f" AND {_within(span)} AND (l.{side}, l.seq) > (a.account, {low}) AND (l.{side}, l.seq) <= (a.account, {high})"
        f" ORDER BY l.{side}{falling}, l.seq{falling} FETCH FIRST :limit ROWS WITH TIES) found WHERE {accounts_where}"
        for side in ("debit", "credit")
    )


def _within(span: tuple[int, int]) -> str:
    """Lines of these seqs (exclusive, inclusive): which partitions to look at."""
    return f"l.seq > {span[0]} AND l.seq <= {span[1]}"


async def _movements(connection: AsyncConnection, source: str, order: str, values: Mapping[str, Any]) -> list[Movement]:
    """The lines that `source` selects (all columns of ledger_lines) as movements."""
    query = (
        "SELECT l.seq, l.line, l.kind, l.amount::text AS amount, l.debit_balance::text AS debit_balance,"
        " l.credit_balance::text AS credit_balance, d.name AS debit, c.name AS credit, d.asset,"
        " (SELECT h.id FROM ledger_commands h WHERE h.book = l.book AND h.seq = l.hold) AS hold,"
        " m.id, m.kind AS command_kind, m.subject, m.booked_at, m.effective_at, m.detail,"
        " (SELECT x.metadata FROM ledger_metadata x WHERE x.book = l.book AND x.seq = l.seq) AS metadata,"
        " (SELECT coalesce(sum(r.amount), 0)::text FROM ledger_reversals r"
        "   WHERE r.book = l.book AND r.entry = l.seq AND r.line = l.line) AS reversed"
        f" FROM ({source}) l"
        " JOIN ledger_accounts d ON d.book = l.book AND d.account = l.debit"
        " JOIN ledger_accounts c ON c.book = l.book AND c.account = l.credit"
        " JOIN ledger_commands m ON m.book = l.book AND m.seq = l.seq"
        f" {order}"
    )
    return [_movement(row) for row in await connection.execute(text(query), values)]


_BALANCE = text(
    """
    SELECT balance::text FROM (
        (SELECT seq, line, debit_balance AS balance FROM ledger_lines
          WHERE book = :book AND debit >= :account AND (debit, seq) <= (:account, :through)
          ORDER BY debit DESC, seq DESC FETCH FIRST 1 ROW WITH TIES)
        UNION ALL
        (SELECT seq, line, credit_balance FROM ledger_lines
          WHERE book = :book AND credit >= :account AND (credit, seq) <= (:account, :through)
          ORDER BY credit DESC, seq DESC FETCH FIRST 1 ROW WITH TIES)
    ) last ORDER BY seq DESC, line DESC LIMIT 1
    """
)
"""Pairs for the same reason as in `_of_accounts`."""

_BACKDATED = text(
    """
    SELECT coalesce(sum(step), 0)::text FROM ledger_backdated
     WHERE book = :book AND account = :account AND seq > :after AND seq <= :through AND effective_at <= :at
    """
)


async def load_balance_at(
    connection: AsyncConnection, number: int, account: str, at: datetime, *, by: TimeKind, known_seq: int
) -> int:
    """An account's posted balance after all that was booked (or took effect) at `at`, as known with `known_seq`.

    One index probe a side; by effective time, the sum of what was booked since with an earlier date besides.
    """
    found = await connection.scalar(
        select(accounts.c.account).where(accounts.c.book == number, accounts.c.name == account)
    )
    if found is None:
        return 0
    values: dict[str, Any] = {"book": number, "account": found}
    through = min(await seq_at(connection, number, at), known_seq)
    balance = int(await connection.scalar(_BALANCE, {**values, "through": through}) or 0)
    if by is TimeKind.BOOKED:
        return balance
    later = await connection.scalar(_BACKDATED, {**values, "after": through, "through": known_seq, "at": at})
    return balance + int(later or 0)


async def load_balance_through(connection: AsyncConnection, number: int, account: str, seq: int) -> int:
    """An account's posted balance after the command `seq`, 0 for one that isn't there. One index probe a side."""
    found = await connection.scalar(
        select(accounts.c.account).where(accounts.c.book == number, accounts.c.name == account)
    )
    if found is None:
        return 0
    return int(await connection.scalar(_BALANCE, {"book": number, "account": found, "through": seq}) or 0)


async def seq_at(connection: AsyncConnection, number: int, at: datetime) -> int:
    """The last command booked at or before an instant, 0 if there is none."""
    query = text("SELECT ledger_seq_at(:book, :at)").bindparams(bindparam("at", type_=Instant))
    return int(await connection.scalar(query, {"book": number, "at": at}) or 0)


async def load_seq(connection: AsyncConnection, number: int) -> int:
    """The book's last seq."""
    return int(await connection.scalar(select(books.c.seq).where(books.c.number == number)) or 0)


async def booked_at_of(connection: AsyncConnection, number: int, seq: int) -> datetime | None:
    """When a command was booked; None if there is no such command."""
    query = select(commands.c.booked_at).where(commands.c.book == number, commands.c.seq == seq)
    found: datetime | None = await connection.scalar(query)
    return found


async def load_statement_lines(
    connection: AsyncConnection,
    number: int,
    account: str,
    *,
    since: datetime,
    until: datetime,
    by: TimeKind,
    known_seq: int,
    limit: int,
) -> list[Movement]:
    """The posted lines of an account booked (or effective) from `since` on and before `until`, in that time's order."""
    low, high = await _span(connection, number, since, until)
    values: dict[str, Any] = {"book": number, "name": account, "limit": limit}
    where, mine = "l.book = :book AND l.kind = 'posted'", "a.book = :book AND a.name = :name"
    span = low, min(high, known_seq)
    if by is TimeKind.BOOKED:
        source = f"SELECT found.* FROM ({_of_accounts(where, mine, span, newest=False)}) found"
        return await _movements(connection, source, "ORDER BY l.seq, l.line LIMIT :limit", values)
    source = (
        f"({_of_accounts(f'{where} AND {_ON_TIME}', mine, span, newest=False)}) UNION ALL"
        f" (SELECT l.* FROM ledger_accounts a {_DATED_LINES} WHERE {mine} AND {_within((low, known_seq))}"
        " AND b.effective_at >= :since AND b.effective_at < :until ORDER BY b.effective_at, l.seq, l.line LIMIT :limit)"
    )
    order = "ORDER BY coalesce(m.effective_at, m.booked_at), l.seq, l.line LIMIT :limit"
    found = f"SELECT found.* FROM ({source}) found"
    return await _movements(connection, found, order, {**values, "since": since, "until": until})


async def _span(
    connection: AsyncConnection, number: int, since: datetime | None, until: datetime | None
) -> tuple[int, int]:
    """The seqs (exclusive, inclusive) booked from `since` on and before `until`."""
    tick = timedelta(microseconds=1)
    low = 0 if since is None else await seq_at(connection, number, since - tick)
    return low, ENDLESS if until is None else await seq_at(connection, number, until - tick)


# Rows to types


def account_of(row: Row[Any]) -> Account:
    """A stored account."""
    return Account(
        id=row.name,
        owner=row.owner,
        purpose=row.purpose,
        asset=row.asset,
        limited=row.limited,
        frozen=row.frozen,
        closed=row.closed,
        credit_line=row.credit_line,
        debits_posted=row.debits_posted,
        credits_posted=row.credits_posted,
        debits_pending=row.debits_pending,
        credits_pending=row.credits_pending,
    )


def evidence_of(detail: Mapping[str, Any]) -> Evidence | None:
    """The evidence in a command's detail."""
    stored = detail.get("evidence")
    if stored is None:
        return None
    if "journal_row" in stored:
        return SignerEvidence(**stored)
    if "rail" in stored:
        return RailEvidence(**stored)
    return ChainEvidence(**stored) if "network" in stored else BankEvidence(**stored)


def _movement(row: Row[Any]) -> Movement:
    detail = json.loads(row.detail) if row.detail is not None else {}
    requested = detail.get("effective_at_requested")
    return Movement(
        seq=row.seq,
        line=row.line,
        booked_at=row.booked_at,
        effective_at=row.effective_at or row.booked_at,
        command=row.id,
        command_kind=Kind(row.command_kind),
        kind=LineKind(row.kind),
        subject=row.subject,
        debit=row.debit,
        credit=row.credit,
        asset=row.asset,
        amount=int(row.amount),
        debit_balance=int(row.debit_balance),
        credit_balance=int(row.credit_balance),
        hold=row.hold,
        reverses=detail.get("reverses"),
        reversed=int(row.reversed),
        evidence=evidence_of(detail),
        metadata=row.metadata or {},
        effective_at_requested=None if requested is None else datetime.fromisoformat(requested),
    )
