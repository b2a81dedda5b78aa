"""What was seen is known; what wasn't is taken for known only rarely; the oldest is forgotten."""

import pytest

from ledger.seen import Seen


@pytest.mark.parametrize("size", [100, 5_000])
def test_what_was_added_lately_is_known(size):
    seen = Seen(size)
    for number in range(3 * size):
        seen.add(f"id{number}")
    assert all(seen.may_have(f"id{number}") for number in range(2 * size, 3 * size))


def test_the_oldest_are_forgotten_so_that_memory_is_bounded():
    seen = Seen(100)
    for number in range(1_000):
        seen.add(f"id{number}")
    assert sum(seen.may_have(f"id{number}") for number in range(700)) == 0


def test_few_that_were_never_added_are_taken_for_known():
    seen = Seen()
    for number in range(200_000):
        seen.add(f"id{number}")
    assert sum(seen.may_have(f"other{number}") for number in range(20_000)) < 20
