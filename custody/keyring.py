"""What is done to the key files of a folder as a whole: list, rotate, change the passphrase, destroy.

Each leaves the folder usable at every instant: new files are written beside the old ones, then renamed one by one.

Not here: asking people (cli), making the first keys (ceremony), one file (keystore).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.entropy import Entropy
from base.files import sync_folder, write_atomically
from custody import keystore
from custody.derivation import Role
from custody.errors import FingerprintDiffers, KeyFileExists, KeyFileLocked, KeyFileMissing, KeyNeeded
from custody.keystore import (
    GENERATIONS_MAX,
    Argon2Cost,
    KeyFileHeader,
    OpenedKey,
    PassphraseWrap,
    Wrap,
    copy_path,
    key_path,
)

FINGERPRINT_DIGITS_MIN: Final = 16
"""Hex digits that people must type of a fingerprint: 64 bits are enough to tell keys apart."""

_NEW: Final = ".new"
"""Ends the name of a file that is going to replace the one beside it."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as its files tell openly; `header` is None where both are damaged. `problem` says what to do."""

    role: Role
    generation: int
    header: KeyFileHeader | None
    problem: str | None


def list_keys(folder: Path) -> list[ListedKey]:
    """Every key of the folder, by headers alone: nothing is authenticated and no passphrase is needed."""
    return [_listed(folder, role, generation) for role, generation in keystore.present(folder)]


def generation_of(folder: Path, role: Role, fingerprint: bytes) -> int:
    """The generation of a role's key with that fingerprint, by the headers. Raises KeyFileMissing."""
    for generation in generations(folder, role):
        header = _listed(folder, role, generation).header
        if header is not None and header.fingerprint == fingerprint:
            return generation
    raise KeyFileMissing(
        f"no {role.value} key in {folder} has the fingerprint {fingerprint.hex()[:FINGERPRINT_DIGITS_MIN]}...: "
        "restore its file, or its backup with `onebook keys import`"
    )


def generations(folder: Path, role: Role) -> list[int]:
    """The generations of a role that are in the folder, rising."""
    return [generation for found, generation in keystore.present(folder) if found is role]


def next_generation(folder: Path, role: Role, *, wrap: Wrap) -> int:
    """The generation that a rotation makes. The newest key is opened first, so that all have one passphrase or token.

    Raises KeyFileMissing when there is nothing to rotate, KeyFileLocked.
    """
    there = generations(folder, role)
    if not there:
        raise KeyFileMissing(f"no {role.value} key in {folder} to rotate: make one with `onebook keys ceremony`")
    keystore.open_wrapped(folder, role, wrap=wrap, generation=there[-1])
    if there[-1] == GENERATIONS_MAX:
        raise KeyFileExists(f"{GENERATIONS_MAX} generations are the most; destroy what is empty and begin a new folder")
    return there[-1] + 1


def change_passphrase(
    folder: Path,
    *,
    old: bytes,
    new: bytes,
    entropy: Entropy,
    cost: Argon2Cost | None = None,
    report: Report = lambda _: None,
) -> list[KeyFileHeader]:
    """Encrypt every key file anew, under `new` and at today's cost; the same passphrase twice only raises the cost.

    First all are opened, so that a wrong passphrase changes nothing; then each new file is written beside its old one;
    only when all are on disk are they renamed, one by one. Killed anywhere, every key still opens by `old` or by `new`;
    done again with the same two, it goes on where it stopped. Files that a token wraps have no passphrase and stay.
    `report` is told each step. Raises KeyFileLocked, KeyFileUnsafe, KeyFileMissing when there is nothing.
    """
    keys = [key for key in list_keys(folder) if key.header is None or key.header.token_key is None]
    if not keys:
        raise KeyFileMissing(f"no key file in {folder} has a passphrase")
    opened = [_open_by_either(folder, key, old, new) for key in keys]
    _remove_drafts(folder)
    wrap = PassphraseWrap(new, cost or Argon2Cost())
    headers = [_write_beside(folder, key, wrap, entropy, report) for key in opened]
    for key in opened:
        path = key_path(folder, key.role, key.generation)
        for target in (path, copy_path(path)):
            target.with_name(target.name + _NEW).replace(target)
            sync_folder(folder)
            report(f"replaced {target.name}")
    return headers


