"""Epochs' files: each epoch's key and trees, which users' proofs are made from. They're the house's alone.

    <folder>/<book>/<number>/epoch.key       the secret that salts are made with
    <folder>/<book>/<number>/<asset>.tree    blinded ids in order, then all nodes, level by level

They're made in a folder of another name, which gets its own when it's whole. What is published of an epoch stands in
the database. A proof is read out of a tree that is mapped into memory: of a million users it touches forty pages.
"""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from base.errors import ConfigError
from base.files import sync_folder, write_atomically
from treasury.errors import EpochFilesMissing, EpochUnfit, ListUnfit, TreasuryCorrupt
from treasury.solvency_proofs import write_proof
from treasury.solvency_statements import ListTold, Statement, key_hash
from treasury.solvency_tree import SumTree, Terms, unpack

_DRAFT, _UNRECORDED = ".draft-", ".unrecorded-"
_KEY_FILE, _TREE_ENDING, _SPOOL_FILE = "epoch.key", ".tree", "owed"


class Draft:
    """The folder of an epoch that is being made; it's gone at the end unless it got its number."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.key = key
        self._folder = folder
        write_atomically(folder / _KEY_FILE, key.hex().encode() + b"\n")

    @contextmanager
    def spool(self) -> Iterator[IO[bytes]]:
        """A file for what is read of each user, which has no name any more when it's given out."""
        path = self._folder / _SPOOL_FILE
        with _private(path) as file:
            path.unlink()
            yield file

    def keep(self, tree: SumTree) -> None:
        """Write a tree, so that proofs can be made from it later."""
        with _private(self._folder / _tree_file(tree.terms.asset)) as file:
            for part in tree.packed():
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def name(self, number: int) -> None:
        """Give a whole epoch its place. What lies there without being recorded in the book is put aside, never lost."""
        place = self._folder.parent / str(number)
        try:
            if place.exists():
                place.rename(Path(tempfile.mkdtemp(prefix=f"{_UNRECORDED}{number}-", dir=place.parent)) / "epoch")
            self._folder.rename(place)
        except OSError as error:
            raise EpochUnfit(f"epoch {number} of book {place.parent.name} was made meanwhile: try again") from error
        sync_folder(place.parent)


@contextmanager
def drafted(folder: Path, book: str, key: bytes) -> Iterator[Draft]:
    """A folder for the next epoch of a book. Raises ConfigError where nothing can be written."""
    place = _new_draft(folder / book)
    try:
        yield Draft(place, key)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _new_draft(place: Path) -> Path:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in place.glob(f"{_DRAFT}*"):  # by a process that was killed
            if not Path("/proc", left.name.removeprefix(_DRAFT).partition("-")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{os.getpid()}-", dir=place))
    except OSError as error:
        raise ConfigError(f"no epoch can be kept in {place}: {error.strerror}; set [solvency] folder") from error


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _tree_file(asset: str) -> str:
    return f"{asset}{_TREE_ENDING}"


def prove(folder: Path, statement: Statement, owner: str, listed: ListTold) -> bytes:
    """A user's proof out of an epoch's files. Raises NoLeaf; EpochFilesMissing where they aren't (or can't be read);
    TreasuryCorrupt where they aren't those of what was published.
    """
    place = _place(folder, statement)
    terms = Terms(statement.epoch, listed.asset, statement.seq)
    try:
        key = bytes.fromhex((place / _KEY_FILE).read_text(encoding="ascii"))
        with (place / _tree_file(listed.asset)).open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if key_hash(key) != statement.key:
            raise ValueError("another epoch's key")
        tree = unpack(terms, mapped, leaves=listed.users, key=key)
    except OSError as error:
        raise EpochFilesMissing(
            f"the files of epoch {statement.epoch} can't be read in {place} ({error.strerror}): this process needs the"
            " folder that the epoch was made in ([solvency] folder), and may it read them?"
        ) from error
    except (ValueError, ListUnfit) as error:
        raise TreasuryCorrupt(f"the files in {place} aren't an epoch's as they were written") from error
    inclusion = tree.inclusion(owner)
    if (tree.root.hex(), tree.total) != (listed.root, int(listed.total)):
        raise TreasuryCorrupt(f"the files in {place} don't give the root that was published for {listed.asset}")
    return write_proof(inclusion)


def check_files(folder: Path, statement: Statement) -> None:
    """Look whether an epoch's key, and the top of each tree, are those of what was published.

    Raises EpochFilesMissing, TreasuryCorrupt.
    """
    place = _place(folder, statement)
    try:
        key = bytes.fromhex((place / _KEY_FILE).read_text(encoding="ascii"))
        if key_hash(key) != statement.key:
            raise TreasuryCorrupt(f"{place / _KEY_FILE} is another epoch's key")
        for listed in statement.lists:
            packed = (place / _tree_file(listed.asset)).read_bytes()
            tree = unpack(Terms(statement.epoch, listed.asset, statement.seq), packed, leaves=listed.users, key=key)
            if (tree.root.hex(), tree.total) != (listed.root, int(listed.total)):
                raise TreasuryCorrupt(f"the tree of {listed.asset} in {place} hasn't the root that was published")
    except OSError as error:
        raise EpochFilesMissing(f"{error.filename} can't be read ({error.strerror})") from error
    except (ValueError, ListUnfit) as error:
        raise TreasuryCorrupt(f"the files in {place} aren't an epoch's as they were written") from error


def _place(folder: Path, statement: Statement) -> Path:
    return folder / statement.book / str(statement.number)
