"""The bank rail's shell: files in, entries out. What a file says is its reader's, whose a line is `matching`'s.

A file is checked whole before anything of it is booked: its lines are spooled while it's read, and booked from there.
A line is booked once however often and in whatever file it comes, so an import that was cut off is simply done again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import BrokenInvariant, ConfigError
from base.ids import new_id
from db.engine import tx
from fiat import payout_store, store
from fiat.bank.booking import AHEAD, KNOWN, LINES_PER_SUBMIT, Booking, in_batches
from fiat.bank.camt import read_camt
from fiat.bank.entries import match_later, settle_later, suspense_account
from fiat.bank.identity import named, with_ids
from fiat.bank.lines import Kind, Statement, StatementLine
from fiat.bank.matching import Reason
from fiat.bank.mt940 import FORMAT, account_names, is_mt940, read_mt940
from fiat.bank.records import (
    BankAccount,
    BankLine,
    ClosingBalance,
    ImportedStatement,
    LineState,
    StatementReceipt,
    advance,
    require_suspended,
)
from fiat.bank.reporting import Reporting
from fiat.bank.reports import ReturnReport, StatusReport, read_returns, read_status
from fiat.bank.retelling import Again, Day, Seen, Told, bounds, told_again
from fiat.bank.spool import LineSpool
from fiat.bank.virtual import number_digits, require_apart, virtual_iban
from fiat.bank.xml import MESSAGE_BYTES_MAX, GuardedStream, read_whole, version_of
from fiat.errors import (
    BankMisconfigured,
    ForeignAccount,
    LineNotWaiting,
    StatementDisagrees,
    UnknownLine,
    UnsafeFile,
)
from fiat.payouts import OUTSIDE, Payout, PayoutState
from fiat.personal import Vault
from fiat.rails import store as rail_store
from fiat.references import new_reference
from fiat.top_ups import BANK, PROVIDERS, TopUp
from ledger.accounts import user_account
from ledger.asking import decided_before
from ledger.engine import Ledger
from ledger.money import Asset, format_amount
from ledger.outcomes import Refused, require_accepted
from ledger.requests import RequestKey

REFERENCE_TRIES = 5
"""Draws of a reference before giving up: each collides with one chance in 10^10 per reference issued."""

LIST_MAX = 200
"""Rows that a list returns at most."""


class Bars(Protocol):
    """Shows how far it is (`base.progress.Progress`)."""

    def bar(self, what: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """A bar to `total`; the function given moves it on by so many."""
        ...


class NoBars:
    """Shows nothing."""

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Nothing to move."""
        yield lambda step: None


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file turned out to be: statements, whose lines are in the spool, or a report."""

    format: str
    digest: bytes
    statements: tuple[Statement, ...] = ()
    status: StatusReport | None = None
    returns: ReturnReport | None = None


class BankRail:
    """Our accounts at banks, as one book sees them."""

    def __init__(
        self,
        engine: AsyncEngine,
        ledger: Ledger,
        *,
        clock: Clock,
        entropy: Entropy,
        accounts: Iterable[BankAccount],
        vault: Vault,
    ) -> None:
        self.accounts = tuple(accounts)
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        self._vault = vault
        self._booking = Booking(engine, ledger, vault, clock=clock, entropy=entropy)
        self._reporting = Reporting(engine, ledger, vault, clock=clock)
        names = {account.name for account in self.accounts}
        numbers = {(account.iban, account.asset) for account in self.accounts}
        if not len(names) == len(numbers) == len(self.accounts):
            raise BankMisconfigured("two bank accounts share a name, or an IBAN and asset; each needs its own")
        for account in self.accounts:
            if account.name in PROVIDERS:
                raise BankMisconfigured(
                    f"bank account {account.name!r} is called as a payment provider is: give it another name",
                    param="name",
                )
            if account.virtual_prefix is not None:
                number_digits(account)
                virtual_iban(account, 1)
        require_apart(self.accounts)

    # Files

    async def import_statement(
        self, content: bytes, *, filename: str, progress: Bars | None = None
    ) -> StatementReceipt:
        """As `import_stream`, of a file that is in memory."""
        return await self.import_stream(BytesIO(content), filename=filename, progress=progress)

    async def import_path(self, path: Path, *, progress: Bars | None = None) -> StatementReceipt:
        """As `import_stream`, of a file on disk. Raises ConfigError if it can't be read."""
        try:
            with path.open("rb") as stream:
                return await self.import_stream(stream, filename=path.name, progress=progress)
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}") from error

    async def import_stream(self, stream: BinaryIO, *, filename: str, progress: Bars | None = None) -> StatementReceipt:
        """Take in a file: camt.053, camt.054, MT940, pain.002 or pacs.004.

        Each new line credits the user it names, settles or brings back a payout, or waits in suspense with a reason.
        The same file again does nothing; overlapping files book each line once. Raises a StatementRefused, with nothing
        booked, for a file that is broken or not of our accounts.
        """
        assets = await self._ledger.assets()
        scales = {account.asset: _known(assets, account).scale for account in self.accounts}
        bars = progress or NoBars()
        with LineSpool() as spool:
            with bars.bar("reading", None) as read_on:
                found = await asyncio.to_thread(
                    _read, stream, filename, scales, _Counted(spool, read_on), self._account_names()
                )
            if found.status is not None:
                done, again = await self._reporting.take_status(found.status, file=filename, digest=found.digest)
            elif found.returns is not None:
                done, again = await self._reporting.take_returns(found.returns, file=filename, digest=found.digest)
            else:
                return await self._take_statements(found, spool, filename, assets, bars)
        return StatementReceipt(
            file=filename,
            sha256=found.digest.hex(),
            format=found.format,
            replayed=again,
            statements=(),
            warnings=done.notes,
            messages=(done,),
        )

    async def closing_balances(self) -> list[ClosingBalance]:
        """What each of our bank accounts held by its latest imported statement; accounts without one are left out."""
        async with tx(self._engine) as connection:
            latest = [
                await store.latest_statement(connection, self._ledger.book, account.name) for account in self.accounts
            ]
        return [balance for balance in latest if balance is not None]

    # Statements

    async def _take_statements(
        self, found: _Read, spool: LineSpool, filename: str, assets: Mapping[str, Asset], bars: Bars
    ) -> StatementReceipt:
        sources = [(self._account_of(statement, filename), statement) for statement in found.statements]
        rows = [
            self._row(account, statement, digest=found.digest, ordinal=ordinal, file=filename)
            for ordinal, (account, statement) in enumerate(sources)
        ]
        again: list[Again] = []
        for ordinal, (row, (account, _)) in enumerate(zip(rows, sources, strict=True)):
            await self._check_told_alike(row, account, spool, ordinal)
            again.append(await self._told_elsewhere(row, account, spool, ordinal))
        imported: list[ImportedStatement] = []
        replays = 0
        with bars.bar("booking", sum(statement.lines for statement in found.statements)) as book_on:
            for ordinal, (row, (account, _)) in enumerate(zip(rows, sources, strict=True)):
                done, replayed = await self._import(row, account, spool, ordinal, book_on, again[ordinal])
                imported.append(done)
                replays += replayed
        return StatementReceipt(
            file=filename,
            sha256=found.digest.hex(),
            format=found.format,
            replayed=replays == len(sources),
            statements=tuple(imported),
            warnings=tuple(_warning(done, assets[done.asset]) for done in imported if done.gap),
        )

    def _account_of(self, statement: Statement, filename: str) -> BankAccount:
        for account in self.accounts:
            if account.iban == statement.account and account.asset == statement.currency:
                return account
        known = ", ".join(f"{account.name} in {account.asset}" for account in self.accounts) or "none"
        raise ForeignAccount(
            f"a statement in {statement.currency} of an account that isn't configured here; ours are {known}",
            file=filename,
            line=statement.file_line,
            currency=statement.currency,
        )

    def _account_names(self) -> dict[str, str]:
        return {name: account.iban for account in self.accounts for name in account_names(account.iban)}

    def _row(
        self, account: BankAccount, statement: Statement, *, digest: bytes, ordinal: int, file: str
    ) -> store.StatementRow:
        return store.StatementRow(
            id=named("stm", account.name, statement.id, digest.hex(), str(ordinal)),
            kind=statement.kind,
            format=statement.format,
            account=account.name,
            asset=account.asset,
            bank_id=statement.id,
            sequence=statement.sequence,
            opening=statement.opening,
            closing=statement.closing,
            closing_on=statement.closing_on,
            lines=statement.lines,
            pending=statement.pending,
            file=file,
            file_sha256=digest,
            received_at=self._clock.now(),
        )

    async def _check_told_alike(
        self, row: store.StatementRow, account: BankAccount, spool: LineSpool, ordinal: int
    ) -> None:
        """Refuse a statement imported before from another file that now tells its lines in other words.

        Its balances are the same, so what seems a new line is a known one: booking it would credit it twice. So it is
        with lines of days that came in another format, however each was told: by statement or notification.
        """
        book = self._ledger.book
        async with tx(self._engine) as connection:
            other = await store.told_otherwise(connection, book, row)
            told_before = row.kind is Kind.STATEMENT and await store.told_before(connection, book, row)
        if other is not None and _reaches_back(row, spool.lines(ordinal), other[1]):
            raise StatementDisagrees(
                f"this account's lines came as {other[0]} up to {other[1]}; the same days as {row.format} would be"
                " booked twice",
                file=row.file,
                line=1,
            )
        if not told_before:
            return
        for batch in in_batches(with_ids(account.name, spool.lines(ordinal)), LINES_PER_SUBMIT):
            async with tx(self._engine) as connection:
                known = await store.known_lines(connection, book, [line_id for line_id, _ in batch])
            altered = next((line for line_id, line in batch if line_id not in known), None)
            if altered is not None:
                raise StatementDisagrees(
                    f"statement {row.bank_id} was imported before, with the same balances but without this line: it's"
                    " told in other words, and nothing in it is new",
                    file=row.file,
                    line=altered.file_line,
                )

    async def _told_elsewhere(
        self, row: store.StatementRow, account: BankAccount, spool: LineSpool, ordinal: int
    ) -> Again:
        """Which of its new lines a notification told in other words.

        Raises StatementDisagrees where that isn't clear, and where another statement told them: by balances that leave
        no room for the new lines.
        """
        if row.kind is not Kind.STATEMENT or row.closing is None or row.closing_on is None:
            return Again()
        book, days = self._ledger.book, bounds(line.booked_on for line in spool.lines(ordinal))
        if days is None:
            return Again()
        async with tx(self._engine) as connection:
            booked = await store.count_by_day(connection, book, account.name, *days)
            around = await store.neighbours(connection, book, row)
        if not booked:
            return Again()
        seen = Seen(row.id)
        async for batch, known in self._with_known(account, spool, ordinal):
            seen.take(batch, known)
        stated = seen.told_elsewhere(booked, Kind.STATEMENT)
        if stated and not around.fit(closing=row.closing, moved=seen.moved):
            day, _ = first = min(stated)
            raise StatementDisagrees(
                f"an entry of {day} that is new here, while a statement of that day was imported which has others, and"
                " the balances leave no room for both: it tells the same money in other words. Import only statements"
                " of later days; is it that one is missing, that one first",
                file=row.file,
                line=seen.first[first],
            )
        return await self._notified_before(row, account, spool, ordinal, seen, booked)

    async def _notified_before(
        self,
        row: store.StatementRow,
        account: BankAccount,
        spool: LineSpool,
        ordinal: int,
        seen: Seen,
        booked: Mapping[tuple[Day, Kind], int],
    ) -> Again:
        found = Again()
        days = seen.told_elsewhere(booked, Kind.NOTIFICATION)
        if not days:
            return found
        fresh: dict[Day, list[StatementLine]] = {day: [] for day in days}
        async for batch, known in self._with_known(account, spool, ordinal):
            for line_id, line in batch:
                if (day := (line.booked_on, line.direction)) in days and seen.is_fresh(known.get(line_id)):
                    fresh[day].append(line)
        for day in sorted(days):
            async with tx(self._engine) as connection:
                notified = await store.notified_on(connection, self._ledger.book, account.name, day)
            one = told_again(
                {id: amount for id, amount in notified.items() if id not in seen.ahead},
                [line for line in fresh[day] if line.amount],
            )
            if one is None:
                raise StatementDisagrees(
                    f"entries of {day[0]} that are new here, while a notification of that day told others, which this"
                    " statement lacks, and by their amounts nobody can tell which are the same money. If a later"
                    " statement of this day has those, import that one first; else ask the bank to tell both alike",
                    file=row.file,
                    line=seen.first[day],
                )
            found |= one
        return found

    async def _with_known(
        self, account: BankAccount, spool: LineSpool, ordinal: int
    ) -> AsyncIterator[tuple[list[tuple[str, StatementLine]], dict[str, Told]]]:
        """A statement's lines in batches, each with what is known of them."""
        for batch in in_batches(with_ids(account.name, spool.lines(ordinal)), LINES_PER_SUBMIT):
            async with tx(self._engine) as connection:
                yield (
                    batch,
                    await store.told_lines(connection, self._ledger.book, [line_id for line_id, _ in batch]),
                )

    async def _import(
        self,
        row: store.StatementRow,
        account: BankAccount,
        spool: LineSpool,
        ordinal: int,
        book_on: Callable[[int], None],
        again: Again,
    ) -> tuple[ImportedStatement, bool]:
        """What became of the statement, and whether it had been imported from this file before."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            row = await store.add_statement(connection, book, row)
        if row.imported_at is not None:
            return _result(row, Counter({KNOWN: row.lines})), True
        tally: Counter[str] = Counter()
        for batch in in_batches(with_ids(account.name, spool.lines(ordinal)), LINES_PER_SUBMIT):
            tally += await self._booking.book(row, account, batch, again=again.numbers)
            book_on(len(batch))
        async with tx(self._engine) as connection:
            await store.adopt_lines(connection, book, row.id, again.of)
            gap = await store.finish_statement(connection, book, row, self._clock.now())
        return _result(replace(row, gap=gap), tally), False

    # Lines

    async def line(self, line: str) -> BankLine:
        """The bank line with this id. Raises UnknownLine."""
        async with tx(self._engine) as connection:
            found = await store.load_line(connection, self._vault, self._ledger.book, line)
        if found is None:
            raise UnknownLine(f"there is no bank line {line[:40]!r}", param="line")
        return found

    async def lines(self, *states: LineState, after: str | None = None, limit: int = 50) -> list[BankLine]:
        """Lines in any of these states (all if none is named), oldest record first, from behind the line `after`."""
        async with tx(self._engine) as connection:
            return await store.list_lines(
                connection, self._vault, self._ledger.book, states=states, after=after, limit=min(limit, LIST_MAX)
            )

    async def match(self, line: str, *, owner: str, key: RequestKey) -> TopUp:
        """Give an incoming payment that waits in suspense to `owner`, an existing user's id.

        Raises UnknownLine, LineNotWaiting (also if another was faster) and RefusedByBook.
        """
        waiting = await self.line(line)
        known = await self._ledger.outcomes(key.id)
        if not known:
            advance(waiting, LineState.MATCHED)
        await self._ledger.ensure_open(suspense_account(waiting.asset), user_account(owner, waiting.asset))
        top_up = new_id("top", self._clock, self._entropy)
        group = match_later(self._ledger.book, waiting, owner=owner, top_up=top_up, key=key, now=self._clock.now())
        (outcomes,) = await self._ledger.submit(group)
        refusal = outcomes[0].refusal
        if refusal is not None and refusal.code is Refused.STALE_STATE:
            raise LineNotWaiting(f"line {line} doesn't wait in suspense any more")
        booked = require_accepted(outcomes)[0]
        assert booked.subject is not None
        return replace(await self._top_up(booked.subject), replayed=booked.replayed)

    async def match_payout(self, line: str, *, payout: str, key: RequestKey) -> Payout:
        """Say that a line in suspense was this payout: money out settles it, money in brings it back to its owner.

        Raises UnknownLine, LineNotWaiting (also for another amount, or a payout that doesn't wait for such a line, or
        if another was faster) and RefusedByBook.
        """
        waiting, found = await self.line(line), await self._payout(payout)
        if await decided_before(self._ledger, key) is not None:
            return replace(found, replayed=True)
        _require_fit(waiting, found)
        await self._ledger.ensure_open(suspense_account(waiting.asset), user_account(found.owner, waiting.asset))
        group = settle_later(self._ledger.book, waiting, found, key=key, now=self._clock.now())
        (outcomes,) = await self._ledger.submit(group)
        refusal = outcomes[0].refusal or outcomes[-1].refusal
        if refusal is not None and refusal.code is Refused.STALE_STATE:
            raise LineNotWaiting(f"line {line} or payout {payout} doesn't wait any more")
        booked = require_accepted(outcomes)[0]
        return replace(await self._payout(payout), replayed=booked.replayed)

    # Users

    async def reference_for(self, owner: str) -> str:
        """The payment reference of the user `owner`, issued when first asked for. `fiat.references.show` groups it."""
        for _ in range(REFERENCE_TRIES):
            async with tx(self._engine) as connection:
                found = await store.reference_of(connection, self._ledger.book, owner)
                if found is not None:
                    return found
                fresh = new_reference(self._entropy)
                await store.add_reference(connection, self._ledger.book, owner, fresh, self._clock.now())
        raise BrokenInvariant(f"{REFERENCE_TRIES} payment references in a row were taken: the entropy source repeats")

    async def virtual_iban_for(self, owner: str, account: BankAccount) -> str | None:
        """The user's own IBAN at our bank, given when first asked for; None where the bank has none to give."""
        if account.virtual_prefix is None:
            return None
        book = self._ledger.book
        for _ in range(LIST_MAX):  # each round somebody gets a number, so the wait is bounded by who asks at once
            async with tx(self._engine) as connection:
                found = await store.virtual_number_of(connection, book, account.name, owner)
                if found is not None:
                    return virtual_iban(account, found)
                await store.add_virtual_number(connection, book, account.name, owner, self._clock.now())
        raise BrokenInvariant("no number for a virtual IBAN could be taken")

    async def top_ups(self, owner: str, *, before: str | None = None, limit: int = 50) -> list[TopUp]:
        """The user's top-ups, newest first, from behind the top-up `before`."""
        async with tx(self._engine) as connection:
            return await rail_store.list_top_ups(
                connection, self._ledger.book, owner, before=before, limit=min(limit, LIST_MAX)
            )

    async def _top_up(self, top_up: str) -> TopUp:
        async with tx(self._engine) as connection:
            found = await rail_store.load_top_up(connection, self._ledger.book, top_up)
        if found is None:
            raise BrokenInvariant(f"the book knows top-up {top_up}, its table doesn't")
        return found

    async def _payout(self, payout: str) -> Payout:
        async with tx(self._engine) as connection:
            found = await payout_store.load(connection, self._vault, self._ledger.book, payout)
        if found is None:
            raise LineNotWaiting(f"there is no payout {payout[:40]!r}", param="payout")
        return found


