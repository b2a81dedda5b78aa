"""The write path's SQL: the book's lock, what a batch needs to know first, and the one write. Straight to the driver.

Amounts travel as decimal text: exact, and cheaper than Decimal. What answers people's questions is in `ledger.reading`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import and_, bindparam, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import Driver
from db.tables import metadata
from ledger.accounts import Account
from ledger.batch import Batch, KnownHold, Slot
from ledger.canonical import id_key, instant_text
from ledger.commands import Charge, FreezeScope
from ledger.errors import BookCorrupt
from ledger.known import Head
from ledger.money import Asset, AssetKind
from ledger.outcomes import Kind, Line, LineKind, Outcome, Refusal, Refused
from ledger.riders import Advance, Insert, Rider, Row
from ledger.state import HeldPosting, HoldRecord, HoldState, RowKey, row_key

ALTERED_STATE = "OB002"
"""SQLSTATE of `ledger_write`: accounts, whose numbers are its detail, aren't what was decided on."""

RIDER_LOCK_MILLISECONDS = 500
"""Longest wait for a row that rides along, while the book's lock is held."""

# The book


async def lock_book(connection: AsyncConnection, book: str) -> Head:
    """Take the book's lock, in a statement of its own, and return where the book stands."""
    row = (await connection.execute(text("SELECT * FROM ledger_lock(:book)"), {"book": book})).one()
    return _head(book, row)


async def read_head(driver: Driver, book: str) -> Head:
    """Where the book stands, without a lock."""
    row = await driver.fetchrow(
        "SELECT number, seq, booked_at, closed_until, accounts FROM ledger_books WHERE book = $1", book
    )
    return _head(book, row)


def _head(book: str, row: Any) -> Head:
    if row is None or row[1] is None:
        raise BookCorrupt(f"there is no book {book!r}: create it with `onebook init`")
    return Head(*row)


async def extend(driver: Driver, number: int) -> int:
    """Make the partitions that the next commands need; the first seq that has none."""
    return int(await driver.fetchval("SELECT ledger_extend($1)", number))


async def load_frozen(driver: Driver, number: int) -> list[tuple[FreezeScope, str]]:
    """Every freeze that stands."""
    rows = await driver.fetch("SELECT scope, target FROM ledger_freezes WHERE book = $1 AND frozen", number)
    return [(FreezeScope(scope), target) for scope, target in rows]


# What a batch needs to know


async def find_ids(driver: Driver, number: int, ids: Iterable[str]) -> dict[str, int]:
    """The seqs of those of these command ids that were decided before."""
    keyed = {id_key(name): name for name in ids}
    if not keyed:
        return {}
    rows = await driver.fetch("SELECT key, seq FROM ledger_find_ids($1, $2)", number, list(keyed))
    return {keyed[key]: seq for key, seq in rows}


async def load_assets(driver: Driver) -> dict[str, Asset]:
    """Every asset by its code, in order."""
    rows = await driver.fetch("SELECT asset, kind, scale FROM ledger_assets ORDER BY asset")
    return {code: Asset(code, AssetKind(kind), scale) for code, kind, scale in rows}


_ACCOUNT = (
    "account, name, owner, purpose, asset, limited, frozen, closed, credit_line::text, debits_posted::text,"
    " credits_posted::text, debits_pending::text, credits_pending::text"
)


async def load_slots(driver: Driver, number: int, names: Iterable[str]) -> list[Slot]:
    """Those of these accounts that are open or closed."""
    rows = await driver.fetch(
        f"SELECT {_ACCOUNT} FROM ledger_find_accounts($1, $2)",
        number,
        list(names),
    )
    return [Slot(*row[:8], *map(int, row[8:])) for row in rows]


async def load_accounts(driver: Driver, number: int, names: Iterable[str]) -> dict[str, Account]:
    """Those of these accounts that are open or closed, by name."""
    return {slot.name: slot.account() for slot in await load_slots(driver, number, names)}


