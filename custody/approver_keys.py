"""An approver's signing key in an encrypted file of its own: Ed25519 (RFC 8032), Argon2id -> AES-256-GCM. Pure but for
the file.

What the file says openly, its owner's name and public key, is authenticated with the rest. A file is written once and
never over another one. Not here: asking for the passphrase, and who may approve (the policy's people).

Layout: magic (20 bytes), header length (2 bytes, big-endian), header (deterministic CBOR), ciphertext with its tag.
Everything before the ciphertext is associated data.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cbor2
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from base.entropy import Entropy
from base.files import sync_folder
from custody.approvals import Person, Signature, sign_statement
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.keystore import Argon2Cost

SUFFIX: Final = ".approver"
"""How such a file's name ends, where nobody says otherwise."""

_MAGIC: Final = b"onebook approver key"
_VERSION: Final = 1
_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_FILE_BYTES_MAX: Final = 4096
_NAME_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class ApproverKeyHeader:
    """What an approver's key file says openly."""

    name: str
    public_key: bytes
    cost: Argon2Cost
    salt: bytes
    nonce: bytes

    @property
    def person(self) -> Person:
        """Its owner, as a policy names people."""
        return Person(self.name, self.public_key)

    def encode(self) -> bytes:
        """The associated data: magic, length and header."""
        body = cbor2.dumps(
            {
                "version": _VERSION,
                "name": self.name,
                "public_key": self.public_key,
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
class ApproverKey:
    """An opened key: signs statements, and prints nothing of itself."""

    person: Person
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, statement: bytes, *, name: str | None = None) -> Signature:
        """A signature under `statement`; `name` is what the policy calls this key's owner, if not as the file does."""
        return sign_statement(name or self.person.name, self._key, statement)


def create(
    path: Path, name: str, *, passphrase: bytes, entropy: Entropy, cost: Argon2Cost | None = None
) -> ApproverKeyHeader:
    """Write a new key of `name` to `path`, mode 0600. Raises KeyFileExists, KeyFileUnsafe for a name that isn't one."""
    if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
        raise KeyFileUnsafe(f"an approver's name has 1 to {_NAME_MAX} printable characters")
    secret = entropy.draw(_KEY_BYTES)
    public_key = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    header = ApproverKeyHeader(
        name, public_key, cost or Argon2Cost(), entropy.draw(_SALT_BYTES), entropy.draw(_NONCE_BYTES)
    )
    prefix = header.encode()
    sealed = prefix + AESGCM(_stretch(passphrase, header)).encrypt(header.nonce, secret, prefix)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as problem:
        raise KeyFileExists(f"{path} exists: a key file is never written over; move it away yourself") from problem
    except OSError as problem:
        raise KeyFileMissing(f"{path} can't be written: {problem.strerror}") from problem
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(sealed)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)
    return header


def read_header(path: Path) -> ApproverKeyHeader:
    """What a key file says openly; only opening it proves it. Raises KeyFileMissing, KeyFileLocked."""
    return _split(path)[0]


def open_key(path: Path, *, passphrase: bytes) -> ApproverKey:
    """The key in a file.

    Raises KeyFileMissing, KeyFileUnsafe when others may read it, KeyFileLocked for a wrong passphrase or damage.
    """
    header, sealed = _split(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileUnsafe(f"{path} can be read by others than its owner: chmod 600 {path}")
    try:
        secret = AESGCM(_stretch(passphrase, header)).decrypt(header.nonce, sealed, header.encode())
    except InvalidTag as problem:
        raise KeyFileLocked(f"{path} doesn't open: wrong passphrase, or damaged") from problem
    key = Ed25519PrivateKey.from_private_bytes(secret)
    assert key.public_key().public_bytes_raw() == header.public_key, "the header is authenticated"
    return ApproverKey(header.person, key)


def people_entry(person: Person) -> str:
    """The entry under which a policy names somebody."""
    name = person.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'[[people]]\nname = "{name}"\nkey = "{person.key.hex()}"\n'


def _split(path: Path) -> tuple[ApproverKeyHeader, bytes]:
    """Header and ciphertext."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise KeyFileMissing(f"{path} can't be read: {problem.strerror}") from problem
    start = len(_MAGIC) + 2
    end = start + int.from_bytes(content[len(_MAGIC) : start], "big")
    try:
        told = cbor2.loads(content[start:end], max_depth=2, allow_indefinite=False, allow_duplicate_keys=False)
        header = ApproverKeyHeader(
            told["name"],
            told["public_key"],
            Argon2Cost(memory_kib=told["memory_kib"], passes=told["passes"], lanes=told["lanes"]),
            told["salt"],
            told["nonce"],
        )
        exact = header.cost.within_bounds() and header.encode() == content[:end]
        sizes = (len(header.public_key), len(header.salt), len(header.nonce))
    except (cbor2.CBORError, KeyError, TypeError, ValueError):
        exact, sizes = False, (0, 0, 0)
    if len(content) > _FILE_BYTES_MAX or not exact or sizes != (_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES):
        raise KeyFileLocked(f"{path} isn't an approver's key file, or is damaged")
    return header, content[end:]


def _stretch(passphrase: bytes, header: ApproverKeyHeader) -> bytes:
    return hash_secret_raw(
        secret=passphrase,
        salt=header.salt,
        time_cost=header.cost.passes,
        memory_cost=header.cost.memory_kib,
        parallelism=header.cost.lanes,
        hash_len=_KEY_BYTES,
        type=Type.ID,
    )
