"""Reconciliation: the book against itself, the chain through a final block, the bank and payment providers.

A run samples balances on chain (`treasury.sampling`), reads the database in one snapshot, compares
(`treasury.comparison`) and records what it found; what becomes of it is `treasury.break_recording` and
`treasury.breaks`. `run` does all of it anew; `step` is the worker's, and does what changed. The audit of every row's
hash is the ledger's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from chain.networks import Registry
from chain.status import status_if_followed
from db.engine import tx
from ledger.engine import Ledger
from treasury import (
    book_check_store,
    break_fact_store,
    break_recording,
    comparison,
    reconciliation_store,
    sample_store,
)
from treasury.book_check import BookCheck, BookSeen
from treasury.break_causes import causes_of
from treasury.chain_check import ChainCheck, ChainSnapshot
from treasury.comparison import ClosingBalance, Counters, KeptFigure, OpenOutflow, OpenSurplus, RailStanding
from treasury.records import Break, BreakReason, Cause, Finding, JudgedNetwork, Reconciliation
from treasury.sampling import BalanceReader
from treasury.timing import USUAL, Timing

TOLD_BY_THE_BOOK = frozenset({BreakReason.SURPLUS, BreakReason.FOREIGN_OUTFLOW})
"""Breaks that no node need tell: they end although their network can't be judged now."""


class BankBalances(Protocol):
    """Knows what the banks last told; the bank rail is one."""

    async def closing_balances(self) -> Sequence[ClosingBalance]:
        """The latest closing balance of each of our accounts that has a statement."""
        ...


class RailBalances(Protocol):
    """Knows what payment providers say that they owe us."""

    async def rail_balances(self) -> Sequence[RailStanding]:
        """What each says now that can tell; one that doesn't answer is named with the reason."""
        ...


class Surpluses(Protocol):
    """Knows which surpluses are nobody's yet: the wallet those of users, treasury's inflows those of the house."""

    async def open_surpluses(self) -> Sequence[OpenSurplus]:
        """What waits in suspense for its evidence."""
        ...


class ForeignOutflows(Protocol):
    """Knows what left own addresses without us and is nobody's account yet; treasury's outflows do."""

    async def open_outflows(self) -> Sequence[OpenOutflow]:
        """What waits in suspense for somebody to say what it was."""
        ...


class ExchangePositions(Protocol):
    """Knows the exchange's positions; the exchange's `PositionCheck` does."""

    async def differences(self, *, whole: bool) -> tuple[int, Sequence[KeptFigure]]:
        """How many positions were compared, and each figure that isn't what its moves or the book come to."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """The database's side, all of it as of one instant."""

    book: BookSeen
    house: list[Counters]
    snapshots: list[ChainSnapshot]
    skipped: list[JudgedNetwork]


@dataclass(frozen=True, slots=True)
class _Due:
    """What a run of the worker would look at: it's due when this changed, or when time has passed."""

    finals: tuple[tuple[str, int], ...]
    statements: tuple[object, ...]


