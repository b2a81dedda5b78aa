"""Exact ratios of whole numbers: what rates, prices and what rounding leaves are told in. No float is ever made.

Python's `Fraction` would do; these keep numerator and denominator as they're stored and shown.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

BASIS_POINTS = 10_000
"""Basis points in one."""

_DECIMAL = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)
_DECIMALS_MAX = 40


@dataclass(frozen=True, slots=True)
class Ratio:
    """An exact fraction `num / den`, not negative, in lowest terms when made by `ratio`."""

    num: int
    den: int

    def inverse(self) -> "Ratio":
        return Ratio(self.den, self.num)

    def times(self, other: "Ratio") -> "Ratio":
        return ratio(self.num * other.num, self.den * other.den)

    def floor_of(self, amount: int) -> int:
        """`amount` times this ratio, rounded down."""
        return amount * self.num // self.den

    def ceil_of(self, amount: int) -> int:
        """`amount` times this ratio, rounded up."""
        return -(-amount * self.num // self.den)

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.num, self.den)

    def __str__(self) -> str:
        """As it's shown: a decimal where that is exact within 40 decimals, else `num/den`."""
        return decimal_text(self) or f"{self.num}/{self.den}"


ZERO = Ratio(0, 1)


def ratio(num: int, den: int) -> Ratio:
    """`num / den` in lowest terms."""
    common = gcd(num, den)
    return Ratio(num // common, den // common)


def of_fraction(value: Fraction) -> Ratio:
    return Ratio(value.numerator, value.denominator)


def parse_decimal(text: object) -> Ratio:
    """The exact ratio that a positive decimal string means. Raises ValueError for anything else."""
    found = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'a rate is a decimal string such as "1.0842", not {text!r}')
    whole, decimals = found.group(1), found.group(2) or ""
    num = int(whole + decimals)
    if num == 0:
        raise ValueError("a rate is more than zero")
    return ratio(num, 10 ** len(decimals))


def parse_ratio(text: str) -> Ratio:
    """What `str(ratio)` or a stored `num/den` says. Raises ValueError."""
    num, slash, den = text.partition("/")
    if not slash:
        return ZERO if text == "0" else parse_decimal(text)
    return ratio(int(num), int(den))


def stored(value: Ratio) -> str:
    """As it's kept: `num/den`, exact at any length."""
    return f"{value.num}/{value.den}"


def decimal_text(value: Ratio) -> str | None:
    """The ratio as a plain decimal; None where no decimal of at most 40 places is exact."""
    twos = fives = 0
    rest = value.den
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > _DECIMALS_MAX:
        return None
    digits = str(value.num * 10**places // value.den).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits
