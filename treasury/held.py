"""What own addresses held on chain in the past, as nodes said then: from samples that were kept."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import tx
from treasury.sample_store import newest_sample
from treasury.samples import Sample


async def held_at(engine: AsyncEngine, network: str, at: int | datetime) -> Sample | None:
    """The last final sample of a network up to a block's number, or up to an instant by the blocks' own time.

    Its `held` is by custody account, in smallest units. None: none is kept from then or before. Samples stand some
    blocks apart, and further apart the older they are: the sample says of which block it is.
    """
    async with tx(engine) as connection:
        if isinstance(at, datetime):
            return await newest_sample(connection, network, by=at, judged=True)
        return await newest_sample(connection, network, through=at, judged=True)
