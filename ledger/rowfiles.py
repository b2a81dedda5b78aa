"""Files of rows: CSV or JSON Lines in UTF-8, gzipped or not, read one row at a time in bounded memory.

A row that can't be read is a `Fault` in its place, with line and remedy, and reading goes on behind it; what leaves
nothing to go on with (a broken archive, a wrong header) raises BadFile. What rows mean is in `ledger.importing`.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from base.nesting import is_nested_within
from ledger.errors import BadFile

ROW_MAX = 4 * 1024 * 1024
"""Bytes of a row: more than the largest metadata takes."""

FORMULA_STARTS = "=+-@\t\r"
"""What a spreadsheet takes for the beginning of a formula."""

_LEVELS_MAX = 16

_GUARDED = frozenset(FORMULA_STARTS + "'")
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_BOM = b"\xef\xbb\xbf"


class FileFormat(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Record:
    """A row as its file has it: its cells by column, without the empty ones, and the line it begins on (from 1)."""

    line: int
    cells: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row can't be taken: its line (from 1), the column if one is at fault, a code, a reason and a remedy."""

    line: int
    column: str | None
    code: str
    why: str
    remedy: str

    def __str__(self) -> str:
        place = f"line {self.line:,}" + (f", {shown(self.column)}" if self.column else "")
        return f"{place}: {self.why}; {self.remedy}" if self.remedy else f"{place}: {self.why}"


class _Unreadable(Exception):
    """A line that is no text, or no row. Only inside this module: callers see a Fault."""

    def __init__(self, code: str, why: str, remedy: str, *, line: int | None = None) -> None:
        super().__init__(why)
        self.code, self.why, self.remedy, self.line = code, why, remedy, line


def shown(name: str) -> str:
    """A name out of a file for a terminal: short, and escaped where it holds what doesn't print."""
    return name[:100] if name[:100].isprintable() else repr(name[:100])


def guarded(text: str) -> str:
    """Text for a CSV cell which no spreadsheet takes for a formula: an apostrophe stands before a suspicious start."""
    return f"'{text}" if text and text[0] in _GUARDED else text


def unguarded(cell: str) -> str:
    """The text that `guarded` was given; other text as it is."""
    return cell[1:] if cell[0] == "'" and cell[1:2] in _GUARDED and len(cell) > 1 else cell


