"""Key files of the people in `tests.custody.samples`, for commands that sign."""

from pathlib import Path

from custody import approver_keys
from custody.keystore import Argon2Cost
from tests.custody.samples import PEOPLE

PASSPHRASE = b"of the approver"
LIGHT = Argon2Cost(memory_kib=64, passes=1, lanes=1)
"""A cost that takes no time: for tests only."""


class Given:
    """Entropy that begins with given bytes."""

    def __init__(self, first: bytes) -> None:
        self._left = first

    def draw(self, count: int) -> bytes:
        drawn, self._left = self._left[:count].ljust(count, b"\1"), self._left[count:]
        return drawn


def approver_files(folder: Path) -> dict[str, Path]:
    """The people's key files, by name."""
    files = {}
    for name, key in PEOPLE.items():
        files[name] = folder / f"{name}.approver"
        given = Given(key.private_bytes_raw())
        approver_keys.create(files[name], name, passphrase=PASSPHRASE, entropy=given, cost=LIGHT)
    return files
