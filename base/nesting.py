"""How deeply JSON is nested, found without going down into it.

Readers of JSON go down by recursion. Python's own limit guards them, but some libraries raise it, and then a text of
nothing but brackets ends the whole process. So whoever reads strangers' JSON looks here first.
"""

import re
import sys

RECURSION_MAX = 3_000
"""Python's limit on recursion for processes that read strangers' JSON: their stack has room for it."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def limit_recursion() -> None:
    """Put back the limit on recursion that a library raised when it was imported. Call it once all are."""
    sys.setrecursionlimit(RECURSION_MAX)


def is_nested_within(raw: bytes, levels: int) -> bool:
    """Whether JSON text opens at most `levels` arrays and objects inside each other.

    Text that isn't JSON gets an answer too: True only if no reader can get deeper than twice as many levels.
    """
    brackets = _STRING.sub(b"", raw).translate(None, _NO_BRACKETS)
    for _ in range(levels):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return len(brackets) <= levels  # what doesn't pair is no JSON, as its reader will say
