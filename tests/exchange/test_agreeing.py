"""Several sources: the median of those that are fresh and near, and doubts with their numbers."""

from datetime import timedelta
from fractions import Fraction
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.agreeing import Reading, Snapshot, by_pair, judge, rates_of, take_snapshot
from exchange.errors import NoRate, RateUnavailable
from exchange.rates import Doubt
from exchange.ratios import of_fraction, parse_ratio, stored
from exchange.terms import Agreement, PairTerms, Terms
from ledger.money import Asset, AssetKind
from tests.exchange.world import NOON

SECOND = timedelta(seconds=1)
RULE = Agreement(
    max_age=60 * SECOND, sources_min=2, deviation_basis_points=100, jump_basis_points=1000, jump_hold=300 * SECOND
)
TERMS = Terms(reference="USD", agreement=RULE, pairs={("ETH", "USD"): PairTerms(30, {"gold": 10})})
ETH, USD, EUR = (
    Asset("ETH", AssetKind.CRYPTO, 18),
    Asset("USD", AssetKind.FIAT, 2),
    Asset("EUR", AssetKind.FIAT, 2),
)
rates = st.fractions(Fraction(1, 1000), 10**6, max_denominator=1000)


def told(source: str, rate: object, *, age: int = 0, base: str = "ETH", quote: str = "USD") -> Reading:
    return Reading(source, base, quote, stored(of_fraction(Fraction(str(rate)))), NOON - age * SECOND)


def judged(*readings: Reading, rule: Agreement = RULE, now=NOON):
    return judge(readings, now=now, rule=rule, last=None, jump=None)


@given(st.lists(rates, min_size=1, max_size=7))
def test_what_is_believed_is_the_median_of_what_agrees(values):
    rule = Agreement(sources_min=1, deviation_basis_points=100)
    found = judged(*(told(f"s{n}", value) for n, value in enumerate(values)), rule=rule)
    middle = median(values)
    near = [value for value in values if abs(value - middle) * 10_000 <= 100 * middle]
    if 2 * len(near) > len(values):
        assert parse_ratio(found.believed.rate).fraction == median(near)
    else:
        assert found.unknown.doubt is Doubt.DEVIATING


@given(st.lists(st.integers(99_90, 100_10), min_size=2, max_size=3), rates)
def test_one_source_that_lies_moves_nothing_beyond_the_honest_ones(honest, lie):
    readings = [told(f"s{n}", Fraction(value, 100)) for n, value in enumerate(honest)]
    rule = Agreement(sources_min=len(honest), deviation_basis_points=100)
    found = judged(*readings, told("liar", lie), rule=rule)
    if found.believed is not None:
        assert min(honest) <= parse_ratio(found.believed.rate).fraction * 100 <= max(honest)


def test_too_few_fresh_sources_are_told_with_their_ages():
    found = judged(told("a", 100, age=5), told("b", 100, age=61))
    assert found.unknown.doubt is Doubt.STALE
    assert found.unknown.facts == {
        "sources_usable": 1,
        "sources_min": 2,
        "ages": {"a": 5, "b": 61},
        "max_age_seconds": 60,
    }


def test_a_source_from_the_future_isnt_fresh():
    assert judged(told("a", 100, age=-31), told("b", 100)).unknown.doubt is Doubt.STALE
    assert judged(told("a", 100, age=-30), told("b", 100)).believed is not None


def test_two_that_disagree_are_told_with_their_rates():
    found = judged(told("a", 100), told("b", "102.5"))
    assert found.unknown.doubt is Doubt.DEVIATING
    assert found.unknown.facts == {
        "sources_usable": 0,
        "sources_min": 2,
        "rates": {"a": "100", "b": "102.5"},
        "off_basis_points": {"a": 124, "b": 124},
        "most_basis_points": 100,
    }


