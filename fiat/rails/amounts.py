"""Amounts between our assets' smallest units and what a provider counts in. Pure, exact, both ways."""

from dataclasses import dataclass
from typing import Any

from fiat.rails.errors import AmountNotPayable, RailCorrupt
from ledger.money import Asset, format_amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a rail carries of `asset` in one payment, in its smallest units: multiples of `step` between the others.

    `maximum` None: the provider publishes none.
    """

    asset: Asset
    step: int = 1
    minimum: int = 1
    maximum: int | None = None

    def require(self, amount: int) -> None:
        """Raises AmountNotPayable, with the bounds, for an amount that the rail doesn't carry."""
        self.require_exact(amount)
        if amount < self.minimum:
            raise self._refusal(amount, f"the least that this rail takes is {self._shown(self.minimum)}")
        if self.maximum is not None and amount > self.maximum:
            raise self._refusal(amount, f"the most that this rail takes is {self._shown(self.maximum)}")

    def require_exact(self, amount: int) -> None:
        """The same for its decimals alone: a part of what was taken may be less than the least payment."""
        if amount % self.step:
            raise self._refusal(
                amount, f"{self._shown(amount)} has more than the {self.decimals} decimals that this rail takes"
            )

    @property
    def decimals(self) -> int:
        """How many an amount may have."""
        return self.asset.scale - (len(str(self.step)) - 1)

    def _refusal(self, amount: int, why: str) -> AmountNotPayable:
        facts: dict[str, Any] = {"asset": self.asset.code, "amount": amount, "minimum": self.minimum}
        if self.maximum is not None:
            facts["maximum"] = self.maximum
        return AmountNotPayable(why, param="amount", decimals=self.decimals, **facts)

    def _shown(self, amount: int) -> str:
        return f"{format_amount(amount, self.asset)} {self.asset.code}"


def bounds_of(asset: Asset, *, digits: int, places: int, minimum: int = 1, maximum: int | None = None) -> Bounds:
    """The bounds of a provider that counts in units of `digits` decimals, `places` of them other than zero.

    `minimum` and `maximum` are in the provider's units.
    """
    step = _unit(max(asset.scale - places, 0))
    up, down = _unit(max(asset.scale - digits, 0)), _unit(max(digits - asset.scale, 0))
    least = -(-minimum * up // down)
    return Bounds(
        asset=asset,
        step=step,
        minimum=-(-least // step) * step,
        maximum=None if maximum is None else maximum * up // down,
    )


def to_provider(amount: int, asset: Asset, *, digits: int) -> int:
    """`amount` (smallest units of `asset`) in a provider's units of `digits` decimals: 2 for EUR, 0 for JPY.

    Raises AmountNotPayable where it isn't a whole number of them: nothing is rounded.
    """
    if digits >= asset.scale:
        return amount * _unit(digits - asset.scale)
    unit = _unit(asset.scale - digits)
    whole, rest = divmod(amount, unit)
    if rest:
        raise AmountNotPayable(
            f"{format_amount(amount, asset)} {asset.code} has more than the {digits} decimals that this rail takes",
            param="amount",
            decimals=digits,
        )
    return whole


def from_provider(units: int, asset: Asset, *, digits: int) -> int:
    """A provider's `units` of `digits` decimals in the smallest units of `asset`. Negative stays negative.

    Raises RailCorrupt where the asset's scale can't hold it: then the asset was configured with too small a scale.
    """
    if asset.scale >= digits:
        return units * _unit(asset.scale - digits)
    unit = _unit(digits - asset.scale)
    whole, rest = divmod(units, unit)
    if rest:
        raise RailCorrupt(f"the provider has {units} units of {digits} decimals; {asset.code} has scale {asset.scale}")
    return whole


def read_decimal(text: str, asset: Asset) -> int:
    """A provider's decimal string such as PayPal's "12.30" or "-1.5" in smallest units; "1500" for JPY.

    Raises RailCorrupt for what isn't one, or has more decimals than the asset.
    """
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, part = digits.partition(".")
    part = part.rstrip("0")
    if not (whole.isascii() and whole.isdigit()) or (part and not (part.isascii() and part.isdigit())):
        raise RailCorrupt(f"the provider's amount {text[:40]!r} isn't a decimal number")
    if len(part) > asset.scale:
        raise RailCorrupt(f"the provider's amount {text[:40]!r} has more decimals than {asset.code} ({asset.scale})")
    return sign * int(whole + part.ljust(asset.scale, "0"))


def write_decimal(amount: int, asset: Asset, *, digits: int) -> str:
    """`amount` as a decimal string with exactly `digits` decimals, as PayPal takes it. Raises AmountNotPayable."""
    units = to_provider(amount, asset, digits=digits)
    if not digits:
        return str(units)
    whole, part = divmod(units, _unit(digits))
    return f"{whole}.{part:0{digits}}"


def _unit(digits: int) -> int:
    return int("1" + "0" * digits)
