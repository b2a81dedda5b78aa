"""RLP of what is known to be a string or a list (Yellow Paper, appendix B): the hot paths' half of the encoding.

The library (`rlp`) looks at each value for what it could be, which takes most of its time; here the caller says it.
Reading RLP is the library's.
"""

from collections.abc import Iterable

_STRING = 0x80
_LIST = 0xC0
_SHORT_MAX = 55
"""The longest payload whose length fits into the prefix itself."""

EMPTY_LIST = bytes([_LIST])
"""A list of nothing."""


def encode_string(raw: bytes) -> bytes:
    """Bytes."""
    if len(raw) == 1 and raw[0] < _STRING:
        return raw
    if len(raw) <= _SHORT_MAX:
        return bytes((_STRING + len(raw),)) + raw
    return _long(_STRING, len(raw)) + raw


def encode_number(number: int) -> bytes:
    """A whole number from 0 on: big-endian without leading zeros."""
    if 0 < number < _STRING:
        return bytes((number,))
    return encode_string(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def encode_list(items: Iterable[bytes]) -> bytes:
    """A list of items that are encoded already."""
    payload = b"".join(items)
    if len(payload) <= _SHORT_MAX:
        return bytes((_LIST + len(payload),)) + payload
    return _long(_LIST, len(payload)) + payload


def _long(kind: int, length: int) -> bytes:
    told = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((kind + _SHORT_MAX + len(told),)) + told
