"""Which ids this process may have decided lately: a Bloom filter, so that what is surely new needn't be looked for.

It may take a new id for a known one (one in five hundred at most), never the other way round, but for ids that it was
never told: those of other processes, and those of the time before. What must not happen twice is up to the database.
"""

SIZE = 1_000_000
"""Ids of one generation; two are kept."""

_BITS = 2**26
_MASK = _BITS - 1
_BIT = tuple(1 << place for place in range(8))


class Seen:
    """Two generations of names; the older one is forgotten when the younger is full. Eight MiB each."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._count = 0
        self._young = bytearray(_BITS // 8)
        self._old = bytearray(_BITS // 8)

    def add(self, name: str) -> None:
        """Note a name."""
        if self._count >= self._size:
            self._old, self._young, self._count = self._young, bytearray(_BITS // 8), 0
        self._count += 1
        hashed, bits = hash(name), self._young
        one, other = hashed & _MASK, (hashed >> 32) & _MASK
        bits[one >> 3] |= _BIT[one & 7]
        bits[other >> 3] |= _BIT[other & 7]

    def may_have(self, name: str) -> bool:
        """False only if the name wasn't added, or so long ago that it's forgotten."""
        hashed = hash(name)
        one, other = hashed & _MASK, (hashed >> 32) & _MASK
        for bits in (self._young, self._old):
            if bits[one >> 3] & _BIT[one & 7] and bits[other >> 3] & _BIT[other & 7]:
                return True
        return False
