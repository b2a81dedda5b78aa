"""Income: what fees and spreads brought in a period and what networks, rails and gifts cost, per asset. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from treasury.reports.chart import EXPENSES, INCOME, Side, class_of, order_of
from treasury.reports.figures import Figure, cell, rates_table, value_cells, valued
from treasury.reports.model import Cell, Chart, Row, Table, bars, columns
from treasury.reports.records import Turnover
from treasury.reports.valuing import Valuation

PURPOSES = (*INCOME, *EXPENSES)

Months = Mapping[str, Sequence[Turnover]]
"""Turnovers by the name of their month."""


def income(
    turnovers: Iterable[Turnover], months: Months, valuation: Valuation
) -> tuple[tuple[Table, ...], tuple[Chart, ...]]:
    """Its tables and charts. `months`: those of a longer period, by which it's told once more."""
    figures = _figures(turnovers)
    assets = sorted({figure.asset for figure in figures})
    rows: list[Row] = [
        (
            figure.one.side.value,
            figure.one.word,
            figure.asset,
            cell(figure.amount, figure.asset, valuation),
            *value_cells(valuation, (figure.amount, figure.asset)),
        )
        for figure in figures
    ]
    heads = columns(section=Cell.WORD, line=Cell.WORD, asset=Cell.TEXT, amount=Cell.AMOUNT)
    by_month = {name: _figures(month) for name, month in months.items()}
    tables = (
        Table("lines", (*heads, *valued(valuation, "value")), rows),
        _totals(figures, assets, valuation),
        *_valued_totals(figures, valuation),
        *((_by_month(by_month, valuation),) if months else ()),
        rates_table(valuation, assets),
    )
    return tables, (_chart(by_month or {"": figures}, assets, valuation),)


def result_of(figures: Iterable[Figure], asset: str) -> tuple[int, int, int]:
    """Income, expenses, and what is left, of an asset."""
    mine = [figure for figure in figures if figure.asset == asset]
    gained = sum(figure.amount for figure in mine if figure.one.side is Side.INCOME)
    spent = sum(figure.amount for figure in mine if figure.one.side is Side.EXPENSES)
    return gained, spent, gained - spent


def _figures(turnovers: Iterable[Turnover]) -> list[Figure]:
    """Accounts that moved; one whose movements cancelled each other is shown as zero."""
    found = []
    for row in turnovers:
        if row.group in PURPOSES:
            one = class_of(row.group)
            found.append(Figure(one, row.asset, one.sign * (row.credits - row.debits)))
    return sorted(found, key=lambda figure: (order_of(figure.one), figure.asset))


def _totals(figures: Sequence[Figure], assets: Sequence[str], valuation: Valuation) -> Table:
    rows: list[Row] = []
    for asset in assets:
        three = result_of(figures, asset)
        rows.append(
            (
                asset,
                *(cell(amount, asset, valuation) for amount in three),
                *value_cells(valuation, (three[2], asset)),
            )
        )
    heads = columns(asset=Cell.TEXT, income=Cell.AMOUNT, expenses=Cell.AMOUNT, result=Cell.AMOUNT)
    return Table("totals", (*heads, *valued(valuation, "value")), rows)


def _valued_totals(figures: Sequence[Figure], valuation: Valuation) -> tuple[Table, ...]:
    if valuation.reference is None:
        return ()
    assets = sorted({figure.asset for figure in figures})
    three = [valuation.total((result_of(figures, asset)[number], asset) for asset in assets) for number in range(3)]
    heads = columns(reference=Cell.TEXT, income=Cell.AMOUNT, expenses=Cell.AMOUNT, result=Cell.AMOUNT)
    return (Table("valued_totals", heads, [(valuation.reference.code, *three)]),)


def _by_month(months: Mapping[str, Sequence[Figure]], valuation: Valuation) -> Table:
    rows: list[Row] = []
    for name, figures in months.items():
        for asset in sorted({figure.asset for figure in figures}):
            rows.append((name, asset, *(cell(amount, asset, valuation) for amount in result_of(figures, asset))))
    heads = columns(month=Cell.TEXT, asset=Cell.TEXT, income=Cell.AMOUNT, expenses=Cell.AMOUNT, result=Cell.AMOUNT)
    return Table("by_month", heads, rows)


def _chart(months: Mapping[str, Sequence[Figure]], assets: Sequence[str], valuation: Valuation) -> Chart:
    """What was left of each asset, month by month; each asset has its own measure."""
    rows = []
    for asset in assets:
        results = {name: result_of(figures, asset)[2] for name, figures in months.items()}
        full = max(abs(result) for result in results.values())
        rows += [
            (f"{asset} {name}".rstrip(), cell(result, asset, valuation), result, full)
            for name, result in results.items()
        ]
    return Chart("income_chart", bars(rows))
