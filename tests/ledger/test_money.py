import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidAmount
from ledger.money import AMOUNT_END, Asset, AssetKind, format_amount, parse_amount

USD = Asset("USD", AssetKind.FIAT, 2)
ETH = Asset("ETH", AssetKind.CRYPTO, 18)
YEN = Asset("JPY", AssetKind.FIAT, 0)


@pytest.mark.parametrize(
    ("text", "asset", "units"),
    [
        ("12.50", USD, 1250),
        ("12.5", USD, 1250),
        ("0.01", USD, 1),
        ("7", YEN, 7),
        ("1.000000000000000001", ETH, 10**18 + 1),
        ("90071992547409.93", USD, 2**53 + 1),
    ],
)
def test_amount_is_read_exactly(text, asset, units):
    assert parse_amount(text, asset) == units


@pytest.mark.parametrize(
    ("text", "asset", "code"),
    [
        ("12.505", USD, "too_many_decimals"),
        ("0.1", YEN, "too_many_decimals"),
        ("0", USD, "invalid_amount"),
        ("0.00", USD, "invalid_amount"),
        ("-1", USD, "invalid_amount"),
        ("+1", USD, "invalid_amount"),
        ("1e3", USD, "invalid_amount"),
        ("1,000.00", USD, "invalid_amount"),
        ("01", USD, "invalid_amount"),
        (".5", USD, "invalid_amount"),
        ("5.", USD, "invalid_amount"),
        (" 5", USD, "invalid_amount"),
        ("٣", USD, "invalid_amount"),
        ("NaN", USD, "invalid_amount"),
        ("", USD, "invalid_amount"),
        ("9" * 200, USD, "invalid_amount"),
        (str(2**256), YEN, "amount_too_large"),
    ],
)
def test_what_is_no_exact_amount_is_refused_with_its_reason(text, asset, code):
    with pytest.raises(InvalidAmount) as refused:
        parse_amount(text, asset)
    assert refused.value.code == code


def test_a_number_is_no_amount():
    with pytest.raises(InvalidAmount):
        parse_amount(12.5, USD)  # type: ignore[arg-type]


@given(st.integers(1, AMOUNT_END - 1), st.integers(0, 30))
def test_what_is_written_reads_back_the_same(units, scale):
    asset = Asset("X", AssetKind.CRYPTO, scale)
    assert parse_amount(format_amount(units, asset), asset) == units


@pytest.mark.parametrize("units", [2**53 + 1, 2**63, 10**28 + 1, 2**128 + 1, 2**256 - 1])
def test_f65_large_amounts_are_exact_in_text(units):
    assert parse_amount(format_amount(units, ETH), ETH) == units


@pytest.mark.parametrize(
    ("units", "asset", "text"),
    [(1250, USD, "12.50"), (-5, USD, "-0.05"), (7, YEN, "7"), (10**18, ETH, "1.00"), (1, ETH, "0." + "0" * 17 + "1")],
)
def test_amounts_are_written_with_two_decimals_at_least(units, asset, text):
    assert format_amount(units, asset) == text
