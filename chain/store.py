"""Rows of networks, blocks and what was seen in them: the only SQL about them.

Whoever writes names the epoch in which it leads and the cursor that it saw: if either has moved on, it writes nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Table, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.errors import LeadershipLost
from chain.networks import Network
from chain.observations import BlockRef, Outgoing, SeenBlock

_networks = tables.networks
_blocks = tables.blocks
_observations = tables.observations
_outgoing = tables.outgoing

_LOCK_SPACE = 0x6F62_6368
"""First half of the advisory locks' keys ("obch"); the second is a hash of what is locked."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a network was taken in. Heights are -1 before there is any such block."""

    network: str
    chain_id: int
    genesis_hash: str
    height: int
    block_hash: str | None
    head_height: int
    final_height: int
    roots_verified: bool
    halted: str | None
    halted_at: datetime | None
    epoch: int
    late: int
    """How many observations were recorded later than their blocks; all of them can be read from now on."""
    updated_at: datetime


async def try_lock(connection: AsyncConnection, name: str) -> bool:
    """Take the session lock of this name, if nobody has it; it ends with the connection, or with `unlock`."""
    asked = text("SELECT pg_try_advisory_lock(:space, hashtext(:name))")
    return bool((await connection.execute(asked, {"space": _LOCK_SPACE, "name": name})).scalar_one())


async def unlock(connection: AsyncConnection, name: str) -> None:
    """Give back the session lock of this name."""
    await connection.execute(
        text("SELECT pg_advisory_unlock(:space, hashtext(:name))"), {"space": _LOCK_SPACE, "name": name}
    )


async def followed(connection: AsyncConnection, network: str) -> Followed | None:
    """How far `network` was taken in; None if it was never looked at."""
    row = (await connection.execute(select(_networks).where(_networks.c.network == network))).first()
    if row is None:
        return None
    return Followed(
        network=row.network,
        chain_id=row.chain_id,
        genesis_hash=row.genesis_hash,
        height=row.height,
        block_hash=row.block_hash,
        head_height=row.head_height,
        final_height=row.final_height,
        roots_verified=row.roots_verified,
        halted=row.halted,
        halted_at=row.halted_at,
        epoch=row.epoch,
        late=row.late,
        updated_at=row.updated_at,
    )


async def make_known(connection: AsyncConnection, network: Network, *, genesis_hash: str, now: datetime) -> None:
    """A row for `network`, if it has none; its first block to take in is the one at `start_height`."""
    await connection.execute(
        insert(_networks)
        .values(
            network=network.name,
            chain_id=network.chain_id,
            genesis_hash=genesis_hash,
            height=network.start_height - 1,
            block_hash=None,
            head_height=-1,
            final_height=-1,
            roots_verified=False,
            epoch=0,
            updated_at=now,
        )
        .on_conflict_do_nothing()
    )


async def begin_epoch(connection: AsyncConnection, network: str, *, leader: str) -> int | None:
    """A new epoch led by `leader`: whoever led before can't write any more. None for an unknown network."""
    begun = await connection.execute(
        update(_networks)
        .where(_networks.c.network == network)
        .values(epoch=_networks.c.epoch + 1, leader=leader)
        .returning(_networks.c.epoch)
    )
    epoch: int | None = begun.scalar_one_or_none()
    return epoch


async def live_hashes(connection: AsyncConnection, network: str, *, lowest: int, highest: int) -> dict[int, str]:
    """The hashes of our live blocks between two heights, both included."""
    between = _blocks.c.number.between(lowest, highest)
    asked = select(_blocks.c.number, _blocks.c.block_hash)
    rows = await connection.execute(asked.where(_blocks.c.network == network, between, ~_blocks.c.orphaned))
    return {row.number: row.block_hash for row in rows}


async def add_blocks(
    connection: AsyncConnection, before: Followed, blocks: Sequence[SeenBlock], *, head_height: int, now: datetime
) -> Followed:
    """Take blocks in, one after another, with what was seen in them, right after the cursor; where it stands then.

    A block that was orphaned and is back is live again, at its next revision, and so is what was seen in it. Raises
    LeadershipLost.
    """
    last = blocks[-1]
    after: dict[str, Any] = {
        "height": last.ref.number,
        "block_hash": last.ref.block_hash,
        "head_height": max(head_height, last.ref.number),
        "roots_verified": all(block.verified for block in blocks),
        "updated_at": now,
    }
    await _move_cursor(connection, before, **after)
    fresh: dict[str, Any] = {"network": before.network, "orphaned": False, "revision": 1, "seen_at": now}
    await _insert_or_revive(connection, _blocks, [fresh | _header(block) for block in blocks])
    for table, rows in (
        (_observations, [fresh | _place(block) | asdict(found) for block in blocks for found in block.observations]),
        (_outgoing, [fresh | _place(block) | _sent(found) for block in blocks for found in block.outgoing]),
    ):
        await _insert_or_revive(connection, table, rows)
    await _revive_late(connection, before.network, blocks, now=now)
    return replace(before, **after)


