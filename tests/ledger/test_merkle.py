"""Trees over leaf hashes: the published vectors of Certificate Transparency, and paths that fail once one bit moves."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import leaf_hash
from ledger.errors import ProofInvalid
from ledger.merkle import Frontier, inclusion_path, merkle_root, root_of_path

INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [hashlib.sha256(b"\0" + text).digest() for text in INPUTS]

# From the reference implementation of Certificate Transparency (RFC 6962, whose trees RFC 9162 keeps).
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = [
    # leaf, size, path
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size):
    assert merkle_root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing():
    assert merkle_root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_paths_are_the_published_ones(index, size, path):
    assert [node.hex() for node in inclusion_path(LEAVES[:size], index)] == path
    assert root_of_path(LEAVES[index], index, size, [bytes.fromhex(node) for node in path]).hex() == ROOTS[size - 1]


def test_a_leaf_of_the_book_is_hashed_behind_a_zero_byte():
    assert leaf_hash("") == LEAVES[0]


def by_the_book(leaves):
    """The definition in RFC 9162, 2.1.1, as it stands there."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + by_the_book(leaves[:split]) + by_the_book(leaves[split:])).digest()


@given(st.integers(1, 70), st.lists(st.integers(1, 40), max_size=6))
def test_a_tree_grown_in_pieces_has_the_root_that_the_definition_gives(size, pieces):
    leaves = [hashlib.sha256(b"\0" + bytes([n])).digest() for n in range(size)]
    grown, start = Frontier(), 0
    for piece in (*pieces, size):
        grown.extend(leaves[start : start + piece])
        start += piece
    assert grown.size == size
    assert grown.root() == merkle_root(leaves) == by_the_book(leaves)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_leaf_has_a_path_and_nothing_altered_still_leads_to_the_root(size, random):
    leaves = [hashlib.sha256(b"\0" + bytes([n])).digest() for n in range(size)]
    index = random.randrange(size)
    root, path = merkle_root(leaves), inclusion_path(leaves, index)
    assert root_of_path(leaves[index], index, size, path) == root
    for altered in (
        lambda: root_of_path(leaves[index][::-1], index, size, path),
        lambda: root_of_path(leaves[index], (index + 1) % (size + 1), size, path),
        lambda: root_of_path(leaves[index], index, size, [*path, root]),
        lambda: root_of_path(leaves[index], index, size, path[:-1] or [root]),
        lambda: root_of_path(leaves[index], index, size, [path[0][:-1] + b"?", *path[1:]] if path else [root]),
    ):
        with contextlib.suppress(ProofInvalid):
            assert altered() != root


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_place_outside_the_tree_is_refused(index, size):
    with pytest.raises(ProofInvalid, match="outside"):
        root_of_path(LEAVES[0], index, size, [])
    with pytest.raises(IndexError):
        inclusion_path(LEAVES[:size], index)
