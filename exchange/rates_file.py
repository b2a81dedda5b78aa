"""The rates file: exact ratios in TOML, read again when it has changed.

    as_of = 2026-11-22T12:00:00Z
    max_age_seconds = 86400
    spread_basis_points = 50          # of what is sold; a pair may name its own
    pivot = "USD"                     # pairs that aren't listed go through it

    [[pairs]]
    base = "EUR"
    quote = "USD"
    rate = "1.0842"                   # one EUR is worth 1.0842 USD; a string, so that it is exact

No float is ever made of a rate: TOML's own numbers are refused. So are rates that contradict each other by more than
their spreads: going round would give more than was put in.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from base.clock import Clock
from exchange.errors import InvalidRates, RatesTooOld
from exchange.rates import Pair, PairName, Rates, gaining_round
from exchange.ratios import BASIS_POINTS, parse_decimal

_TOP_KEYS = frozenset({"as_of", "max_age_seconds", "spread_basis_points", "pivot", "pairs"})
_PAIR_KEYS = frozenset({"base", "quote", "rate", "spread_basis_points"})


class RatesFile:
    """Rates from a file that a person or another program replaces; each use sees the newest whole version.

    `tiers`: by pair, other spreads for users of a tier.
    """

    def __init__(self, path: Path, *, clock: Clock, tiers: Mapping[PairName, Mapping[str, int]] | None = None) -> None:
        self._path = path
        self._clock = clock
        self._tiers = tiers or {}
        self._seen: tuple[int, int] | None = None
        self._rates: Rates | None = None

    async def current(self) -> Rates:
        """The rates now. Raises InvalidRates (missing or unreadable file) and RatesTooOld."""
        rates = self.load()
        now = self._clock.now()
        if not rates.fresh_at(now):
            age = int((now - rates.as_of).total_seconds())
            if age < 0:
                raise RatesTooOld(
                    f"the rates are from {rates.as_of.isoformat()}, which is yet to come: as_of is the instant at which"
                    " they were true",
                    age_seconds=age,
                    max_age_seconds=int(rates.max_age.total_seconds()),
                )
            raise RatesTooOld(
                f"the rates are from {rates.as_of.isoformat()}, older than the {rates.max_age} they may be",
                age_seconds=age,
                max_age_seconds=int(rates.max_age.total_seconds()),
            )
        return rates

    async def at(self, when: datetime) -> Rates:
        """The rates that could be used then: the file keeps its own time's alone. Raises InvalidRates, RatesTooOld."""
        rates = self.load()
        if not rates.fresh_at(when):
            raise RatesTooOld(
                f"the file has the rates of {rates.as_of.isoformat()}, none that were good at {when.isoformat()}"
            )
        return rates

    async def snapshot(self) -> None:
        """A file has no readings of several sources."""
        return

    def load(self) -> Rates:
        """The rates in the file, however old. Raises InvalidRates."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino)
            if self._rates is None or version != self._seen:
                text = self._path.read_text(encoding="utf-8")
                self._rates = parse_rates(text, source=str(self._path), tiers=self._tiers)
                self._seen = version
        except OSError as error:
            raise InvalidRates(f"the rates file {self._path} can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InvalidRates(f"the rates file {self._path} isn't text in UTF-8") from error
        return self._rates


def parse_rates(
    text: str, *, source: str = "rates", tiers: Mapping[PairName, Mapping[str, int]] | None = None
) -> Rates:
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
    for name, own in (tiers or {}).items():
        named = name if name in pairs else name[::-1]
        if named in pairs:
            pairs[named] = replace(pairs[named], tiers=own)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    rates = Rates(f"file:{digest}", as_of.astimezone(UTC), max_age, pivot, pairs)
    if (gain := gaining_round(rates)) is not None:
        raise InvalidRates(f"{source}: exchanging {' to '.join(gain)} would give more than was put in; mend the rates")
    return rates


def _pairs(rows: object, spread: int) -> dict[PairName, Pair]:
    if not isinstance(rows, list) or not rows:
        raise ValueError("[[pairs]] is missing")
    pairs: dict[PairName, Pair] = {}
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
