"""Keeps the lines of a file that is being checked out of memory, and gives them back in batches once it's believed.

In a nameless temporary file that only this process can open; small files never leave memory.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType

import msgspec

from fiat.bank.lines import StatementLine

MEMORY_BYTES = 8 * 1024 * 1024
"""A file's lines up to this size stay in memory."""

_LENGTH_BYTES = 4


class LineSpool:
    """Lines by the ordinal of their statement, in the order in which they came."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed by `__exit__`
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(StatementLine).decode
        self._starts: dict[int, int] = {}
        self._counts: defaultdict[int, int] = defaultdict(int)

    def __enter__(self) -> "LineSpool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, ordinal: int, line: StatementLine) -> None:
        """Keep a line; statements come one after the other."""
        if ordinal not in self._starts:
            self._starts[ordinal] = self._file.tell()
        frame = self._encode(line)
        self._file.write(len(frame).to_bytes(_LENGTH_BYTES, "big"))
        self._file.write(frame)
        self._counts[ordinal] += 1

    def lines(self, ordinal: int) -> Iterator[StatementLine]:
        """The statement's lines; one reader at a time."""
        place = self._starts.get(ordinal, 0)
        for _ in range(self._counts[ordinal]):
            self._file.seek(place)
            length = int.from_bytes(self._file.read(_LENGTH_BYTES), "big")
            yield self._decode(self._file.read(length))
            place += _LENGTH_BYTES + length
