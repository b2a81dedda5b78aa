"""Where a passphrase comes from, and how trying wrong ones becomes slow. Never an argument: others can read those.

Not here: asking at a terminal (cli), what a passphrase opens (keystore).
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from custody.errors import KeyFileLocked, KeysBusy, PassphraseMissing

PASSPHRASE_ENV: Final = "ONEBOOK_SIGNER_PASSPHRASE"  # noqa: S105 - the name, not the thing
CREDENTIAL: Final = "onebook-signer-passphrase"
"""Name of the systemd credential (LoadCredential=) that may hold the passphrase."""
PASSPHRASE_BYTES_MAX: Final = 1024

FAILURES_NAME: Final = "failures"
"""File beside the keys that counts wrong passphrases since the last right one, over restarts."""
WAIT_SECONDS_MAX: Final = 16
"""The longest wait before a try: less than a starter's patience, so that a right one always gets in."""

_BUSY_TRIES: Final = 60
_BUSY_SECONDS: Final = 0.5

Wait = Callable[[float], None]


def told_passphrase(
    descriptor: int | None, warn: Callable[[str], None], *, environment: MutableMapping[str, str] | None = None
) -> bytes | None:
    """The passphrase, from the file descriptor, else the systemd credential, else the environment with a warning;
    None when none of them has one. The variable is removed, so that no child gets it.

    Raises PassphraseMissing when what is there is empty or too long.
    """
    variables = os.environ if environment is None else environment
    in_environment = variables.pop(PASSPHRASE_ENV, None)
    credential = Path(variables.get("CREDENTIALS_DIRECTORY") or "/nonexistent") / CREDENTIAL
    if descriptor is not None:
        with os.fdopen(descriptor, "rb") as stream:
            return checked(stream.read(PASSPHRASE_BYTES_MAX + 2))
    if credential.is_file():
        return checked(credential.read_bytes())
    if in_environment is not None:
        warn(f"the passphrase comes from {PASSPHRASE_ENV}; a file descriptor or a systemd credential hides it better")
        return checked(os.fsencode(in_environment))
    return None


def checked(told: bytes) -> bytes:
    """A passphrase without one newline at its end. Raises PassphraseMissing when it is empty or too long."""
    stripped = told.removesuffix(b"\n")
    if not 1 <= len(stripped) <= PASSPHRASE_BYTES_MAX:
        raise PassphraseMissing(f"a passphrase has 1 to {PASSPHRASE_BYTES_MAX} bytes, this one has {len(stripped)}")
    return stripped


def wait_seconds(failures: int) -> int:
    """How long a try waits after so many wrong ones in a row: 0, 1, 2, 4, 8, then always 16."""
    return 0 if failures <= 0 else min(2 ** min(failures - 1, 10), WAIT_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Guard:
    """Stands before the keys of a folder: a wrong passphrase makes the next try wait longer, here and in any process.

    The count is raised before a try and cleared after a right one, so that killing the process doesn't save a guesser
    the count. Where it can't be written (read-only folder), each wrong try costs the longest wait at once.
    """

    folder: Path
    wait: Wait = time.sleep

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around everything that tries one passphrase. Raises KeysBusy; lets KeyFileLocked through, counted."""
        stream = self._open()
        if stream is None:
            yield from self._unrecorded()
            return
        with stream:
            self._lock(stream)
            failures = _read(stream)
            if failures:
                self.wait(wait_seconds(failures))
            _write(stream, failures + 1)
            try:
                yield
            except KeyFileLocked:
                raise
            except Exception:
                _write(stream, failures)  # it failed for another reason: that is no guess
                raise
            _write(stream, 0)

    def failures(self) -> int:
        """How many wrong passphrases since the last right one."""
        try:
            with (self.folder / FAILURES_NAME).open("rb") as stream:
                return _read(stream)
        except OSError:
            return 0

    def _open(self) -> IO[bytes] | None:
        try:
            descriptor = os.open(self.folder / FAILURES_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        return os.fdopen(descriptor, "r+b", buffering=0)

    def _unrecorded(self) -> Iterator[None]:
        try:
            yield
        except KeyFileLocked:
            self.wait(WAIT_SECONDS_MAX)
            raise

    def _lock(self, stream: IO[bytes]) -> None:
        for _ in range(_BUSY_TRIES):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.wait(_BUSY_SECONDS)
            else:
                return
        raise KeysBusy(f"another process is trying a passphrase at {self.folder}: wait for it, or end it")


def _read(stream: IO[bytes]) -> int:
    stream.seek(0)
    text = stream.read(16)
    if not text:
        return 0
    try:
        return max(0, int(text))
    except ValueError:
        return WAIT_SECONDS_MAX  # somebody altered it: as many as make the longest wait


def _write(stream: IO[bytes], failures: int) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(b"%d\n" % min(failures, 10**9))
    os.fsync(stream.fileno())
