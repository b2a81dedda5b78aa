"""What is said of a bank account whose journal isn't what the bank says: pure, one row for each case."""

from dataclasses import dataclass

import pytest

from fiat.bank.records import Discontinuity
from ledger.accounts import house_account
from treasury.comparison import Counters, bank_differs
from treasury.records import BreakReason

ACCOUNT = house_account("bank:main", "EUR")


@dataclass(frozen=True)
class Closing:
    balance: int
    coming: str | None = None
    discontinuities: tuple[Discontinuity, ...] = ()
    account: str = "main"
    asset: str = "EUR"
    statement: str = "C"


def missing(closed: int, opens: int) -> Discontinuity:
    return Discontinuity(before="A", statement="C", closed=closed, opens=opens, again=False)


OVERLAP = Discontinuity(before="B", statement="C", closed=100, opens=70, again=True)
GAP, DIFFERS, LAPS = BreakReason.STATEMENT_GAP, BreakReason.BANK_DIFFERS, BreakReason.STATEMENT_OVERLAP

CASES = {
    # what the book has, what the bank says:       what is found: reason, expected, found
    "both agree": (100, Closing(100), []),
    "one cent": (100, Closing(101), [(DIFFERS, 100, 101)]),
    "a day is missing": (100, Closing(170, None, (missing(95, 165),)), [(GAP, 95, 165)]),
    "and a cent": (100, Closing(171, None, (missing(95, 165),)), [(GAP, 95, 165), (DIFFERS, 170, 171)]),
    "overlapping, and agreed": (100, Closing(100, None, (OVERLAP,)), []),
    "overlapping, and not": (100, Closing(130, None, (OVERLAP,)), [(LAPS, 100, 130)]),
    "being taken in": (100, Closing(170, "C"), None),
}


@pytest.mark.parametrize(("held", "closing", "found"), CASES.values(), ids=CASES)
def test_a_bank_account_is_judged_by_its_statements(held, closing, found):
    counters = Counters(ACCOUNT, "EUR", (held, 0, 0, 0), (held, 0, 0, 0))
    findings, unjudged = bank_differs([counters], [closing])
    assert [(one.reason, one.expected, one.found) for one in findings] == (found or [])
    assert all((one.account, one.asset, one.at) == (ACCOUNT, "EUR", "C") for one in findings)
    assert [one.network for one in unjudged] == ([] if found is not None else ["bank:main"])


def test_an_account_whose_statement_came_meanwhile_is_not_judged_now():
    counters = Counters(ACCOUNT, "EUR", (100, 0, 0, 0), (100, 0, 0, 0))
    findings, unjudged = bank_differs([counters], [Closing(170)], moving={"main"})
    assert (findings, [one.skipped for one in unjudged]) == ([], ["statement C is being taken in"])


def test_money_of_which_no_bank_ever_spoke_is_named():
    counters = Counters(ACCOUNT, "EUR", (100, 0, 0, 0), (100, 0, 0, 0))
    ((found,), _) = bank_differs([counters], [])
    assert (found.reason, found.account, found.expected) == (BreakReason.NO_STATEMENT, ACCOUNT, 100)
