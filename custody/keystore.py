"""One role's secret in one encrypted file and its copy: Argon2id -> AES-256-GCM, the whole header authenticated.

The secret is the BIP-39 entropy, so that a backup in words can be shown again. A file is written once and never
repaired or made anew by itself: when the main file fails, the copy is used and the caller is told. Not here: asking
for the passphrase.

Layout: magic (16 bytes), header length (2 bytes, big-endian), header (deterministic CBOR), ciphertext with its tag.
Everything before the ciphertext is associated data.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import cbor2
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from base.entropy import Entropy
from base.files import write_atomically
from custody.derivation import AccountKeys, Role, fingerprint
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.seeds import seed_from_entropy

_MAGIC = b"onebook key file"
_VERSION = 1
_KEY_BYTES = 32
_SALT_BYTES = 16
_NONCE_BYTES = 12
"""96 bits, as NIST SP 800-38D recommends for GCM; a file's key is fresh by its salt, so a random one can't repeat."""
_FILE_BYTES_MAX = 4096
"""A key file is about 250 bytes; anything longer isn't one."""


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess at the passphrase costs (RFC 9106)."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def within_bounds(self) -> bool:
        """Whether this is a cost that we'd write; read from a damaged header it could ask for all memory."""
        return 8 * self.lanes <= self.memory_kib <= 4 * 1024 * 1024 and 1 <= self.passes <= 64 and 1 <= self.lanes <= 16


@dataclass(frozen=True, slots=True)
class KeyFileHeader:
    """What a key file says openly about itself."""

    role: Role
    fingerprint: bytes
    cost: Argon2Cost
    salt: bytes
    nonce: bytes

    def encode(self) -> bytes:
        """The associated data: magic, length and header."""
        body = cbor2.dumps(
            {
                "version": _VERSION,
                "role": self.role.value,
                "fingerprint": self.fingerprint,
                "kdf": "argon2id",
                "memory_kib": self.cost.memory_kib,
                "passes": self.cost.passes,
                "lanes": self.cost.lanes,
                "cipher": "aes-256-gcm",
                "salt": self.salt,
                "nonce": self.nonce,
            },
            canonical=True,
        )
        return _MAGIC + len(body).to_bytes(2, "big") + body


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A role's secret, out of its file. `failed` is the main file when the copy had to be used."""

    role: Role
    fingerprint: bytes
    secret: bytes = field(repr=False)
    failed: Path | None = None

    def account(self) -> AccountKeys:
        """The keys derived from the secret."""
        return AccountKeys(self.role, seed_from_entropy(self.secret))


def key_path(folder: Path, role: Role) -> Path:
    """Where a role's key file lies in the keys' folder."""
    return folder / f"{role.value}.key"


def copy_path(path: Path) -> Path:
    """Where the second copy of a key file lies."""
    return path.with_name(path.name + ".copy")


def create(
    folder: Path, role: Role, secret: bytes, *, passphrase: bytes, entropy: Entropy, cost: Argon2Cost | None = None
) -> KeyFileHeader:
    """Write a role's key file and its copy. Raises KeyFileExists when either is there already."""
    path = key_path(folder, role)
    for taken in (path, copy_path(path)):
        if taken.exists():
            raise KeyFileExists(f"{taken} exists: a key file is never written over; move it away yourself")
    header = KeyFileHeader(
        role=role,
        fingerprint=fingerprint(AccountKeys(role, seed_from_entropy(secret)).xpub),
        cost=cost or Argon2Cost(),
        salt=entropy.draw(_SALT_BYTES),
        nonce=entropy.draw(_NONCE_BYTES),
    )
    prefix = header.encode()
    sealed = prefix + AESGCM(_stretch(passphrase, header)).encrypt(header.nonce, secret, prefix)
    write_atomically(path, sealed)
    write_atomically(copy_path(path), sealed)
    return header


def open_key(folder: Path, role: Role, *, passphrase: bytes) -> OpenedKey:
    """A role's secret: from the main file, else from the copy.

    Raises KeyFileMissing when there is neither, KeyFileUnsafe when others may read one of them, and KeyFileLocked,
    always with the same message, when no file opens.
    """
    path = key_path(folder, role)
    present = [candidate for candidate in (path, copy_path(path)) if candidate.exists()]
    if not present:
        raise KeyFileMissing(f"no {role.value} key: {path} is missing, and so is its copy; restore one or the mnemonic")
    for candidate in present:
        _refuse_unsafe(candidate)
    for candidate in present:
        secret_of = _try_open(candidate, role, passphrase)
        if secret_of is not None:
            header, secret = secret_of
            return OpenedKey(role, header.fingerprint, secret, failed=None if candidate == path else path)
    raise KeyFileLocked("a key file doesn't open: wrong passphrase, or damaged together with its copy")


def read_header(path: Path) -> KeyFileHeader:
    """What a key file says openly; unauthenticated. Raises KeyFileLocked when it isn't a key file."""
    split = _split(path.read_bytes())
    if split is None:
        raise KeyFileLocked(f"{path} isn't a key file, or is damaged")
    return split[0]


def _refuse_unsafe(path: Path) -> None:
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileUnsafe(f"{path} can be read by others than its owner: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileUnsafe(f"{path} belongs to another user (uid {status.st_uid}): chown it to the signer's")


def _try_open(path: Path, role: Role, passphrase: bytes) -> tuple[KeyFileHeader, bytes] | None:
    content = path.read_bytes()
    split = _split(content)
    if split is None:
        return None
    header, sealed = split
    prefix = content[: len(content) - len(sealed)]
    try:
        secret = AESGCM(_stretch(passphrase, header)).decrypt(header.nonce, sealed, prefix)
    except InvalidTag:
        return None
    return (header, secret) if header.role is role else None


def _split(content: bytes) -> tuple[KeyFileHeader, bytes] | None:
    """Header and ciphertext of a key file, or None when it isn't exactly one."""
    start = len(_MAGIC) + 2
    if len(content) > _FILE_BYTES_MAX or len(content) < start or not content.startswith(_MAGIC):
        return None
    end = start + int.from_bytes(content[len(_MAGIC) : start], "big")
    try:
        told = cbor2.loads(content[start:end], max_depth=2, allow_indefinite=False, allow_duplicate_keys=False)
        header = KeyFileHeader(
            role=Role(told["role"]),
            fingerprint=told["fingerprint"],
            cost=Argon2Cost(memory_kib=told["memory_kib"], passes=told["passes"], lanes=told["lanes"]),
            salt=told["salt"],
            nonce=told["nonce"],
        )
        exact = header.cost.within_bounds() and header.encode() == content[:end]
    except (cbor2.CBORError, KeyError, TypeError, ValueError):
        return None
    right_sizes = exact and (len(header.salt), len(header.nonce)) == (_SALT_BYTES, _NONCE_BYTES)
    return (header, content[end:]) if right_sizes else None


def _stretch(passphrase: bytes, header: KeyFileHeader) -> bytes:
    return hash_secret_raw(
        secret=passphrase,
        salt=header.salt,
        time_cost=header.cost.passes,
        memory_cost=header.cost.memory_kib,
        parallelism=header.cost.lanes,
        hash_len=_KEY_BYTES,
        type=Type.ID,
    )
