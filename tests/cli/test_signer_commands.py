"""`onebook signer status | freeze | lift | confirm-time` against a real signer, several people and their files."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from custody.errors import SignerRefused
from tests.custody.samples import CHAIN, TOKEN, full_policy, native_transfer, token_transfer
from tests.support.approvers import PASSPHRASE, approver_files
from tests.support.command import onebook
from tests.support.signer import RunningSigner, start_signer

pytestmark = pytest.mark.slow

NAMED = full_policy(extra=f'\n[[names]]\nchain_id = {CHAIN}\nasset = "0x{TOKEN.hex()}"\nname = "USDC"\ndecimals = 6\n')


@contextmanager
def started_house(folder: Path) -> Iterator["House"]:
    signer = start_signer(folder / "signer", NAMED)
    try:
        (folder / "policy.toml").write_text(NAMED)
        yield House(folder, signer)
    finally:
        signer.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator["House"]:
    with started_house(tmp_path) as house:
        yield house


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["House"]:
    """One for all that change nothing at it."""
    with started_house(tmp_path_factory.mktemp("undisturbed")) as house:
        yield house


class House:
    """A signer, the people's key files, and the command line beside them."""

    def __init__(self, folder: Path, signer: RunningSigner) -> None:
        self.folder = folder
        self.signer = signer
        self.files = approver_files(folder)

    def run(self, command: str, *more: str, by: str | None = None) -> subprocess.CompletedProcess[str]:
        arguments = ["signer", command, "--socket", str(self.signer.socket), *more]
        if by is not None:
            arguments += ["--policy", "policy.toml", "--key", str(self.files[by])]
        return onebook(*arguments, cwd=self.folder, passphrase=PASSPHRASE if by is not None else None)

    def status(self) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.run("status", "--json").stdout)
        return told

    def serial(self) -> str:
        return str(self.status()["serial"])


async def refused(house: House, intent: object) -> str:
    client = house.signer.client()
    with pytest.raises(SignerRefused) as caught:
        await client.sign(intent, highest=None)  # type: ignore[arg-type]
    await client.close()
    return caught.value.code


def test_status_tells_how_it_is(house: House):
    told = house.status()
    assert (told["policy_version"], told["threshold"]) == (1, 2)
    assert re.fullmatch("0-[0-9a-f]{16}", str(told["serial"]))
    assert (told["frozen"], told["clock"], told["halted"]) == ([], None, False)
    assert told["people"] == ["ada", "ben", "cleo"]
    shown = house.run("status")
    assert (shown.returncode, "frozen     nothing" in shown.stdout) == (0, True)
    house.signer.stop()
    gone = house.run("status")
    assert (gone.returncode, gone.stderr.count("\n")) == (3, 1)


async def test_f80_one_approver_freezes_and_the_threshold_lifts(house: House):
    frozen = house.run("freeze", "--network", str(CHAIN), "--asset", "USDC", by="ada")
    assert frozen.returncode == 0, frozen.stderr
    assert await refused(house, token_transfer()) == "frozen"
    client = house.signer.client()
    await client.sign(native_transfer(), highest=None)
    await client.close()
    house.signer.restart()
    assert await refused(house, token_transfer(subject="wdr_2", nonce=1)) == "frozen"
    assert house.status()["frozen"] == [{"chain_id": CHAIN, "asset": "0x" + TOKEN.hex()}]

    alone = house.run("lift", "--network", str(CHAIN), "--asset", "USDC", by="ada")
    assert (alone.returncode, "2 signatures are needed, 1 are there" in alone.stderr) == (1, True)
    scope = ("--network", str(CHAIN), "--asset", "USDC")
    written = house.run("lift", *scope, "--sign-only", "--out", "ben.json", "--serial", house.serial(), by="ben")
    assert written.returncode == 0, written.stderr
    twice = house.run("lift", *scope, "--sign-only", "--out", "ben.json", by="ben")
    assert (twice.returncode, "ben.json" in twice.stderr) == (2, True), "a signature isn't written over"
    lifted = house.run("lift", *scope, "--with", "ben.json", by="ada")
    assert lifted.returncode == 0, lifted.stderr
    assert house.status()["frozen"] == []
    again = house.run("freeze", "--with", "ben.json")
    assert (again.returncode, "signed for something else" in again.stderr) == (2, True), "another statement"
    client = house.signer.client()
    await client.sign(token_transfer(subject="wdr_2", nonce=1), highest=None)
    await client.close()


async def test_everything_is_frozen_by_a_signature_from_elsewhere(house: House):
    serial = house.serial()
    house.signer.stop()
    made = house.run("freeze", "--sign-only", "--out", "stop.json", "--serial", serial, by="cleo")
    assert made.returncode == 0, "no signer is needed to sign"
    house.signer.restart()
    assert house.run("freeze", "--with", "stop.json").returncode == 0
    assert await refused(house, token_transfer()) == "frozen"
    assert "frozen     everything" in house.run("status").stdout
    replayed = house.run("freeze", "--with", "stop.json")
    assert (replayed.returncode, "another serial" in replayed.stderr) == (2, True)


def test_the_time_is_confirmed_by_the_threshold(house: House):
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    written = house.run("confirm-time", "--time", now, "--sign-only", "--out", "time.json", by="ben")
    assert written.returncode == 0, written.stderr
    confirmed = house.run("confirm-time", "--time", now, "--with", "time.json", by="ada")
    assert confirmed.returncode == 0, confirmed.stderr
    house.signer.stop()
    with sqlite3.connect(house.signer.journal) as connection:
        (kinds,) = connection.execute("SELECT count(*) FROM rows WHERE kind = 'time'").fetchone()
    connection.close()
    assert kinds == 1
    house.signer.restart()
    late = house.run("confirm-time", "--time", "2020-01-01T00:00:00Z", by="ada")
    assert late.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("freeze",), "nobody signs"),
        (("freeze", "--asset", "native"), "give --network"),
        (("freeze", "--network", str(CHAIN), "--asset", "XYZ", "--policy", "policy.toml"), "names no asset 'XYZ'"),
        (("freeze", "--network", "1", "--asset", "0x5FbDB2315678afecb367f032d93F642f64180aa4"), "EIP-55"),
        (("lift", "--sign-only"), "--sign-only and --out go together"),
        (("lift", "--with", "nowhere.json"), "nowhere.json can't be read"),
    ],
)
def test_wrong_usage_says_what_to_do_in_one_line(undisturbed: House, arguments: tuple[str, ...], said: str):
    ended = undisturbed.run(*arguments)
    assert (ended.returncode, said in ended.stderr, ended.stderr.count("\n")) == (2, True, 1), ended.stderr
