"""Merkle trees over leaf hashes (RFC 9162, section 2.1): a list's root, and a path that shows a leaf is in it. Pure.

A leaf comes hashed already, behind 0x00 (`ledger.canonical.leaf_hash`); inner nodes are hashed behind 0x01, so that
neither can pass for the other. Not here: which leaves a tree is over; that's a seal's affair (`ledger.seals`).
"""

import hashlib
from collections.abc import Iterable, Sequence

from ledger.errors import ProofInvalid

DIGEST_BYTES = 32
"""Length of every leaf, node and root."""

_sha256 = hashlib.sha256


class Frontier:
    """A tree that grows at its right edge: only the roots of the perfect subtrees so far are kept, one per level."""

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[bytes | None] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        nodes = list(leaves)
        self.size += len(nodes)
        level = 0
        while nodes:
            if level == len(self._waiting):
                self._waiting.append(None)
            earlier = self._waiting[level]
            if earlier is not None:
                nodes.insert(0, earlier)
            self._waiting[level] = nodes.pop() if len(nodes) % 2 else None
            nodes = _parents(nodes)
            level += 1

    def root(self) -> bytes:
        """The root over all leaves so far; that of an empty tree is the hash of nothing."""
        found: bytes | None = None
        for node in self._waiting:
            if node is not None:
                found = node if found is None else _parent(node, found)
        return _sha256().digest() if found is None else found


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The root of the tree over these leaf hashes, in order."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes beside the way from leaf `index` (from 0) up to the root, the lowest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"there is no leaf {index} among {len(leaves)}")
    path = []
    nodes = list(leaves)
    while len(nodes) > 1:
        beside = index ^ 1
        if beside < len(nodes):  # else it's the last of an odd number, and goes up as it is
            path.append(nodes[beside])
        alone = [nodes.pop()] if len(nodes) % 2 else []
        nodes = _parents(nodes) + alone
        index //= 2
    return path


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a tree of `size` leaves must have if `leaf` stands at `index` in it and `path` is its path.

    Raises ProofInvalid when the path can't be one of such a tree, whatever its hashes are (RFC 9162, 2.1.3.2).
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"place {index} is outside a tree of {size} leaves", code="place_outside_tree")
    place, last, found = index, size - 1, leaf
    for node in path:
        if len(node) != DIGEST_BYTES or last == 0:
            raise ProofInvalid("the path is too long, or a step of it is no SHA-256 hash", code="path_malformed")
        if place % 2 or place == last:
            found = _parent(node, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = _parent(found, node)
        place, last = place // 2, last // 2
    if last:
        raise ProofInvalid("the path is too short for a tree of its size", code="path_malformed")
    return found


def _parent(left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x01" + left + right).digest()


def _parents(nodes: Sequence[bytes]) -> list[bytes]:
    """The parents of an even number of nodes."""
    pairs = iter(nodes)
    return [_sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