def test_a_jump_waits_and_is_believed_once_it_has_stayed():
    first = take_snapshot("1", [told("a", 100), told("b", 100)], now=NOON, rule=RULE, before=None)
    up = [told("a", 115, age=-10), told("b", 115, age=-10)]
    then = NOON + 10 * SECOND
    second = take_snapshot("2", up, now=then, rule=RULE, before=first)
    assert second.believed == first.believed
    with pytest.raises(RateUnavailable) as refused:
        rates_of(second, now=then, terms=TERMS).price(ETH, USD)
    assert refused.value.facts == {
        "pair": "ETH/USD",
        "doubt": "jumped",
        "rate": "115",
        "last_rate": "100",
        "moved_basis_points": 1500,
        "most_basis_points": 1000,
        "believed_at": (then + 300 * SECOND).isoformat(),
    }
    snapshot = second
    for step in range(1, 31):  # told every ten seconds
        now = then + 10 * step * SECOND
        readings = [told("a", 115, age=-10 - 10 * step), told("b", 115, age=-10 - 10 * step)]
        snapshot = take_snapshot(str(step), readings, now=now, rule=RULE, before=snapshot)
        assert ("ETH/USD" in snapshot.jumps) == (step < 30)
    assert rates_of(snapshot, now=now, terms=TERMS).pairs["ETH", "USD"].rate == parse_ratio("115")


def test_a_jump_that_comes_back_leaves_nothing_behind():
    snapshot: Snapshot | None = None
    for step, rate in enumerate((100, 115, 101, 115)):
        now = NOON + 200 * step * SECOND
        readings = [told(name, rate, age=-200 * step) for name in "ab"]
        snapshot = take_snapshot(str(step), readings, now=now, rule=RULE, before=snapshot)
    assert snapshot is not None
    assert snapshot.jumps["ETH/USD"].since == now


def test_a_snapshot_that_grows_old_tells_nothing_any_more():
    snapshot = take_snapshot("1", [told("a", 100), told("b", 100, age=20)], now=NOON, rule=RULE, before=None)
    assert rates_of(snapshot, now=NOON + 40 * SECOND, terms=TERMS).price(ETH, USD)
    with pytest.raises(RateUnavailable, match="lately"):
        rates_of(snapshot, now=NOON + 41 * SECOND, terms=TERMS).price(ETH, USD)
    with pytest.raises(NoRate):
        rates_of(snapshot, now=NOON, terms=TERMS).price(EUR, USD)


def test_a_pair_told_the_other_way_round_is_the_same_pair():
    found = by_pair([told("a", 4), told("b", Fraction(1, 4), base="USD", quote="ETH")])
    assert {name: [one.value for one in readings] for name, readings in found.items()} == {("ETH", "USD"): [4, 4]}


@pytest.mark.parametrize("again", [told("a", 100), told("a", "0.01", base="USD", quote="ETH")])
def test_a_source_that_tells_a_pair_twice_is_one_source(again):
    snapshot = take_snapshot("1", [told("a", 100), again], now=NOON, rule=RULE, before=None)
    assert snapshot.believed == {}
    with pytest.raises(RateUnavailable, match="lately"):
        rates_of(snapshot, now=NOON, terms=TERMS).price(ETH, USD)


def test_a_jump_waits_whichever_way_round_the_pair_is_told_first():
    """Source a, that tells ETH/USD, falls silent; b's USD/ETH comes first then, and is the same pair."""
    rule = Agreement(jump_basis_points=1000)
    both = [told("a", 100), told("b", "0.01", base="USD", quote="ETH")]
    first = take_snapshot("1", both, now=NOON, rule=rule, before=None)
    then = NOON + 10 * SECOND
    lie = told("b", "0.001", base="USD", quote="ETH", age=-10)
    second = take_snapshot("2", [lie], now=then, rule=rule, before=first)
    assert second.jumps.keys() == {"ETH/USD"}
    with pytest.raises(RateUnavailable, match="moved further"):
        rates_of(second, now=then, terms=Terms(reference="USD", agreement=rule)).price(ETH, USD)


