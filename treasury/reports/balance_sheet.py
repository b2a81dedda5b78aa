"""The balance sheet: what the house has, owes and owns of each asset at the end of a period. Pure.

Per asset, assets = liabilities + equity, where equity includes all income less expenses so far: that's the same as that
all accounts of the book sum to zero. A book in which they don't is refused, not shown.
"""

from collections.abc import Iterable, Sequence

from ledger.errors import BookCorrupt
from treasury.reports.chart import Side
from treasury.reports.figures import Figure, cell, figures_of, rates_table, value_cells, valued
from treasury.reports.model import FULL, Bar, Cell, Chart, Row, Table, columns
from treasury.reports.records import Balances
from treasury.reports.valuing import Valuation

CHART_PERCENT = 150
"""How much coverage fills the chart; more is shown as full."""

_SIDES = (Side.ASSETS, Side.LIABILITIES, Side.EQUITY)


def balance_sheet(balances: Iterable[Balances], valuation: Valuation) -> tuple[tuple[Table, ...], tuple[Chart, ...]]:
    """Its tables and charts. Raises BookCorrupt if an asset doesn't balance."""
    figures = figures_of(balances)
    assets = sorted({figure.asset for figure in figures})
    sums = {asset: _sums(figures, asset) for asset in assets}
    for asset, (held, owed, own) in sums.items():
        if held != owed + own:
            raise BookCorrupt(f"the book doesn't balance in {asset}", assets=str(held), claims=str(owed + own))
    coverage = [_covered(figures, asset) for asset in assets]
    tables = (
        _lines(figures, valuation),
        _totals(sums, valuation),
        *_valued_totals(sums, valuation),
        Table(
            "coverage",
            columns(asset=Cell.TEXT, held=Cell.AMOUNT, owed=Cell.AMOUNT, coverage=Cell.AMOUNT),
            [
                (asset, cell(held, asset, valuation), cell(owed, asset, valuation), percent(held, owed))
                for asset, (held, owed) in zip(assets, coverage, strict=True)
            ],
        ),
        rates_table(valuation, assets),
    )
    return tables, (_chart(assets, coverage),)


def percent(part: int, whole: int) -> str | None:
    """How much `part` is of `whole`, in hundredths of a percent, rounded down; None of nothing."""
    if whole <= 0:
        return None
    hundredths = part * 10_000 // whole
    sign, digits = ("-", -hundredths) if hundredths < 0 else ("", hundredths)
    return f"{sign}{digits // 100}.{digits % 100:02d}"


def section(figure: Figure) -> Side:
    """Where a figure stands: income and expenses so far are equity."""
    return figure.one.side if figure.one.side in _SIDES else Side.EQUITY


def _claim(figure: Figure) -> int:
    """A figure as part of its section: expenses lower equity."""
    return -figure.amount if figure.one.side is Side.EXPENSES else figure.amount


def _sums(figures: Iterable[Figure], asset: str) -> tuple[int, int, int]:
    mine = [figure for figure in figures if figure.asset == asset]
    held, owed, own = (sum(_claim(figure) for figure in mine if section(figure) is side) for side in _SIDES)
    return held, owed, own


def _lines(figures: Sequence[Figure], valuation: Valuation) -> Table:
    rows: list[Row] = [
        (
            section(figure).value,
            figure.one.word,
            figure.one.place,
            figure.asset,
            cell(_claim(figure), figure.asset, valuation),
            *value_cells(valuation, (_claim(figure), figure.asset)),
        )
        for figure in sorted(figures, key=lambda figure: _SIDES.index(section(figure)))
    ]
    heads = columns(section=Cell.WORD, line=Cell.WORD, place=Cell.TEXT, asset=Cell.TEXT, amount=Cell.AMOUNT)
    return Table("lines", (*heads, *valued(valuation, "value")), rows)


def _totals(sums: dict[str, tuple[int, int, int]], valuation: Valuation) -> Table:
    rows: list[Row] = [(asset, *(cell(amount, asset, valuation) for amount in three)) for asset, three in sums.items()]
    heads = columns(asset=Cell.TEXT, assets=Cell.AMOUNT, liabilities=Cell.AMOUNT, equity=Cell.AMOUNT)
    return Table("totals", heads, rows)


def _valued_totals(sums: dict[str, tuple[int, int, int]], valuation: Valuation) -> tuple[Table, ...]:
    """All assets together in the reference, where there is one."""
    if valuation.reference is None:
        return ()
    three = [valuation.total((part[number], asset) for asset, part in sums.items()) for number in range(3)]
    heads = columns(reference=Cell.TEXT, assets=Cell.AMOUNT, liabilities=Cell.AMOUNT, equity=Cell.AMOUNT)
    return (Table("valued_totals", heads, [(valuation.reference.code, *three)]),)


def _covered(figures: Iterable[Figure], asset: str) -> tuple[int, int]:
    """What is held where somebody can confirm it, and what is owed to users or on its way to them."""
    mine = [figure for figure in figures if figure.asset == asset]
    held = sum(figure.amount for figure in mine if figure.one.held)
    return held, sum(figure.amount for figure in mine if figure.one.word in ("users", "in-transit-out"))


def _chart(assets: Sequence[str], coverage: Sequence[tuple[int, int]]) -> Chart:
    shown = []
    for asset, (held, owed) in zip(assets, coverage, strict=True):
        told = percent(held, owed)
        if told is not None:
            length = min(FULL, max(0, held) * 100 * FULL // (owed * CHART_PERCENT))
            shown.append(Bar(asset, f"{told} %", length))
    return Chart("coverage_chart", tuple(shown), mark=100 * FULL // CHART_PERCENT)
