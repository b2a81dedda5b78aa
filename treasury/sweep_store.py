"""Rows of sweeps and their own transactions, and what the chain's rows say of deposit addresses: the only SQL of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Row,
    Text,
    and_,
    any_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store
from chain import tables as chain
from chain.networks import Network
from chain.observations import BlockRef
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import WITHOUT_NONCE
from db.types import Amount
from ledger.requests import RequestKey
from treasury.sweep_records import Move, Sweep
from treasury.sweep_states import Method, MoveKind, MoveState, SweepState
from treasury.tables import moves, sweeps

Contract = str | None
Place = tuple[str, Contract]
"""An address, and a token or (None) the native coin."""

_ENDED = [SweepState.FINAL, SweepState.DROPPED]

# Sweeps


async def insert_sweep(
    connection: AsyncConnection, book: str, sweep: Sweep, *, request: RequestKey | None = None
) -> bool:
    """A planned sweep; False where its address has an open one, or the request has made one."""
    key, content = (request.id, request.content) if request else (None, None)
    made = await connection.execute(
        insert(sweeps)
        .values(book=book, id=sweep.id, **sweep_values(sweep), request=key, content=content)
        .on_conflict_do_nothing()
    )
    return bool(made.rowcount)


async def find_request(connection: AsyncConnection, book: str, request: str) -> tuple[str, bytes] | None:
    """(sweep, content) of what this idempotency key made."""
    query = select(sweeps.c.id, sweeps.c.content).where(sweeps.c.book == book, sweeps.c.request == request)
    row = (await connection.execute(query)).first()
    return None if row is None else (row.id, bytes(row.content))


async def load_sweep(connection: AsyncConnection, book: str, sweep: str) -> Sweep | None:
    query = select(sweeps).where(sweeps.c.book == book, sweeps.c.id == sweep)
    row = (await connection.execute(query)).first()
    return None if row is None else _sweep(row)


async def list_sweeps(
    connection: AsyncConnection, book: str, *, state: SweepState | None, before: str | None, limit: int
) -> list[Sweep]:
    """Sweeps, newest first, those older than the id `before`."""
    query = select(sweeps).where(sweeps.c.book == book)
    if state is not None:
        query = query.where(sweeps.c.state == state)
    if before is not None:
        query = query.where(sweeps.c.id < before)
    rows = await connection.execute(query.order_by(sweeps.c.id.desc()).limit(limit))
    return [_sweep(row) for row in rows]


async def load_unfinished(
    connection: AsyncConnection, book: str, *, networks: Sequence[str], after: str | None, now: datetime, limit: int
) -> list[Sweep]:
    """Open sweeps, those whose next try is due, and those whose authorisation may still be used; by id."""
    due = and_(sweeps.c.next_try_at.is_not(None), sweeps.c.next_try_at <= now)
    query = select(sweeps).where(
        sweeps.c.book == book,
        sweeps.c.network.in_(networks),
        sweeps.c.state.not_in(_ENDED),
        or_(sweeps.c.state != SweepState.UNSWEEPABLE, due, sweeps.c.valid_before.is_not(None)),
    )
    if after is not None:
        query = query.where(sweeps.c.id > after)
    return [_sweep(row) for row in await connection.execute(query.order_by(sweeps.c.id).limit(limit))]


async def unfinished_at(connection: AsyncConnection, book: str, network: str, addresses: Sequence[str]) -> list[Sweep]:
    """Sweeps of these addresses that are open, or unsweepable."""
    query = select(sweeps).where(
        sweeps.c.book == book,
        sweeps.c.network == network,
        sweeps.c.address.in_(addresses),
        sweeps.c.state.not_in(_ENDED),
    )
    return [_sweep(row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Unsweepable:
    """How many addresses of an asset can't be swept, why one of them can't, and since when."""

    network: str
    asset: str
    count: int
    reason: str
    since: datetime


async def count_unsweepable(connection: AsyncConnection, book: str) -> list[Unsweepable]:
    """By network and asset what can't be swept now."""
    own = sweeps.c
    query = (
        select(own.network, own.asset, func.count(), func.min(own.reason), func.min(own.updated_at))
        .where(own.book == book, own.state == SweepState.UNSWEEPABLE)
        .group_by(own.network, own.asset)
    )
    rows = await connection.execute(query)
    return [Unsweepable(row[0], row[1], row[2], row[3] or "refused", row[4]) for row in rows]


