"""Rows of a chain that is gone: the only SQL about leaving it.

What stays on record keeps its network's name, flagged orphaned, as after any reorganisation. What the new chain would
collide with (nonces, own transactions, accepted tokens) goes to a name of its own, such as `local@1337/4`.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.networks import Network
from chain.observations import BlockRef
from chain.store import Followed

_networks = tables.networks
_blocks = tables.blocks
_own = tables.transactions
_attempts = tables.attempts

_SET_ASIDE = (
    *(_own, _attempts, tables.authorisations, tables.nonces, tables.tokens, tables.token_findings),
    tables.sender_findings,
)
"""Tables whose rows are one chain's alone, by columns that say nothing of which."""

_ORPHANED = (_blocks, tables.observations, tables.outgoing)


@dataclass(frozen=True, slots=True)
class OwnTraces:
    """What of ours is on a network: books with deposit addresses, and own transactions by state."""

    books: tuple[str, ...]
    transactions: dict[str, int]


async def locked(connection: AsyncConnection, network: str) -> bool:
    """Hold the network's row until the tx ends: no follower moves its cursor, no payment is reserved. False: no row."""
    asked = select(_networks.c.network).where(_networks.c.network == network).with_for_update()
    return (await connection.execute(asked)).first() is not None


async def lowest_live(connection: AsyncConnection, network: str) -> BlockRef | None:
    """The lowest block above the genesis block that counts; None if none does."""
    asked = select(_blocks).where(_blocks.c.network == network, ~_blocks.c.orphaned, _blocks.c.number > 0)
    row = (await connection.execute(asked.order_by(_blocks.c.number).limit(1))).first()
    return None if row is None else BlockRef(row.number, row.block_hash, row.parent_hash)


async def was_signed_for(connection: AsyncConnection, chain_id: int) -> bool:
    """Whether the signer was ever asked for anything on the chain with this id, under whatever name."""
    named = select(_networks.c.network).where(_networks.c.chain_id == chain_id)
    return bool((await connection.execute(select(exists().where(_attempts.c.network.in_(named))))).scalar_one())


async def own_traces(connection: AsyncConnection, network: Network) -> OwnTraces:
    """What of ours is on `network`."""
    own = tables.addresses.c
    books = select(own.book).where(own.family == network.family, own.book.is_not(None)).distinct().order_by(own.book)
    counted = select(_own.c.state, func.count()).where(_own.c.network == network.name).group_by(_own.c.state)
    return OwnTraces(
        books=tuple((await connection.execute(books)).scalars()),
        transactions={row[0]: row[1] for row in await connection.execute(counted)},
    )


async def set_aside(connection: AsyncConnection, network: str, *, under: str) -> None:
    """Own transactions, attempts, nonces and accepted tokens of `network` are on record `under` another name."""
    known = select(_networks).where(_networks.c.network == network)
    row = (await connection.execute(known)).one()
    if (await connection.execute(select(_networks.c.network).where(_networks.c.network == under))).first() is None:
        await connection.execute(insert(_networks).values({**row._mapping, "network": under}))
    for table in _SET_ASIDE:
        await connection.execute(update(table).where(table.c.network == network).values(network=under))


async def orphan_all(connection: AsyncConnection, network: str) -> None:
    """None of the network's blocks counts any more, nor what was seen in them."""
    for table in _ORPHANED:
        mine = (table.c.network == network) & ~table.c.orphaned
        await connection.execute(update(table).where(mine).values(orphaned=True))


async def change_network(connection: AsyncConnection, network: str, **columns: Any) -> None:
    """Set columns of a network's row that is `locked`."""
    await connection.execute(update(_networks).where(_networks.c.network == network).values(**columns))


async def has_transactions(connection: AsyncConnection, network: str) -> bool:
    """Whether any own transaction is on record under the network's own name."""
    return bool((await connection.execute(select(exists().where(_own.c.network == network)))).scalar_one())


def name_aside(at: Followed) -> str:
    """The name under which what a chain leaves behind stays on record: no configured network can have it."""
    return f"{at.network}@{at.chain_id}/{at.epoch}"
