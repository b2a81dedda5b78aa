"""The terms of the exchange: what its operator sets. Values only; `wiring` makes them of the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from exchange.rates import PairName
from exchange.ratios import BASIS_POINTS


@dataclass(frozen=True, slots=True)
class Agreement:
    """When several sources are believed.

    `sources_min` of them must have told a pair within `max_age`, none of these farther from the median than
    `deviation_basis_points`. A median farther than `jump_basis_points` from the last one that was believed is believed
    when it has stayed there for `jump_hold`; or at once where nothing was believed, and no jump told, for so long.
    """

    max_age: timedelta = timedelta(seconds=60)
    sources_min: int = 1
    deviation_basis_points: int = 100
    jump_basis_points: int = 1000
    jump_hold: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class PairTerms:
    """The spread of a pair, in basis points of what is sold, for everybody or a tier's users."""

    spread_basis_points: int
    tiers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for spread in (self.spread_basis_points, *self.tiers.values()):
            if not 0 <= spread < BASIS_POINTS:
                raise ValueError(f"a spread is a whole number from 0 to {BASIS_POINTS - 1} basis points")


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much of an asset the exchange's stock may come to by conversions, in smallest units.

    Beyond `most` the asset isn't bought from users; below `least` none is sold to them. None: no bound (below zero no
    stock ever falls).
    """

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """All of it. `reference`: the asset in which sizes and results are told; without it there are none.

    `value_min`, `value_max`: what one conversion may be worth, in smallest units of `reference`.
    """

    reference: str | None = None
    quote_life: timedelta = timedelta(seconds=30)
    spread_basis_points: int = 50
    pairs: Mapping[PairName, PairTerms] = field(default_factory=dict)
    agreement: Agreement = Agreement()
    value_min: int | None = None
    value_max: int | None = None
    exposures: Mapping[str, Exposure] = field(default_factory=dict)

    def pair(self, base: str, quote: str) -> PairTerms:
        """A pair's spreads; it serves both directions."""
        found = self.pairs.get((base, quote)) or self.pairs.get((quote, base))
        return found or PairTerms(self.spread_basis_points)

    @property
    def tier_spreads(self) -> dict[PairName, Mapping[str, int]]:
        return {name: pair.tiers for name, pair in self.pairs.items() if pair.tiers}

    def tiers(self) -> Sequence[str]:
        """Every tier that a spread names."""
        return sorted({tier for pair in self.pairs.values() for tier in pair.tiers})
