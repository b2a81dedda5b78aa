"""What stood at a period's end was worth, and for how long it was owed."""

from datetime import timedelta
from fractions import Fraction

import pytest

from exchange.agreeing import Believed, Snapshot
from exchange.past import past_rates
from ledger.commands import Post, Posting, alone
from tests.treasury.reports.test_reports import ETH, OCTOBER, USD, Stage
from treasury.reports.balance_sheet import balance_sheet, percent
from treasury.reports.model import ReportKind
from treasury.reports.records import Balances
from treasury.reports.valuing import Valuation

DAY = timedelta(days=1)
HOUR = OCTOBER.until


def rates(*believed, at=HOUR):
    named = {pair: Believed(rate=rate, as_of=when, sources=("s",)) for pair, rate, when in believed}
    return past_rates(Snapshot("rts_1", at, (), named), hour=HOUR, reference="USD")


def test_totals_of_values_are_exact_sums_rounded_once_and_balance():
    third = rates(("ETH/USD", "1/3", HOUR))
    valuation = Valuation({"USD": USD, "ETH": ETH}, USD, third)
    whole = 10**18
    balances = [
        Balances("custody:local:hot", "ETH", 0, -2 * whole),
        Balances("users", "ETH", whole, 0),
        Balances("capital", "ETH", whole, 0),
    ]
    tables, _ = balance_sheet(balances, valuation)
    found = {table.name: list(table.rows) for table in tables}
    assert [row[-1] for row in found["lines"]] == ["0.67", "0.33", "0.33"]
    assert found["valued_totals"] == [("USD", "0.67", "0.33", "0.33")]
    assert valuation.exact(whole, "ETH") == Fraction(100, 3)
    assert found["rates"] == [("ETH", "USD", "1/3", "rts_1")]


def test_an_asset_without_a_rate_of_the_last_day_has_no_value_and_is_named():
    old = Valuation({"USD": USD, "ETH": ETH}, USD, rates(("ETH/USD", "2500", HOUR - DAY - timedelta(seconds=1))))
    assert old.value(10**18, "ETH") is None
    assert old.total([(10**18, "ETH"), (500, "USD")]) == "5.00"
    assert old.unvalued == {"ETH"}


def test_coverage_is_rounded_down():
    assert [percent(2, 3), percent(1, 0), percent(-1, 3), percent(300, 100)] == ["66.66", None, "-33.34", "300.00"]


@pytest.mark.slow
async def test_what_is_repaid_is_the_oldest_debt_and_the_rest_is_as_old_as_it_was_lent(database):
    stage = await Stage(database).begin()
    bank, owed = "house/bank:main/USD", "house/receivable:usr_a/USD"

    async def move(amount, at):
        stage.clock.advance(at - stage.clock.now())
        debit, credit = (owed, bank) if amount > 0 else (bank, owed)
        name = f"m{at}{amount}"
        await stage.ledger.submit(alone(Post(id=name, postings=(Posting(debit, credit, "USD", abs(amount)),))))

    end = OCTOBER.until
    for amount, days in ((1000, 40), (500, 20), (-1100, 10), (250, 3)):
        await move(amount, end - days * DAY)
    stage.clock.advance(10 * DAY)
    tables = await stage.tables(ReportKind.AGEING)
    [row] = tables["receivables"]
    assert {name: row[name] for name in ("user", "owed", "age_0", "age_1", "age_2", "age_3", "age_4")} == {
        "user": "usr_a",
        "owed": "6.50",
        "age_0": "2.50",
        "age_1": "4.00",
        "age_2": "0.00",
        "age_3": "0.00",
        "age_4": "0.00",
    }
    assert row["since"].startswith("2026-10-12")
    assert tables["receivable_ages"][0]["owed"] == "6.50"
