"""Rows of what screening told of senders: the only SQL about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.signing import Role

_seen = tables.observations
_screenings = tables.screenings


@dataclass(frozen=True, slots=True)
class Unscreened:
    """A live transfer to a deposit address whose sender nobody was asked about."""

    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str


async def load_unscreened(
    connection: AsyncConnection, network: str, contracts: Sequence[str], *, above: int, late_above: int, limit: int
) -> list[Unscreened]:
    """The oldest of them in blocks above `above`, or told later than their blocks with a number above `late_above`; of
    the native coin and these tokens."""
    own = tables.addresses.c
    query = (
        select(_seen)
        .join(tables.addresses, own.address == _seen.c.recipient)
        .where(
            _seen.c.network == network,
            or_(_seen.c.block_number > above, _seen.c.late > late_above),
            ~_seen.c.orphaned,
            own.role == Role.DEPOSIT,
            or_(_seen.c.contract.is_(None), _seen.c.contract.in_(contracts)),
            ~exists().where(of_transfer()),
        )
        .order_by(_seen.c.seq)
        .limit(limit)
    )
    return [
        Unscreened(
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
        )
        for row in await connection.execute(query)
    ]


def of_transfer() -> Any:
    """What was told of an observation's sender, in a join."""
    return and_(*(_screenings.c[column.name] == _seen.c[column.name] for column in _screenings.primary_key))


async def insert_screenings(
    connection: AsyncConnection, network: str, told: Mapping[Unscreened, str | None], *, asked_in: str, now: datetime
) -> None:
    """Keep what was told, None where nothing is known against the sender; what another worker kept before stays."""
    rows = [
        {
            "network": network,
            "block_hash": one.block_hash,
            "tx_hash": one.tx_hash,
            "place": one.place,
            "objection": objection,
            "asked_in": asked_in,
            "screened_at": now,
        }
        for one, objection in told.items()
    ]
    await connection.execute(insert(_screenings).on_conflict_do_nothing(), rows)
