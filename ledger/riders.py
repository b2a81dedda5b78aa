"""Riders: rows of other packages' tables that commit with a command, and only if it's accepted.

A rider names its table; the engine writes it in the same database tx as the entry. There is no other way to write a row
that must agree with a balance. Every such table's key begins with its book.
"""

from collections.abc import Mapping

import msgspec

Row = Mapping[str, object]
"""Column -> value, as SQLAlchemy Core takes it for the named table."""


class Insert(msgspec.Struct, frozen=True, gc=False):
    """Add a row. If one with this primary key exists, the command is refused (`duplicate_row`)."""

    table: str
    key: Row
    values: Row
    """The columns besides the key."""


class Advance(msgspec.Struct, frozen=True, gc=False):
    """Compare and set: change a row whose columns equal `expect`, else refuse the command (`stale_state`)."""

    table: str
    key: Row
    expect: Row
    change: Row


Rider = Insert | Advance
