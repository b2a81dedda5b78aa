"""Merkle sum trees: one hash that stands for what is owed to every user in one asset, and for the sum of it. Pure.

A leaf is one user's; an inner node hashes *both* children's hashes and *both* their sums. A node that bound only the
total of its children could be opened with other parts, and liabilities be told too small (Hu, Zhang, Guo: "Breaking
the Binding", IACR ePrint 2018/1139). A leaf binds whose it is, so that no two users can be shown the same one; sums are
of fixed width and never negative, so that no leaf can take from the total (Chalkias, Chatzigiannis, Ji: "Broken Proofs
of Solvency in Blockchain Custodial Wallets and Exchanges", IACR ePrint 2022/043).

H is SHA-256, numbers are big-endian, `terms` is epoch and asset, each behind its length in one byte:

    salt    = HMAC-SHA-256(the epoch's key, terms || owner)                     32 bytes; told to the owner alone
    blinded = H(0x02 || salt || owner)                                          leaves stand in this order
    leaf    = H(0x00 || terms || blinded || salt || amount: 32 bytes)
    padding = H(0x03 || terms), of amount 0                                     on the right, up to a power of two
    inner   = H(0x01 || left sum || left hash || right sum || right hash)       sums: 32 bytes
    root    = H(0x04 || terms || seq: 8 bytes || leaves: 8 bytes || total: 32 bytes || top hash)
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from treasury.errors import ListUnfit, NoLeaf, TreasuryCorrupt

DIGEST_BYTES = SUM_BYTES = 32
NODE_BYTES = DIGEST_BYTES + SUM_BYTES
"""A node as it is kept and hashed: its sum, its hash."""

SUM_END = 2**256
"""Every amount and sum is below it."""

LEAVES_MAX = 2**40
KEY_BYTES = 32

STRETCH = 20_000
"""Leaves, or nodes, between two words about how far it is."""

Packed = bytes | memoryview
"""Nodes or ids one after the other, in memory or in a file that is mapped into it."""

_EPOCH = re.compile(r"[A-Za-z0-9_.:+-]{1,100}/[1-9][0-9]{0,17}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:+-]{1,100}", re.ASCII)
_BLOCK_BYTES = 64
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class Terms:
    """What a tree is about: `epoch` is `<book>/<number>`, `seq` the command of the book that it stands at."""

    epoch: str
    asset: str
    seq: int

    def __post_init__(self) -> None:
        if not _EPOCH.fullmatch(self.epoch):
            raise ListUnfit(f"{self.epoch!r} is no epoch: it is named <book>/<number>, such as main/7", param="epoch")
        if not _NAME.fullmatch(self.asset):
            raise ListUnfit(f"{self.asset!r} is no asset's code", param="asset")
        if not 0 <= self.seq < 2**63:
            raise ListUnfit(f"{self.seq} is no seq of a book: from 0, below 2^63", param="seq")

    @property
    def book(self) -> str:
        """The book whose epoch it is."""
        return self.epoch.partition("/")[0]

    def bound(self) -> bytes:
        """Epoch and asset as every leaf hashes them."""
        parts = (self.epoch.encode(), self.asset.encode())
        return b"".join(len(part).to_bytes(1) + part for part in parts)


@dataclass(frozen=True, slots=True)
class Step:
    """The node beside the way up from a leaf: its hash, and what is owed under it."""

    digest: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One user's place in a tree: the leaf's opening, and the steps beside its way, the lowest first."""

    terms: Terms
    owner: str
    salt: bytes
    amount: int
    index: int
    leaves: int
    total: int
    root: bytes
    path: tuple[Step, ...]


