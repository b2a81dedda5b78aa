"""A disk that is soon full: a small file system of its own, which needs the right to mount one."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db.server import Running


@contextlib.contextmanager
def small_disk(server: Running, *, mebibytes: int) -> Iterator[Path]:
    """A folder of the server's user on a file system of this size; skips the test where none may be mounted."""
    owner = psutil.Process(server.pid).uids().real
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        disk = Path(place, "disk")
        disk.mkdir()
        options = f"size={mebibytes}m,uid={owner},mode=700"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]).returncode:
            pytest.skip("may not mount a small file system here")
        try:
            yield disk
        finally:
            subprocess.run(["umount", disk], check=True)


def fill(disk: Path) -> Path:
    """Fill it up; removing the file that this returns makes room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    return filler
