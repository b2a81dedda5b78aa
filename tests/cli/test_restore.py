"""`onebook restore`: a backup becomes an installation, which goes on where the one that was lost ended."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from db.server import clean
from tests.support.command import onebook
from tests.support.installation import PASSPHRASE, Caller, ForkingSupervisor
from tests.support.lively import Lively, lively_installation
from tests.support.waiting import until
from wiring.assemble import prepare_book
from wiring.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]


def test_a_restored_installation_goes_on_where_the_lost_one_ended(tmp_path: Path):
    with lively_installation(tmp_path) as lively:
        lively.run("backup", tmp_path / "backup", cwd=tmp_path)
        later = lively.withdraw()
        lively.house.supervisor.stop()
        home, old = tmp_path / "again", lively.house.settings.home
        restored = onebook(
            *("restore", tmp_path / "backup", home, "--journal", old / "journal.sqlite", "--json"), cwd=tmp_path
        )
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
            halted = alice.ask("/v1/deposit-addresses", {"network": "local"}, key="while-halted")
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
