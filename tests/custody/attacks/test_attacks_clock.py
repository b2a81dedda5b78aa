"""F55: whoever sets the signer's clock gains nothing by it: limits don't refill, expired approvals stay expired.

The clock is the real process's, bent by libfaketime: the wall clock alone, as by `date -s`.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.approvals import Signature, sign_statement, signature_list, time_statement
from custody.enrolment import enrol
from custody.journal import Journal
from custody.policy_file import parse
from custody.service import SignerService
from custody.timekeeping import Moment, Reading, Unsafe
from tests.custody.attacks.stage import ACCOUNTS, Answer, Line, Scene, question
from tests.custody.samples import CHAIN, COLD, PEOPLE, full_policy, mandate, native_transfer, token_transfer
from tests.support.signer import PASSPHRASE, PROJECT, RunningSigner, start_signer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

FAKETIME = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"
DAY_SECONDS, HOUR_SECONDS = 86_400, 3_600


@dataclass
class Bent:
    """A signer whose wall clock is ours to bend, in seconds from the true one."""

    signer: RunningSigner
    scene: Scene
    offset: Path

    def bend(self, seconds: int) -> None:
        self.offset.write_text(f"{seconds:+d}\n")

    def code(self, intent: object, said: object = None) -> str:
        told = self.scene.ask(question(intent, said))  # type: ignore[arg-type]
        assert told is not None
        return "signed" if "ok" in told else str(told["refused"]["code"])

    def confirm(self, seconds: int, *names: str) -> Answer | None:
        serial = self.scene.status()["serial"]
        statement = time_statement(serial=serial, seconds=seconds)
        signed: list[Signature] = [sign_statement(name, PEOPLE[name], statement) for name in names]
        listed = [signature_list(one) for one in signed]
        return self.scene.ask({"call": "confirm_time", "seconds": seconds, "serial": serial, "signatures": listed})


@pytest.fixture
def bent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bent]:
    if not FAKETIME.exists():
        pytest.skip("libfaketime isn't installed")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    running = start_signer(tmp_path, full_policy(), afresh=True)
    line = Line(running)
    yield Bent(running, Scene(CHAIN, running.journal, line.answer), offset)
    line.close()
    running.stop()


def _exhaust(scene: Scene) -> None:
    """The hour's 1,500."""
    scene.honest(scene.make(token_transfer, amount=1000))
    scene.honest(scene.make(token_transfer, amount=500))


def test_f55_a_clock_set_forward_refills_no_window(bent: Bent):
    _exhaust(bent.scene)
    asked = bent.scene.make(token_transfer, amount=1)
    for seconds in (61, HOUR_SECONDS, DAY_SECONDS, 365 * DAY_SECONDS):
        bent.bend(seconds)
        assert bent.code(asked) == "clock_drifts"
    bent.signer.restart()
    assert bent.code(asked) == "clock_drifts", "started in the future: the same boot, so the boot clock tells"
    bent.bend(0)
    assert bent.code(asked) == "over_hour_limit", "nothing has refilled"
    assert bent.code(bent.scene.make(native_transfer)) == "signed", "the twin: set right, it goes on by itself"


def test_f55_a_clock_set_back_revives_no_expired_approval(bent: Bent):
    asked = bent.scene.make(token_transfer, subject="cld_1", to=COLD, amount=900)
    old = mandate(asked, not_after=int(time.time()) - 10)
    assert bent.code(asked, old) == "approval_expired"
    for seconds in (-5, -60, -HOUR_SECONDS, -DAY_SECONDS):
        bent.bend(seconds)
        assert bent.code(asked, old) == "clock_behind"
    bent.signer.restart()
    assert bent.code(asked, old) == "clock_behind", "not even after a start in the past"
    bent.bend(0)
    assert bent.code(asked, old) == "approval_expired"
    assert bent.code(asked, mandate(asked, not_after=int(time.time()) + 600)) == "signed"


