"""Makes reports: decides what a report may know of, reads the book, lets the pure parts make its tables.

A report is a function of the book, its period, and the last command that it knows of. Of a closed period that is the
command that closed it, unless another is named: nothing that was booked later can take effect in it, so it's the same
to the last byte whenever it's asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from db.engine import tx
from exchange.rates import Rates
from ledger import reading
from ledger.engine import Ledger
from ledger.memory import BEGINNING
from ledger.statements import TimeKind
from treasury.errors import PeriodOpen, ReportPeriodUnfit, ReportUnfit
from treasury.reports import costs, store
from treasury.reports.ageing import BREAK_COLUMNS, RECEIVABLE_COLUMNS, Ageing
from treasury.reports.balance_sheet import balance_sheet
from treasury.reports.income import income
from treasury.reports.model import Chart, Note, Report, ReportKind, Table, digest_of, instant_cell
from treasury.reports.movements import movements
from treasury.reports.periods import Period, months_of, parse_period
from treasury.reports.records import Turnover
from treasury.reports.spool import RowSpool
from treasury.reports.store import Span
from treasury.reports.user_statement import LINE_COLUMNS, SUMMARY_COLUMNS, OwnAccountLines
from treasury.reports.valuing import Valuation

Told = Callable[[str, int, int | None], object]
"""Hears what is being done, by how much it went on, and how much there is of it, where that is known."""

AT_ONCE = 2
"""Reports that one process makes at a time: each may walk through the whole book."""

_STRIDE = 1_000
"""Rows between two words of progress."""


class RatesOfThePast(Protocol):
    """Knows what rates were; `exchange.past.RateHistory` does."""

    async def at(self, instant: datetime) -> Rates | None:
        """What was believed then; None if nothing was. For an instant that has passed always the same."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which report. `known`: the instant, or the seq of the last command, that it may know of; `closed_only`: refuse an
    open period; `user`: whose statement."""

    kind: ReportKind
    period: str
    known: datetime | int | None = None
    closed_only: bool = False
    user: str | None = None


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a report is read with: `whole` is its period, `before` all that came before, `head` the book's last seq."""

    connection: AsyncConnection
    report: Report
    whole: Span
    before: Span
    head: int
    valuation: Valuation
    stack: ExitStack
    told: Told


