"""Prices against independent arithmetic with fractions: nothing is created, and one rounding loses below one unit."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import pricing
from exchange.errors import AmountTooSmall
from exchange.pricing import Exact, Price
from exchange.rates import Pair, Rates
from exchange.ratios import Ratio, decimal_text, parse_ratio, ratio, stored
from ledger.errors import InvalidAmount
from ledger.money import Asset, AssetKind
from tests.exchange.world import NOON, rates_at

ratios = st.builds(ratio, st.integers(1, 10**20), st.integers(1, 10**20))
prices = st.builds(Price, ratios, st.integers(0, 9_999))
amounts = st.integers(1, 10**40)
scales = st.integers(0, 18)


def taken(price: Price) -> Fraction:
    """What one unit sold gives, the spread taken."""
    return Fraction(price.ratio.num, price.ratio.den) * Fraction(10_000 - price.spread_basis_points, 10_000)


@given(prices, amounts)
def test_selling_gives_the_exact_value_rounded_down_once_and_says_what_that_took(price, sold):
    exact = sold * taken(price)
    if exact < 1:
        with pytest.raises(AmountTooSmall) as refused:
            pricing.sell(price, sold)
        least = int(str(refused.value.facts["sell_at_least"]))
        assert least * taken(price) >= 1 > (least - 1) * taken(price)
        return
    found = pricing.sell(price, sold)
    assert (found.sold, found.bought, found.exact) == (sold, floor(exact), Exact.SELL)
    assert found.lost.fraction == exact - floor(exact) < 1
    assert found.spread == floor(Fraction(sold * price.spread_basis_points, 10_000))


@given(prices, amounts)
def test_buying_takes_the_exact_cost_rounded_up_once_and_says_what_that_took(price, bought):
    exact = bought / taken(price)
    found = pricing.buy(price, bought)
    assert (found.sold, found.bought, found.exact) == (ceil(exact), bought, Exact.BUY)
    assert found.lost.fraction == ceil(exact) - exact < 1


@given(prices, amounts)
def test_exact_buy_and_exact_sell_agree(price, bought):
    """Selling what buying asked gives at least what was bought, and any less would give less."""
    sold = pricing.buy(price, bought).sold
    assert pricing.sell(price, sold).bought >= bought
    assert (sold - 1) * taken(price) < bought


@given(prices, amounts)
def test_the_stock_gets_at_least_what_it_gives_is_worth(price, sold):
    if sold * taken(price) >= 1:
        found = pricing.sell(price, sold)
        assert (found.sold - found.spread) * price.ratio.fraction >= found.bought


@given(prices, amounts)
def test_a_round_trip_never_gains(price, sold):
    there = price
    back = Price(price.ratio.inverse(), price.spread_basis_points)
    if sold * taken(there) < 1:
        return
    got = pricing.sell(there, sold).bought
    if got * taken(back) >= 1:
        assert pricing.sell(back, got).bought <= sold
    assert pricing.buy(back, sold).sold >= got


@given(ratios, scales, scales, st.integers(0, 9_999), st.integers(1, 10**30))
def test_a_pair_serves_both_directions_at_any_scale(rate, base_scale, quote_scale, spread, sold):
    base, quote = Asset("BASE", AssetKind.CRYPTO, base_scale), Asset("QUOTE", AssetKind.CRYPTO, quote_scale)
    rates = rates_at(NOON, Pair("BASE", "QUOTE", rate, spread))
    there, back = rates.price(base, quote), rates.price(quote, base)
    whole = Fraction(sold, 10**base_scale) * rate.fraction
    assert sold * there.ratio.fraction == whole * 10**quote_scale
    assert there.ratio.fraction * back.ratio.fraction == 1
    assert rates.worth(base, sold, quote) == whole * 10**quote_scale


@given(ratios, ratios, scales, scales, st.integers(0, 500), st.integers(0, 500), st.integers(1, 10**30))
def test_no_way_through_the_pivot_gains(first, second, a_scale, b_scale, a_spread, b_spread, sold):
    a, b, pivot = (
        Asset("AAA", AssetKind.CRYPTO, a_scale),
        Asset("BBB", AssetKind.CRYPTO, b_scale),
        Asset("USD", AssetKind.FIAT, 2),
    )
    rates: Rates = rates_at(NOON, Pair("AAA", "USD", first, a_spread), Pair("BBB", "USD", second, b_spread))
    amount = sold
    for sell, buy in ((a, b), (b, pivot), (pivot, a)):
        try:
            amount = pricing.sell(rates.price(sell, buy), amount).bought
        except AmountTooSmall:
            return
    assert amount <= sold


def test_an_exchange_beyond_the_largest_amount_is_refused():
    with pytest.raises(InvalidAmount):
        pricing.sell(Price(ratio(10**40, 1), 0), 10**40)
    with pytest.raises(InvalidAmount):
        pricing.buy(Price(ratio(1, 10**40), 0), 10**40)


@given(st.builds(ratio, st.integers(0, 10**30), st.integers(1, 10**30)))
def test_a_ratio_reads_back_as_it_was_written(value: Ratio):
    assert parse_ratio(str(value)) == value
    assert parse_ratio(stored(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (ratio(10842, 10000), "1.0842"),
        (ratio(1, 3), None),
        (ratio(7, 1), "7"),
        (ratio(1, 2**40), "0.0000000000009094947017729282379150390625"),
        (ratio(1, 2**41), None),
        (ratio(1, 1024), "0.0009765625"),
    ],
)
def test_what_no_short_decimal_tells_exactly_is_a_fraction(value, shown):
    assert decimal_text(value) == shown
    assert str(value) == (shown or f"{value.num}/{value.den}")