class _Counted:
    """Hands lines on and says how many, a thousand at a time."""

    def __init__(self, spool: LineSpool, read_on: Callable[[int], None]) -> None:
        self._add = spool.add
        self._read_on = read_on
        self._since = 0

    def add(self, ordinal: int, line: object) -> None:
        self._add(ordinal, line)  # type: ignore[arg-type]
        self._since += 1
        if self._since == LINES_PER_SUBMIT:
            self._read_on(self._since)
            self._since = 0


def _read(stream: BinaryIO, file: str, scales: Mapping[str, int], sink: _Counted, accounts: Mapping[str, str]) -> _Read:
    """All that a file says, its lines given to `sink`. Raises StatementRefused."""
    start = stream.read(64)
    stream.seek(0)
    if is_mt940(start.removeprefix(b"\xef\xbb\xbf")):
        return _read_mt940(stream, file, scales, sink, accounts)
    guarded = GuardedStream(stream, file)
    version = version_of(guarded)
    format = version[:8]
    if format.startswith("camt."):
        statements = read_camt(guarded, version, file=file, scales=scales, sink=sink)
        return _Read(format, guarded.sha256(), statements)
    root = read_whole(guarded, version, file)
    if format == "pain.002":
        return _Read(format, guarded.sha256(), status=read_status(root, version, file=file))
    return _Read(format, guarded.sha256(), returns=read_returns(root, version, file=file, scales=scales))