async def change_sweep(
    connection: AsyncConnection, book: str, sweep: Sweep, *, now: datetime, **columns: object
) -> bool:
    """Change a sweep's row unless another worker moved it on; whether it was changed."""
    mine = and_(
        sweeps.c.book == book,
        sweeps.c.id == sweep.id,
        sweeps.c.state == sweep.state,
        sweeps.c.number == sweep.number,
    )
    changed = await connection.execute(update(sweeps).where(mine).values({**columns, "updated_at": now}))
    return bool(changed.rowcount)


def sweep_values(sweep: Sweep) -> dict[str, object]:
    """The columns of a sweep's row besides its key and request."""
    beside = ("book", "id", "address", "generation", "key_index", "request", "content")
    values: dict[str, object] = {
        column.name: getattr(sweep, column.name) for column in sweeps.columns if column.name not in beside
    }
    key = sweep.address.key
    return {**values, "address": sweep.address.address, "generation": key.generation, "key_index": key.index}


# Their own transactions


async def insert_move(connection: AsyncConnection, book: str, move: Move) -> None:
    """One of our own transactions, in the tx that reserves it."""
    await connection.execute(
        insert(moves).values(
            book=book,
            id=move.id,
            kind=move.kind,
            state=move.state,
            sweep=move.sweep,
            network=move.network,
            address=move.address,
            chain_amount=move.chain_amount,
            created_at=move.created_at,
            updated_at=move.created_at,
        )
    )


async def load_move(connection: AsyncConnection, book: str, move: str) -> Move | None:
    row = (await connection.execute(select(moves).where(moves.c.book == book, moves.c.id == move))).first()
    return None if row is None else _move(row)


async def load_unbooked_moves(
    connection: AsyncConnection, book: str, *, networks: Sequence[str], after: str | None, limit: int
) -> list[Move]:
    """Moves under way or under review, by id."""
    query = select(moves).where(
        moves.c.book == book,
        moves.c.network.in_(networks),
        moves.c.state.in_([MoveState.UNDER_WAY, MoveState.NEEDS_REVIEW]),
    )
    if after is not None:
        query = query.where(moves.c.id > after)
    return [_move(row) for row in await connection.execute(query.order_by(moves.c.id).limit(limit))]


async def topping_up(connection: AsyncConnection, book: str, network: str, address: str) -> bool:
    """Whether a top-up of this address is open."""
    query = select(
        exists().where(
            moves.c.book == book,
            moves.c.network == network,
            moves.c.address == address,
            moves.c.kind == MoveKind.TOP_UP,
            moves.c.state == MoveState.UNDER_WAY,
        )
    )
    return bool((await connection.execute(query)).scalar_one())


async def change_move(connection: AsyncConnection, book: str, move: Move, state: MoveState, *, now: datetime) -> bool:
    """Set a move's state unless another worker did; whether it was set."""
    mine = and_(moves.c.book == book, moves.c.id == move.id, moves.c.state == move.state)
    changed = await connection.execute(update(moves).where(mine).values(state=state, updated_at=now))
    return bool(changed.rowcount)


async def load_refusal(connection: AsyncConnection, book: str, subject: str) -> str | None:
    """Why a transaction ended without a signature: the signer's words, or those with which it was given back."""
    own = chain.transactions.c
    query = select(own.refusal).where(own.book == book, own.subject == subject, own.state.in_(WITHOUT_NONCE))
    return (await connection.execute(query.order_by(own.id.desc()).limit(1))).scalar_one_or_none()


