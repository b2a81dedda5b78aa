"""The bank rail's shell: statements in, entries out. What a file says is `camt053`'s, whose a line is `matching`'s.

A file is checked whole before anything of it is booked. A line is booked once however often and in whatever file it
comes, so an import that was cut off is simply done again.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import BrokenInvariant
from base.ids import new_id
from db.engine import tx
from fiat import store
from fiat.bank.camt053 import Statement, StatementLine, read_statements
from fiat.bank.entries import Place, credit, line_values, match_later, suspend, suspense_account
from fiat.bank.identity import named, with_ids
from fiat.bank.matching import Matched, Named, Reason, Unmatched, match_line, read_line
from fiat.bank.records import (
    BankAccount,
    BankLine,
    ClosingBalance,
    ImportedStatement,
    LineState,
    StatementReceipt,
    advance,
)
from fiat.errors import BankMisconfigured, ForeignAccount, LineNotWaiting, StatementDisagrees, UnknownLine
from fiat.rails import store as rail_store
from fiat.references import new_reference
from fiat.top_ups import TopUp
from ledger.accounts import user_account
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.money import Asset, format_amount
from ledger.outcomes import Outcome, Refused, require_accepted
from ledger.requests import RequestKey

LINES_PER_SUBMIT = 500
"""Lines booked in one go: few round trips, and the book's lock is soon free for others."""

REFERENCE_TRIES = 5
"""Draws of a reference before giving up: each collides with one chance in 10^10 per reference issued."""

LIST_MAX = 200
"""Rows that a list returns at most."""

_CREDIT_REFUSALS = frozenset({Refused.ACCOUNT_CLOSED, Refused.UNKNOWN_ACCOUNT, Refused.AMOUNT_OVERFLOW})
"""The user's account can't take the money; the bank has it all the same, so it goes to suspense."""

