"""Rows of traces, balances and surpluses of the native coin: the only SQL about them.

All that writes them holds the network's row, so that two workers can't account for the same coins twice, and no block
leaves the chain in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, cast, exists, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.coins import SHORTAGE, SURPLUS
from chain.networks import Family
from chain.observations import BlockRef, Observation
from db.types import Amount

_seen = tables.observations
_blocks = tables.blocks
_balances = tables.coin_balances
_surpluses = tables.surpluses
_networks = tables.networks


def counts() -> ColumnElement[bool]:
    """In a query of `chain_observations`: it counts by itself, since no live surplus counts it already."""
    over = tables.observations.alias("over")
    live = exists().where(
        over.c.network == _seen.c.network,
        over.c.block_hash == _seen.c.attached_to,
        over.c.tx_hash == _seen.c.attached_to,
        over.c.place == literal(SURPLUS).concat(_seen.c.recipient),
        ~over.c.orphaned,
    )
    return or_(_seen.c.attached_to.is_(None), ~live)


def leaves() -> ColumnElement[bool]:
    """In a query of `chain_observations`: it lessens what its sender has, since no live shortage does already.

    A shortage tells of all that is missing when an address is looked at; a trace of the same coins that's told later
    takes nothing more.
    """
    short, lacking = tables.surpluses.alias("short"), tables.observations.alias("lacking")
    told_before = exists().where(
        short.c.network == _seen.c.network,
        short.c.address == _seen.c.sender,
        short.c.since < _seen.c.block_number,
        short.c.block_number >= _seen.c.block_number,
        lacking.c.network == short.c.network,
        lacking.c.block_hash == short.c.block_hash,
        lacking.c.tx_hash == short.c.block_hash,
        lacking.c.place == literal(SHORTAGE).concat(short.c.address),
        lacking.c.late < _seen.c.late,
        ~lacking.c.orphaned,
    )
    return or_(_seen.c.late.is_(None), ~told_before)


def explained() -> ColumnElement[int]:
    """In a query of `chain_observations`: wei of a surplus that traces told later tell of."""
    told = tables.observations.alias("told")
    return (
        select(func.coalesce(func.sum(told.c.amount), 0, type_=Amount()))
        .where(
            told.c.network == _seen.c.network,
            told.c.recipient == _seen.c.recipient,
            told.c.attached_to == _seen.c.block_hash,
            ~told.c.orphaned,
        )
        .scalar_subquery()
    )


@dataclass(frozen=True, slots=True)
class Looked:
    """An own address, and what it held when it was last looked at: nothing at block -1, if it never was."""

    address: str
    block_number: int
    block_hash: str | None
    balance: int


@dataclass(frozen=True, slots=True)
class OpenSurplus:
    """A live surplus that traces don't tell all of. It came after block `since`."""

    address: str
    since: int
    block_number: int
    balance: int
    amount: int


async def lock(connection: AsyncConnection, network: str) -> None:
    """Let one tx at a time account for the network's coins while the follower waits; until the tx ends."""
    row = select(_networks.c.network).where(_networks.c.network == network)
    await connection.execute(row.with_for_update(key_share=True))


async def load_looked(
    connection: AsyncConnection, network: str, family: Family, *, after: str = "", limit: int
) -> list[Looked]:
    """Deposit addresses after `after`, in the order of their text, as they were last looked at."""
    own = tables.addresses.c
    page = select(own.address).where(own.family == family, own.owner.is_not(None), own.address > after)
    return await _looked(connection, network, page.order_by(own.address).limit(limit))


async def load_looked_house(connection: AsyncConnection, network: str, family: Family) -> list[Looked]:
    """The house's own addresses, as they were last looked at."""
    own = tables.addresses.c
    return await _looked(connection, network, select(own.address).where(own.family == family, own.owner.is_(None)))


async def load_looked_at(connection: AsyncConnection, network: str, addresses: Sequence[str]) -> dict[str, Looked]:
    """These addresses as they were last looked at. What was seen in a block that left the chain isn't believed."""
    page = select(func.unnest(cast(list(addresses), ARRAY(Text))).label("address"))
    return {one.address: one for one in await _looked(connection, network, page)}


async def _looked(connection: AsyncConnection, network: str, page: Any) -> list[Looked]:
    asked = page.subquery()
    live = and_(_blocks.c.network == network, _blocks.c.block_hash == _balances.c.block_hash, ~_blocks.c.orphaned)
    query = (
        select(asked.c.address, _balances.c.block_number, _balances.c.block_hash, _balances.c.balance, _blocks.c.number)
        .select_from(asked)
        .outerjoin(_balances, and_(_balances.c.network == network, _balances.c.address == asked.c.address))
        .outerjoin(_blocks, live)
        .order_by(asked.c.address)
    )
    return [
        Looked(row.address, -1, None, 0)
        if row.number is None
        else Looked(row.address, row.block_number, row.block_hash, row.balance)
        for row in await connection.execute(query)
    ]


