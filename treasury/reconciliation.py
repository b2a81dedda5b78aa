"""Reconciliation: the book against itself, the chain through a final block, the bank and payment providers.

A run reads the database in one snapshot, asks a node for balances at that very block, compares (`treasury.comparison`)
and records what it found. A difference seen again is the same break, growing older; one no longer seen is resolved.
The audit of every row's hash is the ledger's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Unavailable
from base.ids import new_id
from chain.networks import Deployment, Network, Registry, to_ledger_units
from chain.status import status_if_followed
from db.engine import tx
from ledger.accounts import house_account
from ledger.engine import Ledger
from treasury import book_check_store, comparison, comparison_store, reconciliation_store
from treasury.book_check import BookCheck, BookSeen
from treasury.comparison import ClosingBalance, Counters, OpenOutflow, OpenSurplus, RailStanding
from treasury.comparison_store import OwnedBy
from treasury.records import Break, BreakReason, Finding, InFlight, JudgedNetwork, Reconciliation

ROLES = ("deposit", "hot", "gas")
"""Roles of own addresses; each has a custody account per network and asset."""

PATIENCE = timedelta(minutes=10)
"""How long a final movement may stay unbooked before that is a break."""

BALANCES_AT_ONCE = 200
"""Balances asked of a node in one call."""

BREAKS_MAX = 500
"""Open breaks that one run reads and reports."""

TOLD_BY_THE_BOOK = frozenset({BreakReason.SURPLUS, BreakReason.FOREIGN_OUTFLOW})
"""Breaks that no node need tell: they end although their network can't be judged now."""