async def load_owned(driver: Driver, number: int, owners: Iterable[str]) -> dict[str, list[Account]]:
    """The accounts of each of these owners, by name."""
    rows = await driver.fetch(
        f"SELECT {_ACCOUNT} FROM ledger_accounts WHERE book = $1 AND owner = ANY($2::text[]) ORDER BY name",
        number,
        list(owners),
    )
    found: dict[str, list[Account]] = {}
    for row in rows:
        account = Slot(*row[:8], *map(int, row[8:])).account()
        found.setdefault(account.owner, []).append(account)
    return found


async def load_counters(driver: Driver, number: int, counters: Iterable[str]) -> dict[str, int]:
    """What has been used of these limits."""
    rows = await driver.fetch(
        "SELECT counter, used::text FROM ledger_counters WHERE book = $1 AND counter = ANY($2::text[])",
        number,
        list(counters),
    )
    return {counter: int(used) for counter, used in rows}


async def load_holds(driver: Driver, number: int, seqs: Mapping[str, int]) -> dict[str, KnownHold]:
    """The holds among these commands, by id."""
    if not seqs:
        return {}
    rows = await driver.fetch("SELECT * FROM ledger_find_holds($1, $2)", number, list(seqs.values()))
    names = {seq: name for name, seq in seqs.items()}
    found = {}
    for seq, group in groupby(rows, key=lambda row: row[0]):
        postings = list(group)
        first = postings[0]
        record = HoldRecord(
            names[seq],
            HoldState(first[1]),
            first[2],
            tuple(HeldPosting(row[6], row[7], row[8], int(row[9]), int(row[10])) for row in postings),
            charges_of(first[3]),
        )
        found[record.id] = KnownHold(seq, record, tuple((row[4], row[5]) for row in postings))
    return found


def charges_of(stored: str | None) -> tuple[Charge, ...]:
    """A hold's charges as its row tells them."""
    if stored is None:
        return ()
    return tuple(Charge(counter, int(amount), int(cap)) for counter, amount, cap in json.loads(stored))


async def load_outcomes(driver: Driver, number: int, seqs: Iterable[int]) -> list[Outcome]:
    """What was decided at these seqs, with its lines, in their order."""
    wanted = sorted(seqs)
    if not wanted:
        return []
    rows = await driver.fetch("SELECT * FROM ledger_find_lines($1, $2)", number, wanted)
    booked: dict[int, list[Line]] = {}
    for seq, kind, debit, credit, asset, amount, debit_balance, credit_balance, hold, posting in map(tuple, rows):
        balances = int(debit_balance), int(credit_balance)
        line = Line(LineKind(kind), debit, credit, asset, int(amount), *balances, hold, posting)
        booked.setdefault(seq, []).append(line)
    rows = await driver.fetch("SELECT * FROM ledger_find_commands($1, $2)", number, wanted)
    return [_outcome(row, tuple(booked.get(row["seq"], ()))) for row in rows]


def _outcome(row: Any, lines: tuple[Line, ...]) -> Outcome:
    detail = json.loads(row["detail"]) if row["detail"] is not None else {}
    refusal = None if row["refusal"] is None else Refusal(Refused(row["refusal"]), detail.get("facts", {}))
    return Outcome(
        id=row["id"],
        seq=row["seq"],
        booked_at=row["booked_at"],
        kind=Kind(row["kind"]),
        subject=row["subject"],
        content=row["content"],
        refusal=refusal,
        lines=lines,
        effective_at=row["effective_at"],
        reverses=detail.get("reverses"),
    )


async def load_reversed(driver: Driver, number: int, entries: Iterable[int]) -> dict[int, dict[int, int]]:
    """How much of the lines of these entries was taken back: by entry's seq, then by line."""
    rows = await driver.fetch(
        "SELECT entry, line, sum(amount)::text FROM ledger_reversals WHERE book = $1 AND entry = ANY($2::bigint[])"
        " GROUP BY entry, line",
        number,
        list(entries),
    )
    found: dict[int, dict[int, int]] = {}
    for entry, line, amount in rows:
        found.setdefault(entry, {})[line] = int(amount)
    return found


