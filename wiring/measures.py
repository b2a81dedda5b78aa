"""Everything about an installation that is measured for its watchers: positions, lags, queues and breaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain.backlog import QUEUES as CHAIN_QUEUES
from chain.networks import Registry
from db.engine import tx
from db.queues import Waiting, load_waiting
from fiat.backlog import QUEUES as FIAT_QUEUES
from treasury.backlog import QUEUES as TREASURY_QUEUES
from treasury.lags import Lags, load_lags
from treasury.positions import Positions, Standing
from wallet.backlog import QUEUES as WALLET_QUEUES
from wiring.parts import Parts
from wiring.treasury import build_treasury_positions

QUEUES = tuple(chain(WALLET_QUEUES, CHAIN_QUEUES, FIAT_QUEUES, TREASURY_QUEUES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found at `at`."""

    at: datetime
    standing: Standing
    lags: Lags
    queues: Sequence[Waiting]


class Measures:
    """Measures one book. It only reads; positions of now cost one pass over the counters of all accounts."""

    def __init__(
        self, engine: AsyncEngine, *, book: str, positions: Positions, registry: Registry, clock: Clock
    ) -> None:
        self._engine = engine
        self._book = book
        self._positions = positions
        self._registry = registry
        self._clock = clock

    async def read(self) -> Measured:
        """Look at all of it. Raises Unavailable and the like of a database that can't be read."""
        standing = await self._positions.read()
        now = self._clock.now()
        async with tx(self._engine) as connection:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            lags = await load_lags(connection, self._book, self._registry.networks.values(), now=now)
            queues = await load_waiting(connection, QUEUES, self._book)
        return Measured(at=now, standing=standing, lags=lags, queues=queues)


def build_measures(parts: Parts) -> Measures:
    """Measures of this book."""
    return Measures(
        parts.engine,
        book=parts.settings.book,
        positions=build_treasury_positions(parts),
        registry=parts.registry,
        clock=parts.clock,
    )
