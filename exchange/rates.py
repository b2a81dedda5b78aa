"""Exchange rates as exact ratios, at one moment: of single pairs, and of any two assets through the pivot. Pure.

A pair serves both directions. What isn't listed goes through the pivot, with the larger of the two spreads, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import permutations, product
from typing import Protocol

from exchange.errors import NoRate, RateUnavailable
from exchange.pricing import Price
from exchange.ratios import BASIS_POINTS, Ratio, ratio
from ledger.money import Asset

AHEAD = timedelta(seconds=30)
"""How far in the future the instant of rates may lie: clocks differ."""

PairName = tuple[str, str]
"""Base and quote: codes of assets."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What one whole `base` is worth in whole `quote`, and the spread taken when these two are exchanged.

    `tiers`: other spreads for users of these tiers.
    """

    base: str
    quote: str
    rate: Ratio
    spread_basis_points: int
    tiers: Mapping[str, int] = field(default_factory=dict)

    def spread_for(self, tier: str | None) -> int:
        return self.spread_basis_points if tier is None else self.tiers.get(tier, self.spread_basis_points)


class RateSource(Protocol):
    """Where those who value something get the rates from."""

    async def current(self) -> "Rates":
        """The rates now. Raises InvalidRates and RatesTooOld."""
        ...


class Doubt(StrEnum):
    """Why nobody knows a pair's rate now."""

    STALE = "stale"
    """Too few sources have told it lately."""
    DEVIATING = "deviating"
    """Too few sources agree."""
    JUMPED = "jumped"
    """It's far from where it was, and hasn't been there for long enough to be believed."""
    CONTRADICTING = "contradicting"
    """Exchanging round through other pairs would give more than was put in."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A pair whose rate isn't known now: why, and what explains it (ages in seconds, rates as text)."""

    doubt: Doubt
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one moment. `id` names them, so that what was computed with them can be computed again.

    `as_of` is the oldest that is in them; `unknown` are pairs that would be here if their sources agreed.
    """

    id: str
    as_of: datetime
    max_age: timedelta
    pivot: str | None
    pairs: Mapping[PairName, Pair]
    unknown: Mapping[PairName, Unknown] = field(default_factory=dict)

    def fresh_at(self, now: datetime) -> bool:
        """Whether the rates may be used: neither too old nor from the future, where they'd never grow old."""
        return -AHEAD <= now - self.as_of <= self.max_age

    def price(self, sell: Asset, buy: Asset, *, tier: str | None = None) -> Price:
        """The price of `sell` in `buy`: by their pair, either way round, else through the pivot.

        Raises NoRate, and RateUnavailable where sources are missing or disagree.
        """
        found = None if sell.code == buy.code else self.cross(sell.code, buy.code, tier=tier)
        if found is None:
            self._refuse_unknown(sell.code, buy.code)
            raise NoRate(f"there is no rate from {sell.code} to {buy.code}", sell=sell.code, buy=buy.code)
        units = ratio(10**buy.scale, 10**sell.scale)
        return Price(found.ratio.times(units), found.spread_basis_points)

    def cross(self, sell: str, buy: str, *, tier: str | None = None) -> Price | None:
        """The price of one *whole* `sell` in whole `buy`, by their codes; None where there is none."""
        found = self._leg(sell, buy, tier)
        if found is None and self._unknown(sell, buy) is None and self.pivot is not None:
            first, second = self._leg(sell, self.pivot, tier), self._leg(self.pivot, buy, tier)
            if first is not None and second is not None:
                spread = max(first.spread_basis_points, second.spread_basis_points)
                found = Price(first.ratio.times(second.ratio), spread)
        return found

    def worth(self, asset: Asset, amount: int, reference: Asset) -> Fraction:
        """What `amount` is worth in smallest units of `reference`, exactly, without spread. Raises as `price`."""
        if asset.code == reference.code:
            return Fraction(amount)
        return amount * self.price(asset, reference).ratio.fraction

    def _leg(self, sell: str, buy: str, tier: str | None) -> Price | None:
        if (pair := self.pairs.get((sell, buy))) is not None:
            return Price(pair.rate, pair.spread_for(tier))
        if (pair := self.pairs.get((buy, sell))) is not None:
            return Price(pair.rate.inverse(), pair.spread_for(tier))
        return None

    def _unknown(self, sell: str, buy: str) -> tuple[PairName, Unknown] | None:
        for name in ((sell, buy), (buy, sell)):
            if name in self.unknown:
                return name, self.unknown[name]
        return None

    def _refuse_unknown(self, sell: str, buy: str) -> None:
        legs = [(sell, buy)] if self.pivot is None else [(sell, buy), (sell, self.pivot), (self.pivot, buy)]
        for leg in legs:
            if (found := self._unknown(*leg)) is not None:
                (base, quote), why = found
                words = f"the rate of {base} in {quote} isn't known now: {_WORDS[why.doubt]}"
                refusal = RateUnavailable(words, pair=f"{base}/{quote}", doubt=why.doubt.value)
                refusal.facts |= why.facts
                raise refusal


_WORDS = {
    Doubt.STALE: "too few of its sources have told it lately",
    Doubt.DEVIATING: "too few of its sources agree",
    Doubt.JUMPED: "it moved further than it may at once; it's believed once it has stayed there",
    Doubt.CONTRADICTING: "it contradicts the rates of other pairs",
}


def gaining_round(rates: Rates) -> tuple[str, ...] | None:
    """Assets whose exchange one after another, spreads paid, ends with more of the first; None if there are none.

    Only pairs beside the pivot can contradict each other, so only their assets are looked at. The best way between
    any two is found through ever more assets between (Floyd and Warshall), exactly, at the smallest spread of any tier.
    """
    crossed = {code for pair in rates.pairs if rates.pivot not in pair for code in pair}
    codes = sorted(crossed | ({rates.pivot} if rates.pivot is not None else set()))
    best: dict[PairName, tuple[Fraction, tuple[str, ...]]] = {}
    tiers = [None, *sorted({tier for pair in rates.pairs.values() for tier in pair.tiers})]
    for sell, buy in permutations(codes, 2):
        prices = [price for tier in tiers if (price := rates.cross(sell, buy, tier=tier)) is not None]
        if prices:
            kept = Fraction(BASIS_POINTS - min(price.spread_basis_points for price in prices), BASIS_POINTS)
            best[sell, buy] = prices[0].ratio.fraction * kept, (sell, buy)
    for middle in codes:
        for sell, buy in product(codes, repeat=2):
            if (sell, middle) not in best or (middle, buy) not in best:
                continue
            (first, way), (second, onward) = best[sell, middle], best[middle, buy]
            if (sell, buy) not in best or first * second > best[sell, buy][0]:
                best[sell, buy] = first * second, way + onward[1:]
            if sell == buy and best[sell, buy][0] > 1:
                return best[sell, buy][1]
    return None