# The write

_TYPES = (
    *("integer", "bigint", "timestamptz", "integer"),
    *("bigint[]", "timestamptz[]", "text[]", "text[]", "text[]", "text[]", "bytea", "bytea", "bytea", "jsonb"),
    *("bigint[]", "smallint[]", "text[]", "integer[]", "integer[]", "numeric[]", "numeric[]", "numeric[]"),
    *("bigint[]", "smallint[]"),
    *("integer[]", "numeric[]", "numeric[]", "numeric[]"),
    *("integer[]", "numeric[]", "numeric[]", "numeric[]", "numeric[]", "numeric[]", "numeric[]"),
    *("bigint[]", "smallint[]", "timestamptz[]", "integer[]", "integer[]", "numeric[]", "numeric[]", "text[]"),
    *("text[]", "bigint[]", "smallint[]", "numeric[]", "text[]", "jsonb"),
)
_CASTS = (f"${n}::text::{kind}" if kind.endswith("[]") else f"${n}::{kind}" for n, kind in enumerate(_TYPES, start=1))
_CALL = f"ledger_write({', '.join(_CASTS)})"
"""Arrays go as their literals (`ledger.batch`)."""


async def write(driver: Driver, batch: Batch, *, number: int, closed_until: datetime | None, accounts: int) -> bool:
    """Write a batch, and the new rows that ride with it, in one statement; False if the book isn't where it was.

    Rows that ride along are only inserted here; what compares and sets is written by `write_riders`.
    """
    columns = batch.close()
    inserts = [_insert(name, columns_of, list(group)) for (name, columns_of), group in _inserts(batch.riders)]
    rows = [rows for _, rows in inserts]
    parts = [f"written AS (SELECT {_CALL} AS ok)"]
    for place, (statement, _) in enumerate(inserts):
        parameter = len(_TYPES) + 1 + place
        parts.append(f"rows_{place} AS ({statement.format(parameter=f'${parameter}')})")
    return bool(
        await driver.fetchval(
            f"WITH {', '.join(parts)} SELECT ok FROM written",
            number,
            batch.head,
            closed_until,
            accounts,
            *columns,
            *rows,
        )
    )


def _inserts(riders: Sequence[Rider]) -> Iterable[tuple[tuple[str, tuple[str, ...]], list[Insert]]]:
    shaped: dict[tuple[str, tuple[str, ...]], list[Insert]] = {}
    for rider in riders:
        if isinstance(rider, Insert):
            shaped.setdefault((rider.table, tuple(sorted((*rider.key, *rider.values)))), []).append(rider)
    return shaped.items()


def _insert(table: str, columns: tuple[str, ...], riders: Sequence[Insert]) -> tuple[str, str]:
    """The statement that inserts rows from a JSON parameter if the batch was written, and the JSON."""
    named = ", ".join(f'"{column}"' for column in columns)
    statement = (
        f'INSERT INTO "{table}" ({named}) SELECT {named}'
        f' FROM jsonb_populate_recordset(NULL::"{table}", {{parameter}}::jsonb), written WHERE written.ok'
    )
    return statement, _json_rows({**rider.key, **rider.values} for rider in riders)


def _json_rows(rows: Iterable[Row]) -> str:
    """Rows as a JSON array from which PostgreSQL reads the columns' own types."""
    plain = [{column: _json_value(value) for column, value in row.items()} for row in rows]
    return json.dumps(plain, ensure_ascii=False)


