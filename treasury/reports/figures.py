"""What all reports are made with: the assets and how they're valued, amounts as cells. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.money import format_amount
from treasury.reports.chart import OVERDRAWN, USERS, Class, class_of, order_of
from treasury.reports.model import Cell, Column, Row, Table, columns
from treasury.reports.records import Balances
from treasury.reports.valuing import Valuation


@dataclass(frozen=True, slots=True)
class Figure:
    """What one class of accounts came to in an asset, in smallest units, positive in its usual direction."""

    one: Class
    asset: str
    amount: int


def cell(amount: int, asset: str, valuation: Valuation) -> str:
    """An amount of smallest units as an exact decimal."""
    return format_amount(amount, valuation.assets[asset])


def figures_of(balances: Iterable[Balances]) -> list[Figure]:
    """Balances as figures, in the order of a report. Users below zero are told apart: they owe us."""
    found = []
    for row in balances:
        if row.group == USERS:
            if row.above:
                found.append(Figure(class_of(USERS), row.asset, row.above))
            if row.below:
                found.append(Figure(OVERDRAWN, row.asset, -row.below))
        elif row.net:
            one = class_of(row.group)
            found.append(Figure(one, row.asset, one.sign * row.net))
    return sorted(found, key=lambda figure: (order_of(figure.one), figure.asset))


def rates_table(valuation: Valuation, assets: Iterable[str]) -> Table:
    """The rates by which assets were valued; empty where nothing is."""
    return Table(
        "rates",
        columns(asset=Cell.TEXT, reference=Cell.TEXT, rate=Cell.AMOUNT, snapshot=Cell.TEXT),
        valuation.rows(assets),
    )


def valued(valuation: Valuation, *names: str) -> tuple[Column, ...]:
    """Columns of values; none where there is no reference."""
    return () if valuation.reference is None else tuple(Column(name, Cell.AMOUNT) for name in names)


def value_cells(valuation: Valuation, *amounts: tuple[int, str]) -> Row:
    """The values of amounts in those columns."""
    return () if valuation.reference is None else tuple(valuation.value(*amount) for amount in amounts)
