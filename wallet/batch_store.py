"""Rows of batches and their legs, and who waits for one: the only SQL about them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Row, Text, and_, any_, exists, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as insert_once
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.observations import BlockRef
from chain.payments import Mined
from chain.status import NetworkStatus
from chain.transaction_states import Kind, State
from wallet.batch_results import LegResult
from wallet.resources import Batch, BatchOutcome, BatchState, Withdrawal
from wallet.tables import batch_legs, batches, own_gas, paid_alone, withdrawals
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_store import read_withdrawal

_UNMINED = (State.RESERVED, State.SIGNED, State.BROADCAST)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many withdrawals of an asset wait on a network, and since when the first of them."""

    count: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class BatchLeg:
    """A leg as it stands: its place from 0, its withdrawal, its result."""

    position: int
    withdrawal: Withdrawal
    result: LegResult


# Who waits


async def load_waiting(connection: AsyncConnection, book: str, network: str) -> dict[str, Waiting]:
    """By asset, the approved withdrawals on `network` that may go into a batch."""
    query = select(withdrawals.c.asset, func.count(), func.min(withdrawals.c.created_at))
    rows = await connection.execute(query.where(_waiting(book, network)).group_by(withdrawals.c.asset))
    return {asset: Waiting(count, since) for asset, count, since in rows}


async def load_candidates(
    connection: AsyncConnection, book: str, network: str, asset: str, *, limit: int
) -> list[Withdrawal]:
    """The oldest of those that wait."""
    query = select(withdrawals).where(_waiting(book, network), withdrawals.c.asset == asset)
    rows = await connection.execute(query.order_by(withdrawals.c.id).limit(limit))
    return [read_withdrawal(row) for row in rows]


async def load_alone(connection: AsyncConnection, book: str, ids: Sequence[str]) -> set[str]:
    """Those of these withdrawals that no batch takes."""
    query = select(paid_alone.c.withdrawal).where(paid_alone.c.book == book, paid_alone.c.withdrawal.in_(ids))
    return set((await connection.execute(query)).scalars())


async def pay_alone(connection: AsyncConnection, book: str, reasons: Mapping[str, str], *, now: datetime) -> None:
    """From now on no batch takes these withdrawals; why, by id."""
    rows = [
        {"book": book, "withdrawal": withdrawal, "reason": reason, "decided_at": now}
        for withdrawal, reason in reasons.items()
    ]
    if rows:
        await connection.execute(insert_once(paid_alone).values(rows).on_conflict_do_nothing())


async def load_own_among(connection: AsyncConnection, addresses: Collection[str]) -> set[str]:
    """Those of these addresses that are ours."""
    query = select(chain.addresses.c.address).where(chain.addresses.c.address.in_(addresses))
    return set((await connection.execute(query)).scalars())


# Making a batch


async def lock_gathering(connection: AsyncConnection, book: str, network: str, asset: str) -> None:
    """Let one at a time make batches of an asset; until the tx ends."""
    name = f"batch:{book}:{network}:{asset}"
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def is_unmined(connection: AsyncConnection, book: str, network: str, asset: str) -> bool:
    """Whether a batch of this asset isn't mined yet: until then nobody knows what it leaves of its allowance."""
    own = chain.transactions.c
    query = exists().where(
        batches.c.book == book,
        batches.c.network == network,
        batches.c.asset == asset,
        batches.c.state == BatchState.OPEN,
        own.book == batches.c.book,
        own.subject == batches.c.id,
        own.state.in_(_UNMINED),
    )
    return bool((await connection.execute(select(query))).scalar_one())


async def lock_approved(connection: AsyncConnection, book: str, ids: Sequence[str]) -> set[str]:
    """Those of these withdrawals that are still approved and that nobody else is at, locked until the tx ends."""
    free = (
        select(withdrawals.c.id)
        .where(withdrawals.c.book == book, withdrawals.c.id.in_(ids), withdrawals.c.state == WithdrawalState.APPROVED)
        .order_by(withdrawals.c.id)
        .with_for_update(skip_locked=True)
    )
    return set((await connection.execute(free)).scalars())