async def load_sent(connection: AsyncConnection, book: str, subject: str) -> str | None:
    """The hash of the latest attempt at a transaction that was signed."""
    own, tried = chain.transactions.c, chain.attempts.c
    query = (
        select(tried.tx_hash)
        .join(chain.transactions, own.id == tried.transaction_id)
        .where(own.book == book, own.subject == subject, tried.tx_hash.is_not(None))
    )
    return (await connection.execute(query.order_by(tried.attempt.desc()).limit(1))).scalar_one_or_none()


async def give_up(connection: AsyncConnection, book: str, network: str, *, reason: str, now: datetime) -> int:
    """Drop what is under way on a network whose chain is gone; how many rows."""
    open_moves = and_(moves.c.book == book, moves.c.network == network)
    under_way = moves.c.state.in_([MoveState.UNDER_WAY, MoveState.NEEDS_REVIEW])
    gone = await connection.execute(
        update(moves).where(open_moves, under_way).values(state=MoveState.DROPPED, updated_at=now)
    )
    mine = and_(sweeps.c.book == book, sweeps.c.network == network, sweeps.c.state.not_in(_ENDED))
    change = {"state": SweepState.DROPPED, "reason": reason, "waiting_for": None, "next_try_at": None}
    dropped = await connection.execute(update(sweeps).where(mine).values({**change, "updated_at": now}))
    return gone.rowcount + dropped.rowcount


# What the chain shows


@dataclass(frozen=True, slots=True)
class Seen:
    """A live transfer in a final block. `arrived` is None while nobody has measured it; amounts are chain units."""

    block: BlockRef
    tx_hash: str
    place: str
    amount: int
    arrived: int | None


async def load_transfers(
    connection: AsyncConnection,
    network: str,
    *,
    contract: Contract,
    sender: str,
    recipient: str,
    amount: int,
    through: int,
    tx_hash: str | None = None,
    since: datetime | None = None,
    is_lossy: bool = False,
) -> list[Seen]:
    """Live transfers of exactly this, in blocks up to `through`, oldest first; of one transaction, if it's named.

    `is_lossy`: the token keeps a part of each transfer, so that it may be less that is told.
    """
    seen, block, came = chain.observations.c, chain.blocks.c, chain.arrivals.c
    same_block = and_(block.network == seen.network, block.block_hash == seen.block_hash)
    measured = and_(*(came[column.name] == seen[column.name] for column in chain.arrivals.primary_key))
    query = (
        select(
            chain.observations,
            block.parent_hash,
            came.measured_at,
            func.coalesce(came.amount, seen.amount, type_=Amount()).label("came"),
        )
        .join(chain.blocks, same_block)
        .outerjoin(chain.arrivals, measured)
        .where(
            seen.network == network,
            seen.sender == sender,
            seen.recipient == recipient,
            seen.contract.is_not_distinct_from(contract),
            seen.amount.between(1, amount) if is_lossy else seen.amount == amount,
            seen.block_number <= through,
            ~seen.orphaned,
        )
    )
    if tx_hash is not None:
        query = query.where(seen.tx_hash == tx_hash)
    if since is not None:
        query = query.where(seen.seen_at >= since)
    return [
        Seen(
            BlockRef(row.block_number, row.block_hash, row.parent_hash),
            row.tx_hash,
            row.place,
            row.amount,
            row.came if contract is None or row.measured_at is not None else None,
        )
        for row in await connection.execute(query.order_by(seen.seq))
    ]


async def load_block_time(connection: AsyncConnection, network: str, height: int) -> datetime | None:
    """When the live block at a height was made, by its own word."""
    block = chain.blocks.c
    query = select(block.mined_at).where(block.network == network, block.number == height, ~block.orphaned)
    return (await connection.execute(query)).scalar_one_or_none()


async def load_deposit_addresses(
    connection: AsyncConnection, book: str, network: Network, *, after: str, limit: int
) -> list[OwnAddress]:
    """The book's deposit addresses whose text is after `after`, in that order."""
    own = chain.addresses.c
    query = select(chain.addresses).where(
        own.family == network.family, own.role == Role.DEPOSIT, own.book == book, own.address > after
    )
    return [_address(row) for row in await connection.execute(query.order_by(own.address).limit(limit))]


