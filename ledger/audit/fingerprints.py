"""Whether two collections hold the same values, whatever their order and however many, in the memory of one number.

The product of (x - value) over a collection, modulo a prime, is a polynomial whose roots are the values, taken at x.
Different collections of n values agree at no more than n of the 2^255 points there are, and x is drawn when an audit
begins, so that nobody could prepare a match (Schwartz-Zippel). Pure.
"""

import hashlib
from collections.abc import Iterable

PRIME = 2**255 - 19


def draw_point(random: bytes) -> int:
    """A point from 40 random bytes."""
    return int.from_bytes(random) % PRIME


def multiply(product: int, values: Iterable[int], point: int) -> int:
    """The product with these values' factors as well."""
    for value in values:
        product = product * (point - value) % PRIME
    return product


def id_value(key: bytes, seq: int) -> int:
    """An id's key (16 bytes) and its command's seq as one value."""
    return int.from_bytes(key) << 64 | seq


def row_value(row: bytes) -> int:
    """A row of any length as one value."""
    return int.from_bytes(hashlib.sha256(row).digest()) >> 2
