"""How far behind the house's knowledge is: of each chain, of each bank, of its own comparisons, seals and epochs.

`load_lags` reads what is stored and asks nobody: a node that tells nothing new shows by its newest block's age.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.networks import Network
from chain.status import NetworkStatus, status_if_followed
from fiat.bank.lines import Kind
from fiat.tables import statements
from ledger import reading
from ledger.sealing import last_seal
from ledger.tables import commands
from treasury.reconciliation_store import load_runs
from treasury.records import BreakReason, Reconciliation
from treasury.tables import breaks, solvency_epochs


@dataclass(frozen=True, slots=True)
class FollowerLag:
    """How far a network was taken in, and when its newest block that was is of; None where its time isn't kept."""

    status: NetworkStatus
    block_at: datetime | None


@dataclass(frozen=True, slots=True)
class StatementLag:
    """The last day that a bank account's statements tell of."""

    account: str
    closing_on: date

    def at(self, now: datetime) -> timedelta:
        """How long ago that day ended (UTC)."""
        return max(now - datetime.combine(self.closing_on + timedelta(days=1), time(), UTC), timedelta(0))


@dataclass(frozen=True, slots=True)
class StandingBreaks:
    """Breaks of one kind that stand: all of them, and those of them that two people accounted for."""

    reason: BreakReason
    count: int
    explained: int
    oldest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lags:
    """All of it at one moment. `unsealed_since`: when the oldest command that no seal covers was booked; None: none."""

    followers: tuple[FollowerLag, ...]
    statements: tuple[StatementLag, ...]
    breaks: tuple[StandingBreaks, ...]
    run: Reconciliation | None
    unsealed: int
    unsealed_since: datetime | None
    epoch: int
    epoch_at: datetime | None


async def load_lags(connection: AsyncConnection, book: str, networks: Iterable[Network], *, now: datetime) -> Lags:
    """Read in the snapshot of `connection`."""
    runs = await load_runs(connection, book, before=None, limit=1)
    number = await reading.book_number(connection, book)
    unsealed, unsealed_since = await _unsealed(connection, book, number)
    epoch, epoch_at = await _newest_epoch(connection, book)
    return Lags(
        followers=tuple([lag for network in networks if (lag := await _follower(connection, network)) is not None]),
        statements=await _statements(connection, book),
        breaks=await _breaks(connection, book, now),
        run=runs[0] if runs else None,
        unsealed=unsealed,
        unsealed_since=unsealed_since,
        epoch=epoch,
        epoch_at=epoch_at,
    )


async def _follower(connection: AsyncConnection, network: Network) -> FollowerLag | None:
    status = await status_if_followed(connection, network)
    if status is None:
        return None
    block = chain.blocks.c
    query = select(block.mined_at).where(block.network == network.name, block.number == status.height, ~block.orphaned)
    return FollowerLag(status, (await connection.execute(query)).scalar_one_or_none())


async def _statements(connection: AsyncConnection, book: str) -> tuple[StatementLag, ...]:
    row = statements.c
    told = (row.book == book, row.kind == Kind.STATEMENT, row.imported_at.is_not(None))
    query = select(row.account, func.max(row.closing_on).label("newest")).where(*told)
    rows = await connection.execute(query.group_by(row.account).order_by(row.account))
    return tuple(StatementLag(found.account, found.newest) for found in rows)


async def _breaks(connection: AsyncConnection, book: str, now: datetime) -> tuple[StandingBreaks, ...]:
    """An acceptance whose date has come explains nothing any more, whether or not a run has written that down."""
    row = breaks.c
    explained = row.explained_at.is_not(None) & (row.accepted_until.is_(None) | (row.accepted_until > now))
    query = select(
        row.reason,
        func.count().label("standing"),
        func.count().filter(explained).label("explained"),
        func.min(row.first_seen_at).label("oldest"),
    ).where(row.book == book, row.resolved_at.is_(None))
    rows = await connection.execute(query.group_by(row.reason).order_by(row.reason))
    return tuple(
        StandingBreaks(BreakReason(found.reason), found.standing, found.explained, found.oldest) for found in rows
    )


async def _unsealed(connection: AsyncConnection, book: str, number: int) -> tuple[int, datetime | None]:
    seal = await last_seal(connection, book)
    sealed = 0 if seal is None else seal.seal.last_seq
    booked = await reading.load_seq(connection, number)
    if booked <= sealed:
        return 0, None
    row = commands.c
    first = select(row.booked_at).where(row.book == number, row.seq > sealed).order_by(row.seq).limit(1)
    return booked - sealed, (await connection.execute(first)).scalar_one_or_none()


async def _newest_epoch(connection: AsyncConnection, book: str) -> tuple[int, datetime | None]:
    row = solvency_epochs.c
    query = select(row.number, row.made_at).where(row.book == book).order_by(row.number.desc()).limit(1)
    found = (await connection.execute(query)).first()
    return (0, None) if found is None else (found.number, found.made_at)
