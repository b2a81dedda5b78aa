"""What a withdrawal costs its owner: gas, in the withdrawn asset, at a rate that is stored with the request. Pure.

The highest fee is promised when it's asked for and held; the one taken is the gas that was really paid at the same
rate, and never more than was promised: the house bears the rest.
"""

from chain.networks import Deployment, to_ledger_units
from exchange.rates import Rates
from exchange.ratios import Ratio, ratio
from ledger.money import Asset
from wallet.errors import FeeAboveAccepted


def wei_price(native: Deployment, native_asset: Asset, asset: Asset, rates: Rates | None) -> Ratio:
    """Smallest units of `asset` per wei. `rates` may be None where the asset is the network's own coin.

    No spread is taken: the house buys its gas and passes on what it cost. Raises NoRate.
    """
    per_wei = ratio(to_ledger_units(1, native, scale=native_asset.scale), 1)
    if asset.code == native_asset.code or rates is None:
        return per_wei
    return rates.price(native_asset, asset).ratio.times(per_wei)


def highest_fee(price: Ratio, fee_wei_max: int) -> int:
    """The most that will be taken, in the asset's smallest units, rounded up."""
    return price.ceil_of(fee_wei_max)


def actual_fee(price: Ratio, *, fee_wei: int, fee_highest: int) -> int:
    """What is taken once the gas paid is known, in the asset's smallest units, rounded up, at most `fee_highest`."""
    return min(price.ceil_of(fee_wei), fee_highest)


def require_accepted_fee(fee_highest: int, accepted: int | None) -> None:
    """Raise FeeAboveAccepted if more may be taken than was agreed to; None: whatever it costs."""
    if accepted is not None and fee_highest > accepted:
        raise FeeAboveAccepted(
            "the highest fee is above the one that you accepted: fees have risen since",
            param="fee_highest",
            fee_highest=fee_highest,
            fee_accepted=accepted,
        )