def test_a_jump_that_jumps_again_waits_anew_however_old_the_last_belief():
    snapshot = take_snapshot("0", [told("a", 100), told("b", 100)], now=NOON, rule=RULE, before=None)
    for step in range(1, 35):  # told every ten seconds; the first level until just before it would be believed
        now = NOON + 10 * step * SECOND
        readings = [told(name, 200 if step < 30 else 1000, age=-10 * step) for name in "ab"]
        snapshot = take_snapshot(str(step), readings, now=now, rule=RULE, before=snapshot)
    assert parse_ratio(snapshot.believed["ETH/USD"].rate).fraction == 100
    assert snapshot.jumps["ETH/USD"].since == NOON + 300 * SECOND


def test_a_jump_waits_also_behind_a_source_that_tells_seldom():
    """A price feed contract that is asked every ten seconds, and whose own answer may be an hour old."""
    rule = Agreement(max_age=7200 * SECOND, jump_basis_points=1000, jump_hold=300 * SECOND)
    first = take_snapshot("1", [told("a", 100, age=3000)], now=NOON, rule=rule, before=None)
    then = NOON + 10 * SECOND
    second = take_snapshot("2", [told("a", 1000, age=-10)], now=then, rule=rule, before=first)
    assert second.jumps.keys() == {"ETH/USD"}
    assert second.believed == first.believed


def test_a_tiers_spread_is_its_own_and_through_the_pivot_the_larger_one_counts():
    readings = [told(name, rate, base=base) for name in "ab" for base, rate in (("ETH", 2500), ("EUR", "1.1"))]
    rates = rates_of(take_snapshot("1", readings, now=NOON, rule=RULE, before=None), now=NOON, terms=TERMS)
    assert [rates.price(ETH, USD, tier=tier).spread_basis_points for tier in (None, "gold", "iron")] == [30, 10, 30]
    assert rates.price(ETH, EUR, tier="gold").spread_basis_points == 50
    assert rates.price(ETH, EUR).ratio.fraction == Fraction(2500 * 100, 10**18) / Fraction(11, 10)


def test_pairs_that_contradict_each_other_are_doubted_and_those_with_the_pivot_stay():
    wrong = (("ETH", "USD", 2500), ("EUR", "USD", "1.1"), ("ETH", "EUR", 2500))
    readings = [told(name, rate, base=base, quote=quote) for name in "ab" for base, quote, rate in wrong]
    rates = rates_of(take_snapshot("1", readings, now=NOON, rule=RULE, before=None), now=NOON, terms=TERMS)
    assert rates.price(ETH, USD)
    with pytest.raises(RateUnavailable) as refused:
        rates.price(ETH, EUR)
    assert refused.value.facts["doubt"] == "contradicting"


def test_a_pair_that_nobody_tells_any_more_isnt_known_now():
    first = take_snapshot("1", [told("a", 100), told("b", 100)], now=NOON, rule=RULE, before=None)
    second = take_snapshot("2", [], now=NOON, rule=RULE, before=first)
    with pytest.raises(RateUnavailable, match="lately"):
        rates_of(second, now=NOON, terms=TERMS).price(ETH, USD)


def test_a_level_that_creeps_on_while_it_is_doubted_has_not_stayed():
    """From 100 to 200 by a twentieth every ten seconds: it's believed only long after it stands still."""
    snapshot, rate = take_snapshot("0", [told("a", 100), told("b", 100)], now=NOON, rule=RULE, before=None), 120.0
    for step in range(1, 41):
        now = NOON + 10 * step * SECOND
        shown = Fraction(int(rate * 100), 100)
        snapshot = take_snapshot(
            str(step), [told(name, shown, age=-10 * step) for name in "ab"], now=now, rule=RULE, before=snapshot
        )
        assert parse_ratio(snapshot.believed["ETH/USD"].rate) == parse_ratio("100")
        rate = min(200.0, rate * 1.05) if step % 2 else min(200.0, rate * 1.02)
