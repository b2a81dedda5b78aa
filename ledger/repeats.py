"""Which names stand twice in a stream that needn't fit into memory: hashes of them, parted over unnamed files.

Only hashes are kept (96 bits: two names among a hundred million are taken for one with a chance of one in 10^13).
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import IO

from base.errors import ConfigError

_PARTS = 256
_PART_BYTES = 16 * 1024
"""What a part holds in memory before it's written out."""

_DIGEST = 12
_RECORD = _DIGEST + 8


class Repeats:
    """Notes names, each with its kind (below 256) and its line, and tells at the end which came before. A context.

    Raises ConfigError where the folder of temporary files is full.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._parts = [bytearray() for _ in range(_PARTS)]
        self._files: dict[int, IO[bytes]] = {}

    def __enter__(self) -> "Repeats":
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def add(self, kind: int, name: str, line: int) -> None:
        digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST, salt=bytes((kind,))).digest()
        part = self._parts[digest[0]]
        part += digest + (line << 8 | kind).to_bytes(8)
        if len(part) >= _PART_BYTES:
            self._write_out(digest[0])

    def found(self) -> Iterator[tuple[int, int, int]]:
        """(kind, line, line of the time before) of every name that had been noted already, in no order."""
        for index in range(_PARTS):
            records = self._records(index)
            records.sort()
            for before, after in pairwise(records):
                if before[:_DIGEST] == after[:_DIGEST]:
                    first, again = (int.from_bytes(record[_DIGEST:]) for record in (before, after))
                    yield again & 0xFF, again >> 8, first >> 8

    def _write_out(self, index: int) -> None:
        try:
            if index not in self._files:
                self._files[index] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
            self._files[index].write(self._parts[index])
            self._files[index].flush()
        except OSError as error:
            folder = tempfile.gettempdir()
            raise ConfigError(f"{folder} can't be written: {error.strerror}; TMPDIR names another folder") from error
        self._parts[index].clear()

    def _records(self, index: int) -> list[bytes]:
        stored = b""
        if index in self._files:
            self._files[index].seek(0)
            stored = self._files[index].read()
        stored += self._parts[index]
        return [stored[start : start + _RECORD] for start in range(0, len(stored), _RECORD)]
