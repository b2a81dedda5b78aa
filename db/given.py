"""Rows handed to a statement at once: one parameter, whatever their number, and one compiled statement for all.

A statement with a VALUES list would be compiled anew for each length. Here the rows travel as one JSON document.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, TableValuedAlias, bindparam, column, func
from sqlalchemy.dialects.postgresql import JSONB

from base.errors import BrokenInvariant


def given(table: Table, rows: Sequence[Mapping[str, object]], *, also: Mapping[str, str] | None = None) -> Any:
    """`rows`, all with the same names, as something to select from: columns of `table` by their names and types.

    `also`: further names, each with the column of `table` whose type it has.
    """
    likes = dict(also or {})
    names = list(rows[0]) if rows else [*table.c.keys()]
    document = [{name: _plain(value) for name, value in row.items()} for row in rows]
    columns = [column(name, table.c[likes.get(name, name)].type) for name in names]
    function = func.jsonb_to_recordset(bindparam(None, document, type_=JSONB))
    alias: TableValuedAlias = function.table_valued(*columns, name="given").render_derived(with_types=True)
    return alias


def _plain(value: object) -> object:
    """What JSON has for it, and PostgreSQL reads back as it was."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return str(value)
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat()
    raise BrokenInvariant(f"{type(value).__name__} isn't handed to a statement this way")
