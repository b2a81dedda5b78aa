"""Rates of the past, for who values what stood then: what was believed at the end of a full hour.

The last snapshot of every hour is kept for good (`snapshot_store.ids_before`); so what is told of an instant today is
told of it for ever, whatever sources and rules come later.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import tx
from exchange import snapshot_store
from exchange.agreeing import Snapshot
from exchange.rates import Pair, Rates
from exchange.ratios import parse_ratio

STALE = timedelta(days=1)
"""What was believed longer ago than this tells nothing of an instant."""


class RateHistory:
    """Tells what was believed once. `reference`: what pairs go through."""

    def __init__(self, engine: AsyncEngine, *, book: str, reference: str | None) -> None:
        self._engine = engine
        self._book = book
        self._reference = reference

    async def at(self, instant: datetime) -> Rates | None:
        """What was believed last before the full hour at or before `instant`; None if nothing was within a day."""
        hour = instant.replace(minute=0, second=0, microsecond=0)
        async with tx(self._engine) as connection:
            snapshot = await snapshot_store.latest(connection, self._book, by=hour - timedelta(microseconds=1))
        if snapshot is None or hour - snapshot.at > STALE:
            return None
        return past_rates(snapshot, hour=hour, reference=self._reference)


def past_rates(snapshot: Snapshot, *, hour: datetime, reference: str | None) -> Rates:
    """What a snapshot tells for the hour that ended at `hour`: each pair that was believed within a day before."""
    pairs = {}
    for name, believed in sorted(snapshot.believed.items()):
        base, _, quote = name.partition("/")
        if hour - believed.believed_at <= STALE:
            pairs[base, quote] = Pair(base, quote, parse_ratio(believed.rate), 0)
    return Rates(snapshot.id, snapshot.at, STALE, reference, pairs)
