"""What belongs to a backup and where it lies in one; manifests that say what can't be. No server."""

import json
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from base.errors import ConfigError
from cli.backing_up import _from_environment
from tests.cli.test_commands import installed
from wiring.backups import (
    DATABASE,
    FORMAT,
    HOME,
    MANIFEST,
    DatabaseTold,
    Manifest,
    find_flaws,
    key_files,
    laid_out,
    list_files,
    place_in_backup,
    read_manifest,
    seal_files,
    single_files,
)
from wiring.settings import Settings, load_settings


def settings_with(home: Path, **lines: str) -> tuple[Settings, Path]:
    """An installation in whose settings these names have these values, in TOML."""
    config = installed(home)
    kept = [line for line in config.read_text().splitlines() if line.partition(" =")[0] not in lines]
    config.write_text("\n".join([*(f"{name} = {value}" for name, value in lines.items()), *kept]))
    return load_settings(config), config


def backup_of(folder: Path, files: dict[str, bytes]) -> Manifest:
    """A folder with these files and their manifest."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = Manifest(
        format=FORMAT,
        onebook="0",
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        book="main",
        seq=0,
        seals=0,
        schema="0001",
        config=f"{HOME}/onebook.toml",
        keys=False,
        variables=(),
        database=DatabaseTold(server=15, pg_dump=15, roles=(), sizes={}),
        journal=None,
        files=list_files(folder),
    )
    (folder / MANIFEST).write_bytes(manifest.document())
    return manifest


def test_files_keep_their_places_and_those_outside_are_apart(tmp_path: Path):
    outside = tmp_path / "elsewhere" / "policy.toml"
    settings, config = settings_with(tmp_path / "house", policy=f'"{outside}"', solvency='{folder = "../epochs"}')
    assert place_in_backup(settings, config).as_posix() == f"{HOME}/onebook.toml"
    assert place_in_backup(settings, settings.tariff).as_posix() == f"{HOME}/tariff.toml"
    assert place_in_backup(settings, settings.policy) == PurePosixPath(f"outside{outside}")
    assert place_in_backup(settings, settings.solvency.folder).as_posix() == f"outside{tmp_path / 'epochs'}"
    moved = laid_out(settings, tmp_path / "copy")
    assert moved.path(moved.policy) == tmp_path / f"copy/outside{outside}"
    assert moved.path(moved.keys) == tmp_path / "copy" / HOME / "keys"
    assert moved.path(moved.journal) == tmp_path / "copy/journal.sqlite"
    assert moved.path(moved.solvency.folder) == tmp_path / f"copy/outside{tmp_path}/epochs"


def test_only_key_files_and_their_copies_are_taken_of_the_keys_folder(tmp_path: Path):
    settings, _ = settings_with(tmp_path)
    for name in ("failures", "hot.key.new", ".hot.key.12.draft", "notes.txt"):
        (tmp_path / "keys" / name).touch()
    names = sorted(path.name for path in key_files(settings))
    assert names == [f"{role}.key{copy}" for role in ("deposit", "gas", "hot") for copy in ("", ".copy")]


def test_without_keys_no_private_key_is_taken(tmp_path: Path):
    settings, config = settings_with(tmp_path)
    with_keys = {path.name for path in single_files(settings, config, with_keys=True)}
    without = {path.name for path in single_files(settings, config, with_keys=False)}
    assert with_keys - without == {"personal.key", "seal.key"}
    assert without == {"onebook.toml", "policy.toml", "rates.toml", "tariff.toml"}


def test_a_policy_that_is_not_there_is_missed(tmp_path: Path):
    settings, config = settings_with(tmp_path)
    (tmp_path / "policy.toml").unlink()
    with pytest.raises(ConfigError, match="the signer's policy isn't at"):
        list(single_files(settings, config, with_keys=True))


def test_seals_behind_the_dump_s_last_are_left_where_they_are(tmp_path: Path):
    settings, _ = settings_with(tmp_path)
    folder = tmp_path / "seals" / "main"
    folder.mkdir(parents=True)
    for number in (1, 3, 4):
        (folder / f"{number:08}.json").touch()
    there, lacking = seal_files(settings, 3)
    assert ([path.name for path in there], lacking) == (["00000001.json", "00000003.json"], [2])


def test_settings_that_no_file_holds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "onebook_database_url").write_text("postgresql://secret")
    (tmp_path / "onebook-signer-passphrase").touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("ONEBOOK_BOOK", "main")
    monkeypatch.setenv("ONEBOOK_SIGNER_PASSPHRASE", "no setting")
    assert {"ONEBOOK_DATABASE_URL", "ONEBOOK_BOOK"} <= {*_from_environment()}
    assert not [name for name in _from_environment() if "PASSPHRASE" in name]


WHOLE = {DATABASE: b"dump", f"{HOME}/onebook.toml": b"x = 1\n", f"{HOME}/keys/hot.key": b"key"}


def test_what_is_whole_has_no_flaw(tmp_path: Path):
    assert find_flaws(tmp_path, backup_of(tmp_path, WHOLE)) == []
    assert find_flaws(tmp_path, read_manifest(tmp_path)) == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("unlink", f"{HOME}/keys/hot.key is missing"),
        ("longer", f"{HOME}/keys/hot.key has 4 bytes, it was written with 3"),
        ("other", f"{HOME}/keys/hot.key isn't what was written: it has another SHA-256"),
        ("link", f"{HOME}/keys/hot.key is missing"),
    ],
)
def test_each_flaw_of_a_file_is_told(tmp_path: Path, fault: str, told: str):
    manifest = backup_of(tmp_path / "backup", WHOLE)
    path = tmp_path / "backup" / HOME / "keys" / "hot.key"
    if fault in ("unlink", "link"):
        path.unlink()
    if fault == "link":
        (tmp_path / "key").write_bytes(b"key")
        path.symlink_to(tmp_path / "key")
    if fault in ("longer", "other"):
        path.write_bytes(b"keys" if fault == "longer" else b"kex")
    assert [str(flaw) for flaw in find_flaws(tmp_path / "backup", manifest)] == [told]


@pytest.mark.parametrize("lacking", [DATABASE, f"{HOME}/onebook.toml"])
def test_a_manifest_that_names_no_dump_or_no_settings_is_flawed(tmp_path: Path, lacking: str):
    files = {name: content for name, content in WHOLE.items() if name != lacking}
    assert [str(flaw) for flaw in find_flaws(tmp_path, backup_of(tmp_path, files))] == [
        f"{lacking} isn't named by the manifest"
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("format", "onebook-backup-9", "has the format 'onebook-backup-9'"),
        ("seq", "many", "isn't a backup's manifest"),
        ("more", 1, "isn't a backup's manifest"),
        ("files", [{"path": "../etc/passwd", "bytes": 1, "sha256": "0" * 64}], "is no place in a backup"),
        ("files", [{"path": "/etc/passwd", "bytes": 1, "sha256": "0" * 64}], "is no place in a backup"),
        ("files", [{"path": f"{HOME}//keys", "bytes": 1, "sha256": "0" * 64}], "is no place in a backup"),
        ("config", "../onebook.toml", "is no place in a backup"),
        ("config", "outside/etc/onebook.toml", "is no place in a backup"),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(tmp_path: Path, name: str, value: object, said: str):
    backup_of(tmp_path, WHOLE)
    told = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(told | {name: value}))
    with pytest.raises(ConfigError, match=said):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"{}", b"\xff"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ConfigError, match="isn't a backup's manifest"):
        read_manifest(tmp_path)
