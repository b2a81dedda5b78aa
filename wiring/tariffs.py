"""The tariff from the settings: the file, read for what this installation has; and rates as what assets are worth."""

from math import ceil
from pathlib import Path

from exchange.rates import Rates, RateSource
from fiat.payouts import PAYPAL
from fiat.top_ups import BANK, PROVIDERS
from ledger.money import Asset
from tariff.desk import Desk
from tariff.errors import TariffInvalid
from tariff.pricing import Move, price
from tariff.schedule import EMPTY, Operation, Tariff
from tariff.tariff_file import parse_tariff
from wiring.settings import Settings


class RatesWorth:
    """What assets are worth by the rates, without a spread."""

    def __init__(self, rates: RateSource) -> None:
        self._rates = rates

    async def of(self, asset: Asset, amount: int, reference: Asset) -> int:
        """Rounded up. Raises NoRate, RateUnavailable, RatesTooOld, InvalidRates."""
        return ceil((await self._rates.current()).worth(asset, amount, reference))


class TariffCharging:
    """What conversions cost, as `wallet.quotes.Charging`: the quote fixes the most, an allowance may cover it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def tier(self, owner: str) -> str | None:
        """The owner's tier, by which pairs may have spreads of their own."""
        return await self._desk.tier_of(owner)

    async def fee(self, owner: str, asset: Asset, amount: int) -> int:
        """By the tariff's rule."""
        tier = await self._desk.tier_of(owner)
        return price(self._desk.tariff, tier, Move(owner, Operation.CONVERSION, asset.code, amount)).fee

    async def free(self, owner: str, asset: Asset, amount: int) -> bool:
        """Whether the allowance has enough left."""
        return await self._desk.is_free(Move(owner, Operation.CONVERSION, asset.code, amount))


def load_tariff(settings: Settings) -> Tariff:
    """The tariff in force; where there is no file nothing costs but by older settings. Raises TariffInvalid."""
    path = settings.path(settings.tariff)
    return read_tariff(path, settings) if path.exists() else EMPTY


def read_tariff(path: Path, settings: Settings) -> Tariff:
    """A tariff's file, read for this installation. Raises TariffInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TariffInvalid(f"the tariff {path} can't be read: {error}") from error
    return parse_tariff(
        text,
        assets={one.code: Asset(one.code, one.kind, one.scale) for one in settings.assets},
        networks=[network.name for network in settings.networks],
        rails=[BANK, PAYPAL],
        providers=PROVIDERS,
        source=str(path),
    )


def unvalued(tariff: Tariff, settings: Settings, rates: Rates) -> list[str]:
    """Which assets can't be valued in the reference, where a tier is limited: a sentence for each."""
    reference = tariff.reference
    if reference is None or not any(tier.limits for tier in tariff.tiers.values()):
        return []
    return [
        f"limits can't be told of {one.code}: there is no rate from it to {reference.code}, the tariff's reference"
        for one in settings.assets
        if one.code != reference.code and rates.cross(one.code, reference.code) is None
    ]
