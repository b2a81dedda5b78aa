"""What amounts were worth in the reference asset in the past: exact until the one rounding of what is shown. Pure.

A value is rounded half to even to a smallest unit of the reference. A total of values is the exact sum, rounded once:
so totals agree with each other to the last digit, and may differ from the sum of what stands above them by less than
one unit for each row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from exchange.errors import NoRate
from exchange.rates import Rates
from exchange.ratios import decimal_text, stored
from ledger.money import Asset, format_amount


@dataclass(frozen=True, slots=True)
class Valuation:
    """Values amounts in `reference` by `rates`; without either, nothing has a value."""

    assets: Mapping[str, Asset]
    reference: Asset | None = None
    rates: Rates | None = None
    unvalued: set[str] = field(default_factory=set)
    """Assets that were to be valued and couldn't be."""

    def exact(self, amount: int, asset: str) -> Fraction | None:
        """What an amount of smallest units was worth in smallest units of the reference, exactly."""
        if self.reference is None:
            return None
        if asset == self.reference.code:
            return Fraction(amount)
        if self.rates is not None:
            try:
                return self.rates.worth(self.assets[asset], amount, self.reference)
            except NoRate:
                pass
        self.unvalued.add(asset)
        return None

    def value(self, amount: int, asset: str) -> str | None:
        """The same, rounded once, as it's shown."""
        return self.shown(self.exact(amount, asset))

    def total(self, amounts: Iterable[tuple[int, str]]) -> str | None:
        """The sum of amounts of several assets; those without a rate are left out (`unvalued` names them)."""
        if self.reference is None:
            return None
        worth = [self.exact(amount, asset) for amount, asset in amounts]
        return self.shown(sum((one for one in worth if one is not None), Fraction(0)))

    def shown(self, worth: Fraction | None) -> str | None:
        """A worth in smallest units of the reference as a decimal."""
        return None if worth is None or self.reference is None else format_amount(round(worth), self.reference)

    def rows(self, assets: Iterable[str]) -> list[tuple[str | None, ...]]:
        """The rate of each of these: what one whole was worth in whole of the reference, and of when it is."""
        if self.reference is None or self.rates is None:
            return []
        found: list[tuple[str | None, ...]] = []
        for asset in sorted(set(assets) - {self.reference.code}):
            price = self.rates.cross(asset, self.reference.code)
            if price is not None:
                rate = decimal_text(price.ratio) or stored(price.ratio)
                found.append((asset, self.reference.code, rate, self.rates.id))
        return found
