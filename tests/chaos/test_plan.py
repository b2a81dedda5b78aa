"""The plan of a run: what is done follows from the seed, and is enough."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.plan import (
    DEEPEST,
    FINAL_DEPTH,
    LIES,
    PER_MINUTE,
    POINTS,
    SPENDABLE_DEPTH,
    Fate,
    ToChain,
    ToHouse,
    Way,
    Wish,
    make_plan,
)
from tests.chaos.run import KILLS, REORGS, WITHDRAWALS_FINAL
from treasury.sweep_states import SweepState
from wallet.withdrawal_states import WithdrawalState


def test_one_seed_makes_one_plan_and_another_seed_another():
    assert make_plan(7, seconds=60, users=50) == make_plan(7, seconds=60, users=50)
    assert make_plan(7, seconds=60, users=50) != make_plan(8, seconds=60, users=50)


@pytest.mark.parametrize("seconds", [30, 60, 150, 600])
def test_every_minute_holds_each_kind_of_fault(seconds):
    plan = make_plan(7, seconds=seconds, users=50, workers=2)
    minutes = max(1, seconds // 60)
    for kinds, done in (
        (LIES, [one.lie for one in plan.lying]),
        (ToChain, [one.what for one in plan.chain]),
        (ToHouse, [one.what for one in plan.house]),
    ):
        counts = Counter(done)
        assert set(counts) == set(kinds)
        assert min(counts.values()) >= minutes
    for script in (plan.lying, plan.chain, plan.house, plan.asking, plan.paying):
        times = [one.at for one in script]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= seconds


def test_what_is_planned_is_more_than_the_floors():
    plan = make_plan(7, seconds=600, users=50)
    strikes = Counter(one.what for one in plan.chain) + Counter(one.what for one in plan.house)
    reorgs = strikes[ToChain.REORG] + strikes[ToChain.REORG_KEEPING]
    kills = sum(strikes[kind] for kind in (ToHouse.WORKER, ToHouse.WORKER_AT_POINT, ToHouse.SIGNER, ToHouse.API))
    assert PER_MINUTE[Wish.WITHDRAW] > 2 * WITHDRAWALS_FINAL
    assert (reorgs > 10 * REORGS, kills > 10 * KILLS) == (True, True)


def test_no_branch_replaces_what_is_final_and_some_replace_what_could_be_spent():
    depths = {one.depth for one in make_plan(7, seconds=600, users=50).chain}
    assert depths == set(range(1, DEEPEST + 1))
    assert SPENDABLE_DEPTH < DEEPEST < FINAL_DEPTH


def test_the_points_at_which_workers_die_are_those_that_the_code_names():
    """One that was renamed would never be reached, a new one never be tried."""
    root = Path(__file__).parents[2]
    named = {
        found
        for folder in ("chain", "wallet", "treasury", "worker")
        for path in (root / folder).rglob("*.py")
        for found in re.findall(r'\.reached\(f?"([^"]+)"\)', path.read_text())
    }
    elsewhere = {name for name in named if name.partition(".")[0] in ("addresses", "anchor", "reanchor", "recover")}
    stepwise = {name for name in named if "{" in name}
    assert stepwise == {
        f"{row}.{{{row}.state}}.{side}" for row in ("withdrawal", "sweep") for side in ("before", "after")
    }
    spelled = {point for point in POINTS if not any(point.startswith(name.partition("{")[0]) for name in stepwise)}
    spelled |= {point for point in POINTS if point in named}
    assert spelled == named - elsewhere - stepwise
    by_state = {
        name: [point.split(".")[1] for point in POINTS if point not in named and point.startswith(name)]
        for name in ("withdrawal.", "sweep.")
    }
    assert set(by_state["withdrawal."]) <= set(WithdrawalState)
    assert set(by_state["sweep."]) <= set(SweepState)


def test_each_withdrawal_pays_an_address_of_its_own():
    plan = make_plan(7, seconds=600, users=50)
    addresses = [one.address for one in plan.asking if one.wish is Wish.WITHDRAW]
    assert len(set(addresses)) == len(addresses) > 400
    assert set(plan.listed_recipients) < set(addresses)


def test_every_fate_and_every_way_of_paying_comes_up():
    plan = make_plan(7, seconds=600, users=50)
    assert {one.fate for one in plan.asking} == set(Fate)
    assert {one.way for one in plan.paying} == set(Way)
    assert {one.times for one in plan.asking} == {1, 3}
