"""A report as one CSV file (RFC 4180, UTF-8): a section for each table, which the first field of every record names.

Every record has the same number of fields, as the RFC asks; a section begins with its headings. Texts that a
spreadsheet would run stand behind an apostrophe; figures are figures.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator

from treasury.reports.model import Cell, Report
from treasury.reports.render.cells import plain
from treasury.reports.render.head import head_lines
from treasury.reports.render.words import Language, word


def csv_parts(report: Report, language: Language) -> Iterator[bytes]:
    """The file in pieces."""
    width = 1 + max([2, *(len(table.columns) for table in report.tables)])
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)

    def record(name: str, cells: Iterable[str]) -> bytes:
        fields = [name, *cells]
        writer.writerow(fields + [""] * (width - len(fields)))
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text.encode()

    for key, text in head_lines(report, language):
        yield record("report", (key, inert(text)))
    for table in report.tables:
        yield record(table.name, [word(column.name, language) for column in table.columns])
        for row in table.rows:
            cells = zip(table.columns, row, strict=True)
            yield record(table.name, [_cell(text, column.cell, language) for column, text in cells])


def inert(text: str) -> str:
    """`text` behind an apostrophe if a spreadsheet might run it: blanks and full-width signs are no cover."""
    seen = unicodedata.normalize("NFKC", text).lstrip()[:1]
    return f"'{text}" if seen in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text


def _cell(text: str | None, cell: Cell, language: Language) -> str:
    told = plain(text, cell, language)
    return inert(told) if cell is Cell.TEXT else told
