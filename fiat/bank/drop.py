"""The folder into which a bank's files are put, whoever carries them (SFTP, EBICS): each is taken in and filed away.

    in/        files arrive here; names that begin with a dot or end in .tmp, .part or .filepart aren't looked at
    archive/   taken in, with a receipt beside it (NAME.json)
    refused/   broken or not ours, with the reason beside it; nothing of it was booked

A file is taken once it looked the same twice, some seconds apart, so half-written ones are left alone. Who dies in
between takes it again, which does nothing twice.
"""

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

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

_Look = tuple[int, int, int]
"""What is seen of a file: inode, size, time of change."""


class DropFolder:
    """Takes in what stands in `in/`."""

    def __init__(self, folder: Path, rail: BankRail, *, clock: Clock) -> None:
        self._folder = folder
        self._rail = rail
        self._clock = clock
        self._seen: dict[str, tuple[_Look, datetime]] = {}

    async def step(self) -> int:
        """Take in the files that are whole, in the order of their names; returns how many.

        A file that can't be taken now stops no other; its error is raised once they are done. Raises Unavailable while
        another process is at it, OnebookError.
        """
        with locked(self._folder, "in"):
            first: OnebookError | None = None
            taken = 0
            for path in self._whole()[:FILES_PER_STEP]:
                try:
                    await self.take(path)
                    taken += 1
                except OnebookError as error:
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
        """Take in one file, and file it away with its receipt, or with why it was refused."""
        try:
            result: StatementReceipt | StatementRefused = await self._rail.import_path(path)
        except StatementRefused as refusal:
            result = refusal
        place = self._file_away(path, result)
        self._seen.pop(path.name, None)
        if isinstance(result, StatementRefused):
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
            stat = path.stat()
            look = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            before = self._seen.get(path.name)
            since = before[1] if before is not None and before[0] == look else now
            there[path.name] = (look, since)
            if stat.st_size and now - since >= SETTLED:
                found.append(path)
        self._seen = there
        return found

    def _file_away(self, path: Path, result: StatementReceipt | StatementRefused) -> Path:
        """Move it, its receipt first: a file that is filed away always has one."""
        now = self._clock.now().astimezone(UTC)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        refused = isinstance(result, StatementRefused)
        target = self._folder / ("refused" if refused else "archive") / f"{now:%Y%m%d}-{digest[:12]}-{path.name}"
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
