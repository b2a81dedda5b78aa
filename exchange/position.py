"""What the exchange holds of an asset, what that cost, and what it made of it: average cost, exact. Pure.

Quantities are smallest units. Costs, values and results are thousandths of the reference's smallest unit, so that the
roundings of many small conversions stay far below a cent. All of a value goes somewhere: what is sold takes its part of
the cost along, rounded towards zero, and the rest stays; when nothing is left, no cost is.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

FINE = 1000
"""Parts of the reference's smallest unit."""


class MoveKind(StrEnum):
    """Why the stock changed. By conversions: bought from a user or sold to one; the spread of one, which is earned."""

    BOUGHT = "bought"
    SOLD = "sold"
    SPREAD = "spread"
    BROUGHT_IN = "brought_in"
    TAKEN_OUT = "taken_out"


@dataclass(frozen=True, slots=True)
class Position:
    """One asset. `cost` has the sign of `quantity`, which may be below zero by a credit line.

    `realised`: what selling made beyond what the sold had cost. `earned`: spreads, at what they were worth when taken.
    """

    quantity: int = 0
    cost: int = 0
    realised: int = 0
    earned: int = 0

    def unrealised(self, value: int) -> int:
        """What selling all of it at its `value` now would make."""
        return value - self.cost

    @property
    def average(self) -> Fraction | None:
        """The cost of one smallest unit; None where there is nothing."""
        return Fraction(self.cost, self.quantity) if self.quantity else None


def move(position: Position, kind: MoveKind, quantity: int, value: int) -> Position:
    """The position after `quantity` more (or less, below zero) for `value`, of the same sign.

    Who brings in or takes out has no result: it goes in at its value and out at what it had cost.
    """
    if kind is MoveKind.SPREAD:
        position = replace(position, earned=position.earned + value)
    if position.quantity * quantity >= 0:
        return replace(position, quantity=position.quantity + quantity, cost=position.cost + value)
    closing = min(abs(position.quantity), abs(quantity))
    cost_part = _part(position.cost, closing, abs(position.quantity))
    value_part = _part(value, closing, abs(quantity))
    result = 0 if kind is MoveKind.TAKEN_OUT else -value_part - cost_part
    return replace(
        position,
        quantity=position.quantity + quantity,
        cost=position.cost - cost_part + value - value_part,
        realised=position.realised + result,
    )


def fine(worth: Fraction) -> int:
    """A worth in the reference's smallest units as it's kept, rounded to the nearest (half to even)."""
    return round(worth * FINE)


def _part(whole: int, part: int, of: int) -> int:
    """`whole * part / of`, rounded towards zero; all of it where the part is all."""
    share = abs(whole) * part // of
    return share if whole >= 0 else -share
