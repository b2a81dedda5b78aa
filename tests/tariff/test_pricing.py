"""Prices against a model of their own, in fractions."""

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from tariff.pricing import Move, fee_of, price
from tariff.schedule import Operation, Rule, Tariff, Tier, contradiction, of_basis_points, percent

AMOUNTS = st.one_of(st.integers(1, 10**6), st.integers(1, 10**30))
UNITS = st.integers(0, 10**8)


@st.composite
def rules(draw):
    decimals = draw(st.integers(0, 8))
    units = draw(st.integers(0, 100 * 10**decimals))
    whole, rest = divmod(units, 10**decimals)
    text = f"{whole}.{rest:0{decimals}}" if decimals else str(whole)
    flat, minimum = draw(UNITS), draw(UNITS)
    maximum = draw(st.one_of(st.none(), st.integers(max(flat, minimum), 10**9)))
    return Rule(
        "fees[1]",
        Operation.TRANSFER,
        flat=flat,
        percent=percent(text, units, decimals),
        minimum=minimum,
        maximum=maximum,
    )


def model(rule: Rule, amount: int) -> Fraction:
    """What it comes to before it's rounded."""
    told = rule.flat + Fraction(rule.percent.text) / 100 * amount
    told = max(told, Fraction(rule.minimum))
    return told if rule.maximum is None else min(told, Fraction(rule.maximum))


@given(rules(), AMOUNTS)
def test_a_fee_is_what_the_rule_says_rounded_up_by_less_than_a_unit(rule, amount):
    fee, exact = fee_of(rule, amount), model(rule, amount)
    assert type(fee) is int
    assert fee == ceil(exact)
    assert 0 <= fee - exact < 1


@given(rules(), AMOUNTS)
def test_a_fee_lies_between_minimum_and_maximum(rule, amount):
    fee = fee_of(rule, amount)
    assert fee >= rule.minimum
    assert rule.maximum is None or fee <= rule.maximum


@given(rules(), AMOUNTS, AMOUNTS)
def test_more_never_costs_less(rule, one, other):
    assert fee_of(rule, min(one, other)) <= fee_of(rule, max(one, other))


@given(rules(), AMOUNTS)
def test_a_preview_recomputes_from_its_own_fields(rule, amount):
    tariff = Tariff({"standard": Tier("standard")}, "standard", (rule,))
    told = price(tariff, "standard", Move("usr_a", Operation.TRANSFER, "EUR", amount))
    again = told.flat + ceil(Fraction(told.percent.text) * told.amount / 100)
    again = max(again, told.minimum)
    assert told.fee == (again if told.maximum is None else min(again, told.maximum))


@given(st.integers(0, 10_000), AMOUNTS)
def test_basis_points_cost_what_they_did(points, amount):
    rule = Rule("transfer_fee_basis_points", Operation.TRANSFER, percent=of_basis_points(points))
    assert fee_of(rule, amount) == -(-amount * points // 10_000)
    assert Fraction(rule.percent.text) == Fraction(points, 100)


SELECTORS = st.fixed_dictionaries(
    {kind: st.one_of(st.none(), st.sampled_from(["a", "b"])) for kind in ("tier", "asset", "place")}
)


@given(st.lists(SELECTORS, max_size=6), SELECTORS)
def test_the_rule_that_holds_names_all_that_any_other_fitting_one_does(selectors, wanted):
    """In a tariff that isn't refused; asked for every tier, asset and place that there is, and for others."""
    found = [Rule(f"fees[{n}]", Operation.PAYOUT, **named) for n, named in enumerate(selectors, start=1)]
    if contradiction(found) is not None:
        return
    tariff = Tariff({"standard": Tier("standard")}, "standard", tuple(found))
    tier, asset, place = (wanted[kind] or "other" for kind in ("tier", "asset", "place"))
    fitting = [one for one in found if one.fits(Operation.PAYOUT, tier, asset, place)]
    holds = tariff.rule_for(Operation.PAYOUT, tier, asset, place)
    assert (holds is None) == (not fitting)
    assert holds is None or all(one.named.items() <= holds.named.items() for one in fitting)


@given(st.lists(SELECTORS, min_size=2, max_size=5))
def test_a_contradiction_is_found_exactly_where_some_operation_has_no_most_specific_rule(selectors):
    found = [Rule(f"fees[{n}]", Operation.PAYOUT, **named) for n, named in enumerate(selectors, start=1)]
    doubtful = False
    for tier in ("a", "b", "other"):
        for asset in ("a", "b", "other"):
            for place in ("a", "b", None):
                fitting = [one for one in found if one.fits(Operation.PAYOUT, tier, asset, place)]
                best = [one for one in fitting if all(o.named.items() <= one.named.items() for o in fitting)]
                doubtful |= bool(fitting) and len(best) != 1
    assert (contradiction(found) is not None) == doubtful
