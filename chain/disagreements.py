"""Where a network's nodes tell different blocks at one height: kept as long as they do, and as a record afterwards.

While too few tell the same to go on, the network is halted: of what only some of them tell nothing is taken in, and of
what was taken in before nothing is credited or paid, since one of them may be inventing the other blocks too.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.observations import Disagreement

_rows = tables.disagreements


@dataclass(frozen=True, slots=True)
class OpenDisagreement:
    """One that lasts. `first_seen_at` is when it began, at whatever height; `found` is how it is now."""

    found: Disagreement
    first_seen_at: datetime
    last_seen_at: datetime

    def __str__(self) -> str:
        told = ", ".join(f"node {name} tells {block_hash}" for name, block_hash in self.found.told)
        return f"since {self.first_seen_at.isoformat()} its nodes disagree about block {self.found.height}: {told}"


async def open_disagreement(connection: AsyncConnection, network: str) -> OpenDisagreement | None:
    """What the nodes of `network` disagree about now, as its follower last saw it."""
    asked = select(_rows).where(_rows.c.network == network, _rows.c.ended_at.is_(None))
    row = (await connection.execute(asked)).first()
    if row is None:
        return None
    found = Disagreement(row.height, tuple(sorted(row.told.items())), row.stops)
    return OpenDisagreement(found, row.first_seen_at, row.last_seen_at)


async def note(connection: AsyncConnection, network: str, found: Disagreement, *, now: datetime) -> None:
    """They disagree like this now: a new row, or the open one brought up to date."""
    told = {"height": found.height, "told": dict(found.told), "stops": found.stops, "last_seen_at": now}
    await connection.execute(
        insert(_rows)
        .values(network=network, first_seen_at=now, **told)
        .on_conflict_do_update(index_elements=[_rows.c.network], index_where=_rows.c.ended_at.is_(None), set_=told)
    )


async def end(connection: AsyncConnection, network: str, *, now: datetime) -> None:
    """They agree again."""
    still = (_rows.c.network == network) & _rows.c.ended_at.is_(None)
    await connection.execute(update(_rows).where(still).values(ended_at=now))
