"""Currencies as a card provider counts them, against our assets. Pure and exact.

Beside `fiat.rails.amounts`, which converts one amount, this knows which asset a currency is, and what is peculiar about
it at a provider: Stripe counts ISK in hundredths although only whole krónur can be charged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fiat.rails.amounts import Bounds, bounds_of, from_provider, to_provider
from fiat.rails.errors import AmountNotPayable, RailMisconfigured
from ledger.money import Asset, AssetKind


@dataclass(frozen=True, slots=True)
class Counting:
    """`digits`: decimals of the unit that the API counts in. `places`: decimals that may be other than zero."""

    digits: int
    places: int


class Currencies:
    """Both ways between amounts of our fiat assets and a provider's units. Codes are ISO 4217, upper case."""

    def __init__(self, rail: str, assets: Iterable[Asset], *, usual: Counting, others: Mapping[str, Counting]) -> None:
        self._rail = rail
        self._assets = {asset.code: asset for asset in assets if asset.kind is AssetKind.FIAT and len(asset.code) == 3}
        self._usual = usual
        self._others = others

    def units(self, amount: int, code: str) -> int:
        """`amount` smallest units of asset `code` as the provider counts it. Raises AmountNotPayable."""
        asset, counting = self._asset(code), self._counting(code)
        whole = to_provider(amount, asset, digits=counting.places)
        for _ in range(counting.digits - counting.places):
            whole *= 10
        return whole

    def amount(self, units: int, currency: str) -> int:
        """The provider's `units` of `currency` (any case) in smallest units of its asset.

        Raises RailMisconfigured for a currency that is no asset here, RailCorrupt for a fraction of a smallest unit.
        """
        code = currency.upper()
        asset = self._assets.get(code)
        if asset is None:
            raise RailMisconfigured(
                f"{self._rail} has an amount in {code[:3]}, which is no asset here; add it, with the scale of ISO 4217"
            )
        return from_provider(units, asset, digits=self._counting(code).digits)

    def bounds(self, code: str, *, minimum: int = 1, maximum: int | None = None) -> Bounds:
        """What of asset `code` is carried; `minimum` and `maximum` as the provider counts. Raises AmountNotPayable."""
        counting = self._counting(code)
        return bounds_of(
            self._asset(code), digits=counting.digits, places=counting.places, minimum=minimum, maximum=maximum
        )

    def _asset(self, code: str) -> Asset:
        asset = self._assets.get(code)
        if asset is None:
            raise AmountNotPayable(
                f"{self._rail} carries no {code}: only currencies that are assets here", param="asset", asset=code
            )
        return asset

    def _counting(self, code: str) -> Counting:
        return self._others.get(code, self._usual)
