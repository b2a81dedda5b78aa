"""The settings of the exchange: `[exchange]`, its sources of rates, its spreads and its bounds."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel as PydanticModel
from pydantic import ConfigDict, Field, field_validator

from base.errors import OnebookError
from exchange.ratios import BASIS_POINTS
from ledger.money import Asset, parse_amount
from wiring.places import Path as Place

Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,11}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
Spread = Annotated[int, Field(ge=0, lt=BASIS_POINTS, strict=True)]
Pointer = Annotated[str, Field(pattern=r"^(/[^/]*)+$", max_length=200)]


class _Table(PydanticModel):
    """A table of the file: unknown keys are errors, so that a typing mistake can't be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSourceSettings(_Table):
    """A rates file. `path` is relative to the configuration's folder."""

    name: Name
    kind: Literal["file"]
    path: Path


class FeedPairSettings(_Table):
    """A pair in a feed's answer: JSON pointers (RFC 6901) to its rate and to the rate's instant."""

    base: Code
    quote: Code
    rate: Pointer
    as_of: Pointer | None = None


class HttpSourceSettings(_Table):
    """A feed over HTTP that answers JSON. `header` is sent with the value of the variable `header_variable`."""

    name: Name
    kind: Literal["http"]
    url: str = Field(pattern=r"^https?://", max_length=500)
    pairs: tuple[FeedPairSettings, ...] = Field(min_length=1)
    header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,60}$")
    header_variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]{0,60}$")

    @field_validator("url")
    @classmethod
    def _over_tls(cls, url: str) -> str:
        """Plain HTTP only to this machine: who stands between could tell any rate."""
        try:
            host = urlsplit(url).hostname
        except ValueError as error:
            raise ValueError(f"this is no URL: {error}") from error
        if url.startswith("http://") and host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("a feed is asked over https; plain http only on this machine")
        return url


class ContractPairSettings(_Table):
    """A pair that a price feed contract tells (`latestRoundData`, `decimals`)."""

    base: Code
    quote: Code
    contract: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")


class ChainSourceSettings(_Table):
    """Price feed contracts on one of the configured networks."""

    name: Name
    kind: Literal["chain"]
    network: Name
    pairs: tuple[ContractPairSettings, ...] = Field(min_length=1)


SourceSettings = Annotated[FileSourceSettings | HttpSourceSettings | ChainSourceSettings, Field(discriminator="kind")]


class PairSettings(_Table):
    """A pair's spreads, for everybody and for the users of a tier."""

    base: Code
    quote: Code
    spread_basis_points: Spread
    tiers: dict[Name, Spread] = Field(default_factory=dict)


class ExposureSettings(_Table):
    """How much of an asset the stock may come to by conversions, decimal strings."""

    asset: Code
    least: str | None = None
    most: str | None = None


class ExchangeSettings(_Table):
    """The exchange's terms. See `exchange.terms` for the meaning of each. Sizes are in `reference`, decimal strings.

    Without `sources` the rates are those of the file that `rates` names, with its own spread, age and pivot.
    """

    reference: Code | None = None
    quote_seconds: int = Field(default=30, ge=1, le=3600)
    spread_basis_points: Spread = 50
    value_min: str | None = None
    value_max: str | None = None
    every_seconds: int = Field(default=10, ge=1, le=3600)
    max_age_seconds: int = Field(default=60, ge=1, le=7 * 86400)
    sources_min: int = Field(default=1, ge=1, le=20)
    deviation_basis_points: int = Field(default=100, ge=0, le=BASIS_POINTS)
    jump_basis_points: int = Field(default=1000, ge=0, le=100 * BASIS_POINTS)
    jump_hold_seconds: int = Field(default=300, ge=0, le=86400)
    sources: tuple[SourceSettings, ...] = ()
    pairs: tuple[PairSettings, ...] = ()
    exposures: tuple[ExposureSettings, ...] = ()