_MOVED = text(
    """
WITH asked AS (
    SELECT * FROM unnest(CAST(:addresses AS text[]), CAST(:since AS bigint[]), CAST(:through AS bigint[]))
        AS a(address, since, through)
), counted AS (
    SELECT o.* FROM chain_observations o
    WHERE o.network = :network AND NOT o.orphaned AND o.contract IS NULL
)
SELECT
    coalesce((SELECT sum(o.amount) FROM counted o
        WHERE o.recipient = a.address AND o.block_number > a.since AND o.block_number <= a.through
          AND (o.attached_to IS NULL OR NOT EXISTS (SELECT 1 FROM chain_observations s
            WHERE s.network = :network AND s.block_hash = o.attached_to AND s.tx_hash = o.attached_to
              AND s.place = :surplus || o.recipient AND NOT s.orphaned))), 0)
  - coalesce((SELECT sum(o.amount) FROM counted o
        WHERE o.sender = a.address AND o.block_number > a.since AND o.block_number <= a.through
          AND (o.late IS NULL OR NOT EXISTS (SELECT 1 FROM chain_surpluses s JOIN chain_observations l
            ON l.network = s.network AND l.block_hash = s.block_hash AND l.tx_hash = s.block_hash
              AND l.place = :shortage || s.address AND NOT l.orphaned AND l.late < o.late
            WHERE s.network = :network AND s.address = o.sender AND s.since < o.block_number
              AND s.block_number >= o.block_number))), 0)
  - coalesce((SELECT sum(g.fee_wei) FROM chain_outgoing g
        WHERE g.network = :network AND NOT g.orphaned AND g.sender = a.address
          AND g.block_number > a.since AND g.block_number <= a.through), 0) AS moved
FROM asked a
"""
)


async def moved(connection: AsyncConnection, network: str, asked: Sequence[tuple[str, int, int]]) -> list[int]:
    """What is recorded to have come to each (address, after block, through block), less what left it and gas; wei."""
    rows = await connection.execute(
        _MOVED,
        {
            "network": network,
            "surplus": SURPLUS,
            "shortage": SHORTAGE,
            "addresses": [address for address, _, _ in asked],
            "since": [since for _, since, _ in asked],
            "through": [through for _, _, through in asked],
        },
    )
    return [int(row.moved) for row in rows]


async def recorded_in(
    connection: AsyncConnection, network: str, block_hash: str, *, but: Sequence[Observation], own: Sequence[str]
) -> dict[str, int]:
    """What the block is recorded to have brought each own address, less what it took; wei. Surpluses don't count, nor
    the observations at the places of `but`."""
    left_out = {(one.tx_hash, one.place) for one in but}
    found = dict.fromkeys(own, 0)
    native = (_seen.c.network == network) & (_seen.c.block_hash == block_hash) & _seen.c.contract.is_(None)
    for row in await connection.execute(select(_seen).where(native, ~_seen.c.place.startswith(SURPLUS))):
        if (row.tx_hash, row.place) not in left_out:
            for address, amount in ((row.recipient, row.amount), (row.sender, -row.amount)):
                if address in found:
                    found[address] += amount
    gas = tables.outgoing.c
    paid = select(gas.sender, gas.fee_wei).where(gas.network == network, gas.block_hash == block_hash)
    for row in await connection.execute(paid):
        if row.sender in found:
            found[row.sender] -= row.fee_wei
    return found


async def issued(connection: AsyncConnection, family: Family, addresses: Sequence[str]) -> dict[str, datetime]:
    """Those of these addresses that are ours, and since when."""
    own = tables.addresses.c
    query = select(own.address, own.issued_at).where(own.family == family, own.address.in_(addresses))
    return {row.address: row.issued_at for row in await connection.execute(query)}


async def load_untraced(
    connection: AsyncConnection, network: str, *, above: int, limit: int
) -> list[tuple[BlockRef, datetime]]:
    """Live blocks above a height of which no node was asked for traces, the lowest first, and when they were mined."""
    b = _blocks.c
    query = select(_blocks).where(b.network == network, ~b.orphaned, b.number > above, b.traced.is_(None))
    rows = await connection.execute(query.order_by(b.number).limit(limit))
    return [(BlockRef(row.number, row.block_hash, row.parent_hash), row.mined_at) for row in rows]


async def first_traced(connection: AsyncConnection, network: str) -> int | None:
    """The lowest live block of which a node was asked for traces."""
    b = _blocks.c
    query = select(b.number).where(b.network == network, ~b.orphaned, b.traced.is_not(None))
    return (await connection.execute(query.order_by(b.number).limit(1))).scalar_one_or_none()


