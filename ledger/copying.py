"""Rows as PostgreSQL's COPY writes them in text: the fastest way out of it, and the very form that leaves are made of.

Fields by tab, rows by newline, `\\N` for absent, backslash escapes. Only queries of bounded size are collected here.
"""

import re
from typing import Any

import asyncpg

NULL = rb"\N"
"""An absent field."""

SESSION = "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL bytea_output = 'hex'"
"""What makes COPY write values in their canonical form; to be executed in the tx that copies."""

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MEANING = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


async def copied(connection: "asyncpg.Connection[Any]", query: str, *arguments: object) -> bytes:
    """All rows of a query as COPY's text; each ends with a newline."""
    parts: list[bytes] = []

    async def take(part: bytes) -> None:
        parts.append(part)

    await connection.copy_from_query(query, *arguments, output=take)
    return b"".join(parts)


def rows_of(text: bytes) -> list[bytes]:
    """The rows of COPY's text."""
    rows = text.split(b"\n")
    rows.pop()
    return rows


def plain(field: bytes) -> bytes:
    """A field without COPY's escapes."""
    return _ESCAPED.sub(lambda found: _MEANING.get(found[1], found[1]), field) if b"\\" in field else field
