"""What to offer for gas: from the market, under caps, and how to outbid oneself. Pure.

Fees are wei per gas (EIP-1559): `max_fee_per_gas` is the most to pay in all, `tip` the share of who makes the block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BASE_FEE_HEADROOM = 2
"""A bid survives the base fee growing this many times: six full blocks at 12.5% each (EIP-1559)."""

REPLACEMENT_PERCENT = 115
"""A replacement's fees, of the old ones. Geth demands 110, strictly higher in both."""

GAS_MARGIN_PERCENT = 125
"""Gas limit, of the node's estimate: what a transfer takes depends a little on the state it meets."""

CEILING_FACTOR = 2
"""The highest fee named to a user, of the first bid: room for about five replacements."""


@dataclass(frozen=True, slots=True)
class Market:
    """What the next block asks: its base fee, and the tip that got others in lately."""

    base_fee: int
    tip: int


@dataclass(frozen=True, slots=True)
class Bid:
    """What an attempt offers. tip <= max_fee_per_gas."""

    max_fee_per_gas: int
    tip: int


@dataclass(frozen=True, slots=True)
class FeeEstimate:
    """What a payment would cost the sender, in wei. `highest_wei` is the promise: no attempt may cost more."""

    gas_limit: int
    bid: Bid
    expected_wei: int
    highest_wei: int


def read_market(base_fees: Sequence[int], filled: Sequence[bool], tips: Sequence[int]) -> Market:
    """The market in an `eth_feeHistory` answer: base fees end with the next block's, tips are one percentile's.

    `filled` says which blocks had transactions: empty ones say nothing about tips, and with none but those it's 0.
    """
    paid = sorted(tip for tip, some in zip(tips, filled, strict=True) if some)
    return Market(base_fee=base_fees[-1], tip=paid[len(paid) // 2] if paid else 0)


def first_bid(market: Market, *, tip_floor: int, cap: int) -> Bid | None:
    """The first attempt's offer, or None while even the next block's base fee with the lowest tip is above `cap`."""
    tip = max(market.tip, tip_floor)
    if market.base_fee + tip_floor > cap:
        return None
    max_fee = min(cap, market.base_fee * BASE_FEE_HEADROOM + tip)
    return Bid(max_fee_per_gas=max_fee, tip=min(tip, max_fee))


def outbid(old: Bid, market: Market, *, tip_floor: int, cap: int) -> Bid | None:
    """A replacement's offer: max(ceil(old x 1.15), old + 1, market) for both fees; None when that is above `cap`."""
    fresh = first_bid(market, tip_floor=tip_floor, cap=cap)
    if fresh is None:
        return None
    max_fee = max(_raised(old.max_fee_per_gas), fresh.max_fee_per_gas)
    tip = max(_raised(old.tip), fresh.tip)
    return Bid(max_fee_per_gas=max_fee, tip=tip) if tip <= max_fee <= cap else None


def is_outdone(bid: Bid, market: Market) -> bool:
    """Whether the market has left `bid` behind: the next block's base fee is above it, or others tip more."""
    return bid.max_fee_per_gas < market.base_fee + min(bid.tip, market.tip) or bid.tip < market.tip


def cap_per_gas(*, network_cap: int, fee_wei_max: int, gas_limit: int) -> int:
    """The most to offer per gas: the network's cap, and what the payment may cost in all."""
    return min(network_cap, fee_wei_max // gas_limit)


def estimate(market: Market, *, gas_limit: int, tip_floor: int, network_cap: int) -> FeeEstimate | None:
    """The cost of a payment with this gas limit; None while gas is above the network's cap."""
    bid = first_bid(market, tip_floor=tip_floor, cap=network_cap)
    if bid is None:
        return None
    now = min(bid.max_fee_per_gas, market.base_fee + bid.tip)
    highest = min(network_cap, bid.max_fee_per_gas * CEILING_FACTOR)
    return FeeEstimate(gas_limit, bid, expected_wei=gas_limit * now, highest_wei=gas_limit * highest)


def _raised(fee: int) -> int:
    return max(-(-fee * REPLACEMENT_PERCENT // 100), fee + 1)