class Reconciler:
    """Compares and remembers. `nodes` and `banks` may be empty: then only the book is looked at."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        nodes: Mapping[str, BalanceReader],
        banks: Sequence[BankBalances],
        surpluses: Sequence[Surpluses] = (),
        outflows: ForeignOutflows | None = None,
        rails: RailBalances | None = None,
        exchange: ExchangePositions | None = None,
        clock: Clock,
        entropy: Entropy,
        timing: Timing = USUAL,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._banks = banks
        self._surpluses = surpluses
        self._outflows = outflows
        self._rails = rails
        self._exchange = exchange
        self._clock = clock
        self._entropy = entropy
        self._timing = timing
        self._book_check = BookCheck(ledger.book)
        self._chain_check = ChainCheck(engine, registry=registry, nodes=nodes, clock=clock)
        self._ran_at: datetime | None = None
        self._rails_asked_at: datetime | None = None
        self._due: _Due | None = None

    async def run(self, *, told: Callable[[str], object] = lambda _: None) -> Reconciliation:
        """Compare everything once, from the first line on, and record it. `told` hears what comes next.

        A network that can't be judged now is named with the reason.
        """
        return await self._run(whole=True, told=told)

    async def step(self) -> int:
        """The worker's: a run over what changed, after each newly final block and each statement, and once in a while.

        Whether there was one.
        """
        now = self._clock.now()
        if self._ran_at is not None and now - self._ran_at < self._timing.every:
            return 0
        due = await self._what_is_there()
        if self._ran_at is not None and due == self._due and now - self._ran_at < self._timing.at_least_every:
            return 0
        await self.run_changes()
        self._ran_at, self._due = now, due
        return 1

    async def run_changes(self) -> Reconciliation:
        """As `run`, but what was compared before and can't have changed unseen isn't added up again."""
        return await self._run(whole=False)

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Reconciliation]:
        """Runs, newest first, those older than the id `before`. Of those that changed nothing only some are kept."""
        async with tx(self._engine) as connection:
            return await reconciliation_store.load_runs(connection, self._ledger.book, before=before, limit=limit)

    async def _what_is_there(self) -> _Due:
        async with tx(self._engine) as connection:
            statuses = [await status_if_followed(connection, one) for one in self._registry.networks.values()]
        told = await self._closing_balances()
        return _Due(tuple((at.network, at.final_height) for at in statuses if at), tuple(told))

    async def _closing_balances(self) -> list[ClosingBalance]:
        return [closing for bank in self._banks for closing in await bank.closing_balances()]

    async def _run(self, *, whole: bool, told: Callable[[str], object] = lambda _: None) -> Reconciliation:
        started_at = self._clock.now()
        assets = await self._ledger.assets()
        scales = {code: asset.scale for code, asset in assets.items()}
        told("balances on chain")
        trouble = await self._chain_check.sample(scales, whole=whole)
        before = await self._closing_balances()
        read = await self._read(scales, trouble, whole=whole, now=started_at, told=told)
        told("banks and payment providers")
        closings = await self._closing_balances()
        moving = {one.account for one in {*before} ^ {*closings}}
        of_banks, skipped = comparison.bank_differs(read.house, closings, moving=moving)
        findings = read.book.findings + of_banks
        standings, asked = await self._ask_rails(whole=whole, now=started_at)
        of_rails, unjudged = comparison.rail_differs(read.house, standings)
        findings += of_rails
        findings += comparison.unexplained([one for known in self._surpluses for one in await known.open_surpluses()])
        if self._outflows is not None:
            findings += comparison.unsent(await self._outflows.open_outflows())
        kept, differing = (0, []) if self._exchange is None else await self._exchange.differences(whole=whole)
        findings += comparison.position_differs(differing)
        checks = kept + read.book.accounts + len(assets) + len(closings) + len(standings) - len(unjudged)
        for snapshot in read.snapshots:
            checks += len(snapshot.sample.held)
            findings += snapshot.findings
        in_flight = [item for snapshot in read.snapshots for item in snapshot.in_flight]
        findings += comparison.overdue(in_flight, now=started_at, patience=self._timing.unbooked_after)
        run = Reconciliation(
            id=new_id("rec", self._clock, self._entropy),
            started_at=started_at,
            finished_at=self._clock.now(),
            checks=checks,
            open_breaks=0,
            breaks=(),
            networks=(*read.skipped, *skipped, *unjudged, *(snapshot.judged for snapshot in read.snapshots)),
            in_flight=tuple(in_flight),
        )
        return await self._record(run, findings, rails_asked=asked)

    # Asking

    async def _ask_rails(self, *, whole: bool, now: datetime) -> tuple[Sequence[RailStanding], bool]:
        """What payment providers say, and whether they were asked: they needn't be each time."""
        if self._rails is None:
            return [], True
        last = self._rails_asked_at
        if not whole and last is not None and now - last < self._timing.rails_every:
            return [], False
        self._rails_asked_at = now
        return await self._rails.rail_balances(), True

    # Reading

    async def _read(
        self,
        scales: Mapping[str, int],
        trouble: Mapping[str, str],
        *,
        whole: bool,
        now: datetime,
        told: Callable[[str], object],
    ) -> _Read:
        async with tx(self._engine) as connection:
            await self._book_check.begin(connection)
            seen = await self._book_check.check(connection, whole=whole, now=now, told=told)
            house = await book_check_store.load_house(connection, seen.number)
            told("what is booked of the chain")
            snapshots, skipped = await self._chain_check.read(connection, scales, trouble, whole=whole)
        return _Read(seen, house, snapshots, skipped)

    # Remembering

    async def _record(self, run: Reconciliation, findings: Sequence[Finding], *, rails_asked: bool) -> Reconciliation:
        """Keep the run and what becomes of the breaks by it (`treasury.break_recording`)."""
        book, now = self._ledger.book, run.finished_at
        unjudged = {network.network for network in run.networks if network.skipped is not None}
        causes = await self._look(run, findings)
        async with tx(self._engine) as connection:
            await reconciliation_store.lock_runs(connection, book)
            run = await break_recording.record(
                connection,
                book,
                run,
                findings,
                causes=causes,
                judged=lambda entry: _is_judged(entry, unjudged, rails_asked=rails_asked),
                new_id=lambda: new_id("brk", self._clock, self._entropy),
            )
            skips = {judged.network: judged.skipped for judged in run.networks}
            if not run.changed and skips != await reconciliation_store.load_last_skips(connection, book):
                run = replace(run, changed=True)
            await reconciliation_store.insert_run(connection, book, run)
            timing = self._timing
            await reconciliation_store.thin_out(connection, book, now=now, every=timing.runs_all, kept=timing.runs_kept)
            judged = {one.network: one.block_hash for one in run.networks if one.skipped is None and one.block_hash}
            await sample_store.note_judged(connection, judged, now=now)
            await sample_store.prune_samples(
                connection, list(judged), now=now, every=timing.samples_all, kept=timing.samples_kept
            )
        return run

    async def _look(
        self, run: Reconciliation, findings: Sequence[Finding]
    ) -> dict[break_recording.Key, tuple[Cause, ...]]:
        """What may be behind each finding."""
        if not findings:
            return {}
        assets = await self._ledger.assets()
        async with tx(self._engine) as connection:
            facts = await break_fact_store.load_facts(
                connection, self._ledger.book, findings, registry=self._registry, assets=assets, run=run
            )
        return {finding.key: causes_of(finding, facts) for finding in findings}


def _is_judged(entry: Break, unjudged: set[str], *, rails_asked: bool) -> bool:
    """Whether a comparison would have seen this break: if it didn't, the break has ended."""
    if entry.reason is BreakReason.RAIL_DIFFERS and not rails_asked:
        return False
    if entry.account.split("/")[1:2] and entry.account.split("/")[1] in unjudged:  # a bank's
        return False
    return entry.network not in unjudged or entry.reason in TOLD_BY_THE_BOOK
