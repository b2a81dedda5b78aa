"""SQL of inflows: what came to the house's own addresses, and what of it nobody has booked yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, token_store
from chain import tables as chain
from chain.coins import SURPLUS
from chain.signing import Role
from chain.transaction_states import INTERNAL, Kind
from treasury.comparison_store import arrived, of_transfer
from treasury.records import Inflow, InflowState
from treasury.sweep_states import Method, SweepState
from treasury.tables import adjustments, inflows, sweeps


@dataclass(frozen=True, slots=True)
class HouseArrival:
    """A live transfer to a house address that no transaction of ours explains and no inflow stands for."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str
    address: str
    role: str
    chain_amount: int
    version: int


async def load_house_arrivals(
    connection: AsyncConnection, book: str, network: str, *, contracts: Sequence[str | None], through: int, limit: int
) -> list[HouseArrival]:
    """Live transfers of known assets in blocks up to `through` to hot or gas addresses, oldest first.

    Of tokens what arrived, once that was measured and while nothing stops the token. Not what our own sweeps, top-ups
    and refills move, nor what the payout contract gives back of a batch.
    """
    seen, own, came = chain.observations.c, chain.addresses.c, chain.arrivals.c
    same = and_(
        inflows.c.book == book,
        inflows.c.network == seen.network,
        inflows.c.tx_hash == seen.tx_hash,
        inflows.c.place == seen.place,
    )
    version = select(func.coalesce(func.max(inflows.c.version), 0) + 1).where(same).scalar_subquery()
    ours = exists().where(
        chain.attempts.c.network == seen.network,
        chain.attempts.c.tx_hash == seen.tx_hash,
        chain.transactions.c.id == chain.attempts.c.transaction_id,
        or_(
            chain.transactions.c.kind.in_(INTERNAL),
            and_(chain.transactions.c.kind == Kind.BATCH, chain.transactions.c.recipient == seen.sender),
        ),
    )
    query = (
        select(chain.observations, own.role, version.label("version"), arrived())
        .join(chain.addresses, own.address == seen.recipient)
        .outerjoin(chain.arrivals, of_transfer())
        .where(
            seen.network == network,
            seen.block_number <= through,
            ~seen.orphaned,
            own.owner.is_(None),
            or_(*(seen.contract.is_not_distinct_from(contract) for contract in contracts)),
            ~exists().where(same, inflows.c.state == InflowState.BOOKED),
            ~ours,
            ~_swept(book),
            coin_store.counts(),
            or_(seen.contract.is_(None), came.measured_at.is_not(None)),
            token_store.trusted(seen.network, seen.contract),
            arrived() > 0,
        )
        .order_by(seen.seq)
        .limit(limit)
    )
    return [
        HouseArrival(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            address=row.recipient,
            role=row.role,
            chain_amount=row.arrived,
            version=row.version,
        )
        for row in await connection.execute(query)
    ]


def _swept(book: str) -> ColumnElement[bool]:
    """Whether an observation may be an authorised sweep of ours, which anybody can carry: booked so, or not judged yet.

    Only its owner could have signed it, so no stranger's money is taken for it.
    """
    seen, own = chain.observations.c, sweeps.c
    return exists().where(
        own.book == book,
        own.method == Method.AUTHORISATION,
        own.network == seen.network,
        own.address == seen.sender,
        own.contract == seen.contract,
        or_(
            and_(own.tx_hash == seen.tx_hash, own.place == seen.place),
            and_(
                own.chain_amount == seen.amount,
                or_(own.valid_before.is_not(None), own.state == SweepState.NEEDS_REVIEW),
                own.state.not_in([SweepState.FINAL, SweepState.DROPPED]),
            ),
        ),
    )


async def load_vanished_inflows(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Inflow]:
    """Booked inflows whose observation is orphaned: a reorganisation went below final."""
    seen = chain.observations.c
    gone = exists().where(
        seen.network == inflows.c.network,
        seen.block_hash == inflows.c.block_hash,
        seen.tx_hash == inflows.c.tx_hash,
        seen.place == inflows.c.place,
        seen.orphaned,
    )
    query = select(inflows).where(
        inflows.c.book == book, inflows.c.network == network, inflows.c.state == InflowState.BOOKED, gone
    )
    return [inflow_of(row) for row in await connection.execute(query.limit(limit))]


async def load_open_surpluses(connection: AsyncConnection, book: str, *, limit: int) -> list[Inflow]:
    """Booked surpluses of the house's that no adjustment names and traces don't tell all of, oldest first."""
    seen = chain.observations.c
    same = and_(*(seen[name] == inflows.c[name] for name in ("network", "block_hash", "tx_hash", "place")))
    named = exists().where(adjustments.c.book == inflows.c.book, adjustments.c.evidence == inflows.c.id)
    query = (
        select(inflows)
        .join(chain.observations, same)
        .where(
            inflows.c.book == book,
            inflows.c.state == InflowState.BOOKED,
            inflows.c.place.startswith(SURPLUS),
            ~named,
            coin_store.explained() < seen.amount,
        )
    )
    return [inflow_of(row) for row in await connection.execute(query.order_by(inflows.c.id).limit(limit))]


async def count_booked_inflows(connection: AsyncConnection, book: str, network: str) -> int:
    """How many inflows of `network` are booked."""
    mine = (inflows.c.book == book) & (inflows.c.network == network) & (inflows.c.state == InflowState.BOOKED)
    return int((await connection.execute(select(func.count()).select_from(inflows).where(mine))).scalar_one())


async def list_inflows(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Inflow]:
    """Inflows, newest first, those older than the id `before`."""
    query = select(inflows).where(inflows.c.book == book).order_by(inflows.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(inflows.c.id < before)
    return [inflow_of(row) for row in await connection.execute(query)]


def inflow_key(book: str, inflow: Inflow) -> dict[str, object]:
    """The columns that a rider finds this inflow's row by."""
    return {
        "book": book,
        "network": inflow.network,
        "tx_hash": inflow.tx_hash,
        "place": inflow.place,
        "version": inflow.version,
    }


def inflow_values(inflow: Inflow) -> dict[str, object]:
    """The columns of an inflow's row besides its key."""
    key = inflow_key("", inflow)
    return {column.name: getattr(inflow, column.name) for column in inflows.columns if column.name not in key}


def inflow_of(row: Row[Any]) -> Inflow:
    return Inflow(
        id=row.id,
        state=InflowState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        role=Role(row.role),
        sender=row.sender,
        address=row.address,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        source=row.source,
        booked_at=row.booked_at,
    )