async def load_deposit_address(
    connection: AsyncConnection, book: str, network: Network, address: str
) -> OwnAddress | None:
    """The book's deposit address with this text."""
    own = chain.addresses.c
    query = select(chain.addresses).where(
        own.family == network.family, own.role == Role.DEPOSIT, own.book == book, own.address == address
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _address(row)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What transfers up to a block leave at an address, in chain units, and since when the oldest of it is there."""

    amount: int
    oldest_at: datetime | None


async def load_recorded(
    connection: AsyncConnection, network: str, *, addresses: Sequence[str], through: int
) -> dict[tuple[str, Contract], Recorded]:
    """Per (address, contract) what all that was seen in live blocks up to `through` comes to, where it's more than 0.

    Of tokens what arrived counts, and nothing that wasn't measured; the native coin's gas is counted off.
    """
    seen, came, sent = chain.observations.c, chain.arrivals.c, chain.outgoing.c
    mine = any_(cast(list(addresses), ARRAY(Text)))
    live = (seen.network == network, seen.block_number <= through, ~seen.orphaned)
    measured = and_(*(came[column.name] == seen[column.name] for column in chain.arrivals.primary_key))
    nothing: ColumnElement[int] = cast(literal(0), Amount())
    in_ = (
        select(
            seen.recipient.label("address"),
            seen.contract,
            func.coalesce(came.amount, seen.amount, type_=Amount()).label("gained"),
            nothing.label("lost"),
            seen.block_number.label("came_in"),
            cast(None, Integer).label("left_in"),
        )
        .outerjoin(chain.arrivals, measured)
        .where(*live, seen.recipient == mine, coin_store.counts())
        .where(or_(seen.contract.is_(None), came.measured_at.is_not(None)))
    )
    out = select(seen.sender, seen.contract, nothing, seen.amount, cast(None, Integer), seen.block_number).where(
        *live, seen.sender == mine
    )
    gas = select(sent.sender, cast(None, Text), nothing, sent.fee_wei, cast(None, Integer), cast(None, Integer)).where(
        sent.network == network, sent.block_number <= through, ~sent.orphaned, sent.sender == mine
    )
    moved = union_all(in_, out, gas).subquery().c
    last_out = func.max(moved.left_in).over(partition_by=(moved.address, moved.contract))
    lines = select(
        moved.address, moved.contract, moved.gained, moved.lost, moved.came_in, last_out.label("last_out")
    ).subquery()
    fresh = and_(lines.c.came_in.is_not(None), lines.c.came_in > func.coalesce(lines.c.last_out, -1))
    gained, lost = func.sum(lines.c.gained), func.sum(lines.c.lost)
    sums = (
        select(
            lines.c.address,
            lines.c.contract,
            gained.label("gained"),
            lost.label("lost"),
            func.min(lines.c.came_in).filter(fresh).label("since"),
        )
        .group_by(lines.c.address, lines.c.contract)
        .having(gained > lost)
        .subquery()
    )
    block = chain.blocks.alias()
    at = and_(block.c.network == network, block.c.number == sums.c.since, ~block.c.orphaned)
    rows = await connection.execute(select(sums, block.c.mined_at).outerjoin(block, at))
    return {(row.address, row.contract): Recorded(int(row.gained - row.lost), row.mined_at) for row in rows}


# Rows to types


def _sweep(row: Row[Any]) -> Sweep:
    names = Sweep.__dataclass_fields__.keys() - {"address", "state", "method"}
    return Sweep(
        **{name: getattr(row, name) for name in names},
        state=SweepState(row.state),
        method=Method(row.method),
        address=_address(row),
    )


def _address(row: Row[Any]) -> OwnAddress:
    return OwnAddress(OwnKey(Role.DEPOSIT, row.key_index, row.generation), row.address)


def _move(row: Row[Any]) -> Move:
    return Move(
        id=row.id,
        kind=MoveKind(row.kind),
        state=MoveState(row.state),
        sweep=row.sweep,
        network=row.network,
        address=row.address,
        chain_amount=row.chain_amount,
        created_at=row.created_at,
    )
