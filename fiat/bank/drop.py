"""The folder into which a bank's files are put, whoever carries them (SFTP, EBICS): each is taken in and filed away.

    in/        files arrive here; names that begin with a dot or end in .tmp, .part or .filepart aren't looked at
    archive/   taken in, with a receipt beside it (NAME.json)
    refused/   broken or not ours, with the reason beside it; nothing of it was booked

A file is taken once it looked the same twice, some seconds apart, so half-written ones are left alone. Who dies in
between takes it again, which does nothing twice.
"""

import hashlib
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog

from base.clock import Clock
from base.errors import OnebookError
from base.files import sync_folder, write_atomically
from fiat.bank.outgoing import FILE_MODE, locked
from fiat.bank.records import StatementReceipt
from fiat.bank.service import BankRail
from fiat.errors import StatementRefused

SETTLED = timedelta(seconds=2)
"""How long a file must look the same."""

FILES_PER_STEP = 20

_UNFINISHED = (".tmp", ".part", ".filepart", ".partial")

log = structlog.get_logger()

NAME_BYTES_MAX = 160
"""Of a file's own name in the name that it's filed under; with what stands around it, it's less than the usual 255."""


class _Look(NamedTuple):
    """What is seen of a file."""

    device: int
    inode: int
    size: int
    changed_ns: int


class DropFolder:
    """Takes in what stands in `in/`."""

    def __init__(self, folder: Path, rail: BankRail, *, clock: Clock) -> None:
        self._folder = folder
        self._rail = rail
        self._clock = clock
        self._seen: dict[str, tuple[_Look, datetime]] = {}

    async def step(self) -> int:
        """Take in the files that are whole, in the order of their names; returns how many.

        A file that can't be taken now, for whatever reason, stops no other; the first error is raised once they are
        done. Raises Unavailable while another process is at it.
        """
        with locked(self._folder, "in"):
            first: Exception | None = None
            taken = 0
            for path in self._whole()[:FILES_PER_STEP]:
                try:
                    await self.take(path)
                    taken += 1
                except Exception as error:  # a mistake of ours over one file must not keep the others waiting
                    code = error.code if isinstance(error, OnebookError) else type(error).__name__
                    log.warning("bank file not taken", file=path.name, code=code)
                    first = first or error
                    self._seen.pop(path.name, None)  # looked at anew, after the others
            if first is not None:
                raise first
            return taken

    async def take_all(self) -> int:
        """Take in every file that stands there now, without waiting to see it twice; how many."""
        with locked(self._folder, "in"):
            paths = [path for path in sorted((self._folder / "in").iterdir()) if _is_file_of_banks(path)]
            for path in paths:
                await self.take(path)
            return len(paths)

    async def take(self, path: Path) -> StatementReceipt | StatementRefused:
        """Take in one file, and file it away with its receipt, or with why it was refused.

        One that was replaced meanwhile stays where it is: what stands there now wasn't read.
        """
        look = _look(path)
        try:
            result: StatementReceipt | StatementRefused = await self._rail.import_path(path)
        except StatementRefused as refusal:
            result = refusal
        place = self._file_away(path, look, result)
        self._seen.pop(path.name, None)
        if place is None:
            log.warning("bank file replaced while it was taken", file=path.name)
        elif isinstance(result, StatementRefused):
            log.warning("bank file refused", file=place.name, code=result.code, line=result.line)
        else:
            log.info("bank file taken", file=place.name, format=result.format, replayed=result.replayed)
        return result

    def _whole(self) -> list[Path]:
        """Files that looked the same for long enough."""
        now, found = self._clock.now(), []
        there: dict[str, tuple[_Look, datetime]] = {}
        for path in sorted((self._folder / "in").iterdir()):
            if not _is_file_of_banks(path):
                continue
            look = _look(path)
            before = self._seen.get(path.name)
            since = before[1] if before is not None and before[0] == look else now
            there[path.name] = (look, since)
            if look.size and now - since >= SETTLED:
                found.append(path)
        self._seen = there
        return found

    def _file_away(self, path: Path, look: _Look, result: StatementReceipt | StatementRefused) -> Path | None:
        """Move it, its receipt first: a file that is filed away always has one. None if it isn't the file looked at."""
        now = self._clock.now().astimezone(UTC)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if _look(path) != look:
            return None
        refused = isinstance(result, StatementRefused)
        target = self._folder / ("refused" if refused else "archive") / f"{now:%Y%m%d}-{digest[:12]}-{_cut(path.name)}"
        told = {"file": path.name, "sha256": digest, "at": now.isoformat(timespec="seconds"), **_told(result)}
        receipt = target.with_name(f"{target.name}.json")
        if receipt.exists():  # the first receipt says what the file did
            receipt = target.with_name(f"{target.name}.again.json")
        write_atomically(receipt, json.dumps(told, indent=2, default=str).encode(), mode=FILE_MODE)
        path.rename(target)
        target.chmod(FILE_MODE)
        sync_folder(target.parent)
        sync_folder(path.parent)
        return target


def _look(path: Path) -> _Look:
    stat = path.stat()
    return _Look(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _cut(name: str) -> str:
    """The beginning of a name that is too long to be filed under."""
    raw = os.fsencode(name)
    return name if len(raw) <= NAME_BYTES_MAX else raw[:NAME_BYTES_MAX].decode(errors="ignore")


def _is_file_of_banks(path: Path) -> bool:
    """Not hidden, not half-written by its name, and no link to somewhere else."""
    unfinished = path.name.startswith(".") or path.name.lower().endswith(_UNFINISHED)
    return not unfinished and not path.is_symlink() and path.is_file()


def _told(result: StatementReceipt | StatementRefused) -> dict[str, object]:
    if isinstance(result, StatementRefused):
        return {"taken": False, "code": result.code, "line": result.line, "reason": result.message}
    said = asdict(result)
    del said["file"], said["sha256"]
    return {"taken": True, **said}