class SumTree:
    """The tree of one epoch and asset, in 64 bytes for each node."""

    def __init__(self, terms: Terms, ids: Packed, levels: Sequence[Packed], *, key: bytes) -> None:
        self.terms = terms
        self.leaves = len(ids) // DIGEST_BYTES
        self.total, top = _parts(bytes(levels[-1]))
        self.root = root_of(terms, leaves=self.leaves, total=self.total, top=top)
        self._key = key
        self._ids = _Ids(ids)
        self._levels = levels

    def packed(self) -> Iterator[Packed]:
        """All of it but its key, in the order in which `unpack` finds it again: blinded ids, then the levels."""
        yield self._ids.packed
        yield from self._levels

    def inclusion(self, owner: str) -> Inclusion:
        """Where `owner` stands. Raises NoLeaf if nothing of this asset was kept for them."""
        bound = self.terms.bound()
        salt = salt_of(self._key, bound, owner)
        blinded = blinded_id(salt, owner)
        index = bisect_left(self._ids, blinded)
        if index == self.leaves or self._ids[index] != blinded:
            raise NoLeaf(f"{owner} has no {self.terms.asset} account in epoch {self.terms.epoch}", param="asset")
        amount, _ = _parts(self._node(0, index))
        path, padding, place = [], padding_of(bound), index
        for level in range(len(self._levels) - 1):
            beside, digest = _parts(self._node(level, place ^ 1) or padding)
            path.append(Step(digest, beside))
            padding, place = _parent(padding, padding), place // 2
        return Inclusion(self.terms, owner, salt, amount, index, self.leaves, self.total, self.root, path=tuple(path))

    def _node(self, level: int, index: int) -> bytes:
        """The node there; nothing where padding stands."""
        return bytes(self._levels[level][index * NODE_BYTES : (index + 1) * NODE_BYTES])


class _Ids(Sequence[bytes]):
    """Blinded ids, one after the other in one piece of memory."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed) // DIGEST_BYTES

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]  # only single ones are asked for
        return bytes(self.packed[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])


def packed_bytes(leaves: int) -> int:
    """How long a tree of so many leaves is when it's kept."""
    return leaves * DIGEST_BYTES + sum(_level_sizes(leaves)) * NODE_BYTES


def unpack(terms: Terms, packed: Packed, *, leaves: int, key: bytes) -> SumTree:
    """The tree that was kept so (`packed` may be a file mapped into memory: only what a proof needs is read).

    Raises ListUnfit where it hasn't the length of such a tree.
    """
    if len(packed) != packed_bytes(leaves):
        raise ListUnfit(f"a tree of {leaves} users is kept in {packed_bytes(leaves)} bytes, not in {len(packed)}")
    levels, begins = [], leaves * DIGEST_BYTES
    for size in _level_sizes(leaves):
        levels.append(packed[begins : begins + size * NODE_BYTES])
        begins += size * NODE_BYTES
    return SumTree(terms, packed[: leaves * DIGEST_BYTES], levels, key=key)


def _level_sizes(leaves: int) -> Iterator[int]:
    """Nodes of each level that are kept, from the leaves up; of an empty tree its one padding."""
    size = max(1, leaves)
    yield size
    while size > 1:
        size = (size + 1) // 2
        yield size


def build_tree(
    terms: Terms,
    owed: Iterable[tuple[bytes, int]],
    *,
    key: bytes,
    told: Callable[[int], object] = lambda _: None,
) -> SumTree:
    """The tree over (owner, amount) of all users, in any order. What users owe us is no leaf and lowers none.

    `key` is the epoch's secret, 32 bytes. `told` hears how many leaves and nodes were hashed since the last time: in
    the end about twice the leaves. Raises TreasuryCorrupt for an owner who is told twice, an amount below zero, or a
    sum of 2^256.
    """
    records = _records(terms, owed, key, told)
    records.sort()
    if any(one[:DIGEST_BYTES] == following[:DIGEST_BYTES] for one, following in pairwise(records)):
        raise TreasuryCorrupt(f"an owner is told twice among those who are owed {terms.asset}")
    ids = b"".join([record[:DIGEST_BYTES] for record in records])
    leaves = b"".join([record[DIGEST_BYTES:] for record in records])
    del records
    return SumTree(terms, ids, _levels(terms, leaves, told), key=key)


