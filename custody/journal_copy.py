"""A journal read without its signer: from a copy, so that nothing is locked or written beside the original."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from custody.clocks import SystemClocks
from custody.errors import JournalMissing, JournalTampered
from custody.journal import Journal


@contextmanager
def journal_copy(path: Path) -> Iterator[Journal]:
    """A verified journal with the rows that the one at `path` has now. Raises JournalMissing, JournalTampered."""
    if not path.is_file():
        raise JournalMissing(f"there is no journal at {path}")
    with TemporaryDirectory() as folder:
        target = Path(folder) / "journal.sqlite"
        try:
            with (
                closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(target)) as copied,
            ):
                source.backup(copied)
        except sqlite3.Error as problem:
            raise JournalTampered(f"{path} isn't a journal that can be read: {problem}") from problem
        journal = Journal.open(target, SystemClocks())
        try:
            yield journal
        finally:
            journal.close()
