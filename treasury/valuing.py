"""What positions are worth in one asset, by the exchange's rates of that moment. Exact until it's told. Pure.

An asset without a rate is listed as unvalued, with the reason; it's never counted as nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from base.errors import OnebookError, Unavailable
from exchange.errors import NoRate
from exchange.rates import Rates
from ledger.money import Asset
from treasury.position import FIGURES, Position


@dataclass(frozen=True, slots=True)
class Valuation:
    """Values in smallest units of `reference`, rounded down; `totals` are of the exact sums.

    `rates` names them, and `as_of` is the oldest that is in them; both None where none were to be had. `unvalued` says
    of each asset that isn't in `values` why.
    """

    reference: Asset
    rates: str | None
    as_of: datetime | None
    age: timedelta | None
    values: Mapping[str, Mapping[str, int]]
    totals: Mapping[str, int]
    unvalued: Mapping[str, str]


def value_all(
    positions: Sequence[Position],
    rates: Rates | OnebookError,
    *,
    assets: Mapping[str, Asset],
    reference: Asset,
    at: datetime,
) -> Valuation:
    """What positions are worth at an instant; `rates` of then, or why there are none."""
    values: dict[str, dict[str, int]] = {}
    exact = dict.fromkeys(FIGURES, Fraction(0))
    unvalued: dict[str, str] = {}
    for position in positions:
        try:
            worth = _worth_of_one(rates, assets[position.asset], reference)
        except (NoRate, Unavailable) as error:
            unvalued[position.asset] = error.message
            continue
        of_asset = {name: getattr(position, name) * worth for name in FIGURES}
        values[position.asset] = {name: _down(value) for name, value in of_asset.items()}
        for name, value in of_asset.items():
            exact[name] += value
    known = None if isinstance(rates, OnebookError) else rates
    return Valuation(
        reference=reference,
        rates=None if known is None else known.id,
        as_of=None if known is None else known.as_of,
        age=None if known is None else at - known.as_of,
        values=values,
        totals={name: _down(value) for name, value in exact.items()},
        unvalued=unvalued,
    )


def _worth_of_one(rates: Rates | OnebookError, asset: Asset, reference: Asset) -> Fraction:
    """One smallest unit in smallest units of the reference. Raises NoRate, Unavailable."""
    if asset.code == reference.code:
        return Fraction(1)
    if isinstance(rates, OnebookError):
        raise Unavailable(rates.message, code=rates.code)
    return rates.worth(asset, 1, reference)


def _down(value: Fraction) -> int:
    return value.numerator // value.denominator
