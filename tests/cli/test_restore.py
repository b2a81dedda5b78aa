"""`onebook restore`: a backup becomes an installation, which goes on where the one that was lost ended."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from db.server import Running, at_database, clean, create_database, drop_database
from tests.support.command import onebook
from tests.support.installation import PASSPHRASE, Caller, ForkingSupervisor
from tests.support.lively import Lively, lively_installation
from tests.support.waiting import until
from wiring.backups import read_manifest
from wiring.preparing import prepare_book
from wiring.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lively, Path]]:
    """An installation, and a backup of it, which stays when the installation has ended."""
    folder = tmp_path_factory.mktemp("restored")
    with lively_installation(folder) as lively:
        lively.run("backup", folder / "backup", cwd=folder)
        yield lively, folder / "backup"


def test_a_restored_installation_goes_on_where_the_lost_one_ended(backed_up: tuple[Lively, Path], tmp_path: Path):
    lively, backup = backed_up
    later = lively.withdraw()
    lively.house.supervisor.stop()
    home, old = tmp_path / "again", lively.house.settings.home
    restored = onebook("restore", backup, home, "--journal", old / "journal.sqlite", "--json", cwd=tmp_path)
    assert restored.returncode == 0, restored.stderr
    told = json.loads(restored.stdout)
    try:
        assert (told["config"], told["by_hand"]) == (str(home / "onebook.toml"), {})
        assert {path.name for path in home.iterdir()} == {
            *("keys", "seals", "solvency", "postgres", "journal.sqlite", "personal.key", "seal.key"),
            *("onebook.toml", "policy.toml", "rates.toml", "tariff.toml"),
        }
        go_on(lively, home / "onebook.toml", later)
    finally:
        clean(home / "postgres")


def test_a_journal_that_knows_less_than_the_backup_s_copy_is_refused(backed_up: tuple[Lively, Path], tmp_path: Path):
    lively, backup = backed_up
    ended = onebook("restore", backup, tmp_path / "again", "--journal", lively.earlier_journal, cwd=tmp_path)
    assert (ended.returncode, "it's an older journal, or another signer's" in ended.stderr) == (2, True), ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_its_own_must_be_empty_and_gets_all_of_it(
    backed_up: tuple[Lively, Path], postgres: Running, tmp_path: Path
):
    _, backup = backed_up
    name = f"restored_{os.getpid()}"
    asyncio.run(create_database(postgres.admin_url, name))
    named = {"ONEBOOK_DATABASE_OWNER_URL": at_database(postgres.owner_url, name)}
    try:
        restored = onebook("restore", backup, tmp_path / "again", "--json", cwd=tmp_path, environment=named)
        assert restored.returncode == 0, restored.stderr
        assert not (tmp_path / "again" / "postgres").exists()
        assert json.loads(restored.stdout)["journal_rows"] == read_manifest(backup).journal.sequence  # type: ignore[union-attr]
        there = {"ONEBOOK_DATABASE_URL": at_database(postgres.app_url, name)}
        audited = onebook("audit", "--json", cwd=tmp_path / "again", environment=there)
        assert (audited.returncode, json.loads(audited.stdout)["through_seq"]) == (0, read_manifest(backup).seq)
        again = onebook("restore", backup, tmp_path / "more", cwd=tmp_path, environment=named)
        assert (again.returncode, "isn't empty: nothing is written over" in again.stderr) == (2, True)
        assert [path.name for path in tmp_path.iterdir()] == ["again"]
    finally:
        asyncio.run(drop_database(postgres.admin_url, name))


def go_on(lively: Lively, config: Path, later: str) -> None:
    """Start it, recover what was signed since the backup, and see that all agrees with a chain that went on."""
    with ForkingSupervisor(
        load_settings(config), config=config, passphrase=PASSPHRASE, say=lambda _: None
    ) as supervisor:
        supervisor.start_database()
        asyncio.run(prepare_book(supervisor.settings, report=lambda _: None))
        supervisor.start_signer()
        supervisor.start_worker()
        supervisor.start_api()
        supervisor.record()
        with httpx.Client(
            base_url=supervisor.api_url, headers=lively.alice.http.headers, timeout=30, trust_env=False
        ) as http:
            alice = Caller(lively.alice.id, http)
            body = {"asset": "USDC", "network": "local", "address": lively.house.chain.accounts[7], "amount": "1.00"}
            halted = alice.ask("/v1/withdrawals", body, key="while-halted")
            assert (halted.status_code, halted.json()["code"]) == (503, "needs_recovery")
            recovered = onebook("recover", "--yes", "--config", config, cwd=config.parent)
            assert recovered.returncode == 0, recovered.stdout + recovered.stderr
            assert "Rebuilt: 1 withdrawals" in recovered.stdout

            def is_final() -> bool:
                lively.house.mined_on()
                return bool(alice.get(f"/v1/withdrawals/{later}")["state"] == "final")

            until("what was signed since the backup is final here, too", is_final, seconds=90)
        for words in (("reconcile",), ("audit",), ("signer", "audit")):
            ended = onebook(*words, "--config", config, cwd=config.parent)
            assert ended.returncode == 0, (words, ended.stdout, ended.stderr)


def test_a_backup_that_is_not_whole_is_not_restored(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    ended = onebook("restore", tmp_path / "empty", tmp_path / "again", cwd=tmp_path)
    assert (ended.returncode, "is no backup" in ended.stderr) == (2, True)
    assert not (tmp_path / "again").exists()
