"""Exchange rates as exact ratios, parsed from a TOML text. Pure; reading the file is `exchange.rates_file`'s.

    as_of = 2026-11-22T12:00:00Z
    max_age_seconds = 86400
    spread_basis_points = 50          # of what is sold; a pair may name its own
    pivot = "USD"                     # pairs that aren't listed go through it

    [[pairs]]
    base = "EUR"
    quote = "USD"
    rate = "1.0842"                   # one EUR is worth 1.0842 USD; a string, so that it is exact

A pair serves both directions. No float is ever made of a rate: TOML's own numbers are refused. So are rates that
contradict each other by more than their spreads: going round would give more than was put in.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import permutations, product
from math import gcd

from exchange.errors import InvalidRates, NoRate
from ledger.money import Asset

BASIS_POINTS = 10_000
"""Basis points in one."""

_RATE = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)
_TOP_KEYS = frozenset({"as_of", "max_age_seconds", "spread_basis_points", "pivot", "pairs"})
_PAIR_KEYS = frozenset({"base", "quote", "rate", "spread_basis_points"})


@dataclass(frozen=True, slots=True)
class Ratio:
    """An exact positive fraction `num / den`, in lowest terms when made by `ratio`."""

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


@dataclass(frozen=True, slots=True)
class Pair:
    """What one whole `base` is worth in whole `quote`, and the spread taken when these two are exchanged."""

    base: str
    quote: str
    rate: Ratio
    spread_basis_points: int


@dataclass(frozen=True, slots=True)
class Price:
    """What one *smallest unit* of the sold asset is worth in smallest units of the bought one, before the spread."""

    ratio: Ratio
    spread_basis_points: int


@dataclass(frozen=True, slots=True)
class Rates:
    """A parsed rates file."""

    as_of: datetime
    max_age: timedelta
    spread_basis_points: int
    pivot: str | None
    pairs: Mapping[tuple[str, str], Pair]

    def fresh_at(self, now: datetime) -> bool:
        """Whether the rates may still be used."""
        return now - self.as_of <= self.max_age

    def price(self, sell: Asset, buy: Asset) -> Price:
        """The price of `sell` in `buy`: by their pair, either way round, else through the pivot.

        Through the pivot the larger of the two spreads is taken, once. Raises NoRate.
        """
        found = self.cross(sell.code, buy.code)
        if found is None or sell.code == buy.code:
            raise NoRate(f"there is no rate from {sell.code} to {buy.code}", sell=sell.code, buy=buy.code)
        units = ratio(10**buy.scale, 10**sell.scale)
        return Price(found.ratio.times(units), found.spread_basis_points)

    def cross(self, sell: str, buy: str) -> Price | None:
        """The price of one *whole* `sell` in whole `buy`, by their codes; None where there is none."""
        found = self._leg(sell, buy)
        if found is None and self.pivot is not None:
            first, second = self._leg(sell, self.pivot), self._leg(self.pivot, buy)
            if first is not None and second is not None:
                spread = max(first.spread_basis_points, second.spread_basis_points)
                found = Price(first.ratio.times(second.ratio), spread)
        return found

    def _leg(self, sell: str, buy: str) -> Price | None:
        if (pair := self.pairs.get((sell, buy))) is not None:
            return Price(pair.rate, pair.spread_basis_points)
        if (pair := self.pairs.get((buy, sell))) is not None:
            return Price(pair.rate.inverse(), pair.spread_basis_points)
        return None


def ratio(num: int, den: int) -> Ratio:
    """`num / den` in lowest terms."""
    common = gcd(num, den)
    return Ratio(num // common, den // common)


def parse_decimal(text: object) -> Ratio:
    """The exact ratio that a positive decimal string means. Raises ValueError for anything else."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'a rate is a decimal string such as "1.0842", not {text!r}')
    whole, decimals = found.group(1), found.group(2) or ""
    num = int(whole + decimals)
    if num == 0:
        raise ValueError("a rate is more than zero")
    return ratio(num, 10 ** len(decimals))


def parse_rates(text: str, *, source: str = "rates") -> Rates:
    """The rates that a TOML text (form: module docstring) declares. Raises InvalidRates, which names the place."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRates(f"{source}: {error}") from error
    try:
        _only(table, _TOP_KEYS)
        as_of = table.get("as_of")
        if not isinstance(as_of, datetime) or as_of.tzinfo is None:
            raise ValueError("as_of must be an instant with its offset, such as 2026-11-22T12:00:00Z")
        spread = _whole(table, "spread_basis_points", below=BASIS_POINTS)
        max_age = timedelta(seconds=_whole(table, "max_age_seconds", below=10**9))
        pivot = table.get("pivot")
        if pivot is not None and not isinstance(pivot, str):
            raise ValueError("pivot must be an asset's code")
        pairs = _pairs(table.get("pairs"), spread)
    except ValueError as error:
        raise InvalidRates(f"{source}: {error}") from error
    rates = Rates(as_of.astimezone(UTC), max_age, spread, pivot, pairs)
    if (gain := _gaining_round(rates)) is not None:
        raise InvalidRates(f"{source}: exchanging {' to '.join(gain)} would give more than was put in; mend the rates")
    return rates


def _gaining_round(rates: Rates) -> tuple[str, ...] | None:
    """Assets whose exchange one after another, spreads paid, ends with more of the first; None if there are none.

    Only pairs beside the pivot can contradict each other, so only their assets are looked at. The best way between
    any two is found through ever more assets between (Floyd and Warshall), exactly.
    """
    crossed = {code for pair in rates.pairs if rates.pivot not in pair for code in pair}
    codes = sorted(crossed | ({rates.pivot} if rates.pivot is not None else set()))
    best: dict[tuple[str, str], tuple[Fraction, tuple[str, ...]]] = {}
    for sell, buy in permutations(codes, 2):
        if (price := rates.cross(sell, buy)) is not None:
            kept = Fraction(BASIS_POINTS - price.spread_basis_points, BASIS_POINTS)
            best[sell, buy] = Fraction(price.ratio.num, price.ratio.den) * kept, (sell, buy)
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


def _pairs(rows: object, spread: int) -> dict[tuple[str, str], Pair]:
    if not isinstance(rows, list) or not rows:
        raise ValueError("[[pairs]] is missing")
    pairs: dict[tuple[str, str], Pair] = {}
    for number, row in enumerate(rows, start=1):
        try:
            pair = _pair(row, spread)
        except ValueError as error:
            raise ValueError(f"pair {number}: {error}") from error
        if (pair.base, pair.quote) in pairs or (pair.quote, pair.base) in pairs:
            raise ValueError(f"pair {number}: {pair.base} and {pair.quote} are listed twice")
        pairs[pair.base, pair.quote] = pair
    return pairs


def _pair(row: object, spread: int) -> Pair:
    if not isinstance(row, dict):
        raise ValueError("is no table")
    _only(row, _PAIR_KEYS)
    base, quote = row.get("base"), row.get("quote")
    if not isinstance(base, str) or not isinstance(quote, str) or base == quote:
        raise ValueError("base and quote must be two different asset codes")
    own = _whole(row, "spread_basis_points", below=BASIS_POINTS) if "spread_basis_points" in row else spread
    return Pair(base, quote, parse_decimal(row.get("rate")), own)


def _whole(table: Mapping[str, object], key: str, *, below: int) -> int:
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise ValueError(f"{key} must be a whole number from 0 to {below - 1}")
    return value


def _only(table: Mapping[str, object], known: frozenset[str]) -> None:
    if unknown := sorted(set(table) - known):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
