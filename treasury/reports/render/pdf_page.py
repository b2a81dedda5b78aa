"""Paper for PDF: pages with head and foot, text in two fonts, rules and bars. Places are whole points (1/72 inch).

Fonts are those that every viewer has: Helvetica for Latin letters, and Adobe's STSong-Light for the rest, so that no
font needs to be in the file. What neither has is shown as a question mark. Nothing here knows of clocks: the same
drawing gives the same bytes.
"""

import hashlib
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from types import SimpleNamespace
from typing import Any, BinaryIO

from reportlab.lib.colors import HexColor
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

A4 = (595, 842)
MARGIN = 42
HEAD, FOOT = 58, 44
"""Heights that head and foot of a page take, within the margins' width."""

LATIN, LATIN_BOLD, OTHERS = "Helvetica", "Helvetica-Bold", "STSong-Light"

INK, FAINT, RULE, BAND, ACCENT, WARNING = 0x1B1F24, 0x667080, 0xB8C0CC, 0xF3F5F8, 0x1F4E79, 0xB42318

_UNKNOWN = "?"
_BMP_END = 0x10000
_CONTROLS_END = 0x20


class Paper:
    """A document being drawn from top to bottom; `y` is where the next thing's upper edge is."""

    def __init__(self, stream: BinaryIO, *, landscape: bool, made: datetime, seal: str, title: str) -> None:
        _register()
        size = A4[::-1] if landscape else A4
        self.width, self.height = size
        self.y = 0
        self.pages = 0
        self.canvas = Canvas(stream, pagesize=size, pageCompression=1, invariant=1)
        self.canvas.setTitle(title)
        self.canvas.setAuthor("Onebook")
        self.canvas.setCreator("Onebook")
        self.canvas.setProducer("Onebook")
        _stamp(self.canvas, made, seal)

    @property
    def inner(self) -> int:
        """The width between the margins."""
        return self.width - 2 * MARGIN

    @property
    def bottom(self) -> int:
        return MARGIN + FOOT

    def text(self, x: int, y: int, text: str, size: int, *, bold: bool = False, colour: int = INK) -> None:
        """Text whose baseline begins at a place."""
        self.canvas.setFillColor(HexColor(colour))
        at: Any = x
        for font, run in runs(text, bold=bold):
            self.canvas.setFont(font, size)
            self.canvas.drawString(at, y, run)
            at += pdfmetrics.stringWidth(run, font, size)

    def text_right(self, x: int, y: int, text: str, size: int, *, bold: bool = False, colour: int = INK) -> None:
        """Text that ends at a place."""
        self.text(x - width_of(text, size, bold=bold), y, text, size, bold=bold, colour=colour)

    def rule(self, y: int, *, colour: int = RULE) -> None:
        """A line between the margins."""
        self.box(MARGIN, y, self.inner, 1, colour)

    def box(self, x: int, y: int, width: int, height: int, colour: int) -> None:
        """A filled box by its lower left corner."""
        self.canvas.setFillColor(HexColor(colour))
        self.canvas.rect(x, y, width, height, stroke=0, fill=1)

    def later(self, name: str) -> None:
        """Leave a place for what is drawn at the end (`fill_in`), from here on."""
        self.canvas.doForm(name)

    def fill_in(self, name: str, x: int, y: int, text: str, size: int, *, colour: int) -> None:
        """Draw what every `later` of this name shows."""
        self.canvas.beginForm(name)
        self.text(x, y, text, size, colour=colour)
        self.canvas.endForm()

    def save(self) -> None:
        self.canvas.save()


def runs(text: str, *, bold: bool = False) -> list[tuple[str, str]]:
    """The text in pieces of one font each."""
    latin = LATIN_BOLD if bold else LATIN
    return [
        (latin if is_latin else OTHERS, "".join(sign for sign, _ in signs))
        for is_latin, signs in groupby(map(_sign, text), key=lambda sign: sign[1])
    ]


@lru_cache(20_000)
def width_of(text: str, size: int, *, bold: bool = False) -> int:
    """How wide it is, in whole points, rounded up."""
    _register()
    wide = sum(pdfmetrics.stringWidth(run, font, size) for font, run in runs(text, bold=bold))
    return -int(-wide // 1)


def wrapped(text: str, size: int, width: int, *, bold: bool = False) -> list[str]:
    """The text in lines of at most this width: broken at blanks where there are some, else anywhere."""
    found, rest = [], text
    while rest and width_of(rest, size, bold=bold) > width:
        fits = _fitting(rest, size, width, bold=bold)
        blank = rest.rfind(" ", 1, fits + 1)
        cut = blank if blank > 0 else fits
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*found, rest] if rest or not found else found


def _fitting(text: str, size: int, width: int, *, bold: bool) -> int:
    """How many characters fit, at least one."""
    least, most = 1, len(text)
    while least < most:
        middle = (least + most + 1) // 2
        if width_of(text[:middle], size, bold=bold) <= width:
            least = middle
        else:
            most = middle - 1
    return least


@lru_cache(10_000)
def _sign(sign: str) -> tuple[str, bool]:
    """What is drawn of a character, and whether the Latin font has it."""
    if ord(sign) >= _BMP_END:
        return _UNKNOWN, True
    if ord(sign) < _CONTROLS_END:
        return " ", True
    try:
        sign.encode("cp1252")
    except UnicodeEncodeError:
        return sign, False
    return sign, True


@lru_cache(1)
def _register() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(OTHERS))


def _stamp(canvas: Canvas, made: datetime, seal: str) -> None:
    """Let the document be one that was made at an instant (UTC), and whose id follows from `seal`.

    A canvas knows its own clock and its environment alone.
    """
    when = made.utctimetuple()
    stamp = SimpleNamespace(t=int(made.timestamp()), lt=when, YMDhms=tuple(when)[:6], dhh=0, dmm=0, tzname="UTC")
    canvas._doc._timeStamp = stamp
    canvas._doc.signature = hashlib.sha256(seal.encode())
