"""The systemd units: systemd reads them without a word, they're confined as is said, and what they start comes up."""

import asyncio
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from base.children import free_port
from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.exits import Exit
from cli.install import ChainChoice, install
from db.server import Running, at_database, create_database, drop_database
from tests.deploy.units import DEPLOY, NAMES, Places, Unit
from tests.support.chain import start_local_chain
from tests.support.installation import LIGHT, PASSPHRASE
from tests.support.require import require
from tests.support.waiting import until
from wiring.preparing import first_operator_key
from wiring.settings import load_settings

EXPOSURE_MAX = {"onebook-signer": 10, "onebook-api": 15, "onebook-worker": 15, "onebook-prepare": 15}
"""What `systemd-analyze security` may say at most, in tenths of its scale, on which 100 is all open."""

SECONDS = 60


@pytest.fixture(autouse=True)
def _systemd() -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze: apt-get install systemd")


def test_every_unit_is_looked_at_here():
    assert sorted(path.stem for path in DEPLOY.glob("*.service")) == sorted(NAMES)
    assert {name.removesuffix(".service") for name in _target().split()} == set(NAMES) - {"onebook-prepare"}


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path):
    places = Places(tmp_path)
    units = tmp_path / "units"
    units.mkdir()
    for path in (*DEPLOY.glob("*.service"), *DEPLOY.glob("*.target")):
        (units / path.name).write_text(places.put_in(path.read_text()))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *sorted(map(str, units.iterdir()))],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_confined_as_far_as_is_said(name: str):
    ended = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX[name]}"),
            str(DEPLOY / f"{name}.service"),
        ],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-300:]


def test_only_the_signer_sees_its_keys_and_only_the_worker_its_socket():
    api, prepare, signer, worker = map(Unit.read, NAMES)
    assert signer.one("RestrictAddressFamilies") == "AF_UNIX"
    assert signer.one("PrivateNetwork") == "yes"
    hidden = {unit.name: unit.one("InaccessiblePaths").split() for unit in (api, prepare, worker)}
    assert all("-/var/lib/onebook-signer" in paths for paths in hidden.values())
    assert {name for name, paths in hidden.items() if "-/run/onebook-signer" not in paths} == {"onebook-worker"}
    assert {unit.name for unit in (api, signer, worker) if unit.one("User") != "onebook"} == {"onebook-signer"}


def test_no_unit_has_a_secret_in_its_text():
    for name in NAMES:
        unit = Unit.read(name)
        told = {line.split("=", 1)[0] for line in unit.all("Environment")}
        assert told <= {"ONEBOOK_CONFIG", "ONEBOOK_SIGNER_SOCKET"}
        assert unit.all("EnvironmentFile") == []
    owner = [name for name in NAMES if any("owner" in told for told in Unit.read(name).all("LoadCredential"))]
    assert owner == ["onebook-prepare"]


def test_the_users_and_folders_are_made_as_the_units_name_them(tmp_path: Path):
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        require(shutil.which(tool), f"{tool}: apt-get install systemd")
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", DEPLOY / "onebook.sysusers"], check=True)
    users = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    assert {unit.one("User") for unit in map(Unit.read, NAMES)} == users.keys()
    [allowed] = re.findall(r"--allow-uid (\d+)", Unit.read("onebook-signer").one("ExecStart"))
    assert users["onebook"][2] == allowed
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}", DEPLOY / "onebook.tmpfiles"], check=True)
    made = {path: (tmp_path / path).stat() for path in ("var/lib/onebook", "var/lib/onebook-signer", "etc/onebook")}
    assert {path: oct(found.st_mode & 0o777) for path, found in made.items()} == dict.fromkeys(made, "0o700")
    assert made["var/lib/onebook"].st_uid == int(allowed)


