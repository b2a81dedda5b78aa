"""What belongs to a backup, where it lies in one, and the list of its files. No database is asked here.

    manifest.json     every file with its size and hash, and which book the dump holds
    database.dump     by pg_dump
    journal.sqlite    a copy of the signer's journal, apart from the rest: it isn't put back beside a newer one
    home/...          the installation's files at their places in its folder
    outside/...       those that the settings name outside of it, at their places from the root

The manifest is written last, and the folder gets its name after that: a folder without one is no backup.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from base.errors import ConfigError
from base.nesting import is_nested_within
from custody import keystore
from custody.policy_signatures import signatures_path
from ledger.seals import PUBLIC_NAME, seal_path
from wiring.exchange_settings import FileSourceSettings
from wiring.settings import Settings

FORMAT = "onebook-backup-1"
MANIFEST, DATABASE, JOURNAL = "manifest.json", "database.dump", "journal.sqlite"
HOME, OUTSIDE = "home", "outside"

MANIFEST_BYTES_MAX = 100_000_000
"""A line for each file: room for half a million."""

_LEVELS_MAX = 8
_PART = 2**20
"""Bytes read at a time."""

Told = Callable[[int], None]
"""Hears how many more bytes were dealt with."""


class _Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest, exactly as it's written."""


class FileTold(_Told, frozen=True):
    """A file of a backup: its place there, its bytes, and their SHA-256 in hex."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class DatabaseTold(_Told, frozen=True):
    """The dumped database. `server`, `pg_dump`: major versions. `sizes`: bytes of tables, by "schema.name"."""

    server: int
    pg_dump: int
    roles: tuple[str, ...]
    sizes: dict[str, int]


class JournalTold(_Told, frozen=True):
    """How far the copied journal goes."""

    sequence: int
    hash: str


class Manifest(_Told, frozen=True):
    """What a backup is of. `seq`, `seals`: the book's last command and its last seal in the dump; `schema`: its newest
    migration. `config`: the settings' file. `variables`: names of the settings that came from the environment or from
    credentials, whose values are in no backup. `journal`: None where nothing is signed. `keys`: whether keys are in it.
    """

    format: str
    onebook: str
    made_at: datetime
    book: str
    seq: int
    seals: int
    schema: str
    config: str
    keys: bool
    variables: tuple[str, ...]
    database: DatabaseTold
    journal: JournalTold | None
    files: tuple[FileTold, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.bytes for one in self.files)

    def document(self) -> bytes:
        """As its file says it."""
        told = msgspec.to_builtins(self)
        return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Flaw:
    """A file that isn't what the manifest says of it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


# Where things lie


def place_in_backup(settings: Settings, path: Path) -> PurePosixPath:
    """Where a file of the installation lies in a backup."""
    whole = Path(os.path.normpath(settings.path(path)))
    if whole.is_relative_to(settings.home):
        return PurePosixPath(HOME) / whole.relative_to(settings.home)
    return PurePosixPath(OUTSIDE) / whole.relative_to(whole.anchor)


def laid_out(settings: Settings, folder: Path) -> Settings:
    """The settings of a backup, read in `folder`/home, so that all that they name lies in `folder`."""

    def inside(path: Path) -> Path:
        return folder / place_in_backup(settings, path)

    names = (*("keys", "policy", "seals", "seal_key", "personal_key", "rates", "tariff"),)
    moved: dict[str, Any] = {name: inside(getattr(settings, name)) for name in names}
    if settings.screening_list is not None:
        moved["screening_list"] = inside(settings.screening_list)
    moved["journal"] = folder / JOURNAL
    moved["solvency"] = settings.solvency.model_copy(update={"folder": inside(settings.solvency.folder)})
    return settings.model_copy(update=moved)


# What belongs to one


def single_files(settings: Settings, config: Path, *, with_keys: bool) -> Iterator[Path]:
    """The files that stand alone, where they are there. Raises ConfigError for one that must be and isn't."""
    yield config
    policy = settings.path(settings.policy)
    if settings.networks:
        _require(policy, "the signer's policy")
    named = [policy, signatures_path(policy), settings.path(settings.rates), settings.path(settings.tariff)]
    if settings.screening_list is not None:
        named.append(settings.path(settings.screening_list))
    named += [settings.path(one.path) for one in settings.exchange.sources if isinstance(one, FileSourceSettings)]
    if settings.rails.paypal is not None and settings.rails.paypal.certificate_roots is not None:
        named.append(settings.path(settings.rails.paypal.certificate_roots))
    if with_keys:
        named += [settings.path(settings.seal_key), settings.path(settings.personal_key)]
    yield from (path for path in dict.fromkeys(named) if path.is_file())


def key_files(settings: Settings) -> Iterator[Path]:
    """The signer's key files and their copies, nothing else of their folder. Raises ConfigError if there are none."""
    folder = settings.path(settings.keys)
    try:
        present = keystore.present(folder)
    except OSError as problem:
        raise ConfigError(
            f"{folder} can't be read ({problem.strerror}): make the backup as a user who may, or --without-keys"
        ) from problem
    if settings.networks and not present and settings.pkcs11 is None:
        raise ConfigError(f"there are no key files in {folder}: put them back, or make the backup --without-keys")
    for role, generation in present:
        path = keystore.key_path(folder, role, generation)
        yield from (one for one in (path, keystore.copy_path(path)) if one.exists())


