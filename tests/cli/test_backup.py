"""`onebook backup` on an installation that runs: whole, or not there at all."""

import asyncio
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from custody.journal_copy import copy_journal
from tests.support.command import ENTRY, PROGRAM, onebook, surroundings
from tests.support.disk import small_disk
from tests.support.forked import PIPE, Forked
from tests.support.installation import Installation
from tests.support.lively import Lively, lively_installation
from tests.support.waiting import until
from wiring.backups import DATABASE, MANIFEST, JournalTold, digest_of, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lively]:
    with lively_installation(tmp_path_factory.mktemp("lively")) as running:
        yield running


@pytest.fixture
def house(lively: Lively) -> Installation:
    return lively.house


def owner_url(house: Installation) -> str:
    url = house.settings.database_owner_url
    assert url is not None
    return url.get_secret_value()


@contextmanager
def table_held(house: Installation, table: str = "chain_blocks") -> Iterator[None]:
    """Nobody may read this table: a dump waits for it."""

    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(owner_url(house)))
        try:
            runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            yield
        finally:
            runner.run(connection.close())


def begun(house: Installation, target: Path) -> tuple[Forked, psutil.Process]:
    """A backup that waits in the middle of its dump, and its pg_dump."""
    backup = Forked(
        ENTRY,
        [PROGRAM, "backup", target, "--config", house.config],
        cwd=target.parent,
        env=surroundings(),
        stderr=PIPE,
        text=True,
    )

    def waiting() -> psutil.Process | None:
        found = psutil.Process(backup.pid).children()
        return next((child for child in found if child.name() == "pg_dump"), None)

    return backup, until("pg_dump runs", waiting, seconds=60)


def test_a_backup_holds_what_its_manifest_says_and_is_for_its_owner_alone(house: Installation, tmp_path: Path):
    ended = onebook("backup", tmp_path / "one", "--config", house.config, "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told, folder = json.loads(ended.stdout), tmp_path / "one"
    manifest = read_manifest(folder)
    named = {one.path for one in manifest.files}
    assert named == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    assert {f"home/keys/{role}.key{copy}" for role in ("deposit", "hot", "gas") for copy in ("", ".copy")} <= named
    assert {
        *("database.dump", "journal.sqlite", "home/onebook.toml", "home/policy.toml", "home/rates.toml"),
        *("home/tariff.toml", "home/personal.key", "home/seal.key", "home/seals/main/00000001.json"),
        *("home/seals/seal.pem", "home/solvency/main/1/epoch.key", "home/solvency/main/1/USDC.tree"),
    } <= named
    assert "home/keys/failures" not in named
    assert all(digest_of(folder / one.path) == one.sha256 for one in manifest.files)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if path.is_dir()} == {0o700}
    assert (told["seq"], told["journal_rows"], told["files"]) == (
        manifest.seq,
        manifest.journal.sequence if manifest.journal else None,
        len(named),
    )


def test_a_target_that_exists_is_refused_and_stays_as_it_is(house: Installation, tmp_path: Path):
    (tmp_path / "kept").mkdir()
    ended = onebook("backup", tmp_path / "kept", "--config", house.config, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "exists: nothing is written over" in ended.stderr
    assert (list((tmp_path / "kept").iterdir()), list(tmp_path.iterdir())) == ([], [tmp_path / "kept"])


def test_what_is_signed_while_the_dump_is_made_is_in_the_journal_s_copy_and_not_in_the_dump(
    lively: Lively, tmp_path: Path
):
    with table_held(lively.house, "fiat_sandbox_objects"):
        backup, _ = begun(lively.house, tmp_path / "one")
        lively.withdraw()
    assert backup.wait(timeout=60) == 0
    manifest, journal = read_manifest(tmp_path / "one"), lively.house.settings.path(lively.house.settings.journal)
    now = copy_journal(journal, tmp_path / "now.sqlite")
    assert manifest.journal == JournalTold(sequence=now.sequence, hash=now.hash.hex())
    ended = onebook("doctor", "--restore-drill", "--json", "--from", tmp_path / "one", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    [signatures] = [check for check in json.loads(ended.stdout)["checks"] if check["what"] == "signatures"]
    assert "; 1 were answered after the dump, `onebook recover` rebuilds them" in signatures["text"]


def test_broken_off_in_the_middle_it_leaves_nothing(house: Installation, tmp_path: Path):
    with table_held(house):
        backup, dumping = begun(house, tmp_path / "one")
        arguments = " ".join(dumping.cmdline())
        backup.terminate()
        assert backup.wait(timeout=30) == 130
        assert psutil.wait_procs([dumping], timeout=10)[1] == []
    assert list(tmp_path.iterdir()) == []
    assert ":" not in arguments.partition("postgresql://")[2].partition("@")[0], "no password where others can read it"


def test_killed_in_the_middle_it_leaves_nothing_that_looks_whole_and_the_next_one_clears_it(
    house: Installation, tmp_path: Path
):
    with table_held(house):
        backup, dumping = begun(house, tmp_path / "one")
        backup.kill()
        backup.wait(timeout=30)
        assert psutil.wait_procs([dumping], timeout=10)[1] == []
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".one.")
    assert [path.name for path in left.iterdir()] == [DATABASE]
    refused = onebook("doctor", "--restore-drill", "--from", left, cwd=tmp_path)
    assert (refused.returncode, "is no backup" in refused.stdout) == (1, True)
    ended = onebook("backup", tmp_path / "one", "--config", house.config, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_on_a_full_disk_it_says_so_and_leaves_nothing(house: Installation):
    server = house.supervisor._database
    assert server is not None
    with small_disk(server.start(), mebibytes=1) as disk:
        (disk / "filler").write_bytes(bytes(900_000))
        ended = onebook("backup", disk / "one", "--config", house.config, cwd=disk.parent)
        assert (ended.returncode, "the disk is full" in ended.stderr) == (3, True), ended.stderr
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_what_can_not_be_in_a_backup_stops_it_before_the_dump(house: Installation, tmp_path: Path):
    keys = house.settings.path(house.settings.keys)
    keys.rename(keys.with_name("elsewhere"))
    try:
        ended = onebook("backup", tmp_path / "one", "--config", house.config, cwd=tmp_path)
    finally:
        keys.with_name("elsewhere").rename(keys)
    assert (ended.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "there are no key files in" in ended.stderr
