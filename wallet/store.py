"""The wallet's only SQL: rows of its own tables, and its reads of the chain's.

Lists are keyset: newest first, or oldest first when `after` is given; keys are ids, which sort by time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, Table, and_, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.errors import NotYetFollowed
from chain.networks import Network
from chain.signing import Role
from chain.status import NetworkStatus, network_status
from chain.transaction_states import Kind, State
from chain.transactions import Mined
from wallet.rates import Price, Ratio
from wallet.resources import (
    Conversion,
    Deposit,
    DepositState,
    Quote,
    QuoteState,
    Withdrawal,
)
from wallet.tables import conversions, deposits, quotes, withdrawals
from wallet.withdrawal_states import ENDED, WaitingFor, WithdrawalState

LIMIT_MAX = 500
"""Rows of one page at most."""


# Quotes and conversions


async def insert_quote(connection: AsyncConnection, book: str, quote: Quote) -> None:
    await connection.execute(
        insert(quotes).values(
            book=book,
            id=quote.id,
            owner=quote.owner,
            state=quote.state,
            sell=quote.sell,
            buy=quote.buy,
            sold=quote.sold,
            spread=quote.spread,
            bought=quote.bought,
            price=f"{ratio_text(quote.price.ratio)}/{quote.price.spread_basis_points}",
            rates_as_of=quote.rates_as_of,
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )
    )


async def load_quote(connection: AsyncConnection, book: str, quote: str) -> Quote | None:
    row = await _one(connection, quotes, book, quote)
    if row is None:
        return None
    num, den, spread = row.price.split("/")
    return Quote(
        id=row.id,
        owner=row.owner,
        state=QuoteState(row.state),
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        price=Price(Ratio(int(num), int(den)), int(spread)),
        rates_as_of=row.rates_as_of,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


async def load_conversion(connection: AsyncConnection, book: str, conversion: str) -> Conversion | None:
    row = await _one(connection, conversions, book, conversion)
    return None if row is None else _conversion(row)


async def list_conversions(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Conversion]:
    query = _page(conversions, book, owner, before=before, after=after, limit=limit)
    return [_conversion(row) for row in await connection.execute(query)]


# Deposits


async def lock_owner(connection: AsyncConnection, book: str, owner: str) -> None:
    """Let one tx at a time make addresses for `owner`; until the tx ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"address:{book}:{owner}", 0))))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A live transfer to a user's address that no live deposit stands for; `version` is what the next one gets."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str
    address: str
    chain_amount: int
    owner: str
    version: int


async def load_status(connection: AsyncConnection, network: Network) -> NetworkStatus | None:
    """How far `network` was taken in; None if it never was followed."""
    try:
        return await network_status(connection, network)
    except NotYetFollowed:
        return None


