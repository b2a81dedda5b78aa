"""One report in one form and language, as bytes into a stream."""

from collections.abc import Callable
from enum import StrEnum
from typing import BinaryIO

from treasury.reports.model import Report
from treasury.reports.render.as_csv import csv_parts
from treasury.reports.render.as_json import json_parts
from treasury.reports.render.words import Language


class Form(StrEnum):
    """What reports are written as."""

    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"
    PDF = "pdf"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv; charset=utf-8",
    Form.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Form.PDF: "application/pdf",
}


def render(
    report: Report,
    form: Form,
    language: Language,
    stream: BinaryIO,
    *,
    told: Callable[[int], object] = lambda rows: None,
) -> None:
    """Write the report. `told` hears of rows that are written in forms that take long. Raises ReportUnfit.

    The libraries of XLSX and PDF are loaded when they're needed: most processes never write either.
    """
    match form:
        case Form.JSON:
            stream.writelines(json_parts(report))
        case Form.CSV:
            stream.writelines(csv_parts(report, language))
        case Form.XLSX:
            from treasury.reports.render.as_xlsx import write_xlsx

            write_xlsx(report, language, stream, told=told)
        case Form.PDF:
            from treasury.reports.render.as_pdf import write_pdf

            write_pdf(report, language, stream, told=told)


def file_name(report: Report, form: Form, language: Language) -> str:
    """What a file of it is called: `balance-sheet-2026-10-en.pdf`; JSON has no language."""
    parts = [report.kind.value, report.period.name, *(() if form is Form.JSON else (language.value,))]
    state = ("provisional",) if report.provisional else ()
    return f"{'-'.join((*parts, *state))}.{form.value}"