@pytest.mark.slow
def test_what_the_units_start_comes_up_in_their_confinement_and_ends(tmp_path: Path, postgres: Running):
    with _installed(tmp_path, postgres) as places, ExitStack() as stack:
        prepare, signer, worker, api = (
            Unit.read(f"onebook-{name}", places) for name in ("prepare", "signer", "worker", "api")
        )
        with prepare.started(log=tmp_path / "prepare.log") as process:
            assert process.wait(timeout=SECONDS) == Exit.OK, (tmp_path / "prepare.log").read_text()
        secret = _operator_key(places)

        log = {name: tmp_path / f"{name}.log" for name in ("signer", "worker", "api")}
        running = [stack.enter_context(signer.started(log=log["signer"]))]
        until("the signer is ready", lambda: "signer ready" in log["signer"].read_text(), seconds=SECONDS)
        running.append(stack.enter_context(worker.started(log=log["worker"])))
        running.append(stack.enter_context(api.started(log=log["api"])))
        port = load_settings(places.house / "onebook.toml").api_port
        until("the API is ready", lambda: _status(f"http://127.0.0.1:{port}/health/ready") == 200, seconds=SECONDS)

        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {secret}"}, trust_env=False
        ) as http:
            user = http.post("/v1/users", json={"handle": "ada", "name": "Ada"}, headers={"Idempotency-Key": "u"})
            asked = {"label": "ada", "scopes": ["user"], "user": user.json()["id"]}
            made = http.post("/v1/api-keys", json=asked, headers={"Idempotency-Key": "k"}).json()
            headers = {"Authorization": f"Bearer {made['secret']}", "Idempotency-Key": "d"}

            def address() -> Any:
                """Derived by the worker, once the signer has reserved it: both work behind their units."""
                told = http.post("/v1/deposit-addresses", json={"network": "local"}, headers=headers)
                return told.status_code < 300 and told.json()["address"]

            until("a deposit address is given", address, seconds=SECONDS)
        for process in running:
            found = Path(f"/proc/{process.pid}/environ").read_bytes()
            assert PASSPHRASE not in found
            assert b"postgresql://" not in found
            assert "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()
        for process in reversed(running):
            process.terminate()
            # systemd counts an end by its own SIGTERM, as uvicorn's is, as a clean one
            assert process.wait(timeout=SECONDS) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_without_its_database_the_api_stays_up_and_says_so_but_bad_settings_end_it_for_good(tmp_path: Path):
    places, port = Places(tmp_path), free_port()
    config = places.house / "onebook.toml"
    config.write_text(f'api_port = {port}\n[[assets]]\ncode = "EUR"\nkind = "fiat"\nscale = 2\n')
    (places.etc / "database-url").write_text(f"postgresql://nobody:of-mine@127.0.0.1:{free_port()}/nowhere\n")
    unit, log = Unit.read("onebook-api", places), tmp_path / "log"
    with unit.started(log=log) as process:
        until("the API lives", lambda: _status(f"http://127.0.0.1:{port}/health/live") == 200, seconds=SECONDS)
        assert _status(f"http://127.0.0.1:{port}/health/ready") == 503
        assert process.poll() is None
    assert "of-mine" not in log.read_text()
    for name in ("onebook-api", "onebook-worker"):
        unit = Unit.read(name, places)
        config.write_text("bok = 1\n")
        with unit.started(log=log) as process:
            assert process.wait(timeout=SECONDS) == Exit.USAGE, log.read_text()
        assert unit.one("Restart") == "on-failure"
        assert {int(code) for code in unit.one("RestartPreventExitStatus").split()} == {Exit.USAGE, Exit.BROKEN}


def test_the_confinement_of_these_tests_is_one(tmp_path: Path):
    """A call that no unit may make fails in it, so that a process that comes up there is proof of something."""
    (tmp_path / "try.py").write_text("import os\nos.sched_setaffinity(0, {0})\n")
    sandbox = Unit.read("onebook-api").sandbox()
    assert {"mount", "ptrace", "sched_setaffinity", "setuid", "reboot"} & sandbox.calls == set()
    ended = subprocess.run(["python3", tmp_path / "try.py"], preexec_fn=sandbox.enter, capture_output=True, text=True)
    assert "Operation not permitted" in ended.stderr


@contextmanager
def _installed(folder: Path, server: Running) -> Iterator[Places]:
    """An installation as docs/deployment.md makes it: service and signer apart, credentials in files, no tables yet."""
    places = Places(folder)
    places.signer.rmdir()  # hand-over makes it
    name = f"units_{folder.name}".replace("-", "_")
    asyncio.run(create_database(server.admin_url, name))
    try:
        with start_local_chain(folder, "anvil") as chain:
            token = chain.node.tokens["USDC"]
            install(
                places.house,
                passphrase=PASSPHRASE,
                chains=(
                    ChainChoice(
                        name="local",
                        url=chain.url,
                        chain_id=chain.chain_id,
                        genesis_hash=chain.genesis_hash,
                        tokens={"USDC": (token.address.lower(), token.decimals)},
                        spendable_depth=1,
                        final_depth=3,
                    ),
                ),
                banks=(),
                clock=SystemClock(),
                entropy=SystemEntropy(),
                api_port=free_port(),
                worker_pause_ms=20,
                cost=LIGHT,
            )
            hand_over(places)
            (places.etc / "database-url").write_text(at_database(server.app_url, name) + "\n")
            (places.etc / "database-owner-url").write_text(at_database(server.owner_url, name) + "\n")
            (places.etc / "signer-passphrase.cred").write_bytes(PASSPHRASE)
            yield places
    finally:
        asyncio.run(drop_database(server.admin_url, name))


def hand_over(places: Places) -> None:
    """Keys, journal and a copy of the policy go to the signer."""
    owner = str(places.house.stat().st_uid)
    subprocess.run([DEPLOY / "hand-over", places.house, places.signer, owner], check=True)
    assert sorted(path.name for path in places.signer.iterdir()) == ["journal.sqlite", "keys", "policy.toml"]
    assert not (places.house / "keys").exists()
    again = subprocess.run([DEPLOY / "hand-over", places.house, places.signer, owner], capture_output=True, text=True)
    assert (again.returncode, "there is no" in again.stderr) == (2, True)


def _operator_key(places: Places) -> str:
    settings = load_settings(places.house / "onebook.toml")
    url = (places.etc / "database-url").read_text().strip()
    return asyncio.run(first_operator_key(settings.model_copy(update={"database_url": SecretStr(url)})))


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _target() -> str:
    [line] = re.findall(r"^Wants=(.*)$", (DEPLOY / "onebook.target").read_text(), re.MULTILINE)
    return str(line)