async def load_arrivals(
    connection: AsyncConnection, book: str, network: str, *, above: int, limit: int
) -> list[Arrival]:
    """Live transfers in blocks above `above` to this book's deposit addresses that no live deposit stands for.

    Our own sweeps and top-ups aren't deposits, told by transaction hash; a withdrawal that lands here is one.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = and_(
        deposits.c.book == book,
        deposits.c.network == seen.network,
        deposits.c.tx_hash == seen.tx_hash,
        deposits.c.place == seen.place,
    )
    earlier = select(func.coalesce(func.max(deposits.c.version), 0)).where(same).scalar_subquery()
    live = exists().where(same, deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED]))
    query = (
        select(chain.observations, own.owner, (earlier + 1).label("version"))
        .join(chain.addresses, own.address == seen.recipient)
        .where(
            seen.network == network,
            seen.block_number > above,
            ~seen.orphaned,
            own.role == Role.DEPOSIT,
            own.book == book,
            ~live,
            ~_internal(),
        )
        .order_by(seen.block_number, seen.seq)
        .limit(limit)
    )
    return [
        Arrival(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            address=row.recipient,
            chain_amount=row.amount,
            owner=row.owner,
            version=row.version,
        )
        for row in await connection.execute(query)
    ]


def _internal() -> Any:
    tried, own = chain.attempts.c, chain.transactions.c
    return exists().where(
        tried.network == chain.observations.c.network,
        tried.tx_hash == chain.observations.c.tx_hash,
        own.id == tried.transaction_id,
        own.kind.in_([Kind.SWEEP, Kind.GAS_TOPUP]),
    )


async def load_vanished(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Deposit]:
    """Live deposits whose observation is orphaned."""
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED]),
        _gone(),
    )
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


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
    connection: AsyncConnection, book: str, network: str, *, state: DepositState, through: int, limit: int
) -> list[Deposit]:
    """Deposits in `state` in live blocks up to `through` that still have something to be booked, oldest first."""
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state == state,
        deposits.c.block_number <= through,
        ~_gone(),
        or_(deposits.c.state != DepositState.BELOW_MINIMUM, deposits.c.entry.is_(None)),
    )
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


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


async def mark_orphaned(connection: AsyncConnection, book: str, gone: Sequence[Deposit], *, now: datetime) -> None:
    """Deposits for which nothing was booked have left the chain."""
    ids = [deposit.id for deposit in gone]
    await connection.execute(
        update(deposits)
        .where(deposits.c.book == book, deposits.c.id.in_(ids), deposits.c.entry.is_(None))
        .values(state=DepositState.ORPHANED, updated_at=now)
    )


async def load_deposit(connection: AsyncConnection, book: str, deposit: str) -> Deposit | None:
    row = await _one(connection, deposits, book, deposit)
    return None if row is None else _deposit(row)


async def list_deposits(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Deposit]:
    query = _page(deposits, book, owner, before=before, after=after, limit=limit)
    return [_deposit(row) for row in await connection.execute(query)]


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


# Withdrawals


async def load_withdrawal(connection: AsyncConnection, book: str, withdrawal: str) -> Withdrawal | None:
    row = await _one(connection, withdrawals, book, withdrawal)
    return None if row is None else _withdrawal(row)


async def list_withdrawals(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Withdrawal]:
    query = _page(withdrawals, book, owner, before=before, after=after, limit=limit)
    return [_withdrawal(row) for row in await connection.execute(query)]


async def load_open_withdrawals(
    connection: AsyncConnection, book: str, *, after: str | None, limit: int
) -> list[Withdrawal]:
    """Withdrawals that haven't ended, oldest first, those after the id `after`."""
    query = select(withdrawals).where(withdrawals.c.book == book, withdrawals.c.state.not_in(ENDED))
    if after is not None:
        query = query.where(withdrawals.c.id > after)
    return [_withdrawal(row) for row in await connection.execute(query.order_by(withdrawals.c.id).limit(limit))]


async def change_withdrawal(
    connection: AsyncConnection, book: str, withdrawal: str, *, expect: WithdrawalState, change: Mapping[str, Any]
) -> bool:
    """Compare and set, in the caller's tx; False if its state isn't `expect` any more."""
    found = await connection.execute(
        update(withdrawals)
        .where(withdrawals.c.book == book, withdrawals.c.id == withdrawal, withdrawals.c.state == expect)
        .values(**change)
    )
    return found.rowcount == 1


async def load_house_role(connection: AsyncConnection, address: str) -> str | None:
    """`hot` or `gas` if `address` (lower-case hex) is one of the house's."""
    own = chain.addresses.c
    query = select(own.role).where(own.address == address, own.owner.is_(None))
    return (await connection.execute(query)).scalar_one_or_none()


async def load_refusal(connection: AsyncConnection, book: str, withdrawal: str) -> str | None:
    """Why the signer refused to sign for this withdrawal, if it did and nothing else was tried."""
    own = chain.transactions.c
    query = select(own.state, own.refusal).where(own.book == book, own.subject == withdrawal)
    row = (await connection.execute(query.order_by(own.created_at.desc(), own.id.desc()).limit(1))).first()
    return (row.refusal or "refused") if row is not None and row.state == State.REFUSED else None


