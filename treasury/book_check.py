"""The book against itself: counters against lines, holds against both, lines against what they were.

What lines come to is carried on by seq from check to check, so a check adds up only what was booked since the last.
What was altered behind the book's back has no seq: digests over all counters and lines tell of it, and only where one
isn't what it must be, rows are read. (docs/decisions/0018-reconciling-in-steps.md)
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reading import book_number
from treasury import book_check_store as store
from treasury import comparison, journal_check, journal_check_store
from treasury.book_check_store import Checked
from treasury.journal_check import JournalSeen
from treasury.records import BreakReason, Finding

NAMED_MAX = 500
"""So many differing accounts are named at once; there may be more."""

BUCKETS_MAX = 64
"""So many differing digests of accounts are looked into at once."""


@dataclass(frozen=True, slots=True)
class BookSeen:
    """What a check of the book found, how many accounts it compared, through which seq."""

    number: int
    seq: int
    accounts: int
    findings: list[Finding]


class BookCheck:
    """Checks one book, in a tx that `begin` has begun and that must commit: what was checked is remembered in it."""

    def __init__(self, book: str) -> None:
        self._book = book

    async def begin(self, connection: AsyncConnection) -> None:
        """Wait for another check to end; from now on this tx sees one instant."""
        await store.begin(connection)

    async def check(
        self, connection: AsyncConnection, *, whole: bool, now: datetime, told: Callable[[str], object] = lambda _: None
    ) -> BookSeen:
        """Compare everything; `whole`: with sums added up anew from all lines. `told` hears what comes next."""
        number = await book_number(connection, self._book)
        seq = await store.load_seq(connection, number)
        before = await store.load_checked(connection, number)
        server = await store.server_version(connection)
        if before is not None and before.server != server:
            await store.forget(connection, number)
            before = None
        rewritten = await journal_check_store.count_rewritten(connection, number)
        await self._carry_on(connection, number, before, seq)
        told("the journal's lines")
        next_bucket = 0 if before is None else before.next_bucket
        whole_journal = whole or before is None or rewritten != before.rewritten
        seen = await self._look(connection, number, through=seq, next_bucket=next_bucket, whole=whole_journal)
        if whole or before is None or seen.sums_stale:
            told("what the lines of each account come to")
            await store.add_up(connection, number, through=seq)
        told("accounts' counters and holds")
        findings = await self._compare(connection, number, whole=whole)
        await store.save_checked(connection, number, Checked(seq, server, rewritten, seen.next_bucket), now=now)
        accounts = await store.count_accounts(connection, number)
        return BookSeen(number, seq, accounts, findings + seen.findings)

    async def _carry_on(self, connection: AsyncConnection, number: int, before: Checked | None, seq: int) -> None:
        """Take in what was booked since the last check. Sums of a book that never was checked come later, at once."""
        after = 0 if before is None else before.seq
        if seq > after:
            await journal_check_store.add_lines(connection, number, after=after, through=seq)
            if before is not None:
                await store.add_sums(connection, number, after=after, through=seq)

    async def _look(
        self, connection: AsyncConnection, number: int, *, through: int, next_bucket: int, whole: bool
    ) -> JournalSeen:
        """Whether lines are what they were."""
        return await journal_check.look(
            connection, self._book, number, through=through, next_bucket=next_bucket, whole=whole
        )

    async def _compare(self, connection: AsyncConnection, number: int, *, whole: bool) -> list[Finding]:
        drift = await self._find_drift(connection, number)
        findings = comparison.drifted(drift) + await self._find_held_drift(connection, number)
        if whole or drift:
            sums = await store.sum_assets(connection, number)
            findings += [Finding(BreakReason.UNBALANCED, "", asset, 0, total) for asset, total in sorted(sums.items())]
        return findings

    async def _find_held_drift(self, connection: AsyncConnection, number: int) -> list[Finding]:
        return [
            Finding(BreakReason.HOLD_DRIFT, one.account, one.asset, one.by_lines, one.by_holds, detail=one.side)
            for one in await store.find_held_drift(connection, number, limit=NAMED_MAX)
        ]

    async def _find_drift(self, connection: AsyncConnection, number: int) -> list[comparison.Counters]:
        buckets = await store.find_drifting(connection, number, limit=BUCKETS_MAX)
        if not buckets:
            return []
        drift = await store.load_drift(connection, number, buckets, limit=NAMED_MAX)
        if not drift:  # only the digests' memory was altered
            await store.renew_digests(connection, number)
        return drift
