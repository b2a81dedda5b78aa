"""Figures of reports without a book: margins, ages at their edges, what went in and out of an account."""

from datetime import UTC, datetime, timedelta

import pytest

from ledger.errors import BookCorrupt
from ledger.money import Asset, AssetKind
from treasury.reports.ageing import DAY, Ageing, bucket
from treasury.reports.costs import costs
from treasury.reports.records import AGES, AgedReceivable, FeeTurnover, OwnLine
from treasury.reports.user_statement import OwnAccountLines
from treasury.reports.valuing import Valuation

AT = datetime(2026, 11, 1, tzinfo=UTC)
EUR = Valuation({"EUR": Asset("EUR", AssetKind.FIAT, 2)})


def moved(purpose: str, debits: int, credits_: int, *, operation: str = "wdr") -> FeeTurnover:
    return FeeTurnover(operation, "custody", "local", purpose, "EUR", debits, credits_)


def test_what_is_left_of_fees_is_less_what_was_waived_and_what_it_cost():
    turnovers = [
        moved("fees", 1_00, 10_00),
        moved("fees-waived", 2_50, 50),
        moved("network-fees", 3_00, 0),
        moved("rail-fees", 25, 0),
        moved("fees", 0, 4_00, operation="top"),
    ]
    lines, totals, _ = costs(turnovers, EUR)
    assert [row[:8] for row in lines.rows] == [
        ("top-up", "network", "local", "EUR", "4.00", "0.00", "0.00", "4.00"),
        ("withdrawal", "network", "local", "EUR", "9.00", "2.00", "3.25", "3.75"),
    ]
    assert list(totals.rows) == [("EUR", "13.00", "2.00", "3.25", "7.75")]


def test_an_age_of_so_many_days_belongs_to_them_and_a_moment_more_to_the_next():
    for number, days in enumerate(AGES):
        assert bucket(days * DAY) == number
        assert bucket(days * DAY + timedelta(microseconds=1)) == number + 1
    assert bucket(timedelta(0)) == 0


def test_receivables_add_up_by_age_over_users():
    ageing = Ageing(EUR, at=AT)
    ages = [(0,) * len(AGES) + (7,), (5,) + (0,) * len(AGES)]
    for number, by_age in enumerate(ages):
        row = ageing.receivable_row(AgedReceivable(f"usr_{number}", "EUR", sum(by_age), AT - DAY, by_age))
        assert row[2] == ("0.07", "0.05")[number]
    _, owed = ageing.sums()
    assert list(owed.rows) == [("EUR", "0.05", *("0.00",) * (len(AGES) - 1), "0.07", "0.12")]


def line(seq: int, step: int) -> OwnLine:
    return OwnLine(seq, 0, AT, AT, "trf_1", "usr_2/wallet/EUR", step, None)


def test_what_went_in_and_out_of_an_account_leads_from_its_opening_to_its_closing():
    lines = OwnAccountLines("EUR", 10_00, EUR)
    balances = [lines.line_row(line(seq, step))[-1] for seq, step in enumerate((5_00, -12_00, 1, -3))]
    assert balances == ["15.00", "3.00", "3.01", "2.98"]
    assert lines.summary_row() == ("EUR", "10.00", "5.01", "12.03", "2.98", "4")
    assert lines.closing_row(2_98)[-1] == "2.98"
    with pytest.raises(BookCorrupt):
        lines.closing_row(2_99)
