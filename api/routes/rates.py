"""The exchange, for the treasurer: which rates are believed and why others aren't, and what the house holds by it."""

from typing import Any

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant, maybe_instant, money
from api.auth import caller
from api.door import resource
from api.parts import Parts, assets_of
from exchange.agreeing import Snapshot
from exchange.position import FINE
from exchange.positions import Exposed
from exchange.rates import Rates
from exchange.ratios import parse_ratio, ratio
from identity.scopes import Scope
from ledger.money import Asset

router = resource("treasury")


class PairView(TypedDict):
    """`rate`: what one whole `base` is worth in whole `quote`, exactly: a decimal, or a fraction `num/den`."""

    base: str
    quote: str
    rate: str
    spread_basis_points: int
    tiers: dict[str, int]


class DoubtView(TypedDict):
    """Why a pair's rate isn't known; `facts` are the numbers."""

    base: str
    quote: str
    doubt: str
    facts: dict[str, Any]


class ReadingView(TypedDict):
    source: str
    base: str
    quote: str
    rate: str
    as_of: str


class RatesView(TypedDict):
    """`id` is what quotes name as their `rates`. Without several sources there are no readings."""

    id: str
    as_of: str
    asked_at: str | None
    pivot: str | None
    pairs: list[PairView]
    unknown: list[DoubtView]
    readings: list[ReadingView]
    failed: dict[str, str]


class ExposureView(TypedDict):
    """An asset of the exchange. `cost`, `value`, results and `earned` are in `reference`, to a thousandth of its unit.

    `average_cost` is what one whole of the asset had cost, exactly. `value` is null where nobody knows the rate.
    """

    asset: str
    reference: str
    quantity: str
    cost: str
    average_cost: str | None
    value: str | None
    realised: str
    unrealised: str | None
    earned: str
    least: str | None
    most: str | None


class ExposureList(TypedDict):
    items: list[ExposureView]
    has_more: bool


@router.get(
    "/treasury/rates",
    response_model=RatesView,
    summary="Rates: what is believed, what every source said",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_rates(parts: Parts) -> Response:
    return answer(rates_view(await parts.rates.current(), await parts.rates.snapshot()))


@router.get(
    "/treasury/exchange",
    response_model=ExposureList,
    summary="The exchange's holdings, cost and result",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_exposures(parts: Parts) -> Response:
    assets = await assets_of(parts)
    found = await parts.exchange.all()
    return answer({"items": [exposure_view(one, assets) for one in found], "has_more": False})


def rates_view(rates: Rates, snapshot: Snapshot | None) -> RatesView:
    return {
        "id": rates.id,
        "as_of": instant(rates.as_of),
        "asked_at": maybe_instant(snapshot.at if snapshot else None),
        "pivot": rates.pivot,
        "pairs": [
            {
                "base": pair.base,
                "quote": pair.quote,
                "rate": str(pair.rate),
                "spread_basis_points": pair.spread_basis_points,
                "tiers": dict(pair.tiers),
            }
            for pair in rates.pairs.values()
        ],
        "unknown": [
            {"base": base, "quote": quote, "doubt": why.doubt.value, "facts": dict(why.facts)}
            for (base, quote), why in rates.unknown.items()
        ],
        "readings": [
            {
                "source": one.source,
                "base": one.base,
                "quote": one.quote,
                "rate": str(parse_ratio(one.rate)),
                "as_of": instant(one.as_of),
            }
            for one in (snapshot.readings if snapshot else ())
        ],
        "failed": dict(snapshot.failed) if snapshot else {},
    }


def exposure_view(one: Exposed, assets: dict[str, Asset]) -> ExposureView:
    asset, reference, position, bound = assets[one.asset], one.reference, one.position, one.exposure
    average = position.average
    whole = average and ratio(average.numerator * 10**asset.scale, average.denominator * FINE * 10**reference.scale)
    return {
        "asset": one.asset,
        "reference": reference.code,
        "quantity": money(position.quantity, one.asset, assets),
        "cost": _fine(position.cost, reference),
        "average_cost": str(whole) if whole is not None else None,
        "value": None if one.value is None else _fine(one.value, reference),
        "realised": _fine(position.realised, reference),
        "unrealised": None if one.unrealised is None else _fine(one.unrealised, reference),
        "earned": _fine(position.earned, reference),
        "least": None if bound is None else money(bound.least, one.asset, assets),
        "most": None if bound is None or bound.most is None else money(bound.most, one.asset, assets),
    }


def _fine(thousandths: int, reference: Asset) -> str:
    """Thousandths of the reference's smallest unit as a decimal string."""
    places = reference.scale + 3
    whole, rest = divmod(abs(thousandths), 10**places)
    return f"{'-' if thousandths < 0 else ''}{whole}.{rest:0{places}d}"