def _read_mt940(
    stream: BinaryIO, file: str, scales: Mapping[str, int], sink: _Counted, accounts: Mapping[str, str]
) -> _Read:
    import hashlib

    content = stream.read(MESSAGE_BYTES_MAX + 1)
    if len(content) > MESSAGE_BYTES_MAX:
        raise UnsafeFile(f"more than the {MESSAGE_BYTES_MAX} bytes that are read of MT940", file=file)
    statements = read_mt940(content, file=file, scales=scales, accounts=accounts, sink=sink)
    return _Read(FORMAT, hashlib.sha256(content).digest(), statements)


def _known(assets: Mapping[str, Asset], account: BankAccount) -> Asset:
    if account.asset not in assets:
        raise BankMisconfigured(
            f"bank account {account.name!r} is in {account.asset}, which is no asset of the book", param="asset"
        )
    return assets[account.asset]


def _require_fit(line: BankLine, payout: Payout) -> None:
    """Raises LineNotWaiting unless this line can be this payout's."""
    require_suspended(line)
    out = line.direction.name == "DEBIT"
    told = (payout.rail, payout.account, payout.asset, payout.amount)
    if (BANK, line.account, line.asset, line.amount) != told:
        raise LineNotWaiting(f"payout {payout.id} is of another account or amount than line {line.id}", param="payout")
    if not (payout.state in OUTSIDE if out else payout.state is PayoutState.PAID):
        raise LineNotWaiting(
            f"payout {payout.id} is {payout.state}: it doesn't wait for such a line",
            param="payout",
            state=payout.state.value,
        )


