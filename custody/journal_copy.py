"""A journal read without its signer: from a copy, so that nothing is locked or written beside the original."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from custody.clocks import SystemClocks
from custody.errors import JournalMissing, JournalTampered
from custody.journal import Journal
from custody.journal_file import GENESIS, Head, verified_rows


@contextmanager
def journal_copy(path: Path) -> Iterator[Journal]:
    """A verified journal with the rows that the one at `path` has now. Raises JournalMissing, JournalTampered."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "journal.sqlite"
        _copy(path, target)
        journal = Journal.open(target, SystemClocks())
        try:
            yield journal
        finally:
            journal.close()


def copy_journal(path: Path, target: Path) -> Head:
    """Write the rows that the journal at `path` has now to a new file, for its owner alone; how far they go.

    One file without a log beside it, so that it can be read where nothing may be written. The signer may run
    meanwhile. Raises JournalMissing; JournalTampered for rows that aren't what was written.
    """
    _copy(path, target)
    head = Head(0, GENESIS)
    with closing(sqlite3.connect(target)) as copied:
        try:
            copied.execute("PRAGMA journal_mode = DELETE")
            for row in verified_rows(copied):
                head = Head(row.sequence, row.hash)
        except sqlite3.Error as problem:
            raise JournalTampered(f"{path} isn't a journal that can be read: {problem}") from problem
    return head


def _copy(path: Path, target: Path) -> None:
    if not path.is_file():
        raise JournalMissing(f"there is no journal at {path}")
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copied,
        ):
            source.backup(copied)
    except sqlite3.Error as problem:
        if getattr(problem, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from problem
        raise JournalTampered(f"{path} isn't a journal that can be read: {problem}") from problem
