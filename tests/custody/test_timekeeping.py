"""The signer's measure of time: what clocks may do to it, step by step and over random histories."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custody.timekeeping import DRIFT_US, REBOOT_US, Moment, Unsafe, advance, begin, confirm
from tests.custody.clocks import DAY, HOUR, MINUTE, SECOND, START, ManualClocks

many = settings(max_examples=250, deadline=None)


def told(last: Moment, clocks: ManualClocks) -> Moment:
    now = advance(last, clocks.read())
    assert isinstance(now, Moment), now
    return now


def code(last: Moment, clocks: ManualClocks) -> str | None:
    now = advance(last, clocks.read())
    return now.code if isinstance(now, Unsafe) else None


@pytest.fixture
def clocks() -> ManualClocks:
    return ManualClocks()


def test_time_that_both_clocks_tell_is_time(clocks: ManualClocks):
    first = begin(clocks.read())
    assert (first.at_us, first.window_us) == (START, START)
    clocks.advance(3 * DAY)
    now = told(first, clocks)
    assert (now.at_us, now.window_us, now.withheld_us) == (START + 3 * DAY, START + 3 * DAY, 0)


@pytest.mark.parametrize(
    ("wall", "boot", "refilled"),
    [(10, 10, 10), (40, 10, 10), (10, 40, 10), (0, 40, 0), (-1, 40, 0), (70, 10, 10), (10, 70, 10)],
)
def test_windows_refill_by_the_slower_of_the_clocks(clocks: ManualClocks, wall: int, boot: int, refilled: int):
    first = begin(clocks.read())
    clocks.wall_us += wall * SECOND
    clocks.boot_us += boot * SECOND
    now = told(first, clocks)
    assert now.window_us - first.window_us == refilled * SECOND
    assert now.at_us == first.at_us + max(0, wall) * SECOND


@pytest.mark.parametrize("sign", [1, -1])
def test_f55_clocks_that_drift_apart_by_more_than_a_minute_stop_it(clocks: ManualClocks, sign: int):
    first = begin(clocks.read())
    clocks.advance(DAY)
    clocks.wall_us += sign * DRIFT_US
    assert code(first, clocks) is None
    clocks.wall_us += sign
    assert code(first, clocks) == "clock_drifts"


def test_slow_drift_adds_up_within_one_boot(clocks: ManualClocks):
    last = begin(clocks.read())
    for _ in range(60):
        clocks.advance(MINUTE)
        clocks.wall_us += SECOND
        last = told(last, clocks)
    clocks.wall_us += SECOND
    assert code(last, clocks) == "clock_drifts"


def test_f55_a_clock_behind_the_journal_by_more_than_a_second_stops_it(clocks: ManualClocks):
    first = begin(clocks.read())
    clocks.wall_us -= SECOND
    assert told(first, clocks).at_us == START, "time itself never falls"
    clocks.wall_us -= 1
    assert code(first, clocks) == "clock_behind"
    clocks.reboot()
    assert code(first, clocks) == "clock_behind", "nor after a reboot"


def test_a_reboot_refills_an_hour_at_most_and_keeps_the_rest(clocks: ManualClocks):
    first = begin(clocks.read())
    clocks.reboot(down_us=5 * HOUR)
    now = told(first, clocks)
    assert (now.at_us, now.window_us, now.withheld_us) == (START + 5 * HOUR, START + HOUR, 4 * HOUR)
    clocks.advance(MINUTE)
    assert told(now, clocks).window_us == START + HOUR + MINUTE
    short = begin(clocks.read())
    clocks.reboot(down_us=20 * MINUTE)
    now = told(short, clocks)
    assert (now.window_us - short.window_us, now.withheld_us) == (20 * MINUTE, 0)


def test_the_second_of_two_quick_reboots_refills_no_more_than_was_measured_between(clocks: ManualClocks):
    last = begin(clocks.read())
    clocks.reboot(down_us=5 * HOUR)
    last = told(last, clocks)
    clocks.advance(10 * MINUTE)
    last = told(last, clocks)
    clocks.reboot(down_us=5 * HOUR)
    now = told(last, clocks)
    assert (now.window_us - last.window_us, now.withheld_us) == (10 * MINUTE, 4 * HOUR + 4 * HOUR + 50 * MINUTE)
    clocks.reboot(down_us=5 * HOUR)
    assert told(now, clocks).window_us == now.window_us


def test_confirming_gives_back_what_reboots_withheld_once(clocks: ManualClocks):
    last = begin(clocks.read())
    clocks.reboot(down_us=5 * HOUR)
    last = told(last, clocks)
    clocks.advance(MINUTE)
    last = confirm(last, clocks.read())
    assert (last.window_us, last.withheld_us, last.measured_us) == (START + 5 * HOUR + MINUTE, 0, REBOOT_US)
    assert confirm(last, clocks.read()).window_us == last.window_us


def test_confirming_over_a_reboot_counts_all_the_time_between(clocks: ManualClocks):
    last = begin(clocks.read())
    clocks.reboot(down_us=5 * HOUR)
    assert confirm(last, clocks.read()).window_us == START + 5 * HOUR


def test_confirming_within_a_boot_refills_no_more_than_the_boot_clock_tells(clocks: ManualClocks):
    last = begin(clocks.read())
    clocks.wall_us += DAY
    clocks.boot_us += MINUTE
    assert code(last, clocks) == "clock_drifts"
    now = confirm(last, clocks.read())
    assert (now.at_us, now.window_us) == (START + DAY, START + MINUTE)
    assert code(now, clocks) is None


def test_only_confirming_brings_time_back(clocks: ManualClocks):
    last = begin(clocks.read())
    clocks.advance(HOUR)
    last = told(last, clocks)
    clocks.set_wall(START)
    assert code(last, clocks) == "clock_behind"
    now = confirm(last, clocks.read())
    assert (now.at_us, now.window_us) == (START, last.window_us)
    clocks.advance(MINUTE)
    assert told(now, clocks).window_us == now.window_us + MINUTE


steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 2 * DAY)),
        st.tuples(st.just("wall"), st.integers(-2 * MINUTE, 2 * MINUTE)),
        st.tuples(st.just("push"), st.integers(-DAY, 7 * DAY)),
        st.tuples(st.just("reboot"), st.integers(0, 3 * DAY)),
    ),
    max_size=25,
)


def moved(clocks: ManualClocks, what: str, by: int) -> None:
    match what:
        case "advance":
            clocks.advance(by)
        case "reboot":
            clocks.reboot(down_us=by)
        case _:
            clocks.wall_us += by


@given(steps)
@many
def test_f55_within_a_boot_windows_refill_no_faster_than_either_clock(history: list[Any]):
    clocks = ManualClocks()
    last = begin(clocks.read())
    for what, by in history:
        moved(clocks, what, by)
        now = advance(last, clocks.read())
        if isinstance(now, Unsafe):
            continue
        assert now.window_us >= last.window_us
        assert now.at_us >= last.at_us
        if now.boot == last.boot:
            progress = min(max(0, clocks.wall_us - last.at_us), clocks.boot_us - last.boot_us)
            assert now.window_us - last.window_us <= progress
        else:
            assert now.window_us - last.window_us <= min(REBOOT_US, now.at_us - last.at_us)
        last = now


@given(steps)
@many
def test_f55_no_history_of_pushed_clocks_and_reboots_refills_more_than_was_measured(history: list[Any]):
    """Over each reboot at most an hour, and what was measured in the boot before; the first may have its hour."""
    clocks = ManualClocks()
    last = begin(clocks.read())
    measured, allowed = REBOOT_US, 0
    for what, by in history:
        moved(clocks, what, by)
        now = advance(last, clocks.read())
        if isinstance(now, Unsafe):
            continue
        if now.boot == last.boot:
            measured += now.boot_us - last.boot_us
            allowed += now.boot_us - last.boot_us
        else:
            allowed += min(REBOOT_US, measured)
            measured = 0
        last = now
        assert last.window_us - START <= allowed


@given(st.lists(st.integers(0, 30 * DAY), min_size=2, max_size=12))
@many
def test_f55_reboots_one_after_the_other_refill_one_hour_in_all(pushes: list[int]):
    clocks = ManualClocks()
    last = begin(clocks.read())
    for push in pushes:
        clocks.reboot(down_us=push)
        last = told(last, clocks)
    assert last.window_us - START <= REBOOT_US
    assert last.window_us - START + last.withheld_us == sum(pushes), "and nothing is forgotten: it can be confirmed"