Reading = tuple[str, StatementLine, Matched | Unmatched]


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
    ) -> None:
        self.accounts = tuple(accounts)
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._entropy = entropy
        names = {account.name for account in self.accounts}
        numbers = {(account.iban, account.asset) for account in self.accounts}
        if not len(names) == len(numbers) == len(self.accounts):
            raise BankMisconfigured("two bank accounts share a name, or an IBAN and asset; each needs its own")

    # Statements

    async def import_statement(self, content: bytes, *, filename: str) -> StatementReceipt:
        """Book a camt.053 file: each new line credits the user it names, or waits in suspense with a reason.

        The same file again does nothing; overlapping files book each line once. Raises a StatementRefused, with
        nothing booked, for a file that is broken or not of our accounts.
        """
        assets = await self._ledger.assets()
        scales = {account.asset: _known(assets, account).scale for account in self.accounts}
        found = await asyncio.to_thread(read_statements, content, file=filename, scales=scales)
        sources = [(self._account_of(statement, filename), statement) for statement in found]
        digest = hashlib.sha256(content).digest()
        rows = [
            self._row(account, statement, digest=digest, ordinal=ordinal, file=filename)
            for ordinal, (account, statement) in enumerate(sources)
        ]
        for row, (account, statement) in zip(rows, sources, strict=True):
            await self._check_told_alike(row, account, statement)
        imported: list[ImportedStatement] = []
        replays = 0
        for row, (account, statement) in zip(rows, sources, strict=True):
            done, replayed = await self._import(row, account, statement)
            imported.append(done)
            replays += replayed
        return StatementReceipt(
            file=filename,
            sha256=digest.hex(),
            replayed=replays == len(sources),
            statements=tuple(imported),
            warnings=tuple(_warning(done, assets[done.asset]) for done in imported if done.gap),
        )

    async def closing_balances(self) -> list[ClosingBalance]:
        """What each of our bank accounts held by its latest imported statement; accounts without one are left out."""
        async with tx(self._engine) as connection:
            latest = [
                await store.latest_statement(connection, self._ledger.book, account.name) for account in self.accounts
            ]
        return [balance for balance in latest if balance is not None]

    def _account_of(self, statement: Statement, filename: str) -> BankAccount:
        for account in self.accounts:
            if account.iban == statement.account and account.asset == statement.currency:
                return account
        known = ", ".join(f"{account.iban} in {account.asset}" for account in self.accounts) or "none"
        raise ForeignAccount(
            f"a statement of account {statement.account} in {statement.currency}; ours are {known}",
            file=filename,
            line=statement.file_line,
            account=statement.account,
            currency=statement.currency,
        )

    def _row(
        self, account: BankAccount, statement: Statement, *, digest: bytes, ordinal: int, file: str
    ) -> store.StatementRow:
        return store.StatementRow(
            id=named("stm", account.name, statement.id, digest.hex(), str(ordinal)),
            account=account.name,
            asset=account.asset,
            bank_id=statement.id,
            sequence=statement.sequence,
            opening=statement.opening,
            closing=statement.closing,
            closing_on=statement.closing_on,
            lines=len(statement.lines),
            pending=statement.pending,
            file=file,
            file_sha256=digest,
            received_at=self._clock.now(),
        )

    async def _check_told_alike(self, row: store.StatementRow, account: BankAccount, statement: Statement) -> None:
        """Refuse a statement imported before from another file that now tells its lines in other words.

        Its balances are the same, so what seems a new line is a known one: booking it would credit it twice.
        """
        book, lines = self._ledger.book, dict(with_ids(account.name, statement.lines))
        async with tx(self._engine) as connection:
            if not lines or not await store.told_before(connection, book, row):
                return
            known = await store.known_lines(connection, book, list(lines))
        altered = next((line for line_id, line in lines.items() if line_id not in known), None)
        if altered is not None:
            raise StatementDisagrees(
                f"statement {statement.id} was imported before, with the same balances but without this line",
                file=row.file,
                line=altered.file_line,
            )

    async def _import(
        self, row: store.StatementRow, account: BankAccount, statement: Statement
    ) -> tuple[ImportedStatement, bool]:
        """What became of the statement, and whether it had been imported from this file before."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            row = await store.add_statement(connection, book, row)
        if row.imported_at is not None:
            return _result(row, Counter({_KNOWN: row.lines})), True

        tally: Counter[str] = Counter()
        lines = list(with_ids(account.name, statement.lines))
        for start in range(0, len(lines), LINES_PER_SUBMIT):
            tally += await self._book(row, lines[start : start + LINES_PER_SUBMIT])
        async with tx(self._engine) as connection:
            gap = await store.finish_statement(connection, book, row, self._clock.now())
        return _result(replace(row, gap=gap), tally), False

    # Lines

    async def _book(self, statement: store.StatementRow, lines: Sequence[tuple[str, StatementLine]]) -> Counter[str]:
        """Book those of these lines that the book doesn't have; count what became of each."""
        place = Place(
            book=self._ledger.book,
            account=statement.account,
            asset=statement.asset,
            statement=statement.id,
            bank_id=statement.bank_id,
            now=self._clock.now(),
        )
        fresh = await self._read(place, lines)
        noted = [reading for reading in fresh if _is_over_nothing(reading)]
        moving = [reading for reading in fresh if not _is_over_nothing(reading)]
        tally: Counter[str] = Counter({_KNOWN: len(lines) - len(fresh)})
        tally += await self._note(place, noted)
        owners = {match.owner for _, _, match in moving if isinstance(match, Matched)}
        users = [user_account(owner, place.asset) for owner in sorted(owners)]
        await self._ledger.ensure_open(place.bank, suspense_account(place.asset), *users)
        tally += await self._submit(place, moving)
        return tally

    async def _submit(self, place: Place, moving: Sequence[Reading]) -> Counter[str]:
        """Book the lines; what a user's account can't take goes to suspense after all."""
        tally: Counter[str] = Counter()
        instead: list[Group] = []
        outcomes = await self._ledger.submit(*(self._group(place, reading) for reading in moving))
        for reading, decided in zip(moving, outcomes, strict=True):
            if isinstance(reading[2], Matched) and _credit_refused(decided):
                instead.append(_instead(place, reading))
            else:
                tally += _count(reading[2], require_accepted(decided))
        for decided in await self._ledger.submit(*instead):
            tally += _count(Unmatched(Reason.ACCOUNT_REFUSED), require_accepted(decided))
        return tally

    async def _read(self, place: Place, lines: Sequence[tuple[str, StatementLine]]) -> list[Reading]:
        """The lines that aren't kept yet, with whose they are."""
        async with tx(self._engine) as connection:
            known = await store.known_lines(connection, place.book, [line_id for line_id, _ in lines])
            fresh = [(line_id, line, read_line(line)) for line_id, line in lines if line_id not in known]
            wanted = {reading.reference for _, _, reading in fresh if isinstance(reading, Named)}
            owners = await store.owners_of(connection, place.book, wanted)
        return [(line_id, line, match_line(reading, owners)) for line_id, line, reading in fresh]

    async def _note(self, place: Place, noted: Sequence[Reading]) -> Counter[str]:
        rows = [
            {"id": line_id, **line_values(place, line, LineState.NOTED, reason=Reason.ZERO_AMOUNT)}
            for line_id, line, _ in noted
        ]
        async with tx(self._engine) as connection:
            await store.add_lines(connection, place.book, rows)
        return Counter({LineState.NOTED: len(rows), Reason.ZERO_AMOUNT: len(rows)})

    def _group(self, place: Place, reading: Reading) -> Group:
        line_id, line, match = reading
        if isinstance(match, Matched):
            return credit(place, line_id, line, match, top_up=new_id("top", self._clock, self._entropy))
        return suspend(place, line_id, line, match)

    async def line(self, line: str) -> BankLine:
        """The bank line with this id. Raises UnknownLine."""
        async with tx(self._engine) as connection:
            found = await store.load_line(connection, self._ledger.book, line)
        if found is None:
            raise UnknownLine(f"there is no bank line {line[:40]!r}", param="line")
        return found

    async def lines(self, *states: LineState, after: str | None = None, limit: int = 50) -> list[BankLine]:
        """Lines in any of these states (all if none is named), oldest record first, from behind the line `after`."""
        async with tx(self._engine) as connection:
            return await store.list_lines(
                connection, self._ledger.book, states=states, after=after, limit=min(limit, LIST_MAX)
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


_KNOWN = "known"


def _known(assets: Mapping[str, Asset], account: BankAccount) -> Asset:
    if account.asset not in assets:
        raise BankMisconfigured(
            f"bank account {account.name!r} is in {account.asset}, which is no asset of the book", param="asset"
        )
    return assets[account.asset]


def _is_over_nothing(reading: Reading) -> bool:
    return reading[2] == Unmatched(Reason.ZERO_AMOUNT)


def _credit_refused(outcomes: tuple[Outcome, ...]) -> bool:
    refusal = outcomes[0].refusal
    return refusal is not None and refusal.code in _CREDIT_REFUSALS


def _instead(place: Place, reading: Reading) -> Group:
    line_id, line, match = reading
    assert isinstance(match, Matched)
    return suspend(place, line_id, line, Unmatched(Reason.ACCOUNT_REFUSED), owner=match.owner, attempt=2)


def _count(match: Matched | Unmatched, outcomes: tuple[Outcome, ...]) -> Counter[str]:
    if outcomes[0].replayed:
        return Counter({_KNOWN: 1})
    if isinstance(match, Matched):
        return Counter({LineState.CREDITED: 1})
    return Counter({LineState.SUSPENDED: 1, match.reason: 1})


def _result(row: store.StatementRow, tally: Counter[str]) -> ImportedStatement:
    return ImportedStatement(
        id=row.id,
        account=row.account,
        bank_id=row.bank_id,
        asset=row.asset,
        opening=row.opening,
        closing=row.closing,
        closing_on=row.closing_on,
        lines=row.lines,
        pending=row.pending,
        credited=tally[LineState.CREDITED],
        suspended=tally[LineState.SUSPENDED],
        noted=tally[LineState.NOTED],
        known=tally[_KNOWN],
        gap=row.gap or 0,
        reasons={reason: tally[reason] for reason in Reason if tally[reason]},
    )


def _warning(done: ImportedStatement, asset: Asset) -> str:
    return (
        f"statement {done.bank_id} of bank:{done.account} closes {format_amount(done.gap, asset)} {asset.code} off what"
        " the statements before it and its own lines make: a statement is missing, or the account wasn't empty at first"
    )