def exchange_faults(
    told: ExchangeSettings, assets: Mapping[str, Asset], networks: Collection[str], where: Callable[..., str]
) -> Iterator[str]:
    """What `[exchange]` says that the rest of the file doesn't bear. `where`: file and line of a setting."""
    if told.reference is not None and told.reference not in assets:
        yield f"{where('exchange', 'reference')}: no asset {told.reference}; add it under [[assets]]"
        return
    if told.reference is None and (told.sources or told.value_min or told.value_max):
        yield f"{where('exchange')}: give a reference, through which pairs go and in which sizes are told"
        return
    yield from _amount_faults(told, assets, where)
    seen: dict[frozenset[str], int] = {}
    for number, pair in enumerate(told.pairs):
        for key in ("base", "quote"):
            if (code := getattr(pair, key)) not in assets:
                yield f"{where('exchange', 'pairs', number, key)}: no asset {code}; add it under [[assets]]"
        first = seen.setdefault(frozenset((pair.base, pair.quote)), number)
        if first != number or pair.base == pair.quote:
            yield f"{where('exchange', 'pairs', number)}: {pair.base} and {pair.quote} must be two, and once"
    names: set[str] = set()
    for number, source in enumerate(told.sources):
        if source.name in names:
            yield f"{where('exchange', 'sources', number, 'name')}: a second source named {source.name}"
        names.add(source.name)
        if isinstance(source, ChainSourceSettings) and source.network not in networks:
            known = ", ".join(sorted(networks)) or "none"
            place = where("exchange", "sources", number, "network")
            yield f"{place}: no network {source.network}; there is {known}"
        if not isinstance(source, FileSourceSettings):
            yield from _source_pair_faults(source, number, assets, where)
        if isinstance(source, HttpSourceSettings) and (source.header is None) != (source.header_variable is None):
            yield f"{where('exchange', 'sources', number)}: header and header_variable go together"
    if told.sources and told.sources_min > len(told.sources):
        count = len(told.sources)
        yield f"{where('exchange', 'sources_min')}: {told.sources_min} sources must agree, but there are {count}"


def _source_pair_faults(
    source: HttpSourceSettings | ChainSourceSettings,
    number: int,
    assets: Mapping[str, Asset],
    where: Callable[..., str],
) -> Iterator[str]:
    """A source that told a pair twice would agree with itself."""
    seen: set[frozenset[str]] = set()
    pairs: Sequence[FeedPairSettings | ContractPairSettings] = source.pairs
    for at, pair in enumerate(pairs):
        place = ("exchange", "sources", number, "pairs", at)
        for key in ("base", "quote"):
            if (code := getattr(pair, key)) not in assets:
                yield f"{where(*place, key)}: no asset {code}; add it under [[assets]]"
        named = frozenset((pair.base, pair.quote))
        if named in seen or len(named) == 1:
            yield f"{where(*place)}: {pair.base} and {pair.quote} must be two, and once in a source"
        seen.add(named)


def _amount_faults(told: ExchangeSettings, assets: Mapping[str, Asset], where: Callable[..., str]) -> Iterator[str]:
    amounts: list[tuple[Place, str | None, str | None]] = [
        (("exchange", key), getattr(told, key), told.reference) for key in ("value_min", "value_max")
    ]
    bounded: dict[str, int] = {}
    for number, one in enumerate(told.exposures):
        if bounded.setdefault(one.asset, number) != number:  # the one would hold, and the other be passed in silence
            place = where("exchange", "exposures", number, "asset")
            yield f"{place}: {one.asset} has its bounds already; write them in one table"
        if one.asset not in assets:
            yield f"{where('exchange', 'exposures', number, 'asset')}: no asset {one.asset}"
            continue
        for key in ("least", "most"):
            amounts.append((("exchange", "exposures", number, key), getattr(one, key), one.asset))
    units: dict[Place, int] = {}
    for at, text, code in amounts:
        if text is None or code is None:
            continue
        try:
            units[at] = parse_amount(text, assets[code], least=0)
        except OnebookError as fault:
            yield f"{where(*at)}: {fault.message}"
    for low, high in (("value_min", "value_max"), ("least", "most")):
        for at, most in units.items():
            if at[-1] == high and units.get((*at[:-1], low), 0) > most:
                yield f"{where(*at)}: {high} is below {low}"
