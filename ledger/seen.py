"""Which ids this process may have decided lately: a Bloom filter, so that what is surely new needn't be looked for.

It may take a new id for a known one (about one in four hundred), never the other way round, but for ids that it was
never told: those of other processes, and those of the time before. What must not happen twice is up to the database.
"""

SIZE = 2_000_000
"""Ids of one generation; two are kept."""

_BITS = 2**25
_MASK = _BITS - 1


class Seen:
    """Two generations of names; the older one is forgotten when the younger is full. Four MiB each."""

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
        bits, place, step = self._young, *_places(name)
        for _ in range(4):
            bits[place >> 3] |= 1 << (place & 7)
            place = (place + step) & _MASK

    def may_have(self, name: str) -> bool:
        """False only if the name wasn't added, or so long ago that it's forgotten."""
        first, step = _places(name)
        for bits in (self._young, self._old):
            place = first
            for _ in range(4):
                if not bits[place >> 3] >> (place & 7) & 1:
                    break
                place = (place + step) & _MASK
            else:
                return True
        return False


def _places(name: str) -> tuple[int, int]:
    """Where a name's first bit is, and the way from one to the next (odd, so that it comes round to every place)."""
    hashed = hash(name)
    return hashed & _MASK, (hashed >> 32) & _MASK | 1