def destroy(
    folder: Path, role: Role, generation: int, *, typed: str, entropy: Entropy, force: bool = False
) -> list[Path]:
    """Overwrite and unlink a key's file and copy; what was removed. For good: only a backup brings the key back.

    `typed` is its fingerprint as a person typed it. Raises FingerprintDiffers when it's another, KeyNeeded when it is
    the role's only key and not forced, KeyFileMissing, KeyFileLocked when neither file says which key it is.
    """
    listed = _listed(folder, role, generation)
    path = key_path(folder, role, generation)
    if not path.exists() and not copy_path(path).exists():
        raise KeyFileMissing(f"there is no {path}, nor its copy")
    if listed.header is None:
        raise KeyFileLocked(f"{path} and its copy are damaged and don't say which key they are: remove them by hand")
    compare_fingerprint(typed, listed.header.fingerprint)
    if generations(folder, role) == [generation] and not force:
        raise KeyNeeded(f"this is the only {role.value} key: whatever lies at its addresses would be out of reach")
    removed = [each for each in (path, copy_path(path)) if each.exists()]
    for each in removed:
        _overwrite(each, entropy)
        each.unlink()
    sync_folder(folder)
    return removed


def compare_fingerprint(typed: str, expected: bytes) -> None:
    """Hold what a person typed of a fingerprint, at least 16 hex digits, against it. Raises FingerprintDiffers."""
    digits = "".join(typed.split()).lower().removeprefix("0x")
    if len(digits) < FINGERPRINT_DIGITS_MIN:
        raise FingerprintDiffers(f"type at least the first {FINGERPRINT_DIGITS_MIN} hex digits of the fingerprint")
    if not expected.hex().startswith(digits):
        raise FingerprintDiffers(
            f"that isn't the fingerprint of this key, which begins with {expected.hex()[:FINGERPRINT_DIGITS_MIN]}; "
            "nothing was done"
        )


def _listed(folder: Path, role: Role, generation: int) -> ListedKey:
    path = key_path(folder, role, generation)
    headers = [_header_or_none(each) for each in (path, copy_path(path))]
    header = headers[0] or headers[1]
    named = header is None or (header.role, header.generation) == (role, generation)
    problem = None
    if header is None:
        problem = "damaged, and so is its copy: restore it from its backup"
    elif not named:
        problem = "of another role or generation than its name says: give it its own name back"
    elif headers[0] is None:
        problem = f"{path.name} is missing or damaged: check the disk, then restore it from its copy"
    elif headers[1] is None:
        problem = f"{copy_path(path).name} is missing or damaged: check the disk, then copy the key file there"
    elif headers[0] != headers[1]:
        problem = "key file and copy differ: an interrupted change of passphrase; do `onebook keys passphrase` again"
    elif header.weak:
        problem = "its passphrase is cheaper to guess than today's files': `onebook keys passphrase` raises the cost"
    return ListedKey(role, generation, header, problem)


def _header_or_none(path: Path) -> KeyFileHeader | None:
    try:
        return keystore.read_header(path)
    except (FileNotFoundError, KeyFileLocked):
        return None


def _open_by_either(folder: Path, key: ListedKey, old: bytes, new: bytes) -> OpenedKey:
    try:
        return keystore.open_key(folder, key.role, passphrase=old, generation=key.generation)
    except KeyFileLocked:
        if old == new:
            raise
        return keystore.open_key(folder, key.role, passphrase=new, generation=key.generation)


def _write_beside(
    folder: Path, key: OpenedKey, wrap: PassphraseWrap, entropy: Entropy, report: Report
) -> KeyFileHeader:
    """The key under another passphrase, beside its file and its copy, and opened once from there."""
    header = wrap.header(key.role, key.fingerprint, generation=key.generation, language=key.language, entropy=entropy)
    sealed = wrap.seal(header, key.secret)
    if wrap.open(header, sealed) != key.secret:
        raise AssertionError("a key file that was just encrypted doesn't open")
    path = key_path(folder, key.role, key.generation)
    for target in (path, copy_path(path)):
        beside = target.with_name(target.name + _NEW)
        write_atomically(beside, header.encode() + sealed)
        report(f"wrote {beside.name}")
    return header


def _remove_drafts(folder: Path) -> None:
    """What an interrupted change of passphrase left; each of these was only ever a second spelling of a file."""
    for role, generation in keystore.present(folder):
        path = key_path(folder, role, generation)
        for name in (path.name, copy_path(path).name):
            (folder / (name + _NEW)).unlink(missing_ok=True)
            for draft in folder.glob(f".{name}*.draft"):
                draft.unlink(missing_ok=True)


def _overwrite(path: Path, entropy: Entropy) -> None:
    with _writable(path) as descriptor:
        os.pwrite(descriptor, entropy.draw(path.stat().st_size), 0)
        os.fsync(descriptor)


@contextmanager
def _writable(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
