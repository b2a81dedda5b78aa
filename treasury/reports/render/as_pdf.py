"""A report as PDF, to be read and signed: what it is on every page, notes, charts as vectors, tables."""

from collections.abc import Callable
from datetime import tzinfo
from typing import BinaryIO

from treasury.errors import ReportUnfit
from treasury.reports.model import FULL, Chart, Report, ReportKind
from treasury.reports.render.cells import instant, period_name, zone_of
from treasury.reports.render.pdf_page import (
    ACCENT,
    BAND,
    FAINT,
    FOOT,
    HEAD,
    INK,
    MARGIN,
    RULE,
    WARNING,
    Paper,
    width_of,
    wrapped,
)
from treasury.reports.render.pdf_table import TableDrawing
from treasury.reports.render.words import Language, word

ROWS_MAX = 200_000
"""Rows of a PDF at most: its pages are made in memory."""

WIDE_COLUMNS = 8
"""A report with a table of so many columns lies across."""

_PAGES = "pages"
_LABEL, _BAR, _BAR_HEIGHT = 120, 250, 8


def write_pdf(report: Report, language: Language, stream: BinaryIO, *, told: Callable[[int], object]) -> None:
    """Write the document. Raises ReportUnfit for one that is longer than a PDF may be."""
    rows = sum(1 for table in report.tables for _ in table.rows)
    if rows > ROWS_MAX:
        raise ReportUnfit(
            f"a PDF has at most {ROWS_MAX:,} rows, and this report {rows:,}: take csv or xlsx, or a shorter period",
            param="format",
            limit=ROWS_MAX,
        )
    _Document(report, language, stream).draw(told)


class _Document:
    """One report on paper."""

    def __init__(self, report: Report, language: Language, stream: BinaryIO) -> None:
        self._report = report
        self._language = language
        self._zone: tzinfo = zone_of(report.period)
        self._title = word(report.kind.value, language)
        self._paper = Paper(
            stream,
            landscape=max(len(table.columns) for table in report.tables) >= WIDE_COLUMNS,
            made=report.known_at,
            seal=f"{report.digest} {language}",
            title=f"{self._title} {report.period.name}",
        )

    def draw(self, told: Callable[[int], object]) -> None:
        self._begin_page()
        self._say_what_it_is()
        for chart in self._report.charts:
            self._chart(chart)
        drawing = TableDrawing(self._paper, self._language, self._zone, self._turn)
        for table in self._report.tables:
            drawing.draw(table, told)
        if self._report.kind is not ReportKind.STATEMENT:
            self._signature()
        self._paper.canvas.showPage()
        paper = self._paper
        ending = f"{word('of-pages', self._language)} {paper.pages}{' 页' if self._language is Language.ZH else ''}"
        paper.fill_in(_PAGES, 0, 0, ending, 8, colour=FAINT)
        paper.save()

    # Pages

    def _turn(self) -> None:
        self._paper.canvas.showPage()
        self._begin_page()

    def _begin_page(self) -> None:
        """Head and foot; what is between is free."""
        paper, report = self._paper, self._report
        paper.pages += 1
        top, right = paper.height - MARGIN, paper.width - MARGIN
        paper.text(MARGIN, top - 10, self._title, 11, bold=True)
        paper.text_right(right, top - 10, period_name(report.period, self._language), 11, bold=True)
        about = [f"{word('book', self._language)} {report.book}"]
        about += [f"{word('user', self._language)} {report.subject}"] if report.subject else []
        paper.text(MARGIN, top - 25, " · ".join(about), 8, colour=FAINT)
        if report.provisional:
            paper.text_right(right, top - 26, word("provisional", self._language), 11, bold=True, colour=WARNING)
        else:
            paper.text_right(right, top - 25, word("final", self._language), 8, colour=FAINT)
        paper.rule(top - 34)
        self._foot(right)
        paper.y = paper.height - MARGIN - HEAD + 12

    def _foot(self, right: int) -> None:
        paper, report, bottom = self._paper, self._report, MARGIN
        paper.rule(bottom + FOOT - 14)
        known = instant(report.known_at, self._language, self._zone)
        said = f"{word('known_at', self._language)} {known} {report.period.zone} · #{report.known_seq}"
        paper.text(MARGIN, bottom + 14, said, 8, colour=FAINT)
        digest = f"{word('digest', self._language)}  sha256:{report.digest}"
        paper.text(MARGIN, bottom + 2, digest, 7, colour=FAINT)
        page = word("page", self._language, str(paper.pages))
        room = width_of(f"{word('of-pages', self._language)} 00000 页", 8)
        paper.text_right(right - room, bottom + 14, page, 8, colour=FAINT)
        paper.canvas.saveState()
        paper.canvas.translate(right - room + 4, bottom + 14)
        paper.later(_PAGES)
        paper.canvas.restoreState()

    # What is on them

    def _say_what_it_is(self) -> None:
        """The first page's beginning: from when to when, and what is to be noted."""
        paper, report = self._paper, self._report
        said = {
            "from": instant(report.period.since, self._language, self._zone),
            "to": instant(report.period.until, self._language, self._zone),
            "time_zone": report.period.zone,
            "at": instant(report.at, self._language, self._zone),
            "reference": report.reference or "",
        }
        for key, text in said.items():
            if text:
                paper.y -= 13
                paper.text(MARGIN, paper.y, word(key, self._language), 8, colour=FAINT)
                paper.text(MARGIN + 100, paper.y, text, 8)
        paper.y -= 4
        for note in report.notes:
            for line in wrapped(word(note.word, self._language, note.about), 8, paper.inner):
                paper.y -= 12
                colour = WARNING if note.word == "note-provisional" else INK
                paper.text(MARGIN, paper.y, line, 8, colour=colour)

    def _chart(self, chart: Chart) -> None:
        """Bars below each other, each with its label and figure."""
        if not chart.bars:
            return
        paper = self._paper
        self._need(20 + 4 * (_BAR_HEIGHT + 5))
        paper.y -= 22
        paper.text(MARGIN, paper.y, word(chart.word, self._language), 10, bold=True, colour=ACCENT)
        paper.y -= 6
        left = MARGIN + _LABEL
        for bar in chart.bars:
            self._need(_BAR_HEIGHT + 5)
            paper.y -= _BAR_HEIGHT + 5
            paper.text(MARGIN, paper.y + 1, bar.label, 8)
            paper.box(left, paper.y, _BAR, _BAR_HEIGHT, BAND)
            paper.box(left, paper.y, bar.length * _BAR // FULL, _BAR_HEIGHT, WARNING if bar.below else ACCENT)
            if chart.mark is not None:
                paper.box(left + chart.mark * _BAR // FULL, paper.y - 2, 1, _BAR_HEIGHT + 4, RULE)
            paper.text(left + _BAR + 8, paper.y + 1, bar.figure, 8)

    def _signature(self) -> None:
        """A line to sign on."""
        self._need(70)
        paper = self._paper
        paper.y -= 52
        paper.box(MARGIN, paper.y, 220, 1, RULE)
        paper.y -= 11
        paper.text(MARGIN, paper.y, word("signed", self._language), 8, colour=FAINT)

    def _need(self, height: int) -> None:
        if self._paper.y - height < self._paper.bottom:
            self._turn()
