"""Roots over lists, as headers have them: the Merkle Patricia trie of items under the RLP of their positions. Pure.

Built from the bottom once all items are known, so that each node is hashed once (Yellow Paper, appendix D). The `trie`
library, which inserts one after another, is the reference in the tests.
"""

from collections.abc import Sequence
from typing import Final

from eth_hash.auto import keccak

from base.rlp import encode_list, encode_number, encode_string

EMPTY_ROOT: Final = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
"""Of no items: the hash of the empty string's RLP."""

_NOTHING: Final = b"\x80"
_HASH_BYTES: Final = 32
_HASH_PREFIX: Final = b"\xa0"


def ordered_root(items: Sequence[bytes]) -> bytes:
    """The root (32 bytes) over `items`, none of them empty, in their order."""
    if not items:
        return EMPTY_ROOT
    keyed = sorted((encode_number(position).hex(), item) for position, item in enumerate(items))
    return keccak(_node(keyed, 0, len(keyed), 0))


def _node(keyed: Sequence[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    """The node over the sorted `keyed[low:high]`, whose keys agree in their first `depth` nibbles."""
    first, last = keyed[low][0], keyed[high - 1][0]
    if high - low == 1:
        return encode_list((_path(first[depth:], is_leaf=True), encode_string(keyed[low][1])))
    fork = depth
    while first[fork] == last[fork]:  # no key begins another: RLP says its own length
        fork += 1
    branch = _branch(keyed, low, high, fork)
    return branch if fork == depth else encode_list((_path(first[depth:fork], is_leaf=False), _reference(branch)))


def _branch(keyed: Sequence[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    children = [_NOTHING] * 17
    while low < high:
        nibble, end = keyed[low][0][depth], low + 1
        while end < high and keyed[end][0][depth] == nibble:
            end += 1
        children[int(nibble, 16)] = _reference(_node(keyed, low, end, depth + 1))
        low = end
    return encode_list(children)


def _reference(node: bytes) -> bytes:
    """A node as it stands in its parent: itself while it's shorter than its hash."""
    return node if len(node) < _HASH_BYTES else _HASH_PREFIX + keccak(node)


def _path(nibbles: str, *, is_leaf: bool) -> bytes:
    """The rest of a key, its length's parity and the node's kind in front (hex-prefix, appendix C)."""
    flag = 2 if is_leaf else 0
    return encode_string(bytes.fromhex(f"{flag + 1}{nibbles}" if len(nibbles) % 2 else f"{flag}0{nibbles}"))