def _reaches_back(row: store.StatementRow, lines: Iterator[StatementLine], day: date) -> bool:
    """Whether anything of it that would be booked is of `day` or before."""
    if row.closing_on is not None and row.closing_on <= day:
        return True
    return any(line.booked_on <= day for line in lines if line.firm or row.kind is Kind.STATEMENT)


def _result(row: store.StatementRow, tally: Counter[str]) -> ImportedStatement:
    return ImportedStatement(
        id=row.id,
        kind=row.kind.value,
        account=row.account,
        bank_id=row.bank_id,
        asset=row.asset,
        opening=row.opening,
        closing=row.closing,
        closing_on=row.closing_on,
        lines=row.lines,
        pending=row.pending,
        credited=tally[LineState.CREDITED],
        paid=tally[LineState.PAID],
        returned=tally[LineState.RETURNED],
        suspended=tally[LineState.SUSPENDED],
        noted=tally[LineState.NOTED],
        known=tally[KNOWN],
        ahead=tally[AHEAD],
        gap=row.gap or 0,
        reasons={reason: tally[reason] for reason in Reason if tally[reason]},
    )


def _warning(done: ImportedStatement, asset: Asset) -> str:
    return (
        f"statement {done.bank_id} of bank:{done.account} closes {format_amount(done.gap, asset)} {asset.code} off what"
        " the statements before it and its own lines make: a statement is missing, or the account wasn't empty at first"
    )
