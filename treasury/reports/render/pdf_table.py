"""A table on paper: columns as wide as what is in them, figures to the right, headings again on every page.

Figures and instants are never broken; texts are, where they need more room than there is. A table that is too wide gets
smaller letters, and in the end breaks figures too rather than leave a digit out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from treasury.reports.model import Cell, Row, Table
from treasury.reports.render.cells import shown
from treasury.reports.render.pdf_page import ACCENT, BAND, FAINT, INK, MARGIN, Paper, width_of, wrapped
from treasury.reports.render.words import Language, word

SIZES = (8, 7, 6, 5)
"""Heights of letters, in points, from the one that is wanted to the one that is borne."""

GAP = 8
"""Between two columns, in points."""

TEXT_MIN = 44
"""What a column of text is left with at least."""

_STRONG = ("opening", "closing")
_RIGHT = (Cell.AMOUNT, Cell.WHOLE)
_WHOLE = (Cell.AMOUNT, Cell.WHOLE, Cell.INSTANT)


@dataclass(frozen=True, slots=True)
class _Grid:
    """How a table lies on paper: the letters' size, each column's left edge and width."""

    size: int
    lefts: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def leading(self) -> int:
        return self.size + 3


class TableDrawing:
    """Draws tables in one language and time zone; `turn` begins a new page."""

    def __init__(self, paper: Paper, language: Language, zone: tzinfo, turn: Callable[[], None]) -> None:
        self._paper = paper
        self._language = language
        self._zone = zone
        self._turn = turn

    def draw(self, table: Table, told: Callable[[int], object]) -> None:
        """The table with its title, from where the paper is."""
        grid = self._grid(table)
        self._need(60)
        self._paper.y -= 20
        self._paper.text(MARGIN, self._paper.y, word(table.name, self._language), 10, bold=True, colour=ACCENT)
        self._paper.y -= 8
        self._headings(table, grid)
        number = 0
        for number, row in enumerate(table.rows, 1):
            self._row(table, grid, row, number)
            told(1)
        if not number:
            self._paper.y -= grid.leading
            self._paper.text(MARGIN, self._paper.y, word("nothing", self._language), grid.size, colour=FAINT)
        self._paper.y -= 4
        self._paper.rule(self._paper.y)

    def _grid(self, table: Table) -> _Grid:
        longest = self._longest(table)
        for size in SIZES:
            widths = self._widths(table, longest, size)
            if widths is not None:
                return _placed(size, widths)
        share = (self._paper.inner - GAP * (len(table.columns) - 1)) // len(table.columns)
        return _placed(SIZES[-1], [share] * len(table.columns))

    def _longest(self, table: Table) -> list[str]:
        """Of each column the text that is likely to be widest: figures of one font are as wide as they're long."""
        found = [word(column.name, self._language) for column in table.columns]
        for row in table.rows:
            for place, (column, text) in enumerate(zip(table.columns, row, strict=True)):
                told = shown(text, column.cell, self._language, self._zone)
                # Letters differ in width by less than this, so most cells needn't be measured.
                if len(told) * 2 >= len(found[place]) and width_of(told, SIZES[0], bold=True) > width_of(
                    found[place], SIZES[0], bold=True
                ):
                    found[place] = told
        return found

    def _widths(self, table: Table, longest: Sequence[str], size: int) -> list[int] | None:
        """Widths at a size of letters; None where not even the figures have room."""
        wanted = [width_of(text, size, bold=True) for text in longest]
        heads = [width_of(word(column.name, self._language), size, bold=True) for column in table.columns]
        wanted = [max(pair) for pair in zip(wanted, heads, strict=True)]
        room = self._paper.inner - GAP * (len(wanted) - 1)
        if sum(wanted) <= room:
            return _spread(wanted, table, room)
        fixed = [column.cell in _WHOLE for column in table.columns]
        left = room - sum(wide for wide, is_fixed in zip(wanted, fixed, strict=True) if is_fixed)
        texts = [wide for wide, is_fixed in zip(wanted, fixed, strict=True) if not is_fixed]
        bounds = _shared(texts, left)
        if bounds is None:
            return None
        each = iter(bounds)
        return [wide if is_fixed else next(each) for wide, is_fixed in zip(wanted, fixed, strict=True)]

    def _headings(self, table: Table, grid: _Grid) -> None:
        cells = [word(column.name, self._language) for column in table.columns]
        lines = [wrapped(cell, grid.size, wide, bold=True) for cell, wide in zip(cells, grid.widths, strict=True)]
        self._lines(table, grid, lines, bold=True, colour=FAINT)
        self._paper.y -= 3
        self._paper.rule(self._paper.y)

    def _row(self, table: Table, grid: _Grid, row: Row, number: int) -> None:
        strong = any(text in _STRONG for text in row)
        lines = [
            wrapped(shown(text, column.cell, self._language, self._zone), grid.size, wide, bold=strong)
            for column, text, wide in zip(table.columns, row, grid.widths, strict=True)
        ]
        height = max(map(len, lines)) * grid.leading + 2
        if self._paper.y - height < self._paper.bottom:
            self._turn()
            self._headings(table, grid)
        if number % 2 == 0:
            self._paper.box(MARGIN - 3, self._paper.y - height, self._paper.inner + 6, height, BAND)
        self._lines(table, grid, lines, bold=strong, colour=INK)
        self._paper.y -= 2

    def _lines(self, table: Table, grid: _Grid, lines: Iterable[Sequence[str]], *, bold: bool, colour: int) -> None:
        """Cells side by side, each of one line or more."""
        paper, deepest = self._paper, 1
        for column, left, wide, cell in zip(table.columns, grid.lefts, grid.widths, lines, strict=True):
            deepest = max(deepest, len(cell))
            for place, text in enumerate(cell):
                y = paper.y - (place + 1) * grid.leading + 2
                if column.cell in _RIGHT:
                    paper.text_right(left + wide, y, text, grid.size, bold=bold, colour=colour)
                elif text:
                    paper.text(left, y, text, grid.size, bold=bold, colour=colour)
        paper.y -= deepest * grid.leading

    def _need(self, height: int) -> None:
        if self._paper.y - height < self._paper.bottom:
            self._turn()


def _placed(size: int, widths: Sequence[int]) -> _Grid:
    lefts, left = [], MARGIN
    for wide in widths:
        lefts.append(left)
        left += wide + GAP
    return _Grid(size, tuple(lefts), tuple(widths))


def _spread(wanted: list[int], table: Table, room: int) -> list[int]:
    """What is left over goes to figures, so that they stand well apart and end at the margin."""
    figures = [place for place, column in enumerate(table.columns) if column.cell in _RIGHT]
    over = room - sum(wanted)
    for place in figures:
        wanted[place] += over // len(figures)
    return wanted


def _shared(texts: Sequence[int], room: int) -> list[int] | None:
    """Room shared among texts: short ones get what they want, long ones the rest in equal parts; None: too little."""
    if room < TEXT_MIN * len(texts):
        return None
    bounds, left, waiting = list(texts), room, sorted(range(len(texts)), key=lambda place: texts[place])
    while waiting:
        share = left // len(waiting)
        place = waiting.pop(0)
        bounds[place] = min(texts[place], share)
        left -= bounds[place]
    return bounds