async def load_blocks(
    connection: AsyncConnection, network: str, numbers: Sequence[int]
) -> dict[int, tuple[BlockRef, datetime]]:
    """The live blocks at these heights, and when they were mined."""
    b = _blocks.c
    rows = await connection.execute(select(_blocks).where(b.network == network, ~b.orphaned, b.number.in_(numbers)))
    return {row.number: (BlockRef(row.number, row.block_hash, row.parent_hash), row.mined_at) for row in rows}


async def add_traces(
    connection: AsyncConnection,
    network: str,
    block: BlockRef,
    found: Sequence[Observation],
    *,
    told: bool,
    now: datetime,
) -> int:
    """Record a live block's inner transfers, each once, and that it was asked for; how many are new.

    Each is attached to the surplus that counts it already. A block that has left the chain gets nothing.
    """
    await lock(connection, network)
    if not await is_live(connection, network, block.block_hash):
        return 0
    here = (_blocks.c.network == network) & (_blocks.c.block_hash == block.block_hash)
    await connection.execute(update(_blocks).where(here).values(traced=told))
    known = select(_seen.c.tx_hash, _seen.c.place).where(
        _seen.c.network == network, _seen.c.block_hash == block.block_hash
    )
    before = {(row.tx_hash, row.place) for row in await connection.execute(known)}
    new = [one for one in found if (one.tx_hash, one.place) not in before]
    for one in new:
        over = select(_surpluses.c.block_hash).where(
            _surpluses.c.network == network,
            _surpluses.c.address == one.recipient,
            _surpluses.c.since < block.number,
            _surpluses.c.block_number >= block.number,
            exists().where(
                _blocks.c.network == network, _blocks.c.block_hash == _surpluses.c.block_hash, ~_blocks.c.orphaned
            ),
        )
        covered = (await connection.execute(over.order_by(_surpluses.c.block_number).limit(1))).scalar_one_or_none()
        await _add_late(connection, network, block, one, now=now, attached_to=covered)
    return len(new)


async def account_for(
    connection: AsyncConnection,
    network: str,
    before: Looked,
    block: BlockRef,
    *,
    balance: int,
    untold: Observation | None,
    now: datetime,
) -> bool:
    """What came to an address up to a final block is accounted for, with what is too much there, or too little.

    In the lock. `untold` is the surplus or shortage.

    False, and nothing is written, if another worker has looked since, or the block has left the chain.
    """
    known = await load_looked_at(connection, network, [before.address])
    if known[before.address] != before or not await is_live(connection, network, block.block_hash):
        return False
    row = {"block_number": block.number, "block_hash": block.block_hash, "balance": balance}
    await connection.execute(
        insert(_balances)
        .values(network=network, address=before.address, **row)
        .on_conflict_do_update(index_elements=[_balances.c.network, _balances.c.address], set_=row)
    )
    if untold is not None:
        where = {"network": network, "block_hash": block.block_hash, "address": before.address}
        await connection.execute(
            insert(_surpluses).values(
                **where, block_number=block.number, since=before.block_number, balance=balance, found_at=now
            )
        )
        await _add_late(connection, network, block, untold, now=now, attached_to=None)
    return True


async def load_open_surpluses(connection: AsyncConnection, network: str, *, limit: int) -> list[OpenSurplus]:
    """Live surpluses that traces don't tell all of, the newest first."""
    s = _surpluses.c
    query = (
        select(_surpluses, _seen.c.amount)
        .join(
            _seen,
            and_(
                _seen.c.network == s.network,
                _seen.c.block_hash == s.block_hash,
                _seen.c.tx_hash == s.block_hash,
                _seen.c.place == literal(SURPLUS).concat(s.address),
            ),
        )
        .where(s.network == network, ~_seen.c.orphaned, explained() < _seen.c.amount)
        .order_by(s.block_number.desc())
        .limit(limit)
    )
    return [
        OpenSurplus(row.address, row.since, row.block_number, row.balance, row.amount)
        for row in await connection.execute(query)
    ]


async def is_live(connection: AsyncConnection, network: str, block_hash: str) -> bool:
    """Whether the block is live; in the lock it stays so."""
    live = (_blocks.c.network == network) & (_blocks.c.block_hash == block_hash) & ~_blocks.c.orphaned
    return (await connection.execute(select(_blocks.c.number).where(live))).first() is not None


async def _add_late(
    connection: AsyncConnection,
    network: str,
    block: BlockRef,
    found: Observation,
    *,
    now: datetime,
    attached_to: str | None,
) -> None:
    """Numbered under the network's lock: whoever has seen a number has seen all lower ones."""
    counting = update(_networks).where(_networks.c.network == network).values(late=_networks.c.late + 1)
    late = (await connection.execute(counting.returning(_networks.c.late))).scalar_one()
    row: Mapping[str, Any] = {
        "network": network,
        "block_hash": block.block_hash,
        "block_number": block.number,
        "orphaned": False,
        "revision": 1,
        "seen_at": now,
        "late": late,
        "attached_to": attached_to,
    }
    await connection.execute(insert(_seen).values(**row, **asdict(found)))
