"""SQL of deposits: those that stand, that left the chain, that a person has to judge."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, token_store
from chain import tables as chain
from wallet.arrival_store import TRANSFER, Arrival
from wallet.resources import DOUBTFUL, SET_ASIDE, Deposit, DepositState
from wallet.rows import LIMIT_MAX, page_of, read_deposit, row_of
from wallet.tables import deposits, withdrawals
from wallet.withdrawal_states import ENDED, WithdrawalState


async def lock_owner(connection: AsyncConnection, book: str, owner: str) -> None:
    """Let one tx at a time make addresses for `owner`; until the tx ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"address:{book}:{owner}", 0))))


async def load_vanished(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Deposit]:
    """Live deposits whose observation is orphaned."""
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED]),
        _gone(),
    )
    return [read_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


def _gone() -> Any:
    """Whether a deposit's transfer has left the chain."""
    seen = chain.observations.c
    return exists().where(
        seen.network == deposits.c.network,
        seen.block_hash == deposits.c.block_hash,
        seen.tx_hash == deposits.c.tx_hash,
        seen.place == deposits.c.place,
        seen.orphaned,
    )


async def load_ripe(
    connection: AsyncConnection, book: str, network: str, *, states: Collection[DepositState], through: int, limit: int
) -> list[Deposit]:
    """Deposits in `states` in live blocks up to `through` that still have something to be booked, oldest first.

    Not those of a token that is stopped.
    """
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state.in_(states),
        deposits.c.block_number <= through,
        ~_gone(),
        or_(deposits.c.state.not_in(SET_ASIDE), deposits.c.entry.is_(None)),
        token_store.trusted(deposits.c.network, deposits.c.contract),
    )
    return [read_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


async def load_explained(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Deposit]:
    """Surpluses in suspense all of which traces tell of by now, oldest first."""
    seen = chain.observations.c
    query = (
        select(deposits)
        .join(chain.observations, and_(*(seen[name] == deposits.c[name] for name in TRANSFER)))
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.SURPLUS,
            deposits.c.entry.is_not(None),
            ~seen.orphaned,
            coin_store.explained() == seen.amount,
        )
    )
    return [read_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


async def mark_final(connection: AsyncConnection, book: str, network: str, *, through: int, now: datetime) -> int:
    """Credited deposits in live blocks up to `through` become final; returns how many."""
    found = await connection.execute(
        update(deposits)
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.CREDITED,
            deposits.c.block_number <= through,
            ~_gone(),
        )
        .values(state=DepositState.FINAL, updated_at=now)
    )
    return found.rowcount


async def insert_deposits(connection: AsyncConnection, book: str, found: Sequence[Deposit]) -> None:
    """Record deposits for which nothing is booked; those recorded already stay as they are."""
    for deposit in found:
        row = deposit_key(book, deposit) | deposit_values(deposit)
        await connection.execute(postgresql.insert(deposits).values(row).on_conflict_do_nothing())


async def judge_deposits(connection: AsyncConnection, book: str, judged: Sequence[Deposit]) -> None:
    """Deposits that were under review are what they are found to be, where nothing is to be booked."""
    for deposit in judged:
        change = {"state": deposit.state, "asset": deposit.asset, "amount": deposit.amount}
        await connection.execute(
            update(deposits)
            .where(deposits.c.book == book, deposits.c.id == deposit.id, deposits.c.state == DepositState.UNDER_REVIEW)
            .values(**change, updated_at=deposit.updated_at)
        )


async def mark_orphaned(connection: AsyncConnection, book: str, gone: Sequence[Deposit], *, now: datetime) -> None:
    """Deposits for which nothing was booked have left the chain."""
    ids = [deposit.id for deposit in gone]
    await connection.execute(
        update(deposits)
        .where(deposits.c.book == book, deposits.c.id.in_(ids), deposits.c.entry.is_(None))
        .values(state=DepositState.ORPHANED, updated_at=now)
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """How many deposits, or withdrawals, of an asset are in a state, and their sum in its smallest units."""

    state: str
    asset: str | None
    count: int
    amount: int


async def load_standing(connection: AsyncConnection, book: str, network: str) -> tuple[list[Standing], list[Standing]]:
    """What stands on `network`: live deposits, and withdrawals under way or final, by state and asset."""
    dead = (DepositState.ORPHANED, DepositState.REVERSED)
    over = ENDED - {WithdrawalState.FINAL}
    found = []
    for table, ended in ((deposits, dead), (withdrawals, over)):
        c = table.c
        amount = func.coalesce(func.sum(c.amount), 0)
        query = select(c.state, c.asset, func.count(), amount).where(
            c.book == book, c.network == network, c.state.not_in(ended)
        )
        rows = await connection.execute(query.group_by(c.state, c.asset).order_by(c.state, c.asset))
        found.append([Standing(state, asset, count, int(total)) for state, asset, count, total in rows])
    return found[0], found[1]


async def load_deposit(connection: AsyncConnection, book: str, deposit: str) -> Deposit | None:
    row = await row_of(connection, deposits, book, deposit)
    return None if row is None else read_deposit(row)


async def list_doubtful(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Deposit]:
    """Deposits that aren't credited by themselves, newest first."""
    query = _with_objection().where(deposits.c.book == book, deposits.c.state.in_(DOUBTFUL))
    if before is not None:
        query = query.where(deposits.c.id < before)
    query = query.order_by(deposits.c.id.desc()).limit(max(1, min(limit, LIMIT_MAX)))
    return [_judged(row) for row in await connection.execute(query)]


async def list_surpluses(connection: AsyncConnection, book: str) -> list[Deposit]:
    """Surpluses that are nobody's yet, oldest first."""
    query = select(deposits).where(deposits.c.book == book, deposits.c.state == DepositState.SURPLUS)
    return [read_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(LIMIT_MAX))]


async def load_doubtful(connection: AsyncConnection, book: str, deposit: str) -> Deposit | None:
    """The deposit with this id, in whatever state, with what screening has against its sender."""
    query = _with_objection().where(deposits.c.book == book, deposits.c.id == deposit)
    row = (await connection.execute(query)).first()
    return None if row is None else _judged(row)


def _with_objection() -> Any:
    told = chain.screenings.c
    same = and_(*(told[name] == deposits.c[name] for name in TRANSFER))
    return select(deposits, told.objection).outerjoin(chain.screenings, same)


def _judged(row: Row[Any]) -> Deposit:
    return replace(read_deposit(row), objection=row.objection)


async def list_deposits(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Deposit]:
    query = page_of(deposits, book, owner, before=before, after=after, limit=limit)
    return [read_deposit(row) for row in await connection.execute(query)]


def deposit_key(book: str, deposit: Deposit | Arrival) -> dict[str, object]:
    """The columns that a rider finds this deposit's row by."""
    return {
        "book": book,
        "network": deposit.network,
        "tx_hash": deposit.tx_hash,
        "place": deposit.place,
        "version": deposit.version,
    }


def deposit_values(deposit: Deposit) -> dict[str, object]:
    """The columns of a deposit's row besides its key."""
    key = deposit_key("", deposit)
    return {column.name: getattr(deposit, column.name) for column in deposits.columns if column.name not in key}
