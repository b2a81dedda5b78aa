"""Rows that wait outside of memory between being read and being shown, as often as they're walked through.

In a nameless temporary file that only this process can open; few rows never leave memory.
"""

import tempfile
from collections.abc import Iterator
from types import TracebackType

import msgspec

from treasury.reports.model import Row

MEMORY_BYTES = 4 * 1024 * 1024
"""Rows up to this size stay in memory."""

_LENGTH_BYTES = 4


class RowSpool:
    """Rows in the order in which they came; one reader at a time."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed by `__exit__`
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Row).decode
        self._count = 0

    def __enter__(self) -> "RowSpool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> None:
        frame = self._encode(row)
        self._file.write(len(frame).to_bytes(_LENGTH_BYTES, "big"))
        self._file.write(frame)
        self._count += 1

    def __iter__(self) -> Iterator[Row]:
        self._file.seek(0)
        for _ in range(self._count):
            length = int.from_bytes(self._file.read(_LENGTH_BYTES), "big")
            yield self._decode(self._file.read(length))
        self._file.seek(0, 2)
