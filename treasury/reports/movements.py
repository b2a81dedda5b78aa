"""Movements: what every class of accounts began a period with, what came in, what went out, what it ended with. Pure.

`in` is what raises a figure in its usual direction: debits of assets and expenses, credits of all others. What moves
between accounts of one class, a transfer between users for one, is in both. Opening and closing are asked of the book
apart from what moved: if they don't agree, the book is broken, and nothing is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.errors import BookCorrupt
from treasury.reports.chart import USERS, Class, class_of, order_of, place_of
from treasury.reports.figures import cell
from treasury.reports.model import Cell, Chart, Row, Table, bars, columns
from treasury.reports.records import Balances, Turnover
from treasury.reports.valuing import Valuation


@dataclass(frozen=True, slots=True)
class Movement:
    """One class of accounts in one asset. Smallest units, positive in the usual direction."""

    one: Class
    asset: str
    opening: int
    inward: int
    outward: int

    @property
    def closing(self) -> int:
        return self.opening + self.inward - self.outward


_FOUR = {"opening": Cell.AMOUNT, "in": Cell.AMOUNT, "out": Cell.AMOUNT, "closing": Cell.AMOUNT}


def movements(
    before: Iterable[Balances], turnovers: Iterable[Turnover], after: Iterable[Balances], valuation: Valuation
) -> tuple[tuple[Table, ...], tuple[Chart, ...]]:
    """Its tables and charts. Raises BookCorrupt."""
    found = join(before, turnovers, after)
    rows: list[Row] = [
        (one.one.side.value, one.one.word, one.one.place, one.asset, *_cells(one, valuation)) for one in found
    ]
    heads = columns(section=Cell.WORD, line=Cell.WORD, place=Cell.TEXT, asset=Cell.TEXT, **_FOUR)
    at_places = columns(kind=Cell.WORD, place=Cell.TEXT, asset=Cell.TEXT, **_FOUR)
    tables = (Table("lines", heads, rows), Table("places", at_places, _places(found, valuation)))
    return tables, (_chart(found, valuation),)


def join(before: Iterable[Balances], turnovers: Iterable[Turnover], after: Iterable[Balances]) -> list[Movement]:
    """What moved from `before` to `after`. Raises BookCorrupt where it doesn't come to that."""
    opening = {(row.group, row.asset): row.net for row in before}
    closing = {(row.group, row.asset): row.net for row in after}
    moved = {(row.group, row.asset): row for row in turnovers}
    found = []
    for key in opening.keys() | closing.keys() | moved.keys():
        group, asset = key
        row = moved.get(key, Turnover(group, asset, 0, 0))
        begun, ended = opening.get(key, 0), closing.get(key, 0)
        if begun + row.credits - row.debits != ended:
            came_to = begun + row.credits - row.debits
            raise BookCorrupt(f"what moved on {group} in {asset} isn't what it ended with", found=str(came_to))
        one = class_of(group)
        ways = (row.credits, row.debits) if one.sign > 0 else (row.debits, row.credits)
        found.append(Movement(one, asset, one.sign * begun, *ways))
    return sorted(found, key=lambda one: (order_of(one.one), one.asset))


def _cells(one: Movement, valuation: Valuation) -> tuple[str, ...]:
    four = (one.opening, one.inward, one.outward, one.closing)
    return tuple(cell(amount, one.asset, valuation) for amount in four)


def _places(found: Sequence[Movement], valuation: Valuation) -> list[Row]:
    """What is held, by network, bank and rail: all accounts there together."""
    sums: dict[tuple[str, str, str], Movement] = {}
    for one in found:
        at = place_of(one.one)
        if at is not None:
            key = (*at, one.asset)
            so_far = sums.get(key, Movement(one.one, one.asset, 0, 0, 0))
            sums[key] = Movement(
                one.one,
                one.asset,
                so_far.opening + one.opening,
                so_far.inward + one.inward,
                so_far.outward + one.outward,
            )
    return [(*key, *_cells(one, valuation)) for key, one in sorted(sums.items())]


def _chart(found: Sequence[Movement], valuation: Valuation) -> Chart:
    """What came in for users and went out, per asset; each asset has its own measure."""
    rows = []
    for one in found:
        if one.one.word == USERS:
            full = max(one.inward, one.outward)
            rows.append((f"{one.asset} +", cell(one.inward, one.asset, valuation), one.inward, full))
            rows.append((f"{one.asset} -", cell(one.outward, one.asset, valuation), one.outward, full))
    return Chart("movements_chart", bars(rows))