async def _revive_late(
    connection: AsyncConnection, network: str, blocks: Sequence[SeenBlock], *, now: datetime
) -> None:
    """What was recorded of these blocks after them, before they left the chain, is live again with them."""
    c = _observations.c
    hashes = [block.ref.block_hash for block in blocks]
    gone = (c.network == network) & c.block_hash.in_(hashes) & c.orphaned & c.late.is_not(None)
    await connection.execute(
        update(_observations).where(gone).values(orphaned=False, revision=c.revision + 1, seen_at=now)
    )


def _header(block: SeenBlock) -> dict[str, Any]:
    return {
        "block_hash": block.ref.block_hash,
        "number": block.ref.number,
        "parent_hash": block.ref.parent_hash,
        "mined_at": block.mined_at,
        "base_fee_per_gas": block.base_fee_per_gas,
        "verified": block.verified,
    }


def _place(block: SeenBlock) -> dict[str, Any]:
    return {"block_hash": block.ref.block_hash, "block_number": block.ref.number}


def _sent(found: Outgoing) -> dict[str, Any]:
    return asdict(found) | {"fee_wei": found.fee_wei}


async def token_transfers(
    connection: AsyncConnection, network: str, *, lowest: int, highest: int
) -> dict[int, list[tuple[str, str, str, str, int]]]:
    """The live token transfers between two heights: (transaction, contract, sender, recipient, amount) by height."""
    c = _observations.c
    asked = select(c.block_number, c.tx_hash, c.contract, c.sender, c.recipient, c.amount)
    live = (c.network == network) & c.block_number.between(lowest, highest) & ~c.orphaned & c.contract.is_not(None)
    found: dict[int, list[tuple[str, str, str, str, int]]] = {}
    for row in await connection.execute(asked.where(live)):
        found.setdefault(row.block_number, []).append(tuple(row)[1:])
    return found


async def go_back(
    connection: AsyncConnection, before: Followed, *, height: int, block_hash: str, halted: str | None, now: datetime
) -> None:
    """Orphan the blocks above `height` with what was seen in them, the cursor going back. Raises LeadershipLost.

    `halted`: why nothing may be credited or paid from now on; a network that was halted before stays so.
    """
    halting: dict[str, Any] = {} if halted is None or before.halted else {"halted": halted, "halted_at": now}
    await _move_cursor(connection, before, height=height, block_hash=block_hash, updated_at=now, **halting)
    for table, number in (
        (_blocks, _blocks.c.number),
        (_observations, _observations.c.block_number),
        (_outgoing, _outgoing.c.block_number),
    ):
        above = (table.c.network == before.network) & (number > height) & ~table.c.orphaned
        await connection.execute(update(table).where(above).values(orphaned=True))


async def note_head(connection: AsyncConnection, before: Followed, *, head_height: int, now: datetime) -> None:
    """Remember the height that the node tells of. Raises LeadershipLost."""
    await _move_cursor(connection, before, head_height=head_height, updated_at=now)


async def raise_final(connection: AsyncConnection, before: Followed, final: BlockRef) -> None:
    """Blocks up to `final` are final, if it is a live block of ours. Never falls."""
    ours = await live_hashes(connection, before.network, lowest=final.number, highest=final.number)
    if ours.get(final.number) == final.block_hash:
        await raise_final_height(connection, before, final.number)


async def raise_final_height(connection: AsyncConnection, before: Followed, height: int) -> None:
    """Blocks up to `height` are final. Never falls."""
    rising = (_networks.c.network == before.network) & (_networks.c.epoch == before.epoch)
    await connection.execute(
        update(_networks).where(rising, _networks.c.final_height < height).values(final_height=height)
    )


async def _move_cursor(connection: AsyncConnection, before: Followed, **change: Any) -> None:
    unmoved = (
        (_networks.c.network == before.network)
        & (_networks.c.epoch == before.epoch)
        & (_networks.c.height == before.height)
        & _networks.c.block_hash.is_not_distinct_from(before.block_hash)
    )
    moved = await connection.execute(update(_networks).where(unmoved).values(**change))
    if moved.rowcount != 1:
        raise LeadershipLost(f"another follower leads network {before.network}", network=before.network)


async def _insert_or_revive(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    statement = insert(table)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={"orphaned": False, "revision": table.c.revision + 1, "seen_at": statement.excluded.seen_at},
        ),
        rows,
    )