def _json_value(value: object) -> object:
    """A column's value as JSON from which PostgreSQL reads the column's own type."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, date):  # without a time of day: a bank's booking day
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _nested(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_nested(item) for item in value]
    raise TypeError(f"a rider's row can't hold {type(value).__name__}")


def _nested(value: object) -> object:
    """A value inside a JSON column: numbers stay numbers."""
    return value if isinstance(value, int) else _json_value(value)


async def find_rows(driver: Driver, riders: Iterable[Insert]) -> dict[RowKey, Row]:
    """The keys of those of these rows that are there already: such a rider is refused before anything else is."""
    shaped: dict[tuple[str, tuple[str, ...]], list[Insert]] = {}
    for rider in riders:
        shaped.setdefault((rider.table, tuple(sorted(rider.key))), []).append(rider)
    found: dict[RowKey, Row] = {}
    for (table, columns), wanted in shaped.items():
        is_it = " AND ".join(f'there."{column}" = wanted."{column}"' for column in columns)
        rows = await driver.fetch(
            f'SELECT wanted.ordinality FROM jsonb_populate_recordset(NULL::"{table}", $1::jsonb) WITH ORDINALITY AS'
            f' wanted, LATERAL (SELECT FROM "{table}" AS there WHERE {is_it} LIMIT 1) AS found',
            _json_rows(rider.key for rider in wanted),
        )
        found |= {row_key(table, wanted[place - 1].key): wanted[place - 1].key for (place,) in rows}
    return found


# Riders that compare, under the book's lock


async def load_rows(
    connection: AsyncConnection, riders: Iterable[Rider]
) -> tuple[dict[RowKey, Mapping[str, object] | None], set[RowKey]]:
    """Lock the rows that riders name: (the rows found or None, the keys that another tx has locked).

    Of a table in which riders only insert nothing is locked: what's there refuses them as it is, and the service's role
    may not be allowed to change it.
    """
    wanted: dict[str, dict[RowKey, Rider]] = {}
    changed: set[str] = set()
    for rider in riders:
        wanted.setdefault(rider.table, {})[row_key(rider.table, rider.key)] = rider
        if isinstance(rider, Advance):
            changed.add(rider.table)
    rows: dict[RowKey, Mapping[str, object] | None] = {}
    busy: set[RowKey] = set()
    for name, keyed in wanted.items():
        table = metadata.tables[name]
        names = sorted(next(iter(keyed.values())).key)
        columns = [table.c[column] for column in names]
        is_wanted = tuple_(*columns).in_([tuple(value for _, value in key[1]) for key in keyed])
        rows.update(dict.fromkeys(keyed))
        query = select(table).where(is_wanted)
        found = query.with_for_update(skip_locked=True) if name in changed else query
        for row in await connection.execute(found):
            rows[row_key(name, {column: row._mapping[column] for column in names})] = dict(row._mapping)
        present = {
            row_key(name, dict(zip(names, row, strict=True)))
            for row in await connection.execute(select(*columns).where(is_wanted))
        }
        busy |= {key for key in present if rows[key] is None}
    return rows, busy


async def write_riders(connection: AsyncConnection, riders: Iterable[Rider]) -> None:
    """Write accepted riders' rows. The core has compared; the keys were locked or absent under the book's lock.

    Neighbours of one shape go in one round trip; their order is kept, since one may change what another inserted. Who
    else writes these tables is waited for only briefly: meanwhile the whole book waits.
    """
    await connection.execute(text(f"SET LOCAL lock_timeout = {RIDER_LOCK_MILLISECONDS}"))
    for (kind, name, key, columns), group in groupby(riders, key=_shape):
        table = metadata.tables[name]
        if kind is Insert:
            rows = [{**rider.key, **rider.values} for rider in group if isinstance(rider, Insert)]
            await connection.execute(table.insert(), rows)
            continue
        is_it = and_(*(table.c[column] == bindparam(f"key_{column}") for column in key))
        change = table.update().where(is_it).values({column: bindparam(f"new_{column}") for column in columns})
        advances = [rider for rider in group if isinstance(rider, Advance)]
        rows = [
            {f"key_{column}": value for column, value in rider.key.items()}
            | {f"new_{column}": value for column, value in rider.change.items()}
            for rider in advances
        ]
        await connection.execute(change, rows)


def _shape(rider: Rider) -> tuple[type[Rider], str, tuple[str, ...], tuple[str, ...]]:
    changed = rider.values if isinstance(rider, Insert) else rider.change
    return type(rider), rider.table, tuple(sorted(rider.key)), tuple(sorted(changed))
