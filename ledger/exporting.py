"""The book as a file: entries, balances, accounts or the whole history, streamed by COPY out of one snapshot.

The order is that of booking, or of opening, so that the same question about the same book gives the same bytes. Memory
holds a buffer of rows. What is asked of one account or owner goes over the indexes of histories.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import driver_of, tx
from ledger import reading
from ledger.copying import NULL, SESSION, plain
from ledger.errors import InvalidCommand
from ledger.money import Asset, format_amount
from ledger.rowfiles import FileFormat, RowWriter
from ledger.tables import accounts, books

STRETCH = 20_000
"""Commands, or accounts, that are asked for at a time; what was answered so far is told between."""


class Export(StrEnum):
    """What is exported."""

    ENTRIES = "entries"
    """Posted postings, in the form that an import takes."""
    BALANCES = "balances"
    """A balance per account, now or at an instant."""
    ACCOUNTS = "accounts"
    """Accounts with their flags and counters."""
    HISTORY = "history"
    """Every line of the journal with what caused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows: those of an owner, an account (its id), an asset; booked from `since` on and before `until`; a
    balance as it stood `at` an instant. Of entries that are chosen by an account or an asset all postings are told.
    """

    owner: str | None = None
    account: str | None = None
    asset: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a file: what is selected for it, and how it's written."""

    name: str
    sql: str
    is_text: bool = False
    is_object: bool = False
    is_amount: bool = False
    is_whole: bool = False
    is_truth: bool = False


_INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'

_EFFECTIVE = f"to_char(coalesce(m.effective_at, m.booked_at), '{_INSTANT}')"
_EVIDENCE = "(m.detail::jsonb -> 'evidence')::text"

_COLUMNS: dict[Export, tuple[_Column, ...]] = {
    Export.ENTRIES: (
        _Column("id", "m.id", is_text=True),
        _Column("debit", "d.name", is_text=True),
        _Column("credit", "c.name", is_text=True),
        _Column("asset", "d.asset", is_text=True),
        _Column("amount", "l.amount", is_amount=True),
        _Column("effective_at", _EFFECTIVE),
        _Column("subject", "m.subject", is_text=True),
        _Column("evidence", _EVIDENCE, is_object=True),
        _Column("metadata", "x.metadata", is_object=True),
    ),
    Export.HISTORY: (
        _Column("seq", "l.seq", is_whole=True),
        _Column("line", "l.line", is_whole=True),
        _Column("booked_at", f"to_char(m.booked_at, '{_INSTANT}')"),
        _Column("effective_at", _EFFECTIVE),
        _Column("id", "m.id", is_text=True),
        _Column("command", "m.kind"),
        _Column("kind", "l.kind"),
        _Column("subject", "m.subject", is_text=True),
        _Column("debit", "d.name", is_text=True),
        _Column("credit", "c.name", is_text=True),
        _Column("asset", "d.asset", is_text=True),
        _Column("amount", "l.amount", is_amount=True),
        _Column("debit_balance", "l.debit_balance", is_amount=True),
        _Column("credit_balance", "l.credit_balance", is_amount=True),
        _Column(
            "hold",
            "(SELECT h.id FROM ledger_commands h WHERE h.book = l.book AND h.seq = l.hold)",
            is_text=True,
        ),
        _Column("reverses", "m.detail::jsonb ->> 'reverses'", is_whole=True),
        _Column("evidence", _EVIDENCE, is_object=True),
        _Column("metadata", "x.metadata", is_object=True),
    ),
    Export.BALANCES: (
        _Column("account", "a.name", is_text=True),
        _Column("asset", "a.asset", is_text=True),
        _Column("balance", "a.credits_posted - a.debits_posted", is_amount=True),
        _Column("held", "a.debits_pending", is_amount=True),
        _Column("available", "a.credits_posted - a.debits_posted - a.debits_pending + a.credit_line", is_amount=True),
        _Column("incoming", "a.credits_pending", is_amount=True),
    ),
    Export.ACCOUNTS: (
        _Column("account", "a.name", is_text=True),
        _Column("owner", "a.owner", is_text=True),
        _Column("purpose", "a.purpose", is_text=True),
        _Column("asset", "a.asset", is_text=True),
        _Column("limited", "a.limited", is_truth=True),
        _Column("frozen", "a.frozen", is_truth=True),
        _Column("closed", "a.closed", is_truth=True),
        _Column("credit_line", "a.credit_line", is_amount=True),
        _Column("debits_posted", "a.debits_posted", is_amount=True),
        _Column("credits_posted", "a.credits_posted", is_amount=True),
        _Column("debits_pending", "a.debits_pending", is_amount=True),
        _Column("credits_pending", "a.credits_pending", is_amount=True),
    ),
}

