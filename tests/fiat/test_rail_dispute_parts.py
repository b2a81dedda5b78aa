"""A dispute over several payments is split without a cent lost."""

from hypothesis import given
from hypothesis import strategies as st

from fiat.rails.dispute_parts import split


@given(total=st.integers(-(10**12), 10**12), weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=10))
def test_the_parts_make_up_the_whole_and_none_differs_by_more_than_a_unit_from_its_share(
    total: int, weights: list[int]
):
    parts = split(total, weights)
    assert (len(parts), sum(parts)) == (len(weights), total)
    whole = sum(weights) or len(weights)
    for part, weight in zip(parts, weights if sum(weights) else [1] * len(weights), strict=True):
        assert abs(part * whole - total * weight) <= whole
