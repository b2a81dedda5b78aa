"""What doctor says of the signer's files, seen by a user who isn't the signer's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.commands import doctor
from tests.cli.test_backup_files import settings_with

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may look everywhere; whoever else runs this is as good as nobody."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_keys_and_journal_where_this_user_may_not_look_are_told_and_end_nothing(tmp_path: Path):
    hidden = tmp_path / "signer"
    (hidden / "keys").mkdir(parents=True)
    settings, _ = settings_with(
        tmp_path / "house", keys=f'"{hidden}/keys"', journal=f'"{hidden}/journal.sqlite"', policy='"policy.toml"'
    )
    hidden.chmod(0)
    try:
        with as_nobody():
            found = list(doctor._files(settings))
    finally:
        hidden.chmod(0o700)
    assert [(one.what, one.verdict.value) for one in found] == [("keys", "mind"), ("journal", "mind")]
    assert all("may not look" in one.text for one in found)
    missing = {one.what: one.verdict.value for one in doctor._files(settings)}
    assert missing["journal"] == "missing"