_BALANCES_AT = (
    _Column("account", "a.name", is_text=True),
    _Column("asset", "a.asset", is_text=True),
    _Column("balance", "coalesce(last.balance, 0)", is_amount=True),
    _Column("at", f"to_char($4::timestamptz, '{_INSTANT}')"),
)

_LAST = """
    LEFT JOIN LATERAL (
        SELECT balance FROM (
            (SELECT seq, line, debit_balance AS balance FROM ledger_lines
              WHERE book = a.book AND debit >= a.account AND (debit, seq) <= (a.account, $5)
              ORDER BY debit DESC, seq DESC FETCH FIRST 1 ROW WITH TIES)
            UNION ALL
            (SELECT seq, line, credit_balance FROM ledger_lines
              WHERE book = a.book AND credit >= a.account AND (credit, seq) <= (a.account, $5)
              ORDER BY credit DESC, seq DESC FETCH FIRST 1 ROW WITH TIES)
        ) ends ORDER BY seq DESC, line DESC LIMIT 1
    ) last ON true
"""
"""An account's balance after its last line; pairs, and for what reason, as in `ledger.reading`."""

_JOURNAL = """
    FROM ledger_lines l
    JOIN ledger_commands m ON m.book = l.book AND m.seq = l.seq
    JOIN ledger_accounts d ON d.book = l.book AND d.account = l.debit
    JOIN ledger_accounts c ON c.book = l.book AND c.account = l.credit
    LEFT JOIN ledger_metadata x ON x.book = l.book AND x.seq = l.seq
"""


def check_selection(what: Export, selection: Selection) -> None:
    """Raise InvalidCommand for a condition that means nothing for what is exported."""
    is_journal = what in (Export.ENTRIES, Export.HISTORY)
    if selection.at is not None and what is not Export.BALANCES:
        raise InvalidCommand(f"only balances are told at an instant, not {what}", param="at")
    for name in ("since", "until"):
        if getattr(selection, name) is not None and not is_journal:
            raise InvalidCommand(f"{what} have no span of time; entries and history have", param=name)


