"""A report as one JSON document, row by row. Cells are what they are: exact decimals as strings, keys of words."""

import json
from collections.abc import Iterator

from treasury.reports.model import Report, Table, instant_cell

_COMPACT = (",", ":")


def json_parts(report: Report) -> Iterator[bytes]:
    """The document in pieces, in UTF-8."""
    period = report.period
    head = {
        "kind": report.kind.value,
        "book": report.book,
        "user": report.subject,
        "period": period.name,
        "from": instant_cell(period.since),
        "to": instant_cell(period.until),
        "time_zone": period.zone,
        "at": instant_cell(report.at),
        "known_at": instant_cell(report.known_at),
        "known_seq": report.known_seq,
        "provisional": report.provisional,
        "reference": report.reference,
        "digest": report.digest,
        "notes": [{"code": note.word, "about": note.about} for note in report.notes],
    }
    yield _text(head)[:-1] + b',"tables":{'
    for number, table in enumerate(report.tables):
        yield (b"," if number else b"") + _text(table.name) + b":["
        yield from _rows(table)
        yield b"]"
    yield b"}}\n"


def _rows(table: Table) -> Iterator[bytes]:
    names = [column.name for column in table.columns]
    for number, row in enumerate(table.rows):
        yield (b"," if number else b"") + _text(dict(zip(names, row, strict=True)))


def _text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=_COMPACT).encode()
