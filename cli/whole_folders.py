"""Folders that are whole or absent: made under another name beside their place, and renamed when all is in them."""

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base.errors import ConfigError
from base.files import sync_folder
from db.errors import DiskFull
from db.server import clean

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command as Ctrl-C does."""


def end_in_order() -> None:
    """Let those come as an exception, so that nothing is left behind; who was told to ignore one goes on doing so."""
    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A folder for its owner alone that becomes `target` at the end of the block; after an error nothing is left of it.

    Raises ConfigError for a target that exists or can't be made, DiskFull.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} exists: nothing is written over; name a folder that isn't there yet")
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        _remove_left(target)
        draft.mkdir(mode=0o700)
        try:
            yield draft
            _sync(draft)
            draft.rename(target)
        except BaseException:
            _remove(draft)
            raise
        sync_folder(target.parent)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk is full: {target.parent} has no room for {target.name}") from problem
        raise ConfigError(f"{problem.filename or target} can't be written: {problem.strerror}") from problem


def _remove_left(target: Path) -> None:
    """What was to become this very folder when its process was killed."""
    for left in target.parent.glob(f".{target.name}.*.draft"):
        process = left.name.removesuffix(".draft").rpartition(".")[2]
        if process.isdigit() and not Path("/proc", process).exists():
            _remove(left)


def _remove(draft: Path) -> None:
    clean(draft / "postgres")  # of a restore; its files may lie elsewhere
    shutil.rmtree(draft, ignore_errors=True)


def _sync(folder: Path) -> None:
    for place in (*(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), folder):
        sync_folder(place)