def seal_files(settings: Settings, through: int) -> tuple[list[Path], list[int]]:
    """The files of a book's seals up to number `through`, and the public key beside them; the numbers without one."""
    folder = settings.path(settings.seals)
    paths = {number: seal_path(folder, settings.book, number) for number in range(1, through + 1)}
    public = folder / PUBLIC_NAME
    there = [path for path in (*paths.values(), public) if path.is_file()]
    return there, [number for number, path in paths.items() if not path.is_file()]


def epoch_files(settings: Settings, numbers: Iterable[int]) -> Iterator[Path]:
    """The files of these epochs of the book, as far as they're there."""
    for number in numbers:
        place = settings.path(settings.solvency.folder) / settings.book / str(number)
        if place.is_dir():
            yield from (path for path in sorted(place.iterdir()) if path.is_file())


def journal_file(settings: Settings) -> Path | None:
    """The signer's journal; None where nothing is signed. Raises ConfigError if it must be there and isn't."""
    path = settings.path(settings.journal)
    if settings.networks:
        _require(path, "the signer's journal")
    return path if path.is_file() else None


def _require(path: Path, what: str) -> None:
    if not path.is_file():
        raise ConfigError(f"{what} isn't at {path}, and without it a backup isn't one: name its place in the settings")


# Copying and the manifest


def copy_file(source: Path, target: Path, *, told: Told = lambda _: None) -> None:
    """Copy a file's bytes to a new one, for its owner alone, and flush them. Raises ConfigError if it can't be read."""
    try:
        stream = source.open("rb")
    except OSError as problem:
        raise ConfigError(f"{source} can't be read ({problem.strerror}): act as a user who may read it") from problem
    for place in (*reversed(target.parent.parents), target.parent):
        place.mkdir(mode=0o700, exist_ok=True)
    with stream, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copied:
        while part := stream.read(_PART):
            copied.write(part)
            told(len(part))
        copied.flush()
        os.fsync(copied.fileno())


def digest_of(path: Path, *, told: Told = lambda _: None) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(_PART):
            hashed.update(part)
            told(len(part))
    return hashed.hexdigest()


def files_in(folder: Path) -> list[str]:
    """The places of all files below a folder, in order."""
    found = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def list_files(folder: Path, *, told: Told = lambda _: None) -> tuple[FileTold, ...]:
    """Every file of a backup that has no manifest yet."""
    return tuple(
        FileTold(path=name, bytes=(folder / name).stat().st_size, sha256=digest_of(folder / name, told=told))
        for name in files_in(folder)
    )


def read_manifest(folder: Path) -> Manifest:
    """What a backup is of. Raises ConfigError where a folder is none, or one of another form."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes() if path.stat().st_size <= MANIFEST_BYTES_MAX else b""
    except OSError as problem:
        raise ConfigError(
            f"{folder} is no backup: {MANIFEST} can't be read ({problem.strerror}); one that was broken off has none"
        ) from problem
    try:
        if not content or not is_nested_within(content, _LEVELS_MAX):
            raise ValueError("it's no manifest")
        told = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        raise ConfigError(f"{path} isn't a backup's manifest: {problem}") from problem
    if told.format != FORMAT:
        raise ConfigError(f"{path} has the format {told.format!r}, this version reads {FORMAT}")
    for place in (*(one.path for one in told.files), told.config):
        if place != PurePosixPath(place).as_posix() or place.startswith("/") or ".." in PurePosixPath(place).parts:
            raise ConfigError(f"{path} names {place!r}, which is no place in a backup")
    if not told.config.startswith(f"{HOME}/"):
        raise ConfigError(f"{path} names {told.config!r} as settings, which is no place in a backup for them")
    return told


def find_flaws(folder: Path, manifest: Manifest, *, told: Told = lambda _: None) -> list[Flaw]:
    """Files that are missing, that have other bytes, and that the manifest doesn't name."""
    flaws, named = [], {one.path: one for one in manifest.files}
    for place in (DATABASE, manifest.config, *((JOURNAL,) if manifest.journal is not None else ())):
        if place not in named:
            flaws.append(Flaw(place, "isn't named by the manifest"))
    for one in manifest.files:
        path = folder / one.path
        if not path.is_file() or path.is_symlink():
            flaws.append(Flaw(one.path, "is missing"))
        elif path.stat().st_size != one.bytes:
            flaws.append(Flaw(one.path, f"has {path.stat().st_size} bytes, it was written with {one.bytes}"))
        elif digest_of(path, told=told) != one.sha256:
            flaws.append(Flaw(one.path, "isn't what was written: it has another SHA-256"))
    known = {*named, *(flaw.path for flaw in flaws), MANIFEST}
    return flaws + [Flaw(name, "isn't named by the manifest") for name in files_in(folder) if name not in known]