def _records(terms: Terms, owed: Iterable[tuple[bytes, int]], key: bytes, told: Callable[[int], object]) -> list[bytes]:
    """Each leaf's node, its blinded id before it."""
    bound = terms.bound()
    salted_inner, salted_outer = _keyed(key)
    salted_inner.update(bound)
    begun_leaf = _sha256(b"\x00" + bound)
    records: list[bytes] = []
    rest = iter(owed)
    while stretch := list(islice(rest, STRETCH)):
        for owner, owed_to in stretch:
            inner = salted_inner.copy()
            inner.update(owner)
            outer = salted_outer.copy()
            outer.update(inner.digest())
            salt = outer.digest()
            blinded = _sha256(b"\x02" + salt + owner).digest()
            try:
                amount = owed_to.to_bytes(SUM_BYTES)
            except OverflowError as error:
                raise TreasuryCorrupt(f"what a user is owed can't be {owed_to} {terms.asset}") from error
            leaf = begun_leaf.copy()
            leaf.update(blinded + salt + amount)
            records.append(blinded + amount + leaf.digest())
        told(len(stretch))
    return records


def _levels(terms: Terms, leaves: bytes, told: Callable[[int], object]) -> list[bytes]:
    """All levels from the leaves up to the one node at the top."""
    padding = padding_of(terms.bound())
    levels = [leaves or padding]
    while len(levels[-1]) > NODE_BYTES:
        below = levels[-1]
        if len(below) % (2 * NODE_BYTES):
            below += padding
        levels.append(_parents(below, told))
        padding = _parent(padding, padding)
    return levels


def _parents(nodes: bytes, told: Callable[[int], object]) -> bytes:
    found = bytearray()
    length, from_bytes = 2 * NODE_BYTES, int.from_bytes
    for start in range(0, len(nodes), STRETCH * length):
        stretch = range(start, min(len(nodes), start + STRETCH * length), length)
        for place in stretch:
            pair = nodes[place : place + length]
            found += _sum(from_bytes(pair[:32]), from_bytes(pair[64:96]))
            found += _sha256(b"\x01" + pair).digest()
        told(len(stretch))
    return bytes(found)


def _parent(left: bytes, right: bytes) -> bytes:
    """The node over two."""
    return _sum(_parts(left)[0], _parts(right)[0]) + _sha256(b"\x01" + left + right).digest()


def _parts(node: bytes) -> tuple[int, bytes]:
    """A node's sum and its hash."""
    return int.from_bytes(node[:SUM_BYTES]), node[SUM_BYTES:]


def _sum(left: int, right: int) -> bytes:
    try:
        return (left + right).to_bytes(SUM_BYTES)
    except OverflowError as error:
        raise TreasuryCorrupt("what is owed adds up to 2^256 or more") from error


# The parts that a verifier computes as well


def salt_of(key: bytes, bound: bytes, owner: str) -> bytes:
    """The salt of an owner's leaf: of no other leaf, in no other epoch or asset."""
    inner, outer = _keyed(key)
    inner.update(bound + owner.encode())
    outer.update(inner.digest())
    return outer.digest()


def blinded_id(salt: bytes, owner: str) -> bytes:
    """What a leaf says of whose it is."""
    return _sha256(b"\x02" + salt + owner.encode()).digest()


def leaf_of(bound: bytes, salt: bytes, owner: str, amount: int) -> bytes:
    """The hash of an owner's leaf."""
    content = b"\x00" + bound + blinded_id(salt, owner) + salt + amount.to_bytes(SUM_BYTES)
    return _sha256(content).digest()


def padding_of(bound: bytes) -> bytes:
    """The node that stands where no user does."""
    return bytes(SUM_BYTES) + _sha256(b"\x03" + bound).digest()


def levels_of(leaves: int) -> int:
    """How many steps lead from a leaf to the top of a tree of so many."""
    return max(0, leaves - 1).bit_length()


def root_of(terms: Terms, *, leaves: int, total: int, top: bytes) -> bytes:
    """The one hash that binds all that is told of a tree."""
    numbers = terms.seq.to_bytes(8) + leaves.to_bytes(8) + total.to_bytes(SUM_BYTES)
    return _sha256(b"\x04" + terms.bound() + numbers + top).digest()


def _keyed(key: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC's two hashes (RFC 2104) with the key taken in: copied for each message, which halves what one costs."""
    if len(key) != KEY_BYTES:
        raise ListUnfit(f"an epoch's key is {KEY_BYTES} bytes, not {len(key)}")
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    return _sha256(bytes(byte ^ 0x36 for byte in padded)), _sha256(bytes(byte ^ 0x5C for byte in padded))
