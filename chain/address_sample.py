"""Own addresses as the database has them, all or some at random, for who derives them once more and compares."""

from dataclasses import dataclass

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.networks import Family
from chain.signing import OwnAddress, OwnKey, Role


@dataclass(frozen=True, slots=True)
class Sample:
    """`total`: how many there are, of which `taken` were drawn; equal where these are all."""

    total: int
    taken: tuple[OwnAddress, ...]


async def draw_sample(connection: AsyncConnection, *, most: int, family: Family = Family.EVM) -> Sample:
    """All addresses, issued or in the pool, where there are at most `most`; else that many at random."""
    parts = [
        select(table.c.role, table.c.generation, table.c.key_index, table.c.address).where(table.c.family == family)
        for table in (tables.addresses, tables.address_pool)
    ]
    every = union_all(*parts).subquery()
    total = int((await connection.execute(select(func.count(literal(1))).select_from(every))).scalar_one())
    order = every.c.key_index if total <= most else func.random()
    rows = await connection.execute(select(every).order_by(order).limit(most))
    taken = (OwnAddress(OwnKey(Role(row.role), row.key_index, row.generation), row.address) for row in rows)
    return Sample(total, tuple(taken))
