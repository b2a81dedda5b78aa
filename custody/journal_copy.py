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
from custody.errors import JournalBehind, JournalMissing, JournalTampered
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


def copy_journal(path: Path, target: Path, *, knowing: Head | None = None) -> Head:
    """Write the rows that the journal at `path` has now to a new file, for its owner alone; how far they go.

    One file without a log beside it, so that it can be read where nothing may be written. The signer may run
    meanwhile. `knowing`: a row that it must have. Raises JournalMissing; JournalBehind where it hasn't that row;
    JournalTampered for rows that aren't what was written.
    """
    _copy(path, target)
    head = Head(0, GENESIS)
    is_known = knowing in (None, head)
    with closing(sqlite3.connect(target)) as copied:
        try:
            copied.execute("PRAGMA journal_mode = DELETE")
            for row in verified_rows(copied):
                head = Head(row.sequence, row.hash)
                is_known |= head == knowing
        except sqlite3.Error as problem:
            raise JournalTampered(f"{path} isn't a journal that can be read: {problem}") from problem
    if knowing is not None and not is_known:
        raise JournalBehind(
            f"{path} goes to row {head.sequence} and hasn't row {knowing.sequence} as the backup's copy has it: it's an"
            " older journal, or another signer's; one that was begun anew by a resync is put in place by hand"
        )
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