class RowFile:
    """The rows of a file, one after the other: iterate once. `columns` are a CSV file's header, () for JSON Lines.

    `check_header` raises BadFile for columns that nobody can mean. `line` is the last line read.
    """

    def __init__(
        self, stream: BinaryIO, form: FileFormat, *, check_header: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self.form = form
        self.columns: tuple[str, ...] = ()
        self._lines = _Lines(stream, ends=form is FileFormat.CSV)
        self._check_header = check_header or (lambda columns: None)
        if form is FileFormat.CSV:
            csv.field_size_limit(ROW_MAX)  # the module's own limit is below what metadata may take
            self._reader = csv.reader(self._lines, strict=True)
            self._read_header()

    @property
    def line(self) -> int:
        return self._lines.number

    def __iter__(self) -> Iterator[Record | Fault]:
        read = self._csv_row if self.form is FileFormat.CSV else self._json_row
        while True:
            self._lines.begin_row()
            first = self._lines.number + 1
            try:
                cells = read()
            except StopIteration:
                return
            except _Unreadable as found:
                yield Fault(found.line or first, None, found.code, found.why, found.remedy)
            else:
                if cells is not None:
                    yield Record(first, cells)

    # CSV

    def _read_header(self) -> None:
        try:
            header = next(self._reader)
        except StopIteration:
            raise BadFile("the file is empty; its first line names the columns", code="empty_file") from None
        except (csv.Error, _Unreadable) as error:
            raise BadFile(f"line 1, the header: {error}", code="bad_header", line=1) from error
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            raise BadFile("line 1: the columns are parted by something else than commas", code="bad_header", line=1)
        self._check_header(header)
        self.columns = tuple(header)

    def _csv_row(self) -> dict[str, object] | None:
        """The next row; None for one without any text, such as spreadsheets leave at the end."""
        try:
            row = next(self._reader)
        except csv.Error as error:
            raise _Unreadable(
                "bad_csv", f"this is no row of CSV ({error})", 'put cells with commas, quotes or newlines into "quotes"'
            ) from None
        if not row:
            return None
        if len(row) != len(self.columns):
            raise _Unreadable(
                "wrong_cells",
                f"this row has {len(row)} cells and the header {len(self.columns)}",
                "write a cell for each column, empty ones too",
            )
        return {column: unguarded(cell) for column, cell in zip(self.columns, row, strict=True) if cell} or None

    # JSON Lines

    def _json_row(self) -> dict[str, object] | None:
        """The next row; None for an empty line."""
        text = next(self._lines)
        if text.isspace():
            return None
        if not is_nested_within(text.encode(), _LEVELS_MAX):
            raise _Unreadable("bad_json", "this is nested too deeply", "write one flat object a line")
        try:
            row = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
        except ValueError as error:
            raise _Unreadable("bad_json", f"this is no JSON ({error})", "write one object a line") from None
        if not isinstance(row, dict):
            raise _Unreadable("bad_json", "this is no object", 'write one object a line: {"id": ...}')
        return {column: value for column, value in row.items() if value is not None}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; one whose keys stand twice could mean two things."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unreadable("repeated_key", f"the key {twice[:100]!r} stands twice in an object", "keep one of them")
    return found


def _refuse_constant(name: str) -> object:
    raise _Unreadable("bad_json", f"{name} is no JSON", "write numbers as decimal strings")


class _Lines:
    """The lines of a stream as text, counted from 1. Iterate only through `RowFile`.

    `ends`: the last line needs its newline as well. Without it a row of CSV that was cut off looks whole.
    """

    def __init__(self, stream: BinaryIO, *, ends: bool) -> None:
        self.number = 0
        self._ends = ends
        self._stream = _unzipped(stream)
        self._bytes = 0

    def begin_row(self) -> None:
        """A row may be as long as ROW_MAX from here on."""
        self._bytes = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = self._read()
        if not raw:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            raw = _without_mark(raw)
        self._bytes += len(raw)
        if self._bytes > ROW_MAX:
            raise BadFile(
                f"line {self.number}: a row is longer than {ROW_MAX:,} bytes; a quote may have been left open",
                code="row_too_long",
                line=self.number,
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise _Unreadable(
                "not_utf8",
                f"byte {error.start + 1} of the line is no UTF-8",
                "save the file as UTF-8",
                line=self.number,
            ) from None
        if "\0" in text:
            raise _Unreadable("nul", "the line holds a NUL character", "take it out", line=self.number)
        if self._ends and not text.endswith("\n"):
            raise _Unreadable(
                "cut_off",
                "the file ends without a newline, as one does that was cut off",
                "make or fetch it again, or end its last row with a newline if it's whole",
                line=self.number,
            )
        return text

    def _read(self) -> bytes:
        try:
            return self._stream.readline(ROW_MAX + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadFile(
                f"the archive is broken behind line {self.number} ({error}): make or fetch it again",
                code="broken_archive",
                line=self.number,
            ) from error
        except OSError as error:
            raise BadFile(f"line {self.number + 1} can't be read: {error.strerror}", line=self.number + 1) from error


def _unzipped(stream: BinaryIO) -> BinaryIO:
    """The stream, or what is packed in it: told by its first bytes, not by its name."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    begins = buffered.peek(len(_ZIP))
    if begins.startswith(_ZIP):
        raise BadFile("the file is a ZIP archive or a workbook; save it as CSV", code="not_text", line=1)
    if begins.startswith(_GZIP):
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]
    return buffered


def _without_mark(line: bytes) -> bytes:
    """The first line without the byte order mark of UTF-8."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFile("the file is UTF-16; save it as UTF-8", code="not_utf8", line=1)
    return line.removeprefix(_BOM)


# Writing


class RowWriter:
    """Makes the bytes of rows. `columns` name the cells; those in `texts` are people's words, guarded in CSV.

    A cell is text, a whole number, a truth or None (absent); one in `objects` is JSON text of an object.
    """

    def __init__(
        self, form: FileFormat, columns: Sequence[str], *, texts: Iterable[str] = (), objects: Iterable[str] = ()
    ) -> None:
        self.form = form
        self._columns = tuple(columns)
        self._texts = [index for index, column in enumerate(columns) if column in set(texts)]
        self._objects = frozenset(objects)
        self._buffer = io.StringIO(newline="")
        self._csv = csv.writer(self._buffer, lineterminator="\n")
        self._quoting = csv.writer(self._buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def header(self) -> bytes:
        """What stands before the rows."""
        return self._csv_bytes([self._columns]) if self.form is FileFormat.CSV else b""

    def rows(self, rows: Iterable[Sequence[object]]) -> bytes:
        """The bytes of these rows."""
        if self.form is FileFormat.CSV:
            return self._csv_bytes([self._guarded(row) for row in rows])
        return "".join([self._json_line(row) for row in rows]).encode()

    def _guarded(self, row: Sequence[object]) -> Sequence[object]:
        cells = [("true" if cell else "false") if isinstance(cell, bool) else cell for cell in row]
        for index in self._texts:
            cell = cells[index]
            if isinstance(cell, str) and cell[:1] in _GUARDED:
                cells[index] = guarded(cell)
        return cells

    def _csv_bytes(self, rows: Sequence[Sequence[object]]) -> bytes:
        self._csv.writerows(rows)
        made = self._taken()
        if b"\r" in made:  # before Python 3.13 the module doesn't quote a cell for it, and doesn't read it back
            for row in rows:
                has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
                (self._quoting if has_return else self._csv).writerow(row)
            made = self._taken()
        return made

    def _taken(self) -> bytes:
        made = self._buffer.getvalue().encode()
        self._buffer.seek(0)
        self._buffer.truncate()
        return made

    def _json_line(self, row: Sequence[object]) -> str:
        cells = [
            f'"{column}": {cell if column in self._objects else _json(cell)}'
            for column, cell in zip(self._columns, row, strict=True)
            if cell is not None
        ]
        return "{" + ", ".join(cells) + "}\n"


_json = json.JSONEncoder(ensure_ascii=False).encode