async def load_sent(connection: AsyncConnection, book: str, withdrawal: str) -> str | None:
    """The hash of the attempt that was last sent for this withdrawal; None before any was."""
    own, tried = chain.transactions.c, chain.attempts.c
    query = (
        select(tried.tx_hash)
        .join(chain.transactions, own.id == tried.transaction_id)
        .where(own.book == book, own.subject == withdrawal, tried.sent_at.is_not(None))
        .order_by(own.created_at.desc(), tried.attempt.desc())
        .limit(1)
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def load_place(
    connection: AsyncConnection, withdrawal: Withdrawal, *, contract: str | None, mined: Mined
) -> str | None:
    """Where in its transaction the payment of a withdrawal was seen; None if that transaction paid nothing there."""
    seen = chain.observations.c
    query = select(seen.place).where(
        seen.network == withdrawal.network,
        seen.block_hash == mined.block_hash,
        seen.tx_hash == mined.tx_hash,
        seen.contract.is_not_distinct_from(contract),
        seen.recipient == withdrawal.address,
        seen.amount == withdrawal.chain_amount,
        ~seen.orphaned,
    )
    return (await connection.execute(query.order_by(seen.place).limit(1))).scalar_one_or_none()


def withdrawal_values(withdrawal: Withdrawal) -> dict[str, object]:
    """The columns of a withdrawal's row besides its key."""
    names = [column.name for column in withdrawals.columns if column.name not in ("book", "id", "fee_price")]
    values: dict[str, object] = {name: getattr(withdrawal, name) for name in names}
    return values | {"fee_price": ratio_text(withdrawal.fee_price)}


def ratio_text(ratio: Ratio) -> str:
    """A ratio as it's stored: exact at any length."""
    return f"{ratio.num}/{ratio.den}"


# Rows to types


async def _one(connection: AsyncConnection, table: Table, book: str, row_id: str) -> Row[Any] | None:
    return (await connection.execute(select(table).where(table.c.book == book, table.c.id == row_id))).first()


def _page(
    table: Table, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> Select[tuple[Any, ...]]:
    query = select(table).where(table.c.book == book, table.c.owner == owner)
    if before is not None:
        query = query.where(table.c.id < before)
    if after is not None:
        query = query.where(table.c.id > after)
    order = table.c.id.asc() if after is not None else table.c.id.desc()
    return query.order_by(order).limit(max(1, min(limit, LIMIT_MAX)))


def _conversion(row: Row[Any]) -> Conversion:
    return Conversion(
        id=row.id,
        owner=row.owner,
        quote=row.quote,
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        created_at=row.created_at,
    )


def _deposit(row: Row[Any]) -> Deposit:
    return Deposit(
        id=row.id,
        owner=row.owner,
        state=DepositState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        contract=row.contract,
        chain_amount=row.chain_amount,
        sender=row.sender,
        address=row.address,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        entry=row.entry,
        seen_at=row.seen_at,
        updated_at=row.updated_at,
    )


def _withdrawal(row: Row[Any]) -> Withdrawal:
    num, den = row.fee_price.split("/")
    return Withdrawal(
        id=row.id,
        owner=row.owner,
        state=WithdrawalState(row.state),
        cancellable=row.cancellable,
        waiting_for=None if row.waiting_for is None else WaitingFor(row.waiting_for),
        reason=row.reason,
        asset=row.asset,
        network=row.network,
        address=row.address,
        amount=row.amount,
        chain_amount=row.chain_amount,
        fee_highest=row.fee_highest,
        fee=row.fee,
        fee_price=Ratio(int(num), int(den)),
        gas_limit=row.gas_limit,
        fee_wei_max=row.fee_wei_max,
        hold=row.hold,
        tx_hash=row.tx_hash,
        block_number=row.block_number,
        block_hash=row.block_hash,
        fee_wei=row.fee_wei,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
