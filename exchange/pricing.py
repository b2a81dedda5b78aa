"""What an exchange at a price gives: whole smallest units on both sides. Pure integer arithmetic.

There is one rounding, against the user and by less than one smallest unit, and it's told: selling an exact amount
rounds down what is bought, buying one rounds up what is sold. What it loses stays in the exchange's stock.
"""

from dataclasses import dataclass
from enum import StrEnum

from exchange.errors import AmountTooSmall
from exchange.ratios import BASIS_POINTS, Ratio, ratio
from ledger.errors import InvalidAmount
from ledger.money import AMOUNT_END


@dataclass(frozen=True, slots=True)
class Price:
    """What one *smallest unit* of the sold asset is worth in smallest units of the bought one, before the spread."""

    ratio: Ratio
    spread_basis_points: int

    @property
    def taken(self) -> Ratio:
        """The price after the spread: what the user gets."""
        kept = BASIS_POINTS - self.spread_basis_points
        return ratio(self.ratio.num * kept, self.ratio.den * BASIS_POINTS)


class Exact(StrEnum):
    """Which of the two amounts was asked for, and so isn't rounded."""

    SELL = "sell"
    BUY = "buy"


@dataclass(frozen=True, slots=True)
class Exchange:
    """`sold` leaves the user in full; `spread`, a part of it, is the house's; `bought` arrives. Smallest units.

    `lost` is what rounding took from the user, less than one smallest unit: of the bought asset where `exact` is the
    sale, else of the sold one.
    """

    sold: int
    spread: int
    bought: int
    exact: Exact
    lost: Ratio


def sell(price: Price, sold: int) -> Exchange:
    """What selling exactly `sold` gives. Raises AmountTooSmall if that buys nothing."""
    taken = price.taken
    bought, rest = divmod(sold * taken.num, taken.den)
    if bought < 1:
        raise AmountTooSmall(
            "this amount would buy less than one smallest unit",
            sold=sold,
            sell_at_least=buy(price, 1).sold,
            param="sell_amount",
        )
    return Exchange(sold, _spread(sold, price), _bounded(bought), Exact.SELL, ratio(rest, taken.den))


def buy(price: Price, bought: int) -> Exchange:
    """The least sale that gives exactly `bought`: `sell` of any less would give less."""
    taken = price.taken
    sold, over = divmod(bought * taken.den, taken.num)
    lost = ratio(taken.num - over, taken.num) if over else ratio(0, 1)
    sold = _bounded(sold + (1 if over else 0))
    return Exchange(sold, _spread(sold, price), bought, Exact.BUY, lost)


def _spread(sold: int, price: Price) -> int:
    """The spread's part of what is sold, rounded down: the stock then never gets less than what it gives is worth."""
    return sold * price.spread_basis_points // BASIS_POINTS


def _bounded(amount: int) -> int:
    if amount >= AMOUNT_END:
        raise InvalidAmount("an amount must be below 2^256 smallest units", code="amount_too_large")
    return amount