class BalanceReader(Protocol):
    """A node that tells balances at a block; the chain's `Node` is one."""

    async def balances(self, owners: Sequence[tuple[str | None, str]], *, block: str) -> list[int]:
        """The balances of (contract or None for the native coin, address) at the block with this hash, in order."""
        ...


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


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one network's side of the database says through a final block."""

    network: Network
    block_number: int
    block_hash: str
    addresses: list[OwnedBy]
    booked: dict[str, int]
    in_flight: list[InFlight]


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
        clock: Clock,
        entropy: Entropy,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._nodes = nodes
        self._banks = banks
        self._surpluses = surpluses
        self._outflows = outflows
        self._rails = rails
        self._clock = clock
        self._entropy = entropy
        self._patience = patience
        self._book_check = BookCheck(ledger.book)

    async def run(self) -> Reconciliation:
        """Compare everything once and record it. A network that can't be judged now is named with the reason."""
        started_at = self._clock.now()
        assets = await self._ledger.assets()
        scales = {code: asset.scale for code, asset in assets.items()}
        seen, counters, snapshots, networks = await self._read(scales, now=started_at)
        told = [closing for bank in self._banks for closing in await bank.closing_balances()]
        findings = seen.findings + comparison.bank_differs(counters, told)
        standings = [] if self._rails is None else await self._rails.rail_balances()
        of_rails, unjudged = comparison.rail_differs(counters, standings)
        findings += of_rails
        networks += unjudged
        unexplained = [one for known in self._surpluses for one in await known.open_surpluses()]
        findings += comparison.unexplained(unexplained)
        if self._outflows is not None:
            findings += comparison.unsent(await self._outflows.open_outflows())
        checks = seen.accounts + len(assets) + len(told) + len(standings) - len(unjudged)
        in_flight: list[InFlight] = []
        for snapshot in snapshots:
            judged, found = await self._ask(snapshot, scales)
            networks.append(judged)
            in_flight += snapshot.in_flight
            if found is not None:
                checks += len(found)
                findings += comparison.chain_differs(
                    snapshot.network.name, booked=snapshot.booked, in_flight=snapshot.in_flight, found=found
                )
        findings += comparison.overdue(in_flight, now=started_at, patience=self._patience)
        run = Reconciliation(
            id=new_id("rec", self._clock, self._entropy),
            started_at=started_at,
            finished_at=self._clock.now(),
            checks=checks,
            open_breaks=0,
            breaks=(),
            networks=tuple(networks),
            in_flight=tuple(in_flight),
        )
        return await self._record(run, findings)

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Reconciliation]:
        """Runs, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await reconciliation_store.load_runs(connection, self._ledger.book, before=before, limit=limit)

    async def breaks(self, *, open_only: bool = True, limit: int = BREAKS_MAX) -> list[Break]:
        """Breaks, the oldest open ones first, then (if asked for) the resolved ones."""
        async with tx(self._engine) as connection:
            return await reconciliation_store.load_breaks(
                connection, self._ledger.book, open_only=open_only, limit=limit
            )

    # Reading

    async def _read(
        self, scales: Mapping[str, int], *, now: datetime
    ) -> tuple[BookSeen, list[Counters], list[_Snapshot], list[JudgedNetwork]]:
        """The database's side, all of it as of one instant."""
        snapshots, skipped = [], []
        async with tx(self._engine) as connection:
            await self._book_check.begin(connection)
            seen = await self._book_check.check(connection, whole=True, now=now)
            counters = await book_check_store.load_house(connection, seen.number)
            for network in self._registry.networks.values():
                snapshot = await self._snapshot(connection, network, scales)
                if isinstance(snapshot, str):
                    skipped.append(JudgedNetwork(network.name, None, None, skipped=snapshot))
                else:
                    snapshots.append(snapshot)
        return seen, counters, snapshots, skipped

    async def _snapshot(
        self, connection: AsyncConnection, network: Network, scales: Mapping[str, int]
    ) -> _Snapshot | str:
        at = await status_if_followed(connection, network)
        if at is None:
            return "it was never followed"
        block_hash = await comparison_store.load_block_hash(connection, network.name, at.final_height)
        if block_hash is None:
            return f"halted: {at.halted}" if at.halted else "no block is final yet"
        deployments = self._registry.on(network.name)
        accounts = [_custody(deployment, role) for deployment in deployments for role in ROLES]
        booked = await comparison_store.sum_through(
            connection, network.name, accounts=accounts, through=at.final_height
        )
        in_flight = []
        for deployment in deployments:
            moving = await comparison_store.load_in_flight(connection, deployment, through=at.final_height)
            if deployment.contract is None:
                moving += await comparison_store.load_unbooked_gas(connection, deployment, through=at.final_height)
            in_flight += [_in_ledger_units(item, deployment, scales) for item in moving]
        addresses = await comparison_store.load_own_addresses(connection, network)
        return _Snapshot(network, at.final_height, block_hash, addresses, booked, in_flight)

    async def _ask(self, snapshot: _Snapshot, scales: Mapping[str, int]) -> tuple[JudgedNetwork, dict[str, int] | None]:
        """What our addresses hold at the snapshot's block, per custody account; None if no node can tell now."""
        judged = JudgedNetwork(snapshot.network.name, snapshot.block_number, snapshot.block_hash)
        node = self._nodes.get(snapshot.network.name)
        if node is None:
            return replace(judged, skipped="no node is configured"), None
        deployments = self._registry.on(snapshot.network.name)
        asked = [(deployment, own) for deployment in deployments for own in snapshot.addresses]
        found = {_custody(deployment, role): 0 for deployment in deployments for role in ROLES}
        try:
            for start in range(0, len(asked), BALANCES_AT_ONCE):
                part = asked[start : start + BALANCES_AT_ONCE]
                owners = [(deployment.contract, own.address) for deployment, own in part]
                held = await node.balances(owners, block=snapshot.block_hash)
                for (deployment, own), units in zip(part, held, strict=True):
                    amount = to_ledger_units(units, deployment, scale=scales[deployment.asset])
                    found[_custody(deployment, own.role)] += amount
        except Unavailable as error:
            return replace(judged, skipped=error.message), None
        return judged, found

    # Remembering

    async def _record(self, run: Reconciliation, findings: Sequence[Finding]) -> Reconciliation:
        """Keep the run; open what is new, renew what is seen again, resolve what a judged comparison no longer sees."""
        book, now = self._ledger.book, run.finished_at
        unjudged = {network.network for network in run.networks if network.skipped is not None}
        async with tx(self._engine) as connection:
            await reconciliation_store.lock_runs(connection, book)
            known = {entry.key: entry for entry in await self._open(connection)}
            for finding in findings:
                before = known.pop(finding.key, None)
                if before is None:
                    id = new_id("brk", self._clock, self._entropy)
                    await reconciliation_store.insert_break(
                        connection, book, id=id, finding=finding, run=run.id, now=now
                    )
                else:
                    await reconciliation_store.see_break_again(
                        connection, book, id=before.id, finding=finding, run=run.id, now=now
                    )
            ended = [
                entry.id
                for entry in known.values()
                if entry.network not in unjudged or entry.reason in TOLD_BY_THE_BOOK
            ]
            if ended:
                await reconciliation_store.resolve_breaks(connection, book, ended, now=now)
            remaining = await self._open(connection)
            run = replace(run, breaks=tuple(remaining), open_breaks=len(remaining))
            await reconciliation_store.insert_run(connection, book, run)
        return run

    async def _open(self, connection: AsyncConnection) -> list[Break]:
        return await reconciliation_store.load_breaks(connection, self._ledger.book, open_only=True, limit=BREAKS_MAX)


def _custody(deployment: Deployment, role: str) -> str:
    return house_account(f"custody:{deployment.network}:{role}", deployment.asset)


def _in_ledger_units(item: InFlight, deployment: Deployment, scales: Mapping[str, int]) -> InFlight:
    return replace(item, amount=to_ledger_units(item.amount, deployment, scale=scales[deployment.asset]))
