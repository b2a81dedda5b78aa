"""An installation whose hot and gas keys are in a PKCS#11 token (SoftHSM2), by `onebook.toml` and by all commands."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from base.children import stop_child
from base.entropy import SystemEntropy
from base.errors import ConfigError
from cli.supervisor import Supervisor
from custody import keystore
from custody.ceremony import draw_keys, store_keys
from custody.client import SignerClient
from custody.derivation import Role
from custody.errors import SignerRefused, SignerUnavailable
from custody.journal import TakenBack
from custody.journal_file import Head
from custody.launcher import LaunchedSigner
from custody.passphrases import CREDENTIAL, PASSPHRASE_ENV, Guard
from custody.pkcs11 import Token
from custody.resync import Missing, missing_to_json
from custody.rolekeys import address_source
from custody.transactions import read
from tests.custody.samples import CHAIN, GAS, HOT, policy_text, token_transfer, top_up
from tests.support import hsm
from tests.support.command import ENTRY, PROGRAM, onebook, surroundings
from tests.support.forked import Forked
from wiring.settings import load_settings

pytestmark = pytest.mark.slow

LABEL = "custody"


@dataclass(frozen=True, slots=True)
class House:
    """An installation's folder, with configuration, policy, a token and the deposit key that it wraps."""

    home: Path
    publics: dict[Role, str]

    @property
    def config(self) -> Path:
        return self.home / "onebook.toml"

    @property
    def journal(self) -> Path:
        return self.home / "journal.sqlite"

    def configure(self, *lines: str) -> None:
        """Write the configuration, these lines in it."""
        public = [f'{role.value} = "{text}"' for role, text in self.publics.items()]
        assets = ["[[assets]]", 'code = "USD"', 'kind = "fiat"', "scale = 2"]
        self.config.write_text("\n".join([*lines, "[xpubs]", *public, *assets]) + "\n")

    def write_policy(self, version: int) -> None:
        path = self.home / "policy.toml"
        marks = {role: address_source(text).fingerprint for role, text in self.publics.items()}
        path.write_text(policy_text(fingerprints=marks).replace("version = 1", f"version = {version}", 1))
        path.chmod(0o600)

    def policy(self, command: str, *more: str, pin: bytes = hsm.PIN, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`onebook policy enrol` or `accept`, of the policy in place."""
        ended = onebook("policy", command, "policy.toml", "--yes", *more, cwd=self.home, passphrase=pin)
        assert ended.returncode == code, ended.stderr
        return ended

    def resync(self, file: str, *more: str, pin: bytes = hsm.PIN) -> subprocess.CompletedProcess[str]:
        reading, writing = os.pipe()
        os.write(writing, pin)
        os.close(writing)
        try:
            arguments = ("signer", "resync", file, "--yes", "--keys-passphrase-fd", str(reading), *more)
            return onebook(*arguments, cwd=self.home, inherited=(reading,))
        finally:
            os.close(reading)

    def launch(self, **variables: str) -> LaunchedSigner:
        """`onebook signer run`; its PIN comes as a systemd credential, unless variables say otherwise."""
        if not variables:
            credential = self.home / "credentials" / CREDENTIAL
            credential.parent.mkdir(exist_ok=True)
            credential.write_bytes(hsm.PIN)
            variables = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
        log = self.home / "signer.log"
        log.touch()
        start = log.stat().st_size
        command: list[str | Path] = [PROGRAM, "signer", "run"]
        with log.open("ab") as said:
            child = Forked(ENTRY, command, cwd=self.home, env=surroundings(**variables), stdout=said, stderr=said)
        return LaunchedSigner(cast("subprocess.Popen[bytes]", child), log, start)

    @contextmanager
    def signer(self, **variables: str) -> Iterator[SignerClient]:
        """A client of `onebook signer run`, which is stopped afterwards."""
        launched = self.launch(**variables)
        try:
            launched.await_ready()
            yield self.client()
        finally:
            stop_child(launched.child)

    def client(self) -> SignerClient:
        return SignerClient(self.home / "run" / "signer.sock", xpubs=self.publics)


def in_settings(module: Path | str, label: str = LABEL) -> tuple[str, str]:
    return f'pkcs11_module = "{module}"', f'pkcs11_token = "{label}"'


def options(module: Path | str, label: str = LABEL) -> tuple[str, ...]:
    return "--pkcs11-module", str(module), "--pkcs11-token", label


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Configured to use its token, with a policy that nobody has signed; no journal is begun."""
    module = hsm.softhsm()
    configuration = hsm.make_configuration(tmp_path / "softhsm")
    hsm.make_token(configuration, LABEL)
    hsm.use(module, configuration)
    with Token.open(module, LABEL, hsm.PIN, writable=True) as token:
        token.generate_wrap_key()
        (deposit,) = draw_keys(SystemEntropy(), [Role.DEPOSIT])
        store_keys(tmp_path / "keys", [deposit], wrap=token.wrap(), entropy=SystemEntropy())
        publics = {Role.DEPOSIT: deposit.public().public}
        publics |= {role: token.generate(role).public for role in (Role.HOT, Role.GAS)}
    made = House(tmp_path, publics)
    made.configure(*in_settings(module))
    made.write_policy(1)
    return made


async def test_an_installation_with_a_token_is_enrolled_signs_and_has_its_next_policy_accepted(house: House):
    house.policy("enrol")
    with house.signer() as client:
        status = await client.status()
        assert status.keys == house.publics
        paid = await client.sign(token_transfer(), highest=None)
        filled = await client.sign(top_up(), highest=None)
        await client.close()
    for signed, key in ((paid, HOT), (filled, GAS)):
        assert read(signed.raw).sender == address_source(house.publics[key.role]).address(0)
    house.write_policy(2)
    early = house.launch()
    with pytest.raises(SignerUnavailable, match="onebook policy accept"):
        early.await_ready()
    assert "policy version 2 is accepted" in house.policy("accept").stdout
    with house.signer() as client:
        assert (await client.status()).policy_version == 2
        assert await client.sign(token_transfer(), highest=None) == paid, "the journal gives the same bytes again"
        await client.close()


async def test_a_journal_is_given_back_what_it_lost_with_the_keys_of_a_token(house: House):
    house.policy("enrol")
    shutil.copyfile(house.journal, house.home / "old.sqlite")
    with house.signer() as client:
        paid = [
            await client.sign(token_transfer(subject=f"wdr_{nonce}", nonce=nonce, amount=5), highest=None)
            for nonce in range(2)
        ]
        await client.close()
    seen = (paid[1].sequence, paid[1].head)
    lacking = [TakenBack(f"wdr_{nonce}", 1, HOT, CHAIN, nonce, signed.raw) for nonce, signed in enumerate(paid)]
    (house.home / "missing.json").write_text(missing_to_json(Missing(tuple(lacking), Head(*seen))))
    for lost, more in ((False, ()), (True, ("--new-journal",))):
        for left in house.home.glob("journal.sqlite*"):
            left.unlink()
        if not lost:
            shutil.copyfile(house.home / "old.sqlite", house.journal)
            house.journal.chmod(0o600)
        wrong = house.resync("missing.json", *more, pin=b"wrong")
        assert (wrong.returncode, wrong.stderr) == (2, f"onebook: {keystore.LOCKED}\n")
        taken = house.resync("missing.json", *more)
        assert taken.returncode == 0, taken.stderr
        assert "2 transactions are taken back" in taken.stdout
        with house.signer() as client:
            with pytest.raises(SignerRefused) as caught:
                await client.sign(token_transfer(subject="wdr_9", nonce=2), highest=seen)
            await client.close()
        assert caught.value.code.startswith("over_"), "it goes on from what clients have seen, all limits used up"


async def test_up_starts_the_signer_with_the_token(house: House):
    house.policy("enrol")
    told: list[str] = []
    settings = load_settings(house.config)
    with Supervisor(settings, config=house.config, passphrase=hsm.PIN, say=told.append) as supervisor:
        supervisor.start_signer()
        client = house.client()
        paid = await client.sign(token_transfer(), highest=None)
        assert read(paid.raw).sender == address_source(house.publics[Role.HOT]).address(0)
        await client.close()
        assert hsm.PIN.decode() not in Path(f"/proc/{supervisor.pid_of('signer')}/cmdline").read_text()


async def test_options_name_a_token_where_no_configuration_does(house: House):
    house.configure()
    house.policy("enrol", code=2)
    house.policy("enrol", *options(hsm.softhsm()))
    house.write_policy(2)
    house.policy("accept", *options(hsm.softhsm()))
    (house.home / "missing.json").write_text(missing_to_json(Missing((), None)))
    taken = house.resync("missing.json", *options(hsm.softhsm()))
    assert taken.returncode == 0, taken.stderr


def test_f49_a_wrong_pin_has_the_constant_text_in_every_command_and_is_counted(house: House):
    for count, pin in enumerate((b"wrong", b"1234"), start=1):
        assert house.policy("enrol", pin=pin, code=2).stderr == f"onebook: {keystore.LOCKED}\n"
        assert Guard(house.home / "keys").failures() == count
    house.policy("enrol")
    assert Guard(house.home / "keys").failures() == 0
    house.write_policy(2)
    assert house.policy("accept", pin=b"wrong", code=2).stderr == f"onebook: {keystore.LOCKED}\n"
    house.policy("accept")
    launched = house.launch(**{PASSPHRASE_ENV: "wrong"})
    with pytest.raises(SignerUnavailable):
        launched.await_ready()
    assert launched.child.wait() == 2
    said = launched.lines()
    assert (said[-1], "warning: the passphrase comes from" in said[0]) == (f"signer: {keystore.LOCKED}", True)


@pytest.mark.parametrize("name", ["gone.so", "onebook.toml"])
def test_a_module_that_is_not_there_or_is_none_gives_one_line_that_says_what_to_do(house: House, name: str):
    house.policy("enrol")
    house.configure(*in_settings(name))
    why = "isn't there" if name == "gone.so" else r"can't be loaded \(.+\)"
    line = rf"the PKCS#11 module {house.home / name} {why}: install the token's software, or correct its path"
    launched = house.launch()
    with pytest.raises(SignerUnavailable, match=line):
        launched.await_ready()
    assert (launched.child.wait(), len(launched.lines())) == (2, 1)
    house.write_policy(2)
    refused = house.policy("accept", code=3)
    assert refused.stderr.count("\n") == 1
    assert "install the token's software" in refused.stderr
    assert Guard(house.home / "keys").failures() == 0, "that was no guess"


@pytest.mark.parametrize("line", in_settings("/usr/lib/token.so"))
def test_one_of_the_two_settings_alone_is_refused(house: House, line: str):
    house.configure(line)
    with pytest.raises(ConfigError, match="pkcs11_module and pkcs11_token go together: give both, or neither"):
        load_settings(house.config)
    for command in (("signer", "run"), ("config",), ("up",)):
        ended = onebook(*command, cwd=house.home)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert "pkcs11_token: pkcs11_module and pkcs11_token go together" in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("policy", "enrol", "policy.toml", "--yes"),
        ("policy", "accept", "policy.toml", "--yes"),
        ("signer", "resync", "missing.json", "--yes"),
        ("keys", "ceremony"),
        ("keys", "list"),
        ("keys", "rotate", "hot"),
        ("keys", "destroy", "hot"),
    ],
)
def test_one_of_the_two_options_alone_is_refused(tmp_path: Path, command: tuple[str, ...]):
    made = House(tmp_path, {})
    made.configure()
    (tmp_path / "policy.toml").write_text(policy_text())
    (tmp_path / "missing.json").write_text(missing_to_json(Missing((), None)))
    for half in (("--pkcs11-token", LABEL), ("--pkcs11-module", "/usr/lib/token.so")):
        ended = onebook(*command, *half, cwd=tmp_path)
        said = "onebook: --pkcs11-module and --pkcs11-token go together: give both, or neither\n"
        assert (ended.returncode, ended.stderr) == (2, said)


def test_a_variable_names_the_token_too_and_paths_are_relative_to_the_file(house: House, monkeypatch):
    house.configure()
    assert load_settings(house.config).pkcs11 is None
    monkeypatch.setenv("ONEBOOK_PKCS11_MODULE", "lib/token.so")
    monkeypatch.setenv("ONEBOOK_PKCS11_TOKEN", LABEL)
    assert load_settings(house.config).pkcs11 == (house.home / "lib" / "token.so", LABEL)


def test_the_doctor_looks_for_the_module(house: House):
    def found() -> tuple[str, str]:
        told = json.loads(onebook("doctor", "--json", cwd=house.home).stdout)
        (one,) = [finding for finding in told if finding["what"] == "PKCS#11 module"]
        return one["verdict"], one["text"]

    assert found() == ("fine", f"{hsm.softhsm()}, for the token 'custody'")
    house.configure(*in_settings("gone.so"))
    verdict, text = found()
    assert (verdict, text.split(": ")[0]) == ("missing", f"{house.home / 'gone.so'} isn't a file")
    assert "install the token's software" in text
