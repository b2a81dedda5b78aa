"""What an exchange at a price gives: whole smallest units on both sides. Pure integer arithmetic.

The spread is taken from what is sold, rounded up; what is bought is rounded down. So every rounding is against the
user by less than one smallest unit of either asset, and stays in the exchange's stock, where the book shows it.
"""

from dataclasses import dataclass

from exchange.errors import AmountTooSmall
from exchange.rates import BASIS_POINTS, Price
from ledger.errors import InvalidAmount
from ledger.money import AMOUNT_END


@dataclass(frozen=True, slots=True)
class Exchange:
    """`sold` leaves the user in full; `spread`, a part of it, is the house's; `bought` arrives. Smallest units."""

    sold: int
    spread: int
    bought: int


def sell(price: Price, sold: int) -> Exchange:
    """What selling exactly `sold` gives. Raises AmountTooSmall if that buys nothing."""
    spread = _spread(sold, price.spread_basis_points)
    bought = price.ratio.floor_of(sold - spread)
    if bought < 1:
        raise AmountTooSmall("this amount would buy less than one smallest unit", sold=sold, param="sell_amount")
    return Exchange(sold=sold, spread=spread, bought=_bounded(bought))


def buy(price: Price, bought: int) -> Exchange:
    """The cheapest sale that gives exactly `bought`.

    `sell` of the returned `sold` would give `bought` or, where one unit sold is worth several, a few units more;
    those stay with the house.
    """
    net = price.ratio.inverse().ceil_of(bought)
    # What is left after a spread rounded up is floor(sold * kept / 10,000); the least sold for which it reaches net:
    sold = -(-net * BASIS_POINTS // (BASIS_POINTS - price.spread_basis_points))
    return Exchange(sold=_bounded(sold), spread=_spread(sold, price.spread_basis_points), bought=bought)


def _spread(sold: int, basis_points: int) -> int:
    return -(-sold * basis_points // BASIS_POINTS)


def _bounded(amount: int) -> int:
    if amount >= AMOUNT_END:
        raise InvalidAmount("an amount must be below 2^256 smallest units", code="amount_too_large")
    return amount
