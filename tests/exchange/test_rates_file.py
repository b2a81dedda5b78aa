"""The rates file: exact, read again when it changes, refused with its place where it's wrong."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from base.clock import ManualClock
from exchange.errors import InvalidRates, NoRate, RatesTooOld
from exchange.pricing import Price
from exchange.rates_file import RatesFile, parse_rates
from ledger.money import Asset, AssetKind
from tests.wallet.conftest import RATES

USD, EUR = Asset("USD", AssetKind.FIAT, 2), Asset("EUR", AssetKind.FIAT, 2)
USDC, ETH = Asset("USDC", AssetKind.STABLECOIN, 6), Asset("ETH", AssetKind.CRYPTO, 18)


def exact(price: Price) -> Fraction:
    return Fraction(price.ratio.num, price.ratio.den)


def test_a_pair_serves_both_directions_in_smallest_units():
    rates = parse_rates(RATES)
    assert exact(rates.price(EUR, USD)) == Fraction(10842, 10000)
    assert exact(rates.price(USD, EUR)) == Fraction(10000, 10842)
    assert exact(rates.price(USDC, USD)) == Fraction(1, 10**4)
    assert rates.price(USDC, USD).spread_basis_points == 0


def test_unlisted_pairs_go_through_the_pivot_with_the_larger_spread():
    price = parse_rates(RATES).price(ETH, USDC)
    assert exact(price) == Fraction(250050, 100) * Fraction(10**6, 10**18)
    assert price.spread_basis_points == 50


@pytest.mark.parametrize("pair", [(USD, USD), (USD, Asset("CNY", AssetKind.FIAT, 2))])
def test_what_has_no_rate_is_refused_by_name(pair):
    with pytest.raises(NoRate):
        parse_rates(RATES).price(*pair)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('rate = "1.0842"', "rate = 1.0842", "pair 1"),
        ('rate = "1.0842"', 'rate = "0"', "more than zero"),
        ('rate = "1.0842"', 'rate = "-1"', "pair 1"),
        ('rate = "1.0842"', 'rate = "1e3"', "pair 1"),
        ('base = "EUR"', 'base = "USD"', "two different"),
        ('base = "ETH"', 'base = "EUR"', "listed twice"),
        ("max_age_seconds = 86400", "", "max_age_seconds"),
        ("max_age_seconds = 86400", "max_age_seconds = true", "max_age_seconds"),
        ("spread_basis_points = 50", "spread_basis_points = 10000", "spread_basis_points"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "offset"),
        ('pivot = "USD"', 'pivots = "USD"', "unknown key"),
        ("[[pairs]]", "[[pairs", "line"),
    ],
)
def test_a_wrong_rates_file_is_refused_with_its_place(old, new, said):
    with pytest.raises(InvalidRates, match=said):
        parse_rates(RATES.replace(old, new, 1))


async def test_the_file_is_read_again_when_it_changes_and_refused_when_old(tmp_path: Path):
    clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
    path = tmp_path / "rates.toml"
    source = RatesFile(path, clock=clock)
    with pytest.raises(InvalidRates, match="can't be read"):
        await source.current()
    path.write_text(RATES)
    assert exact((await source.current()).price(EUR, USD)) == Fraction(10842, 10000)
    replacement = tmp_path / "new.toml"
    replacement.write_text(RATES.replace("1.0842", "2"))
    replacement.replace(path)
    assert exact((await source.current()).price(EUR, USD)) == 2
    clock.advance(timedelta(days=1))
    with pytest.raises(RatesTooOld) as refused:
        await source.current()
    assert refused.value.facts == {"age_seconds": 129_600, "max_age_seconds": 86_400}


CROSSED = """
as_of = 2026-01-01T00:00:00Z
max_age_seconds = 86400
spread_basis_points = 50
{pivot}
pairs = [
  {{ base = "EUR", quote = "USD", rate = "1.0842" }},
  {{ base = "ETH", quote = "USD", rate = "2500.50" }},
  {{ base = "ETH", quote = "EUR", rate = "{rate}" }},
  {{ base = "GBP", quote = "USD", rate = "1.3", spread_basis_points = 0 }},
]
"""


@pytest.mark.parametrize("pivot", ['pivot = "USD"', ""])
@pytest.mark.parametrize(
    ("rate", "gains"), [("2306.31", False), ("2330", False), ("2342", True), ("2270", True), ("2283", False)]
)
def test_rates_that_mint_money_by_going_round_are_refused(pivot, rate, gains):
    """Three spreads of 0.5% bear a contradiction of 1.5%, not one above; which way round it goes doesn't matter."""
    text = CROSSED.format(pivot=pivot, rate=rate)
    if gains:
        with pytest.raises(InvalidRates, match="more than was put in"):
            parse_rates(text)
    else:
        assert parse_rates(text).pairs


async def test_rates_from_the_future_arent_used_since_they_would_never_grow_old(tmp_path: Path):
    path, clock = tmp_path / "rates.toml", ManualClock(datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    path.write_text(RATES.replace("2026-", "2062-", 1))
    with pytest.raises(RatesTooOld, match="yet to come"):
        await RatesFile(path, clock=clock).current()
