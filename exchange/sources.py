"""Where rates come from: the rates file, feeds over HTTP, price feed contracts on a chain."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import httpx

from base.clock import Clock
from base.nesting import is_nested_within
from exchange.agreeing import Reading
from exchange.errors import InvalidRates, SourceFailed
from exchange.rates_file import parse_rates
from exchange.ratios import of_fraction, ratio, stored

FEED_BYTES_MAX = 1024 * 1024
"""The largest answer of a feed that is read."""

NESTING_MAX = 50
"""Arrays and objects inside each other that are read."""

FEED_SECONDS = 5.0
"""Longest wait for a feed."""

_NUMBER = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_MILLISECONDS_FROM = 10**11
"""A Unix time of this or more is told in milliseconds."""


class Source(Protocol):
    """Tells rates of some pairs."""

    name: str

    async def read(self) -> list[Reading]:
        """What it says now. Raises SourceFailed, which says why."""
        ...


class FileSource:
    """A rates file (`exchange.rates_file`); its spreads and its age are of no account here, its instant is."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    async def read(self) -> list[Reading]:
        """Every pair of the file. Raises SourceFailed."""
        try:
            rates = parse_rates(self._path.read_text(encoding="utf-8"), source=self._path.name)
        except (OSError, UnicodeDecodeError, InvalidRates) as error:
            raise SourceFailed(f"the rates file {self._path.name} can't be read: {_said(error)}") from error
        return [
            Reading(self.name, pair.base, pair.quote, stored(pair.rate), rates.as_of) for pair in rates.pairs.values()
        ]


@dataclass(frozen=True, slots=True)
class FeedPair:
    """A pair in a feed's JSON: pointers (RFC 6901) to its rate and, where the feed tells it, to the rate's instant."""

    base: str
    quote: str
    rate: str
    as_of: str | None = None


class HttpFeed:
    """A feed that answers JSON. Numbers are taken by their digits, never as floats.

    `url` may hold `{base}` and `{quote}`: then each pair is asked for by itself. `secret` is (header, name of the
    environment variable that holds its value). Without an instant of its own a rate is as old as the answer.
    """

    def __init__(
        self,
        name: str,
        url: str,
        pairs: Sequence[FeedPair],
        *,
        clock: Clock,
        client: httpx.AsyncClient,
        secret: tuple[str, str] | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._pairs = pairs
        self._clock = clock
        self._client = client
        self._secret = secret

    async def read(self) -> list[Reading]:
        """Every pair of the feed; one that can't be read fails them all. Raises SourceFailed."""
        answers: dict[str, object] = {}
        found: list[Reading] = []
        for pair in self._pairs:
            url = self._url.replace("{base}", pair.base).replace("{quote}", pair.quote)
            if url not in answers:
                answers[url] = await self._ask(url)
            told = answers[url]
            rate = _number(_pointed(told, pair.rate), pair.rate)
            as_of = self._clock.now() if pair.as_of is None else _instant(_pointed(told, pair.as_of), pair.as_of)
            found.append(Reading(self.name, pair.base, pair.quote, stored(of_fraction(rate)), as_of))
        return found

    async def _ask(self, url: str) -> object:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._secret is not None:
            header, variable = self._secret
            if variable not in os.environ:
                raise SourceFailed(f"the variable {variable}, which holds the feed's key, isn't set")
            headers[header] = os.environ[variable]
        content = b""
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=FEED_SECONDS) as response:
                if response.status_code != 200:
                    raise SourceFailed(f"the feed answers status {response.status_code}")
                if (packed := response.headers.get("content-encoding", "identity")) != "identity":
                    # A little of it could be unpacked to more than this machine holds.
                    raise SourceFailed(f"the feed answers packed ({packed[:40]}), though it was asked not to")
                async for part in response.aiter_raw():
                    content += part
                    if len(content) > FEED_BYTES_MAX:
                        raise SourceFailed(f"the feed answers more than the {FEED_BYTES_MAX} bytes that are read")
            if not is_nested_within(content, NESTING_MAX):
                raise SourceFailed(f"the feed answers JSON nested deeper than {NESTING_MAX}")
            return json.loads(content, parse_float=str, parse_int=str, parse_constant=_no_constant)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceFailed(f"the feed can't be asked: {type(error).__name__}") from error
        except ValueError as error:
            raise SourceFailed("the feed answers no JSON") from error


class PriceFeed(Protocol):
    """A price feed on a chain (`chain.evm.price_feed`)."""

    async def latest(self) -> tuple[int, int, datetime]:
        """(answer, its decimals, when it was given). Raises OnebookError."""
        ...


class ChainSource:
    """Price feed contracts, one for each pair."""

    def __init__(self, name: str, feeds: Mapping[tuple[str, str], PriceFeed]) -> None:
        self.name = name
        self._feeds = feeds

    async def read(self) -> list[Reading]:
        """Every contract's answer; one that gives none fails them all. Raises SourceFailed, and what its node does."""
        found = []
        for (base, quote), feed in self._feeds.items():
            answer, decimals, as_of = await feed.latest()
            if answer <= 0:
                raise SourceFailed(f"the contract of {base}/{quote} answers {answer}, which is no price")
            found.append(Reading(self.name, base, quote, stored(ratio(answer, 10**decimals)), as_of))
        return found


def _pointed(told: object, pointer: str) -> object:
    """What a JSON pointer points at. Raises SourceFailed."""
    found = told
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise SourceFailed(f"the feed's answer has nothing at {pointer}")
    return found


def _number(told: object, pointer: str) -> Fraction:
    if not isinstance(told, str) or _NUMBER.fullmatch(told) is None:
        raise SourceFailed(f"the feed's answer has no positive number at {pointer}")
    found = Fraction(told)
    if found <= 0:
        raise SourceFailed(f"the feed's answer has zero at {pointer}")
    return found


def _instant(told: object, pointer: str) -> datetime:
    """An ISO 8601 instant with its offset, or a Unix time in seconds or milliseconds."""
    try:
        if isinstance(told, str) and _NUMBER.fullmatch(told):
            seconds = Fraction(told)
            if seconds >= _MILLISECONDS_FROM:
                seconds /= 1000
            return datetime.fromtimestamp(int(seconds), UTC)
        found = datetime.fromisoformat(told) if isinstance(told, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise SourceFailed(f"the feed's answer has no instant with an offset, nor a Unix time, at {pointer}")


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _said(error: Exception) -> str:
    return error.message if isinstance(error, InvalidRates) else str(getattr(error, "strerror", None) or "not UTF-8")
