"""Rates and readings for tests."""

from datetime import UTC, datetime, timedelta

from exchange.rates import Pair, Rates
from exchange.ratios import ratio

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def rates_at(now: datetime, *pairs: Pair, pivot: str | None = "USD", max_age: int = 60) -> Rates:
    """Rates of these pairs, told now."""
    named = {(pair.base, pair.quote): pair for pair in pairs}
    return Rates("test", now, timedelta(seconds=max_age), pivot, named)


def pair(base: str, quote: str, cents: int, spread: int = 0, **tiers: int) -> Pair:
    """A pair with its rate in hundredths."""
    return Pair(base, quote, ratio(cents, 100), spread, tiers)
