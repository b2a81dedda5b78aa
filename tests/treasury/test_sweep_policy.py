"""When and how much is swept, as rules alone: what must stay never leaves, and nothing comes from nowhere."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BrokenInvariant
from ledger.commands import Posting
from treasury import sweep_entries as entries
from treasury.sweep_policy import (
    RETRY_FIRST,
    RETRY_LONGEST,
    Holding,
    SweepRule,
    is_due,
    native_amount,
    retry_after,
    sweepable,
    top_up,
)
from treasury.sweep_states import NEXT, OPEN, SweepState, advance

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNITS = st.integers(min_value=0, max_value=2**256 - 1)
HOLDINGS = st.builds(
    Holding, recorded=UNITS, at_final=UNITS, now=UNITS, kept_back=UNITS, oldest_at=st.none() | st.just(NOW)
)


def holding(amount: int = 100, **changes: int) -> Holding:
    told = {"recorded": amount, "at_final": amount, "now": amount, "kept_back": 0} | changes
    return Holding(**told, oldest_at=NOW)


@given(HOLDINGS)
def test_what_must_stay_stays_whatever_anybody_says_is_there(held):
    amount = sweepable(held)
    assert amount >= 0
    assert amount == 0 or held.kept_back + amount <= min(held.recorded, held.at_final, held.now)


@given(HOLDINGS, UNITS)
def test_a_coin_s_sweep_leaves_its_gas_and_what_must_stay(held, fee):
    amount = native_amount(held, fee_wei=fee)
    assert 0 <= amount <= sweepable(held)
    assert amount == 0 or amount + fee + held.kept_back <= min(held.recorded, held.at_final, held.now)


@given(HOLDINGS, UNITS)
def test_a_top_up_brings_exactly_what_is_lacking_and_what_must_stay_pays_no_gas(coins, fee):
    brought, free = top_up(coins, fee_wei=fee), sweepable(coins)
    assert free + brought >= fee
    assert brought == 0 or free + brought == fee


@given(UNITS, UNITS, UNITS, UNITS, UNITS)
def test_what_a_node_says_is_there_beyond_what_is_on_record_pays_no_gas(amount, kept, fee, final, now):
    true = holding(amount, kept_back=kept)
    told = holding(amount, kept_back=kept, at_final=amount + final, now=amount + now)
    assert native_amount(told, fee_wei=fee) == native_amount(true, fee_wei=fee)
    assert top_up(told, fee_wei=fee) == top_up(true, fee_wei=fee)


@pytest.mark.parametrize(
    ("amount", "threshold", "age_hours", "gas_cost", "due"),
    [
        (0, 0, 999, 0, False),  # nothing
        (100, 100, 0, None, True),  # enough: its age and its gas don't matter
        (99, 100, 0, 1, False),  # too little, and fresh
        (99, 100, 24, 1, True),  # little, but old and worth its gas
        (99, 100, 23, 1, False),
        (99, 100, 24, 33, True),
        (99, 100, 24, 34, False),  # not worth it
        (99, 100, 24, None, False),  # nobody knows what gas is worth
        (99, 100, None, 1, False),  # nothing came since it was swept last
        (10**30, None, 999, 0, False),  # no threshold: nothing by itself
    ],
)
def test_it_is_due_when_it_is_enough_or_old_and_worth_its_gas(amount, threshold, age_hours, gas_cost, due):
    rule = SweepRule(threshold=threshold, after=timedelta(hours=24))
    oldest = None if age_hours is None else NOW - timedelta(hours=age_hours)
    assert is_due(amount, rule, oldest_at=oldest, gas_cost=gas_cost, now=NOW) is due


def test_delays_double_up_to_a_day():
    delays = [retry_after(tries) for tries in range(1, 40)]
    assert delays[:3] == [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST]
    assert delays == sorted(delays)
    assert delays[-1] == RETRY_LONGEST


def net(postings: tuple[Posting, ...], account: str) -> int:
    """What they debit it with, less what they credit it with."""
    return sum(posting.amount * ((posting.debit == account) - (posting.credit == account)) for posting in postings)


@given(left=st.integers(1, 2**255), lost=st.integers(0, 2**255))
def test_what_leaves_the_deposit_address_arrives_or_waits_in_suspense(left, lost):
    arrived = max(0, left - lost)
    postings = entries.swept("local", "USDC", left=left, arrived=arrived)
    assert net(postings, "house/custody:local:deposit/USDC") == -left
    assert net(postings, "house/custody:local:hot/USDC") == arrived
    assert net(postings, "house/suspense/USDC") == left - arrived
    assert all(posting.amount > 0 for posting in postings)


def test_a_top_up_goes_from_gas_to_deposit_and_gas_is_an_expense_of_who_paid():
    assert entries.topped_up("local", "ETH", 7) == (
        Posting("house/custody:local:deposit/ETH", "house/custody:local:gas/ETH", "ETH", 7),
    )
    assert entries.gas("local", "ETH", payer="gas", amount=3) == (
        Posting("house/network-fees/ETH", "house/custody:local:gas/ETH", "ETH", 3),
    )
    assert entries.gas("local", "ETH", payer="gas", amount=0) == ()


def test_an_ended_sweep_stays_so_and_every_state_can_be_left_or_ends():
    for ended in (SweepState.FINAL, SweepState.DROPPED):
        for to in SweepState:
            if to is not ended:
                with pytest.raises(BrokenInvariant):
                    advance(ended, to)
    reached, frontier = {SweepState.PLANNED}, {SweepState.PLANNED}
    while frontier:
        frontier = {to for here in frontier for to in NEXT[here]} - reached
        reached |= frontier
    assert reached == set(SweepState)
    assert SweepState.UNSWEEPABLE not in OPEN  # it holds up nothing else at its address
