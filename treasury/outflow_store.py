"""Rows of what left own addresses without us: the only SQL about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, foreign_store, token_store
from chain import tables as chain
from ledger.riders import Advance
from treasury.comparison_store import GAS
from treasury.records import Outflow, OutflowState
from treasury.tables import outflows


@dataclass(frozen=True, slots=True)
class Departed:
    """What left an own address for good in a transaction that isn't ours, and no outflow stands for."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    address: str
    role: str
    recipient: str | None
    chain_amount: int
    version: int


async def load_departed(
    connection: AsyncConnection, book: str, network: str, *, contracts: Sequence[str | None], through: int, limit: int
) -> list[Departed]:
    """Live transfers of known assets from own addresses in blocks up to `through` that we didn't make, oldest first.

    All of them were found before, by `chain.foreign_watch`. Of tokens while nothing stops the token. Deposit addresses
    are those of the book.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = and_(
        outflows.c.book == book,
        outflows.c.network == seen.network,
        outflows.c.tx_hash == seen.tx_hash,
        outflows.c.place == seen.place,
    )
    version = select(func.coalesce(func.max(outflows.c.version), 0) + 1).where(same).scalar_subquery()
    query = (
        select(chain.observations, own.role, version.label("version"))
        .join(chain.addresses, own.address == seen.sender)
        .where(
            seen.network == network,
            seen.tx_hash.in_(foreign_store.told_by(network)),
            seen.block_number <= through,
            ~seen.orphaned,
            or_(own.book.is_(None), own.book == book),
            or_(*(seen.contract.is_not_distinct_from(contract) for contract in contracts)),
            ~exists().where(same, outflows.c.state == OutflowState.BOOKED),
            ~foreign_store.ours(seen.network, seen.tx_hash, seen.sender),
            ~foreign_store.authorised(),
            coin_store.leaves(),
            token_store.trusted(seen.network, seen.contract),
        )
        .order_by(seen.seq)
        .limit(limit)
    )
    return [
        Departed(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            address=row.sender,
            role=row.role,
            recipient=row.recipient,
            chain_amount=row.amount,
            version=row.version,
        )
        for row in await connection.execute(query)
    ]


async def load_departed_gas(
    connection: AsyncConnection, book: str, network: str, *, through: int, limit: int
) -> list[Departed]:
    """What live transactions cost own addresses in blocks up to `through` that they sent without us, oldest first."""
    sent, own = chain.outgoing.c, chain.addresses.c
    same = and_(
        outflows.c.book == book,
        outflows.c.network == sent.network,
        outflows.c.tx_hash == sent.tx_hash,
        outflows.c.place == GAS,
    )
    version = select(func.coalesce(func.max(outflows.c.version), 0) + 1).where(same).scalar_subquery()
    query = (
        select(chain.outgoing, own.role, version.label("version"))
        .join(chain.addresses, own.address == sent.sender)
        .where(
            sent.network == network,
            sent.tx_hash.in_(foreign_store.told_by(network)),
            sent.block_number <= through,
            ~sent.orphaned,
            sent.fee_wei > 0,
            or_(own.book.is_(None), own.book == book),
            ~exists().where(same, outflows.c.state == OutflowState.BOOKED),
            ~foreign_store.ours(sent.network, sent.tx_hash, sent.sender),
        )
        .order_by(sent.block_number, sent.sender, sent.nonce)
        .limit(limit)
    )
    return [
        Departed(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=GAS,
            contract=None,
            address=row.sender,
            role=row.role,
            recipient=None,
            chain_amount=row.fee_wei,
            version=row.version,
        )
        for row in await connection.execute(query)
    ]


async def load_vanished_outflows(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Outflow]:
    """Booked outflows that aren't any more: their block left the chain, or a transaction of ours explains them now."""
    o, seen, sent = outflows.c, chain.observations.c, chain.outgoing.c
    here = [(table.network == o.network) & (table.block_hash == o.block_hash) for table in (seen, sent)]
    gone = or_(
        exists().where(here[0], seen.tx_hash == o.tx_hash, seen.place == o.place, seen.orphaned),
        and_(o.place == GAS, exists().where(here[1], sent.tx_hash == o.tx_hash, sent.orphaned)),
        foreign_store.ours(o.network, o.tx_hash, o.address),
    )
    query = select(outflows).where(o.book == book, o.network == network, o.state == OutflowState.BOOKED, gone)
    return [_outflow(row) for row in await connection.execute(query.limit(limit))]


async def load_open_outflows(connection: AsyncConnection, book: str, *, limit: int) -> list[Outflow]:
    """Booked outflows that nobody has accounted for, oldest first."""
    o = outflows.c
    query = select(outflows).where(o.book == book, o.state == OutflowState.BOOKED, o.accounted_by.is_(None))
    return [_outflow(row) for row in await connection.execute(query.order_by(o.id).limit(limit))]


async def load_outflow(connection: AsyncConnection, book: str, outflow: str) -> Outflow | None:
    """The outflow with this id."""
    query = select(outflows).where(outflows.c.book == book, outflows.c.id == outflow)
    row = (await connection.execute(query)).first()
    return None if row is None else _outflow(row)


async def load_booked(
    connection: AsyncConnection, book: str, network: str, *, tx_hash: str, block_hash: str
) -> list[Outflow]:
    """What is booked to have left in one transaction in one block."""
    o = outflows.c
    query = select(outflows).where(
        o.book == book,
        o.network == network,
        o.tx_hash == tx_hash,
        o.block_hash == block_hash,
        o.state == OutflowState.BOOKED,
    )
    return [_outflow(row) for row in await connection.execute(query.order_by(o.place))]


async def list_outflows(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Outflow]:
    """Outflows, newest first, those older than the id `before`."""
    query = select(outflows).where(outflows.c.book == book).order_by(outflows.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(outflows.c.id < before)
    return [_outflow(row) for row in await connection.execute(query)]


async def count_booked_outflows(connection: AsyncConnection, book: str, network: str) -> int:
    """How many outflows of `network` are booked."""
    mine = (outflows.c.book == book) & (outflows.c.network == network) & (outflows.c.state == OutflowState.BOOKED)
    return int((await connection.execute(select(func.count()).select_from(outflows).where(mine))).scalar_one())


def outflow_key(book: str, outflow: Outflow) -> dict[str, object]:
    """The columns that a rider finds this outflow's row by."""
    return {
        "book": book,
        "network": outflow.network,
        "tx_hash": outflow.tx_hash,
        "place": outflow.place,
        "version": outflow.version,
    }


def outflow_values(outflow: Outflow) -> dict[str, object]:
    """The columns of an outflow's row besides its key."""
    key = outflow_key("", outflow)
    return {column.name: getattr(outflow, column.name) for column in outflows.columns if column.name not in key}


TABLE = outflows.name
"""What a refusal names when an outflow isn't as it was read."""


def accounted(book: str, outflow: Outflow, by: str) -> Advance:
    """The row of an outflow that an adjustment or a withdrawal accounts for; refused if it isn't open any more."""
    expect = {"state": OutflowState.BOOKED.value, "accounted_by": None}
    return Advance(outflows.name, outflow_key(book, outflow), expect, {"accounted_by": by})


def _outflow(row: Row[Any]) -> Outflow:
    return Outflow(
        id=row.id,
        state=OutflowState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        role=row.role,
        address=row.address,
        recipient=row.recipient,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        booked_at=row.booked_at,
        accounted_by=row.accounted_by,
    )
