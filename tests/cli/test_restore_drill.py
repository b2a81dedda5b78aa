"""A backup of a living installation is put back and found whole; each fault in it is named. All by the commands."""

import asyncio
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from sqlalchemy import text

from base.entropy import SystemEntropy
from custody import keystore
from custody.derivation import Role
from custody.journal_copy import copy_journal
from db.engine import create_engine, tx
from db.migrate import head
from fiat.personal import make_key_file
from ledger.seals import seal_path
from tests.support.command import ENTRY, PROGRAM, onebook, surroundings
from tests.support.forked import PIPE, Forked
from tests.support.installation import LIGHT, PASSPHRASE
from tests.support.lively import Lively, lively_installation
from wiring.backups import DATABASE, JOURNAL, MANIFEST, JournalTold, list_files, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]

Told = dict[str, Any]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lively]:
    with lively_installation(tmp_path_factory.mktemp("lively")) as running:
        yield running


@pytest.fixture(scope="module")
def whole(lively: Lively, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("backups") / "whole"
    lively.run("backup", folder, cwd=folder.parent)
    return folder


def drilled(*words: str | Path, cwd: Path, passphrase: bytes | None = None, **environment: str) -> tuple[int, Told]:
    """The drill's exit code and what it says, each check under its name."""
    ended = onebook(
        *("doctor", "--restore-drill", "--json", *words), cwd=cwd, passphrase=passphrase, environment=environment
    )
    assert ended.stdout, ended.stderr
    told = json.loads(ended.stdout)
    return ended.returncode, told | {check["what"]: check for check in told["checks"]}


def verdicts(told: Told) -> dict[str, str]:
    return {check["what"]: check["verdict"] for check in told["checks"]}


def relisted(folder: Path, **more: object) -> None:
    """The manifest says of the files what they are now."""
    told = read_manifest(folder)
    (folder / MANIFEST).unlink()
    changed = msgspec.structs.replace(told, files=list_files(folder), **more)
    (folder / MANIFEST).write_bytes(changed.document())


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def change(lively: Lively, *statements: str) -> None:
    """Behind everybody's back, as the database's owner."""
    url = lively.house.settings.database_owner_url
    assert url is not None

    async def run() -> None:
        engine = create_engine(url.get_secret_value())
        async with tx(engine) as connection:
            for statement in statements:
                await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(run())


# What is whole


def test_a_whole_backup_passes_every_check_without_the_service_s_database(whole: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    code, told = drilled("--from", whole, cwd=tmp_path, passphrase=PASSPHRASE)
    assert (code, told["passed"], set(verdicts(told).values())) == (0, True, {"ok"}), told["checks"]
    assert list(verdicts(told)) == [
        *("files", "files put back", "settings", "journal", "keys", "keys opened", "server", "database", "schema"),
        *("definitions", "book", "audit log", "balances", "signatures", "addresses", "personal data", "epochs"),
    ]
    assert told["signatures"]["text"].startswith("2 signatures in the database")
    assert "opens 1 of 1 sealed rows" in told["personal data"]["text"]
    assert told["epochs"]["text"].startswith("epochs: 1")
    assert "seals: 1, each compared with its file" in told["book"]["text"]
    assert 0 < told["restored_seconds"] < told["seconds"]
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_fresh_backup_is_taken_by_a_role_that_may_only_read_and_nothing_is_left(lively: Lively, tmp_path: Path):
    change(lively, "ALTER ROLE onebook_owner SET default_transaction_read_only = on")
    try:
        code, told = drilled("--config", lively.house.config, cwd=tmp_path, TMPDIR=str(tmp_path))
    finally:
        change(lively, "SET TRANSACTION READ WRITE", "ALTER ROLE onebook_owner RESET ALL")
    assert (code, verdicts(told)["backup"]) == (0, "ok"), told["checks"]
    assert verdicts(told)["keys opened"] == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_what_was_signed_after_the_dump_is_told_and_no_fault(lively: Lively, whole: Path, tmp_path: Path):
    folder = shutil.copytree(whole, tmp_path / "later")
    lively.withdraw()
    (folder / JOURNAL).unlink()
    head = copy_journal(lively.house.settings.path(lively.house.settings.journal), folder / JOURNAL)
    relisted(folder, journal=JournalTold(sequence=head.sequence, hash=head.hash.hex()))
    code, told = drilled("--from", folder, cwd=tmp_path)
    assert code == 0, told["checks"]
    assert "1 were answered after the dump, `onebook recover` rebuilds them" in told["signatures"]["text"]


def test_a_backup_without_keys_passes_what_can_be_looked_at(lively: Lively, tmp_path: Path):
    lively.run("backup", tmp_path / "bare", "--without-keys", cwd=tmp_path)
    assert list((tmp_path / "bare").rglob("*.key")) == [*(tmp_path / "bare").rglob("epoch.key")]
    code, told = drilled("--from", tmp_path / "bare", cwd=tmp_path, passphrase=PASSPHRASE)
    skipped = {what for what, verdict in verdicts(told).items() if verdict == "skipped"}
    assert (code, skipped) == (0, {"keys", "keys opened", "personal data"}), told["checks"]


# What isn't


@pytest.fixture(scope="module")
def damaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The drill of a backup whose files aren't those of its manifest."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "backup")
    flip(folder / DATABASE, (folder / DATABASE).stat().st_size // 2)
    (folder / "home/keys/hot.key").unlink()
    (folder / "home/keys/hot.key.copy").unlink()
    told = read_manifest(folder)
    kept = tuple(one for one in told.files if one.path != "home/personal.key")
    (folder / MANIFEST).write_bytes(msgspec.structs.replace(told, files=kept).document())
    seal_path(folder / "home/seals", "main", 1).unlink()
    (folder / "home/seals/main/00000002.json").write_text("{}")
    code, found = drilled("--from", folder, cwd=folder.parent)
    assert code == 1
    return found


@pytest.mark.parametrize(
    "words",
    [
        f"{DATABASE} isn't what was written: it has another SHA-256",
        "home/keys/hot.key is missing",
        "home/seals/main/00000001.json is missing",
        "home/personal.key isn't named by the manifest",
        "home/seals/main/00000002.json isn't named by the manifest",
    ],
)
def test_a_file_that_is_not_the_manifest_s_is_named(damaged: Told, words: str):
    assert damaged["files"]["verdict"] == "failed"
    assert words in damaged["files"]["text"]


def test_a_key_file_that_is_gone_is_named_by_its_key(damaged: Told):
    assert damaged["keys"]["verdict"] == "failed"
    assert damaged["keys"]["text"] == "hot: there is no key file, but its public key is recorded under [xpubs]"


@pytest.fixture(scope="module")
def exchanged(lively: Lively, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The drill of a backup in which files were exchanged, and whose manifest says so of none."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("exchanged") / "backup")
    home = folder / "home"
    for path in (home / "keys/gas.key", home / "keys/gas.key.copy", home / "personal.key", folder / JOURNAL):
        path.unlink()
    keystore.create(
        home / "keys", Role.GAS, bytes(range(32)), passphrase=PASSPHRASE, entropy=SystemEntropy(), cost=LIGHT
    )
    make_key_file(home / "personal.key")
    seal = seal_path(home / "seals", "main", 1)
    document = json.loads(seal.read_text())
    document["statement"]["root"] = "00" * 32
    seal.write_text(json.dumps(document))
    (home / "solvency/main/1/epoch.key").write_text("11" * 32 + "\n")
    policy = home / "policy.toml"
    policy.write_text(re.sub(r'^(gas = ")[0-9a-f]{64}"', rf'\g<1>{"00" * 32}"', policy.read_text(), flags=re.MULTILINE))
    head = copy_journal(lively.earlier_journal, folder / JOURNAL)
    relisted(folder, journal=JournalTold(sequence=head.sequence, hash=head.hash.hex()))
    code, found = drilled("--from", folder, cwd=folder.parent, passphrase=PASSPHRASE)
    assert code == 1
    return found


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("settings", "the policy's key gas isn't the one whose public key is recorded under [xpubs]"),
        ("keys", "gas: the key file is of another seed than the public key under [xpubs]"),
        ("keys opened", "gas: what is in the key file derives another public key than the recorded one"),
        ("personal data", "which isn't in the key file"),
        ("book", "seal 1: root (kept outside) is "),
        ("signatures", "the journal ends at"),
        ("epochs", "epoch.key is another epoch's key"),
    ],
)
def test_what_was_exchanged_is_named_though_the_manifest_fits(exchanged: Told, what: str, words: str):
    assert verdicts(exchanged)["files"] == "ok"
    assert (exchanged[what]["verdict"], words in exchanged[what]["text"]) == ("failed", True), exchanged[what]


def test_nothing_else_fails_with_what_was_exchanged(exchanged: Told):
    failed = {what for what, verdict in verdicts(exchanged).items() if verdict == "failed"}
    assert failed == {"settings", "keys", "keys opened", "personal data", "book", "signatures", "epochs"}


def test_a_backup_without_any_seal_s_file_does_not_pass_for_one_that_was_compared_with_them(
    whole: Path, tmp_path: Path
):
    folder = shutil.copytree(whole, tmp_path / "backup")
    shutil.rmtree(folder / "home/seals")
    relisted(folder)
    code, told = drilled("--from", folder, cwd=tmp_path)
    assert (code, told["book"]["verdict"], told["book"]["text"]) == (1, "failed", "the file of seal 1 is missing")
    assert [what for what, verdict in verdicts(told).items() if verdict == "failed"] == ["book"]


def test_a_changed_byte_of_the_dump_is_found_though_the_manifest_fits(whole: Path, tmp_path: Path):
    folder = shutil.copytree(whole, tmp_path / "backup")
    flip(folder / DATABASE, (folder / DATABASE).stat().st_size * 95 // 100)  # its list of contents comes before
    relisted(folder)
    code, told = drilled("--from", folder, cwd=tmp_path)
    assert (code, verdicts(told)["files"], verdicts(told)["database"]) == (1, "ok", "failed")
    assert "pg_restore" in told["database"]["text"]
    assert {verdicts(told)[what] for what in ("schema", "book", "addresses")} == {"skipped"}


def test_a_changed_definition_in_the_dump_is_named_though_the_manifest_fits(whole: Path, tmp_path: Path):
    folder = shutil.copytree(whole, tmp_path / "backup")
    content = (folder / DATABASE).read_bytes()
    assert content.count(b"'close_period'") > 0
    (folder / DATABASE).write_bytes(content.replace(b"'close_period'", b"'clone_period'"))
    relisted(folder)
    code, told = drilled("--from", folder, cwd=tmp_path)
    failed = {what for what, verdict in verdicts(told).items() if verdict == "failed"}
    assert (code, failed) == (1, {"definitions"}), told["checks"]
    assert "ix_ledger_commands_closings, INDEX is another" in told["definitions"]["text"]


def test_rows_that_were_altered_before_the_backup_are_named(lively: Lively, tmp_path: Path):
    lively.house.stop("worker")
    turned = "UPDATE chain_addresses SET address = '0x' || reverse(substr(address, 3)) WHERE role = 'deposit'"
    of_first = "transaction_id = (SELECT min(id) FROM chain_transactions)"
    renamed = "UPDATE chain_attempts SET attempt = attempt + {} WHERE " + of_first
    raised = "UPDATE ledger_accounts SET credits_posted = credits_posted + {} WHERE owner <> 'house' AND asset = 'USDC'"
    try:
        change(lively, turned)
        change(lively, raised.format(1))
        change(lively, renamed.format(50))
        change(lively, "ALTER TABLE ledger_lines DISABLE TRIGGER USER")
        lively.run("backup", tmp_path / "altered", cwd=tmp_path)
    finally:
        change(lively, "ALTER TABLE ledger_lines ENABLE TRIGGER USER")
        change(lively, renamed.format(-50))
        change(lively, raised.format(-1))
        change(lively, turned)
        lively.house.start("worker")
    code, told = drilled("--from", tmp_path / "altered", cwd=tmp_path)
    failed = {what for what, verdict in verdicts(told).items() if verdict == "failed"}
    assert (code, failed) == (1, {"definitions", "book", "balances", "signatures", "addresses"}), told["checks"]
    assert "TRIGGER is another" in told["definitions"]["text"]
    assert "the journal has no attempt 51 of wdr_" in told["signatures"]["text"]
    assert "the database has no attempt 1 of wdr_" in told["signatures"]["text"]
    assert "deposit:0 is 0x" in told["addresses"]["text"]
    assert "credits_posted is " in told["book"]["text"]


def test_a_dump_of_a_newer_version_is_told(lively: Lively, tmp_path: Path):
    change(lively, "UPDATE alembic_version SET version_num = '9999_future'")
    try:
        lively.run("backup", tmp_path / "newer", cwd=tmp_path)
    finally:
        change(lively, f"UPDATE alembic_version SET version_num = '{head()}'")
    code, told = drilled("--from", tmp_path / "newer", cwd=tmp_path)
    assert (code, verdicts(told)["schema"], verdicts(told)["book"]) == (1, "failed", "skipped")
    assert "9999_future, which this version doesn't know" in told["schema"]["text"]


def test_a_folder_without_a_manifest_is_no_backup(tmp_path: Path):
    code, told = drilled("--from", tmp_path, cwd=tmp_path)
    assert (code, verdicts(told)) == (1, {"manifest": "failed"})
    assert "is no backup" in told["manifest"]["text"]


# However it ends


def begun(whole: Path, tmp_path: Path) -> tuple[Forked, list[psutil.Process]]:
    """A drill whose server runs, and its children."""
    drill = Forked(
        ENTRY,
        [PROGRAM, "doctor", "--restore-drill", "--from", whole],
        cwd=tmp_path,
        env=surroundings(TMPDIR=str(tmp_path)),
        stderr=PIPE,
        text=True,
    )
    assert drill.stderr is not None
    for line in drill.stderr:
        if line.startswith("server: ok"):
            break
    children = psutil.Process(drill.pid).children(recursive=True)
    assert children
    return drill, children


def homes(tmp_path: Path) -> list[Path]:
    """Folders outside in which root's server for this drill keeps its files."""
    marks = [*Path("/var/lib").glob("onebook-postgres-*/onebook-owner.json")]
    return [mark.parent for mark in marks if str(tmp_path) in mark.read_text()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_broken_off_it_leaves_no_file_and_no_server(whole: Path, tmp_path: Path, number: signal.Signals):
    drill, children = begun(whole, tmp_path)
    drill.send_signal(number)
    assert drill.wait(timeout=60) == 130
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert (list(tmp_path.iterdir()), homes(tmp_path)) == ([], [])


def test_killed_it_leaves_no_server_and_the_next_drill_removes_its_files(whole: Path, tmp_path: Path):
    drill, children = begun(whole, tmp_path)
    drill.kill()
    drill.wait(timeout=60)
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert [path.name.startswith("onebook-drill-") for path in tmp_path.iterdir()] == [True]
    drilled("--from", tmp_path / "none", cwd=whole, TMPDIR=str(tmp_path))
    assert (list(tmp_path.iterdir()), homes(tmp_path)) == ([], [])
