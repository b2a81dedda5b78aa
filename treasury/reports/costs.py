"""Fees and costs: what users paid for each kind of operation at each place, against what it cost the house. Pure.

The place is the network, bank or rail that the entry names: by its other account, else by its evidence. Fees and gas
are often of different assets: then they stand in different rows, and only their values can be compared.
"""

from collections import defaultdict
from collections.abc import Iterable

from treasury.reports.figures import cell, rates_table, value_cells, valued
from treasury.reports.model import Cell, Row, Table, columns
from treasury.reports.records import FeeTurnover
from treasury.reports.valuing import Valuation

CHARGED, WAIVED, COSTS = "fees", "fees-waived", ("network-fees", "rail-fees")

PURPOSES = (CHARGED, WAIVED, *COSTS)

OPERATIONS = {
    "trf": "transfer",
    "cnv": "conversion",
    "dep": "deposit",
    "wdr": "withdrawal",
    "bat": "withdrawal",
    "top": "top-up",
    "pyo": "payout",
    "pay": "payout",
    "ref": "refund",
    "dsp": "dispute",
    "hld": "hold",
    "acf": "account-fee",
    "swp": "sweep",
    "rfl": "refill",
    "stl": "settlement",
    "adj": "adjustment",
    "rev": "reversal",
    "out": "outflow",
    "inf": "inflow",
}
"""Words for what an entry was about, by its subject's prefix."""

_KINDS = {"custody": "network", "bank": "bank", "provider": "rail", "": "book"}


def costs(turnovers: Iterable[FeeTurnover], valuation: Valuation) -> tuple[Table, ...]:
    """Its tables: by operation, place and asset, then by asset alone."""
    sums: defaultdict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in turnovers:
        key = (OPERATIONS.get(row.operation, "other"), _KINDS[row.kind], row.place, row.asset)
        if row.purpose == CHARGED:
            sums[key][0] += row.credits - row.debits
        else:
            sums[key][1 if row.purpose == WAIVED else 2] += row.debits - row.credits
    assets = sorted({key[3] for key in sums})
    by_asset: dict[str, list[int]] = {
        asset: [sum(three[number] for key, three in sums.items() if key[3] == asset) for number in range(3)]
        for asset in assets
    }
    heads = columns(operation=Cell.WORD, kind=Cell.WORD, place=Cell.TEXT, asset=Cell.TEXT)
    amounts = columns(charged=Cell.AMOUNT, waived=Cell.AMOUNT, cost=Cell.AMOUNT, margin=Cell.AMOUNT)
    lines: list[Row] = [(*key, *_four(three, key[3], valuation)) for key, three in sorted(sums.items())]
    totals: list[Row] = [(asset, *_four(three, asset, valuation)) for asset, three in by_asset.items()]
    tables = [
        Table("lines", (*heads, *amounts, *valued(valuation, "value")), lines),
        Table("totals", (*columns(asset=Cell.TEXT), *amounts, *valued(valuation, "value")), totals),
    ]
    if valuation.reference is not None:
        four = [valuation.total((_margin(three)[n], asset) for asset, three in by_asset.items()) for n in range(4)]
        total: Row = (valuation.reference.code, *four)
        tables.append(Table("valued_totals", (*columns(reference=Cell.TEXT), *amounts), [total]))
    return (*tables, rates_table(valuation, assets))


def _margin(three: list[int]) -> tuple[int, int, int, int]:
    """Charged, waived, cost, and what is left."""
    charged, waived, cost = three
    return charged, waived, cost, charged - waived - cost


def _four(three: list[int], asset: str, valuation: Valuation) -> Row:
    four = _margin(three)
    return (*(cell(amount, asset, valuation) for amount in four), *value_cells(valuation, (four[3], asset)))