async def insert_batch(connection: AsyncConnection, book: str, batch: Batch, legs: Sequence[str]) -> None:
    """A batch that has just been made, of these withdrawals in order; of none, where a recovery adds each by itself."""
    columns = {column.name: getattr(batch, column.name) for column in batches.columns if column.name != "book"}
    await connection.execute(insert(batches).values(book=book, **columns))
    rows = [
        {"book": book, "batch": batch.id, "position": place, "withdrawal": leg, "result": LegResult.OPEN}
        for place, leg in enumerate(legs)
    ]
    if rows:
        await connection.execute(insert(batch_legs).values(rows))


async def insert_leg(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """One leg of a batch that is there."""
    await connection.execute(insert(batch_legs).values(**row))


async def leg_positions(connection: AsyncConnection, book: str, named: Sequence[str]) -> dict[str, frozenset[int]]:
    """Of those of these batches that are there, the places of their legs that are."""
    query = (
        select(batches.c.id, func.array_agg(batch_legs.c.position))
        .outerjoin(batch_legs, and_(batch_legs.c.book == batches.c.book, batch_legs.c.batch == batches.c.id))
        .where(batches.c.book == book, batches.c.id == any_(literal(list(named), ARRAY(Text))))
        .group_by(batches.c.id)
    )
    rows = await connection.execute(query)
    return {id: frozenset(place for place in places if place is not None) for id, places in rows}


async def load_batch_of(connection: AsyncConnection, book: str, withdrawal: str) -> str | None:
    """The batch that pays this withdrawal, or has paid it; None if none does."""
    leg = batch_legs.c
    mine = (leg.book == book) & (leg.withdrawal == withdrawal) & (leg.result != LegResult.GIVEN_BACK)
    return (await connection.execute(select(leg.batch).where(mine))).scalar_one_or_none()


# Following a batch


async def load_unended(
    connection: AsyncConnection, book: str, networks: Collection[str], *, after: str | None, limit: int
) -> list[Batch]:
    """Batches on these networks that haven't ended, oldest first, those after the id `after`."""
    query = select(batches).where(
        batches.c.book == book, batches.c.network.in_(networks), batches.c.state != BatchState.ENDED
    )
    if after is not None:
        query = query.where(batches.c.id > after)
    return [_batch(row) for row in await connection.execute(query.order_by(batches.c.id).limit(limit))]


async def load_legs(connection: AsyncConnection, book: str, batch: str) -> list[BatchLeg]:
    """All legs of a batch, in order."""
    query = (
        select(withdrawals, batch_legs.c.position, batch_legs.c.result)
        .join(
            batch_legs,
            and_(batch_legs.c.book == withdrawals.c.book, batch_legs.c.withdrawal == withdrawals.c.id),
        )
        .where(batch_legs.c.book == book, batch_legs.c.batch == batch)
    )
    rows = await connection.execute(query.order_by(batch_legs.c.position))
    return [BatchLeg(row.position, read_withdrawal(row), LegResult(row.result)) for row in rows]


async def set_results(
    connection: AsyncConnection, book: str, batch: str, positions: Sequence[int], result: LegResult
) -> None:
    """Open legs have this result."""
    mine = (batch_legs.c.book == book) & (batch_legs.c.batch == batch) & batch_legs.c.position.in_(positions)
    await connection.execute(
        update(batch_legs).where(mine, batch_legs.c.result == LegResult.OPEN).values(result=result)
    )


async def change_batch(
    connection: AsyncConnection, book: str, batch: Batch, *, expect: BatchState, change: Mapping[str, Any]
) -> bool:
    """Compare and set; False if its state isn't `expect` any more."""
    mine = (batches.c.book == book) & (batches.c.id == batch.id) & (batches.c.state == expect)
    return (await connection.execute(update(batches).where(mine).values(**change))).rowcount == 1


async def load_final_hash(connection: AsyncConnection, at: NetworkStatus) -> str | None:
    """The hash of the network's last final block; None before any."""
    block = chain.blocks.c
    query = select(block.block_hash).where(block.network == at.network, block.number == at.final_height)
    return (await connection.execute(query.where(~block.orphaned))).scalar_one_or_none()


async def load_block(connection: AsyncConnection, network: str, block_hash: str) -> BlockRef | None:
    """The place of a live block."""
    block = chain.blocks.c
    query = select(block.number, block.block_hash, block.parent_hash)
    row = (
        await connection.execute(query.where(block.network == network, block.block_hash == block_hash, ~block.orphaned))
    ).first()
    return None if row is None else BlockRef(row.number, row.block_hash, row.parent_hash)


# A leg under review


async def load_batch(connection: AsyncConnection, book: str, batch: str) -> Batch | None:
    """The batch with this id."""
    query = select(batches).where(batches.c.book == book, batches.c.id == batch)
    row = (await connection.execute(query)).first()
    return None if row is None else _batch(row)


async def load_signed_in(connection: AsyncConnection, book: str, withdrawal: str) -> str | None:
    """The batch whose transaction pays this withdrawal by what was signed, whatever its legs' rows say."""
    own, wanted = chain.transactions.c, {"legs": [{"subject": withdrawal}]}
    query = select(own.subject).where(own.book == book, own.kind == Kind.BATCH, own.order.contains(wanted))
    return (await connection.execute(query.order_by(own.id.desc()).limit(1))).scalar_one_or_none()


async def load_given_back(connection: AsyncConnection, batch: Batch, mined: Mined) -> list[str]:
    """The places at which the chain's record has coin that the payout contract gave back in the batch's transaction."""
    seen = chain.observations.c
    same = (seen.network == batch.network) & (seen.block_hash == mined.block_hash) & (seen.tx_hash == mined.tx_hash)
    query = select(seen.place).where(same, seen.sender == batch.via, seen.contract.is_(None), ~seen.orphaned)
    return list((await connection.execute(query.order_by(seen.place))).scalars())


# Gas of what pays nobody


@dataclass(frozen=True, slots=True)
class GasPaid:
    """A final transaction of the house for itself, and what it cost."""

    transaction: str
    kind: Kind
    network: str
    role: str
    tx_hash: str
    block_number: int
    block_hash: str
    fee_wei: int


async def load_unbooked_own(
    connection: AsyncConnection, book: str, networks: Collection[str], *, limit: int
) -> list[GasPaid]:
    """Final allowances, deployments and anchors whose gas isn't booked, oldest first."""
    own = chain.transactions.c
    known = exists().where(own_gas.c.book == book, own_gas.c.transaction_id == own.id)
    query = select(chain.transactions).where(
        own.book == book,
        own.network.in_(networks),
        own.kind.in_((Kind.ALLOWANCE, Kind.DEPLOYMENT, Kind.ANCHOR)),
        own.state.in_((State.FINAL, State.REVERTED, State.CANCELLED)),
        ~known,
    )
    rows = await connection.execute(query.order_by(own.id).limit(limit))
    return [
        GasPaid(
            transaction=row.id,
            kind=Kind(row.kind),
            network=row.network,
            role=row.sender_role,
            tx_hash=row.tx_hash,
            block_number=row.block_number,
            block_hash=row.block_hash,
            fee_wei=row.fee_wei,
        )
        for row in rows
    ]


async def note_free(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """A transaction that cost nothing has nothing to be booked."""
    await connection.execute(insert_once(own_gas).values(**row).on_conflict_do_nothing())


async def load_counts(connection: AsyncConnection, book: str, network: str) -> dict[str, int]:
    """How many batches of `network` are in each state, by name."""
    query = select(batches.c.state, func.count()).where(batches.c.book == book, batches.c.network == network)
    return {row[0]: row[1] for row in await connection.execute(query.group_by(batches.c.state))}


def _waiting(book: str, network: str) -> ColumnElement[bool]:
    """Approved withdrawals that may go into a batch."""
    mine = withdrawals.c
    alone = exists(literal(1)).where(paid_alone.c.book == mine.book, paid_alone.c.withdrawal == mine.id)
    approved = and_(mine.state == WithdrawalState.APPROVED, mine.cancelling.is_(None))
    return and_(mine.book == book, mine.network == network, approved, ~alone)


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        network=row.network,
        asset=row.asset,
        contract=row.contract,
        via=row.via,
        state=BatchState(row.state),
        outcome=None if row.outcome is None else BatchOutcome(row.outcome),
        amount=row.amount,
        cost_wei=row.cost_wei,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
