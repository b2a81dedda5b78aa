"""Where a passphrase comes from, and that wrong ones become slow: by waits that are counted, not waited for."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from base.entropy import SystemEntropy
from custody import keystore
from custody.derivation import Role
from custody.errors import KeyFileLocked, KeyFileMissing, KeysBusy, PassphraseMissing
from custody.keystore import open_key
from custody.passphrases import (
    CREDENTIAL,
    FAILURES_NAME,
    PASSPHRASE_ENV,
    WAIT_SECONDS_MAX,
    Guard,
    told_passphrase,
    wait_seconds,
)
from tests.support.signer import LIGHT, PASSPHRASE, PROJECT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keystore.create(tmp_path, Role.HOT, bytes(32), passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT)
    return tmp_path


def attempt(folder: Path, passphrase: bytes) -> list[float]:
    """Try a passphrase; the waits that it cost, without waiting."""
    waits: list[float] = []
    with contextlib.suppress(KeyFileLocked), Guard(folder, waits.append).attempt():
        open_key(folder, Role.HOT, passphrase=passphrase)
    return [seconds for seconds in waits if seconds]


def test_f49_each_wrong_passphrase_makes_the_next_try_wait_longer_up_to_a_bound(folder: Path):
    waits = [attempt(folder, b"wrong") for _ in range(8)]
    assert waits == [[], [1], [2], [4], [8], [16], [16], [16]]
    assert Guard(folder).failures() == 8


def test_f49_a_right_passphrase_still_opens_after_its_wait_and_clears_the_count(folder: Path):
    for _ in range(3):
        attempt(folder, b"wrong")
    assert attempt(folder, PASSPHRASE) == [4]
    assert Guard(folder).failures() == 0
    assert attempt(folder, PASSPHRASE) == []


def test_f49_the_count_of_wrong_passphrases_outlives_the_process(folder: Path):
    script = (
        "import sys; from pathlib import Path; from custody.passphrases import Guard; from custody.errors import *\n"
        "with Guard(Path(sys.argv[1]), lambda seconds: print(seconds)).attempt(): raise KeyFileLocked('no')"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", script, folder], cwd=PROJECT, capture_output=True, text=True, check=False
        ).stdout
        for _ in range(4)
    ]
    assert printed == ["0\n", "1\n", "2\n", "4\n"]


def test_f49_killing_the_process_before_it_says_no_saves_nobody_the_count(folder: Path):
    script = (
        "import os, sys; from pathlib import Path; from custody.passphrases import Guard\n"
        "with Guard(Path(sys.argv[1]), lambda _: None).attempt(): os.kill(os.getpid(), 9)"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", script, folder], cwd=PROJECT, check=False)
    assert attempt(folder, b"wrong") == [4]


def test_what_fails_for_another_reason_is_no_guess(folder: Path):
    with pytest.raises(KeyFileMissing), Guard(folder, lambda _: None).attempt():
        open_key(folder, Role.GAS, passphrase=b"wrong")
    assert Guard(folder).failures() == 0


def test_a_count_that_somebody_altered_costs_the_longest_wait(folder: Path):
    for text in ("rubbish", "99999999999999999999"):
        (folder / FAILURES_NAME).write_text(text)
        assert attempt(folder, PASSPHRASE) == [WAIT_SECONDS_MAX]
    (folder / FAILURES_NAME).write_text("-5")
    assert attempt(folder, b"wrong") == []


def test_a_count_that_cannot_be_kept_costs_the_longest_wait_each_time(folder: Path):
    (folder / FAILURES_NAME).symlink_to("/nonexistent/elsewhere")
    assert attempt(folder, b"wrong") == [WAIT_SECONDS_MAX]
    assert attempt(folder, PASSPHRASE) == []


def test_two_processes_cannot_try_at_the_same_time(folder: Path):
    waits: list[float] = []
    with (
        Guard(folder, lambda _: None).attempt(),
        pytest.raises(KeysBusy, match="another process"),
        Guard(folder, waits.append).attempt(),
    ):
        pytest.fail("both tried")
    assert sum(waits) == pytest.approx(30)


def test_waits_are_bounded():
    assert [wait_seconds(count) for count in (-1, 0, 1, 2, 3, 4, 5, 6, 10**9)] == [0, 0, 1, 2, 4, 8, 16, 16, 16]


def test_the_descriptor_comes_first_then_the_credential_then_the_environment_with_a_warning(tmp_path: Path):
    (tmp_path / CREDENTIAL).write_bytes(b"by credential\n")
    warnings: list[str] = []
    variables = {PASSPHRASE_ENV: "by environment", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    reading, writing = os.pipe()
    os.write(writing, b"by descriptor\n")
    os.close(writing)
    assert told_passphrase(reading, warnings.append, environment=dict(variables)) == b"by descriptor"
    assert told_passphrase(None, warnings.append, environment=dict(variables)) == b"by credential"
    assert warnings == []
    left = {PASSPHRASE_ENV: "by environment"}
    assert told_passphrase(None, warnings.append, environment=left) == b"by environment"
    assert left == {}, "no child gets it"
    assert len(warnings) == 1
    assert "by environment" not in warnings[0]
    assert told_passphrase(None, warnings.append, environment={}) is None


@pytest.mark.parametrize("told", [b"", b"\n", b"x" * 1025])
def test_an_empty_or_endless_passphrase_is_refused(told: bytes):
    reading, writing = os.pipe()
    os.write(writing, told)
    os.close(writing)
    with pytest.raises(PassphraseMissing, match="1 to 1024"):
        told_passphrase(reading, lambda _: None, environment={})
