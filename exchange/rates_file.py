"""The rates file on disk: read again when it has changed. What it means is `exchange.rates`."""

from pathlib import Path

from base.clock import Clock
from exchange.errors import InvalidRates, RatesTooOld
from exchange.rates import Rates, parse_rates


class RatesFile:
    """Rates from a file that a person or another program replaces; each use sees the newest whole version."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._rates: Rates | None = None

    def current(self) -> Rates:
        """The rates now. Raises InvalidRates (missing or unreadable file) and RatesTooOld."""
        rates = self._load()
        now = self._clock.now()
        if not rates.fresh_at(now):
            age = int((now - rates.as_of).total_seconds())
            raise RatesTooOld(
                f"the rates are from {rates.as_of.isoformat()}, older than the {rates.max_age} they may be",
                age_seconds=age,
                max_age_seconds=int(rates.max_age.total_seconds()),
            )
        return rates

    def _load(self) -> Rates:
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino)
            if self._rates is None or version != self._seen:
                self._rates = parse_rates(self._path.read_text(encoding="utf-8"), source=str(self._path))
                self._seen = version
        except OSError as error:
            raise InvalidRates(f"the rates file {self._path} can't be read: {error.strerror}") from error
        return self._rates