def test_f55_only_several_people_and_the_truth_set_the_time_right(bent: Bent):
    """A machine whose clock was wrong by an hour from the start of its boot, and is set right later."""
    _exhaust(bent.scene)
    bent.bend(HOUR_SECONDS)
    now = int(time.time()) + HOUR_SECONDS
    asked = bent.scene.make(token_transfer, amount=1)
    for code, seconds, names in (
        ("approvals_missing", now, ("ada",)),
        ("approval_repeated", now, ("ada", "ada")),
        ("approvals_missing", now, ()),
        ("time_differs", now + DAY_SECONDS, ("ada", "ben")),
        ("time_differs", now - HOUR_SECONDS, ("ada", "ben")),
    ):
        told = bent.confirm(seconds, *names)
        assert told is not None
        assert told["refused"]["code"] == code
    assert bent.code(asked) == "clock_drifts"
    told = bent.confirm(now, "ada", "ben")
    assert told is not None
    assert "ok" in told, told
    assert bent.code(asked) == "over_hour_limit", "an hour that the boot clock hasn't seen refills nothing"
    assert bent.code(bent.scene.make(native_transfer)) == "signed"


def test_f55_a_boot_clock_in_a_time_namespace_of_its_own_refills_no_window(tmp_path: Path):
    """The other clock set forward by a day: a namespace is all that root needs for it."""
    allowed = subprocess.run(["unshare", "--time", "--boottime", "9", "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("no time namespace here")
    running = start_signer(tmp_path, full_policy(), afresh=True)
    with closing(Line(running)) as line:
        scene = Scene(CHAIN, running.journal, line.answer)
        _exhaust(scene)
        running.stop()
        asked = scene.make(token_transfer, amount=1)
        places = {"socket": running.socket, "keys": tmp_path / "keys", "journal": running.journal}
        options = [word for name, place in places.items() for word in (f"--{name}", str(place))]
        options += ["--policy", str(tmp_path / "policy.toml")]
        namespace = ["unshare", "--time", "--boottime", str(DAY_SECONDS), "--fork", "--kill-child"]
        with subprocess.Popen(
            [*namespace, sys.executable, "-m", "custody.signer", *options],
            cwd=PROJECT,
            env={"ONEBOOK_SIGNER_PASSPHRASE": PASSPHRASE.decode(), "PATH": "/usr/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline()
            scene.theft("clock_drifts", asked)
            child.kill()
        until("the signer in the namespace is gone", lambda: not listens(running.socket))
        running.restart()
        scene.theft("over_hour_limit", asked)
        scene.honest(scene.make(native_transfer))
    running.stop()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class BelievesTheWall(Journal):
    """The control: windows go by the wall clock."""

    def time(self) -> Moment | Unsafe:
        wall = self._clocks.read().wall_us
        return Moment(wall, wall, 0, "boot", 0)


class SetClocks:
    """A wall clock that is set, beside a boot clock that goes on."""

    def __init__(self) -> None:
        self.wall_seconds = 1_800_000_000

    def read(self) -> Reading:
        return Reading(self.wall_seconds * 1_000_000, 1_000_000, "boot")


@pytest.mark.parametrize("journal_class", [Journal, BelievesTheWall])
def test_f55_without_that_care_a_clock_set_forward_would_refill_the_limits(
    journal_class: type[Journal], tmp_path: Path
):
    clocks, policy, path = SetClocks(), parse(full_policy()), tmp_path / "journal.sqlite"
    enrol(path, ACCOUNTS, policy, clocks=clocks)
    journal = journal_class.open(path, clocks)
    scene = Scene(CHAIN, path, SignerService(ACCOUNTS, policy, journal).answer, is_control=True)
    _exhaust(scene)
    clocks.wall_seconds += DAY_SECONDS + 1
    scene.theft("clock_drifts", scene.make(token_transfer, amount=1000))
    assert scene.thefts == (["signed"] if journal_class is BelievesTheWall else ["clock_drifts"])
    journal.close()