async def export(
    engine: AsyncEngine,
    book: str,
    what: Export,
    selection: Selection,
    form: FileFormat,
    *,
    write: Callable[[bytes], object],
    told: Callable[[int, int], None],
) -> int:
    """Write what is selected and return the number of rows. `told` hears how many commands or accounts are done.

    Raises InvalidCommand for a selection that can't be meant or names what isn't there, BookCorrupt if there is no such
    book. The snapshot is that of the first row.
    """
    check_selection(what, selection)
    async with _snapshot(engine) as (connection, raw):
        number = await reading.book_number(connection, book)
        assets = await reading.load_assets(connection)
        if selection.asset is not None and selection.asset not in assets:
            raise InvalidCommand(f"{selection.asset!r} is no asset of the book", param="asset")
        chosen = await _chosen(connection, number, selection)
        sink = _Sink(_columns(what, selection), form, assets, write=write)
        if what in (Export.ENTRIES, Export.HISTORY):
            query, arguments = _journal_query(what, selection, chosen)
            first, last = await _span(connection, number, selection)
        else:
            query, arguments = _accounts_query(what, selection, chosen)
            if selection.at is not None:
                arguments = [selection.at, await reading.seq_at(connection, number, selection.at), *arguments]
            first, last = 0, await connection.scalar(select(books.c.accounts).where(books.c.number == number)) or 0
        told(0, last - first)
        for after in range(first, last, STRETCH):
            through = min(last, after + STRETCH)
            await raw.copy_from_query(query, number, after, through, *arguments, output=sink.take)
            sink.check()
            told(through - first, last - first)
    return sink.rows


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncConnection, "asyncpg.Connection[Any]"]]:
    """A tx that sees one state of the book and may take its time: whoever reads the file may be slow."""
    async with tx(engine) as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        raw = await driver_of(connection)
        await raw.execute(
            f"{SESSION}; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        yield connection, raw


def _columns(what: Export, selection: Selection) -> tuple[_Column, ...]:
    return _BALANCES_AT if selection.at is not None else _COLUMNS[what]


# What is asked: $1 is the book, $2 and $3 a stretch of seqs or of accounts' numbers, exclusive and inclusive


async def _chosen(connection: AsyncConnection, number: int, selection: Selection) -> list[int] | None:
    """The numbers of the accounts that are meant, None for all. Raises InvalidCommand if there are none."""
    if selection.owner is None and selection.account is None:
        return None
    query = select(accounts.c.account).where(accounts.c.book == number).order_by(accounts.c.account)
    for column, value in (("owner", selection.owner), ("name", selection.account), ("asset", selection.asset)):
        if value is not None:
            query = query.where(accounts.c[column] == value)
    found = list(await connection.scalars(query))
    if not found:
        param = "owner" if selection.account is None else "account"
        raise InvalidCommand("there is no such account in the book", param=param)
    return found


async def _span(connection: AsyncConnection, number: int, selection: Selection) -> tuple[int, int]:
    """The seqs (exclusive, inclusive) that are meant."""
    tick = timedelta(microseconds=1)
    first, last = 0, await reading.load_seq(connection, number)
    if selection.since is not None:
        first = await reading.seq_at(connection, number, selection.since - tick)
    if selection.until is not None:
        last = await reading.seq_at(connection, number, selection.until - tick)
    return first, last


def _journal_query(what: Export, selection: Selection, chosen: list[int] | None) -> tuple[str, list[object]]:
    where = ["l.book = $1", "l.seq > $2", "l.seq <= $3", "m.book = $1", "m.seq > $2", "m.seq <= $3"]
    arguments: list[object] = []
    meant = ""
    if chosen is not None:
        arguments.append(chosen)
        meant = "({line}.debit = ANY($4::integer[]) OR {line}.credit = ANY($4::integer[]))"
    elif selection.asset is not None:
        arguments.append(selection.asset)
        meant = "{line}.debit IN (SELECT account FROM ledger_accounts WHERE book = $1 AND asset = $4::text)"
    if what is Export.ENTRIES:
        where.append("l.kind = 'posted'")
        if meant:  # all postings of an entry that is touched
            where.append(
                "l.seq IN (SELECT t.seq FROM ledger_lines t WHERE t.book = $1 AND t.seq > $2 AND t.seq <= $3"
                f" AND t.kind = 'posted' AND {meant.format(line='t')})"
            )
    elif meant:
        where.append(meant.format(line="l"))
    selected = ", ".join(column.sql for column in _COLUMNS[what])
    return f"SELECT {selected} {_JOURNAL} WHERE {' AND '.join(where)} ORDER BY l.seq, l.line", arguments


def _accounts_query(what: Export, selection: Selection, chosen: list[int] | None) -> tuple[str, list[object]]:
    where = ["a.book = $1", "a.account > $2", "a.account <= $3"]
    arguments: list[object] = []
    last = ""
    place = 4
    if selection.at is not None:
        last, place = _LAST, 6
    if chosen is not None:
        where.append(f"a.account = ANY(${place}::integer[])")
        arguments.append(chosen)
    elif selection.asset is not None:
        where.append(f"a.asset = ${place}::text")
        arguments.append(selection.asset)
    selected = ", ".join(column.sql for column in _columns(what, selection))
    query = f"SELECT {selected} FROM ledger_accounts a {last} WHERE {' AND '.join(where)} ORDER BY a.account"
    return query, arguments


# What is written


class _Sink:
    """Turns COPY's text into rows of the file, as it comes. `rows` have been written.

    The driver can't end a COPY whose taker fails, it would wait for ever: what went wrong is kept until the stretch is
    over, and raised by `check`.
    """

    def __init__(
        self,
        columns: Sequence[_Column],
        form: FileFormat,
        assets: Mapping[str, Asset],
        *,
        write: Callable[[bytes], object],
    ) -> None:
        self.rows = 0
        self._columns = columns
        self._asset = next(index for index, column in enumerate(columns) if column.name == "asset")
        self._assets = {code.encode(): asset for code, asset in assets.items()}
        self._write = write
        self._begun = b""
        self._failure: Exception | None = None
        self._writer = RowWriter(
            form,
            [column.name for column in columns],
            texts=[column.name for column in columns if column.is_text],
            objects=[column.name for column in columns if column.is_object],
        )
        write(self._writer.header())

    async def take(self, part: bytes) -> None:
        """Rows of COPY; the last may be cut off and goes on with the next part."""
        if self._failure is not None:
            return
        *rows, self._begun = (self._begun + part).split(b"\n")
        try:
            self._write(self._writer.rows([self._cells(row.split(b"\t")) for row in rows]))
        except Exception as error:
            self._failure = error
        self.rows += len(rows)

    def check(self) -> None:
        """Raise what went wrong since the last time."""
        if self._failure is not None:
            raise self._failure

    def _cells(self, fields: Sequence[bytes]) -> list[object]:
        asset = self._assets[fields[self._asset]]
        cells: list[object] = []
        for column, field in zip(self._columns, fields, strict=True):
            if field == NULL:
                cells.append(None)
            elif column.is_amount:
                cells.append(format_amount(int(field), asset))
            elif column.is_whole:
                cells.append(int(field))
            elif column.is_truth:
                cells.append(field == b"t")
            else:
                cells.append(plain(field).decode())
        return cells
