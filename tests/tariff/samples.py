"""A tariff as an operator writes it, and the assets that it speaks of."""

from ledger.money import Asset, AssetKind
from tariff.schedule import Tariff
from tariff.tariff_file import parse_tariff

ASSETS = {
    "EUR": Asset("EUR", AssetKind.FIAT, 2),
    "USD": Asset("USD", AssetKind.FIAT, 2),
    "USDC": Asset("USDC", AssetKind.STABLECOIN, 6),
    "ETH": Asset("ETH", AssetKind.CRYPTO, 18),
}


def read(text: str) -> Tariff:
    return parse_tariff(
        text,
        assets=ASSETS,
        networks=["local", "base"],
        rails=["bank", "paypal"],
        providers=["sandbox", "stripe"],
        source="tariff.toml",
    )


HEAD = """
default_tier = "standard"
reference = "EUR"

[tiers.standard]
"""
