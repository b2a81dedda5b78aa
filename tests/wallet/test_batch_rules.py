"""Who waits for whom, what a batch may cost, and how its cost is shared: pure rules."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import ConfigError
from chain.networks import Deployment
from chain.payout import LEGS_MAX, gas_bound, tail_gas
from chain.tokens import Quirk
from wallet.batch_rules import NATIVE_GAS_MAX, PATIENCE, Terms, due, gas_limit, may_share, price_max, shares, waits

TERMS = Terms(legs_min=4, legs_max=10, wait=timedelta(seconds=20))
NOW, SOON, LONG = timedelta(0), timedelta(seconds=19), timedelta(seconds=20)


@dataclass(frozen=True)
class Asked:
    gas_limit: int = 80_000
    fee_wei_max: int = 80_000 * 10**10


@pytest.mark.parametrize(
    ("waiting", "oldest", "is_due"),
    [
        (4, SOON, False),  # enough, but the first may wait for more
        (4, LONG, True),
        (3, LONG, False),
        (9, SOON, False),
        (10, NOW, True),  # no more fit
        (50, NOW, True),
    ],
)
def test_a_batch_is_due_when_enough_waited_long_enough_or_no_more_fit(waiting, oldest, is_due):
    assert due(TERMS, waiting=waiting, oldest=oldest) is is_due


@pytest.mark.parametrize(
    ("waiting", "age", "still"),
    [
        (1, SOON, True),
        (1, LONG, False),
        (3, LONG, False),
        (4, LONG, True),
        (4, TERMS.wait + PATIENCE, False),  # something is wrong: better alone than never
    ],
)
def test_one_waits_for_company_but_not_longer_than_was_said(waiting, age, still):
    assert waits(TERMS, waiting=waiting, age=age) is still


@given(st.integers(1, 200), st.integers(0, 40))
def test_nobody_waits_for_a_batch_that_is_never_made(waiting, seconds):
    """Whoever isn't paid alone after the wait is in a batch that is due by then."""
    age = timedelta(seconds=seconds)
    if age >= TERMS.wait and waits(TERMS, waiting=waiting, age=age):
        assert due(TERMS, waiting=waiting, oldest=age)


@pytest.mark.parametrize("terms", [(0, 10), (11, 10), (1, LEGS_MAX + 1)])
def test_terms_that_can_t_be_are_refused(terms):
    with pytest.raises(ConfigError):
        Terms(*terms)


@pytest.mark.parametrize("quirk", list(Quirk))
def test_tokens_with_fees_hooks_or_rebasing_are_paid_one_by_one(quirk):
    token = Deployment(asset="T", network="n", contract="0x" + "aa" * 20, decimals=6, quirks=frozenset({quirk}))
    assert may_share(token, Asked()) is (quirk not in (Quirk.FEE_ON_TRANSFER, Quirk.HOOKS, Quirk.REBASING))


def test_who_needs_much_gas_gets_the_coin_alone():
    coin = Deployment(asset="ETH", network="n", contract=None, decimals=18)
    assert may_share(coin, Asked(gas_limit=NATIVE_GAS_MAX))
    assert not may_share(coin, Asked(gas_limit=NATIVE_GAS_MAX + 1))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("legs", [1, 10, 100])
def test_the_gas_limit_is_what_each_had_alone_and_never_more_than_can_be_used(native, legs):
    modest, dear = [Asked()] * legs, [Asked(gas_limit=10**7)] * legs
    assert gas_limit(modest, native=native) <= gas_bound(legs, native=native)
    assert gas_limit(modest, native=native) > tail_gas(native=native)
    assert gas_limit(dear, native=native) == gas_bound(legs, native=native) < 2**24


def test_the_price_is_that_of_the_leg_that_was_promised_the_most():
    assert price_max([Asked(fee_wei_max=80_000 * 7), Asked(fee_wei_max=80_000 * 9), Asked(100, 500)]) == 9


@given(st.integers(0, 2**100), st.integers(1, 100))
def test_shares_come_to_the_whole_cost_and_differ_by_one_wei(cost_wei, legs):
    parts = shares(cost_wei, legs)
    assert (sum(parts), len(parts)) == (cost_wei, legs)
    assert max(parts) - min(parts) <= 1
