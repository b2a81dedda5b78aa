"""Public identifiers: a prefix that says the kind, then a ULID, so that ids sort by the time they were made.

The text after the prefix is a ULID (48 bits of milliseconds, 80 random bits) in lower-case Crockford base 32.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from base.clock import Clock
from base.entropy import Entropy

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
"""Characters after the prefix: 128 bits at five bits each, rounded up."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
"""Ten bits as two characters."""


def new_id(prefix: str, clock: Clock, entropy: Entropy) -> str:
    """A fresh id such as `wdr_01jd3v...`, ordered by `clock` to the millisecond."""
    return f"{prefix}_{_ulid(clock.now(), entropy.draw(10))}"


def new_ids(prefix: str, count: int, clock: Clock, entropy: Entropy) -> list[str]:
    """So many fresh ids of one instant, in no order."""
    drawn, now = entropy.draw(10 * count), clock.now()
    return [f"{prefix}_{_ulid(now, drawn[start : start + 10])}" for start in range(0, 10 * count, 10)]


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id with this prefix."""
    head, _, tail = text.partition("_")
    return head == prefix and len(tail) == _LENGTH and all(c in _ALPHABET for c in tail)


def made_at(text: str) -> datetime:
    """When an id was made, to the millisecond, in UTC. Raises ValueError for what has no such form."""
    head, _, tail = text.rpartition("_")
    if not is_id(head, text):
        raise ValueError(f"{text[:40]!r} isn't an id of ours: a prefix, `_` and {_LENGTH} characters")
    milliseconds = 0
    for character in tail[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(character)
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _ulid(instant: datetime, tail: bytes) -> str:
    number = int.from_bytes(tail, "big")
    return _time_part(int(instant.timestamp() * 1000)) + "".join([_PAIRS[(number >> s) & 1023] for s in _SHIFTS])


_SHIFTS = tuple(range(70, -1, -10))


@lru_cache(64)
def _time_part(milliseconds: int) -> str:
    """The first ten characters: many ids are made within a millisecond."""
    return "".join([_PAIRS[(milliseconds >> shift) & 1023] for shift in range(40, -1, -10)])
