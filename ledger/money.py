"""Amounts: integers of an asset's smallest unit inside, exact decimal strings outside. Pure; no rounding anywhere."""

import re
from dataclasses import dataclass
from enum import StrEnum

from ledger.errors import InvalidAmount

AMOUNT_END = 1 << 256
"""Every amount and every counter is below this many smallest units (the range of an EVM word)."""

SCALE_MAX = 30
"""Decimal digits that an asset may have at most."""

_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)
_LENGTH_MAX = 120
"""Characters that an amount's text may have: 78 digits of 2^256, a point, the largest scale, and a margin."""


class AssetKind(StrEnum):
    FIAT = "fiat"
    STABLECOIN = "stablecoin"
    CRYPTO = "crypto"
    POINTS = "points"


@dataclass(frozen=True, slots=True)
class Asset:
    """What is held. `scale` is the number of decimal digits of its smallest unit: USD 2, USDC 6, ETH 18."""

    code: str
    kind: AssetKind
    scale: int


def parse_amount(text: str, asset: Asset, *, param: str = "amount", least: int = 1) -> int:
    """The smallest units that a decimal string such as `"12.50"` means.

    Raises InvalidAmount for anything but plain digits with at most `asset.scale` decimals, for less than
    `least` (zero, unless that is 0), and from 2^256 on.
    """
    if not isinstance(text, str):
        raise InvalidAmount('an amount is a decimal string such as "12.50", not a number', param=param)
    found = _DECIMAL.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if found is None:
        raise InvalidAmount(
            f'{text[:40]!r} is not an amount: write digits with a point, such as "12.50"; no sign, exponent or comma',
            param=param,
        )
    whole, decimals = found.group(1), found.group(2) or ""
    if len(decimals) > asset.scale:
        raise InvalidAmount(
            f"{text} has {len(decimals)} decimals; {asset.code} has {asset.scale}, and amounts are never rounded",
            code="too_many_decimals",
            param=param,
            decimals=len(decimals),
            scale=asset.scale,
        )
    units = int(whole + decimals.ljust(asset.scale, "0"))
    if units < least:
        raise InvalidAmount("an amount must be more than zero", param=param)
    if units >= AMOUNT_END:
        raise InvalidAmount("an amount must be below 2^256 smallest units", code="amount_too_large", param=param)
    return units


def format_amount(units: int, asset: Asset) -> str:
    """The exact decimal string of `units` (negative allowed): two decimals at least where the asset has them."""
    sign, digits = ("-", str(-units)) if units < 0 else ("", str(units))
    if asset.scale == 0:
        return sign + digits
    padded = digits.rjust(asset.scale + 1, "0")
    whole, decimals = padded[: -asset.scale], padded[-asset.scale :]
    shown = decimals.rstrip("0").ljust(min(2, asset.scale), "0")
    return f"{sign}{whole}.{shown}"