class Reports:
    """Makes reports of one book. `reference`: the asset in which values are told; `zone`: whose days periods are of."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        rates: RatesOfThePast,
        reference: str | None,
        clock: Clock,
        zone: tzinfo = UTC,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._rates = rates
        self._reference = reference
        self._clock = clock
        self._zone = zone
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def report(self, asked: Asked, *, told: Told = lambda what, step, total: None) -> AsyncIterator[Report]:
        """The report that is asked for; its rows can be walked through until the end of the block.

        Raises ReportPeriodUnfit, PeriodOpen (with `closed_only`), ReportUnfit, BookCorrupt where figures don't agree.
        """
        period = parse_period(asked.period, self._zone)
        if period.since > self._clock.now():
            raise ReportPeriodUnfit(
                f"{period.name} hasn't begun: it begins at {instant_cell(period.since)}", param="period"
            )
        if (asked.user is None) == (asked.kind is ReportKind.STATEMENT):
            raise ReportUnfit("a statement is a user's, and no other report is: name the user", param="user")
        async with self._turns, self._report(asked, period, told) as report:
            yield report

    @asynccontextmanager
    async def _report(self, asked: Asked, period: Period, told: Told) -> AsyncIterator[Report]:
        async with tx(self._engine) as connection:
            report = await self._head(connection, period, asked)
        if asked.closed_only and report.provisional:
            raise PeriodOpen(
                f"{period.name} isn't closed: more may be booked in it; close it first, or take a provisional report",
                param="period",
                until=instant_cell(period.until),
            )
        valuation = await self._valuation(report)
        with ExitStack() as stack:
            async with tx(self._engine) as connection:
                await store.allow_long(connection)
                scope = await self._scope(connection, report, valuation, stack, told)
                tables, charts = await self._content(scope)
            report = replace(report, tables=tables, charts=charts, notes=_notes(report, valuation))
            yield replace(report, digest=digest_of(report))

    async def _head(self, connection: AsyncConnection, period: Period, asked: Asked) -> Report:
        """The report without its tables: what it may know of, and whether that's final."""
        book = await reading.book_number(connection, self._ledger.book)
        closing = await store.load_closing_seq(connection, book, period.until)
        known = await self._known(connection, book, asked.known, closing=closing)
        known_at = await reading.booked_at_of(connection, book, known) or BEGINNING
        provisional = closing is None or closing > known
        told_of = self._clock.now() if provisional and asked.known is None else known_at
        if isinstance(asked.known, datetime):
            told_of = asked.known
        assets = await self._ledger.assets()
        valued = asked.kind is not ReportKind.STATEMENT and self._reference in assets
        return Report(
            kind=asked.kind,
            book=self._ledger.book,
            period=period,
            at=min(period.last_instant, told_of),
            known_at=known_at,
            known_seq=known,
            provisional=provisional,
            subject=asked.user,
            reference=self._reference if valued else None,
        )

    async def _known(
        self, connection: AsyncConnection, book: int, known: datetime | int | None, *, closing: int | None
    ) -> int:
        """The last command that the report knows of. Raises ReportUnfit for one of the future."""
        if isinstance(known, datetime):
            if known > self._clock.now():
                raise ReportUnfit("known_at lies in the future: what will be known nobody knows yet", param="known_at")
            return await reading.seq_at(connection, book, known)
        head = await reading.load_seq(connection, book)
        if known is None:
            return head if closing is None else closing
        if not 0 <= known <= head:
            raise ReportUnfit(f"the book's last command is {head}", param="known_seq", last=head)
        return known

    async def _valuation(self, report: Report) -> Valuation:
        assets = await self._ledger.assets()
        if report.reference is None:
            return Valuation(assets)
        return Valuation(assets, assets[report.reference], await self._rates.at(report.at + store.TICK))

    async def _scope(
        self, connection: AsyncConnection, report: Report, valuation: Valuation, stack: ExitStack, told: Told
    ) -> _Scope:
        book, period, known = await reading.book_number(connection, report.book), report.period, report.known_seq
        whole = await store.load_span(connection, book, since=period.since, until=period.until, known=known)
        before = await store.load_span(connection, book, since=BEGINNING, until=period.since, known=known)
        head = await reading.load_seq(connection, book)
        return _Scope(connection, report, whole, before, head, valuation, stack, told)

    async def _content(self, scope: _Scope) -> tuple[tuple[Table, ...], tuple[Chart, ...]]:
        connection, whole, valuation = scope.connection, scope.whole, scope.valuation
        match scope.report.kind:
            case ReportKind.BALANCE_SHEET:
                return balance_sheet(await store.load_balances(connection, whole, head=scope.head), valuation)
            case ReportKind.INCOME:
                turnovers = await store.load_turnovers(connection, whole)
                return income(turnovers, await self._months(scope), valuation)
            case ReportKind.MOVEMENTS:
                before = await store.load_balances(connection, scope.before, head=scope.head)
                after = await store.load_balances(connection, whole, head=scope.head)
                return movements(before, await store.load_turnovers(connection, whole), after, valuation)
            case ReportKind.COSTS:
                return costs.costs(await store.load_fees(connection, whole, costs.PURPOSES), valuation), ()
            case ReportKind.AGEING:
                return await self._ageing(scope), ()
            case ReportKind.STATEMENT:
                return await self._statement(scope, str(scope.report.subject)), ()

    async def _months(self, scope: _Scope) -> dict[str, list[Turnover]]:
        """What moved in each month of a longer period, as far as it has come."""
        found = {}
        for month in months_of(scope.report.period, self._zone):
            if month.since <= scope.report.at:
                book, known = scope.whole.book, scope.whole.known_seq
                span = await store.load_span(scope.connection, book, since=month.since, until=month.until, known=known)
                found[month.name] = await store.load_turnovers(scope.connection, span)
                scope.told("adding up months", 1, None)
        return found

    async def _ageing(self, scope: _Scope) -> tuple[Table, ...]:
        at = scope.report.at
        ageing = Ageing(scope.valuation, at=at)
        breaks, receivables = scope.stack.enter_context(RowSpool()), scope.stack.enter_context(RowSpool())
        async for one in store.stream_breaks(scope.connection, self._ledger.book, at=at):
            _keep(breaks, ageing.break_row(one), scope.told)
        async for owed in store.stream_receivables(scope.connection, scope.whole, at=at):
            _keep(receivables, ageing.receivable_row(owed), scope.told)
        break_ages, receivable_ages = ageing.sums()
        listed = Table("receivables", RECEIVABLE_COLUMNS, receivables), Table("breaks", BREAK_COLUMNS, breaks)
        return receivable_ages, listed[0], break_ages, listed[1]

    async def _statement(self, scope: _Scope, user: str) -> tuple[Table, ...]:
        """Every account that had something or that moved; others aren't there, whenever they were opened."""
        lines, summary = scope.stack.enter_context(RowSpool()), scope.stack.enter_context(RowSpool())
        for account in await store.load_own_accounts(scope.connection, scope.whole.book, user):
            opening = await _balance(scope, account, scope.before)
            closing = await _balance(scope, account, scope.whole)
            rows = OwnAccountLines(account.asset, opening, scope.valuation)
            waiting = [rows.opening_row()] if not opening and not closing else []
            if not waiting:
                _keep(lines, rows.opening_row(), scope.told)
            async for line in store.stream_own_lines(scope.connection, scope.whole, account.number):
                for row in (*waiting, rows.line_row(line)):
                    _keep(lines, row, scope.told)
                waiting = []
            if not waiting:
                _keep(lines, rows.closing_row(closing), scope.told)
                summary.add(rows.summary_row())
        return Table("summary", SUMMARY_COLUMNS, summary), Table("lines", LINE_COLUMNS, lines)


async def _balance(scope: _Scope, account: store.OwnAccount, span: Span) -> int:
    """What an account came to at the end of a span."""
    return await reading.load_balance_at(
        scope.connection,
        span.book,
        account.name,
        span.until - store.TICK,
        by=TimeKind.EFFECTIVE,
        known_seq=span.known_seq,
    )


def _keep(spool: RowSpool, row: tuple[str | None, ...], told: Told) -> None:
    spool.add(row)
    if len(spool) % _STRIDE == 0:
        told("reading lines", _STRIDE, None)


def _notes(report: Report, valuation: Valuation) -> tuple[Note, ...]:
    """What a reader must know of these figures."""
    notes = []
    if report.provisional:
        notes.append(Note("note-provisional", instant_cell(report.known_at)))
    if report.kind in (ReportKind.BALANCE_SHEET, ReportKind.INCOME, ReportKind.COSTS):
        if report.reference is None:
            notes.append(Note("note-no-reference"))
        elif valuation.rates is not None:
            notes.append(Note("note-rates", instant_cell(valuation.rates.as_of)))
        if valuation.unvalued:
            notes.append(Note("note-unvalued", ", ".join(sorted(valuation.unvalued))))
    return tuple(notes)
