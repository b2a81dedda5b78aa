"""A report as an Excel workbook: a sheet with what it is, then one for each table.

An amount is text, so that no digit of it is lost. A column beside it has the number to calculate with, where a
spreadsheet holds it exactly: of at most 15 digits; else that cell is empty. Texts are texts, never formulas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import Any, BinaryIO

import xlsxwriter

from treasury.reports.model import Cell, Report, Row, Table
from treasury.reports.render.cells import plain
from treasury.reports.render.head import head_lines
from treasury.reports.render.words import Language, word

DIGITS_EXACT = 15
"""Significant decimal digits that survive in a double whatever they are (IEEE 754, binary64)."""

ROWS_MAX = 1_048_575
"""Rows that a sheet has below its headings."""

TEXT_MAX = 32_767
"""Characters that a cell holds."""

_NAME_LENGTH = 31
_WIDTHS = {Cell.TEXT: 30, Cell.WORD: 26, Cell.AMOUNT: 28, Cell.WHOLE: 12, Cell.INSTANT: 29}


@dataclass(frozen=True, slots=True)
class _Paper:
    """What is written on, and how."""

    book: Any
    language: Language
    heading: Any
    right: Any


def write_xlsx(report: Report, language: Language, stream: BinaryIO, *, told: Callable[[int], object]) -> None:
    """Write the workbook. Rows go to temporary files, so that memory doesn't grow with them."""
    made = report.known_at.astimezone(UTC).replace(tzinfo=None)
    book = xlsxwriter.Workbook(stream, {"constant_memory": True})
    book.set_properties({"title": word(report.kind.value, language), "author": report.book, "created": made})
    heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True})
    paper = _Paper(book, language, heading, book.add_format({"align": "right"}))
    _write_head(paper, report)
    for table in report.tables:
        _write_table(paper, table, told)
    book.close()


def number_of(text: str | None) -> Decimal | None:
    """The number that a double holds exactly as this text says it; None where it doesn't."""
    if not text or "/" in text:
        return None
    digits = text.lstrip("-").replace(".", "").strip("0")
    return Decimal(text) if len(digits) <= DIGITS_EXACT else None


def is_amount(cell: Cell) -> bool:
    """Whether a column of these has one of numbers beside it."""
    return cell in (Cell.AMOUNT, Cell.WHOLE)


def _write_head(paper: _Paper, report: Report) -> None:
    sheet = paper.book.add_worksheet(_sheet_name(word("report", paper.language)))
    sheet.set_column(0, 0, _WIDTHS[Cell.WORD])
    sheet.set_column(1, 1, 100)
    lines = [*head_lines(report, paper.language), ("", word("note-number", paper.language))]
    for number, (key, text) in enumerate(lines):
        sheet.write_string(number, 0, key, paper.heading)
        sheet.write_string(number, 1, text)


def _write_table(paper: _Paper, table: Table, told: Callable[[int], object]) -> None:
    """The table on a sheet of its own, and on further ones where it's longer than a sheet."""
    sheet, at, pages = _new_sheet(paper, table, 1), 0, 1
    for row in table.rows:
        if at == ROWS_MAX:
            pages += 1
            sheet, at = _new_sheet(paper, table, pages), 0
        at += 1
        _write_row(paper, sheet, at, table, row)
        told(1)


def _new_sheet(paper: _Paper, table: Table, page: int) -> Any:
    title, language = word(table.name, paper.language), paper.language
    sheet = paper.book.add_worksheet(_sheet_name(title if page == 1 else f"{title[:20]} {page}"))
    sheet.freeze_panes(1, 0)
    place = 0
    for column in table.columns:
        heading = word(column.name, language)
        headings = (heading, word("as-number", language, heading)) if is_amount(column.cell) else (heading,)
        for text in headings:
            sheet.set_column(place, place, _WIDTHS[column.cell])
            sheet.write_string(0, place, text, paper.heading)
            place += 1
    return sheet


def _write_row(paper: _Paper, sheet: Any, at: int, table: Table, row: Row) -> None:
    place = 0
    for column, text in zip(table.columns, row, strict=True):
        cell = plain(text, column.cell, paper.language)
        if cell:
            sheet.write_string(at, place, cell[:TEXT_MAX], paper.right if is_amount(column.cell) else None)
        place += 1
        if is_amount(column.cell):
            number = number_of(text)
            if number is not None:
                sheet.write_number(at, place, number)
            place += 1


def _sheet_name(title: str) -> str:
    """A name that a sheet may have: some signs and more than 31 of them aren't allowed."""
    return "".join(sign for sign in title if sign not in "[]:*?/\\'")[:_NAME_LENGTH]
