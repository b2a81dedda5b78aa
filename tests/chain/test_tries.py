"""Roots over lists and the RLP beneath them: as the libraries have them, whatever the sizes."""

import random

import pytest
import rlp  # type: ignore[import-untyped]
from trie.hexary import HexaryTrie

from base.rlp import encode_list, encode_number, encode_string
from chain.evm.tries import EMPTY_ROOT, ordered_root

SIZES = (*range(41), 127, 128, 129, 255, 256, 257, 300, 1000)
"""Around every change of how a position is written."""


def inserted(items: list[bytes]) -> bytes:
    """The library's root."""
    trie = HexaryTrie({})
    for position, item in enumerate(items):
        trie[rlp.encode(position)] = item
    return trie.root_hash


@pytest.mark.parametrize("longest", [1, 31, 33, 300])
def test_a_root_is_that_of_the_library(longest: int):
    """Short items make nodes that stand in their parents; long ones are hashed."""
    draw = random.Random(longest)
    for size in SIZES:
        items = [draw.randbytes(draw.randint(1, longest)) for _ in range(size)]
        assert ordered_root(items) == inserted(items), f"{size} items"


def test_the_root_of_nothing_is_that_of_an_empty_trie():
    assert ordered_root([]) == EMPTY_ROOT == inserted([])


def test_the_order_of_items_counts():
    assert ordered_root([b"a", b"b"]) != ordered_root([b"b", b"a"])


@pytest.mark.parametrize("length", [0, 1, 2, 55, 56, 255, 256, 65_535, 65_536])
def test_strings_and_lists_are_encoded_as_the_library_does(length: int):
    for filler in (0x00, 0x7F, 0x80, 0xFF):
        raw = bytes([filler]) * length
        assert encode_string(raw) == rlp.encode(raw)
        assert encode_list([encode_string(raw)]) == rlp.encode([raw])
    assert encode_list([b"\x01"] * length) == rlp.encode([b"\x01"] * length)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 255, 256, 2**64 - 1, 2**256 - 1])
def test_numbers_are_encoded_as_the_library_does(number: int):
    assert encode_number(number) == rlp.encode(number)
