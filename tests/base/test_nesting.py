"""Nesting is counted without recursion, and strings don't count."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.nesting import is_nested_within

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


@given(VALUES, st.integers(1, 8), st.booleans())
def test_json_within_its_levels_passes_and_deeper_json_does_not(value, levels, is_indented):
    raw = json.dumps(value, indent=2 if is_indented else None).encode()
    if depth_of(value) <= levels:
        assert is_nested_within(raw, levels)
    elif depth_of(value) > 2 * levels:
        assert not is_nested_within(raw, levels)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 50_000 + b"]" * 50_000, b"[{" * 30_000])
def test_a_text_of_brackets_is_too_deep(raw):
    assert not is_nested_within(raw, 20)


def test_nested_json_ends_no_process_that_has_put_back_its_limit():
    program = (
        "import json, sys; from chain.evm.node import load_libraries\n"
        "load_libraries()\n"
        "assert 'py_ecc' in sys.modules\n"
        "try: json.loads('[' * 1_000_000)\n"
        "except RecursionError: print('refused')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "refused\n"


@pytest.mark.parametrize("raw", [b"", b"{", b'"[[[[[["', b'["\\"[[[[[", "{{{{"]', b"}}"])
def test_what_is_shallow_passes_whether_it_is_json_or_not(raw):
    assert is_nested_within(raw, 3)
