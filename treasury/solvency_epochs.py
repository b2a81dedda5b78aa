"""Epochs as folders: what of them is published, and apart from it what only the house may know.

    <folder>/<book>/<number>/epoch.json   the lists' roots and totals: to be published
    <folder>/<book>/<number>/epoch.key    the secret that salts are made with
    <folder>/<book>/<number>/owed         each user and what they are owed, by asset

An epoch is made in a folder of another name and gets its own when it's whole. Proofs are made later out of it: the tree
is hashed again from what was read, and must have the published root.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.entropy import Entropy
from base.errors import ConfigError
from base.files import sync_folder, write_atomically
from treasury.errors import EpochUnfit, ListUnfit, NoEpoch, NoLeaf, TreasuryCorrupt
from treasury.solvency import Owed, OwedAsset, read_owed, tree_of
from treasury.solvency_proofs import write_proof
from treasury.solvency_store import Sums
from treasury.solvency_tree import KEY_BYTES, SumTree

FORMAT = "onebook-epoch-1"

_DRAFT = ".draft-"
_PUBLISHED_FILE, _KEY_FILE, _OWED_FILE = "epoch.json", "epoch.key", "owed"

Telling = Callable[[str, int, int], object]
"""Hears how far a list is: its asset, how much was hashed since the last time, and how much there is in all."""


@dataclass(frozen=True, slots=True)
class AssetList:
    """One asset's list: users and what all are owed; beside it what users owe us. Smallest units."""

    asset: str
    users: int
    total: int
    receivable: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Epoch:
    """All of a book's lists at command `seq`, which was booked at `booked_at`."""

    book: str
    number: int
    seq: int
    booked_at: datetime
    lists: tuple[AssetList, ...]

    def document(self) -> dict[str, object]:
        """What is published, as plain JSON."""
        told = asdict(self) | {"format": FORMAT, "booked_at": self.booked_at.isoformat()}
        told["lists"] = [
            asdict(one) | {"total": str(one.total), "receivable": str(one.receivable), "root": one.root.hex()}
            for one in self.lists
        ]
        return told


async def make_epoch(
    engine: AsyncEngine,
    book: str,
    folder: Path,
    *,
    entropy: Entropy,
    told: Telling = lambda *_: None,
) -> Epoch:
    """Read what is owed now, and keep it as the book's next epoch.

    Raises BookCorrupt if there is no such book, TreasuryCorrupt if its rows contradict each other, EpochUnfit if
    another one was made meanwhile, ConfigError where nothing can be written.
    """
    place = folder / book
    draft = _draft(place)
    try:
        key = entropy.draw(KEY_BYTES)
        write_atomically(draft / _KEY_FILE, key.hex().encode() + b"\n")
        with _private(draft / _OWED_FILE) as spool:
            owed = await read_owed(engine, book, spool)
            number = max(epoch_numbers(folder, book), default=0) + 1
            lists = tuple(
                _list(owed, tree_of(owed, asset, spool, number=number, key=key, told=_telling(owed, asset, told)))
                for asset in owed.assets
            )
            spool.flush()
            os.fsync(spool.fileno())
        epoch = Epoch(book, number, owed.seq, owed.booked_at, lists)
        write_atomically(draft / _PUBLISHED_FILE, json.dumps(epoch.document(), indent=2).encode() + b"\n", mode=0o644)
        _name(draft, folder / book / str(number))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return epoch


def _draft(place: Path) -> Path:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in place.glob(f"{_DRAFT}*"):  # by a process that was killed
            if not Path("/proc", left.name.removeprefix(_DRAFT).partition("-")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{os.getpid()}-", dir=place))
    except OSError as error:
        raise ConfigError(f"no epoch can be kept in {place}: {error.strerror}; set `solvency`") from error


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _name(draft: Path, place: Path) -> None:
    """Give a whole epoch its place; only one can have it."""
    try:
        draft.rename(place)
    except OSError as error:
        raise EpochUnfit(f"epoch {place.name} of book {place.parent.name} was made meanwhile: try again") from error
    sync_folder(place.parent)


def epoch_numbers(folder: Path, book: str) -> list[int]:
    """The numbers of a book's epochs, in order."""
    place = folder / book
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read_epoch(folder: Path, book: str, number: int | None = None) -> Epoch:
    """An epoch as it was published, without a number the latest. Raises NoEpoch, TreasuryCorrupt."""
    if number is None:
        numbers = epoch_numbers(folder, book)
        if not numbers:
            raise NoEpoch(f"book {book} has no epoch yet: make one with `onebook solvency new`")
        number = numbers[-1]
    path = folder / book / str(number) / _PUBLISHED_FILE
    try:
        told: Any = msgspec.json.decode(path.read_bytes())
        if (told["format"], told["book"], told["number"]) != (FORMAT, book, number):
            raise ValueError("another epoch's")
        lists = tuple(
            AssetList(one["asset"], one["users"], int(one["total"]), int(one["receivable"]), bytes.fromhex(one["root"]))
            for one in told["lists"]
        )
        return Epoch(book, number, told["seq"], datetime.fromisoformat(told["booked_at"]), lists)
    except FileNotFoundError as error:
        raise NoEpoch(f"book {book} has no epoch {number} in {folder}") from error
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise TreasuryCorrupt(f"{path} isn't an epoch of this book as it was written") from error


def prove(folder: Path, epoch: Epoch, owner: str, asset: str, *, told: Telling = lambda *_: None) -> bytes:
    """A user's proof out of an epoch's files. Raises NoLeaf; TreasuryCorrupt if they aren't what was published."""
    published = {one.asset: one for one in epoch.lists}
    if asset not in published:
        raise NoLeaf(f"no user has a {asset} account in epoch {epoch.book}/{epoch.number}", param="asset")
    place = folder / epoch.book / str(epoch.number)
    try:
        key = bytes.fromhex((place / _KEY_FILE).read_text(encoding="ascii"))
        with (place / _OWED_FILE).open("rb") as spool:
            owed = _owed(epoch, spool)
            tree = tree_of(owed, asset, spool, number=epoch.number, key=key, told=_telling(owed, asset, told))
    except (OSError, ValueError, ListUnfit) as error:
        raise TreasuryCorrupt(f"the files of epoch {epoch.number} in {place} can't be read") from error
    if tree.root != published[asset].root:
        raise TreasuryCorrupt(f"the files in {place} don't give the root that was published for {asset}")
    return write_proof(tree.inclusion(owner))


def _owed(epoch: Epoch, spool: IO[bytes]) -> Owed:
    """What was read when the epoch was made, by its file."""
    assets = {}
    for one in epoch.lists:
        assets[one.asset] = OwedAsset(Sums(one.asset, one.users, one.total, one.receivable), spool.tell())
        for _ in islice(iter(spool.readline, b""), one.users):
            pass
    return Owed(epoch.book, epoch.seq, epoch.booked_at, assets)


def _list(owed: Owed, tree: SumTree) -> AssetList:
    asset = tree.terms.asset
    return AssetList(asset, tree.leaves, tree.total, owed.assets[asset].sums.receivable, tree.root)


def _telling(owed: Owed, asset: str, told: Telling) -> Callable[[int], object]:
    total = 2 * owed.assets[asset].sums.users
    return lambda step: told(asset, step, total)
