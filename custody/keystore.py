"""One role's secret in one encrypted file and its copy: Argon2id -> AES-256-GCM, the whole header authenticated.

The secret is the BIP-39 entropy, so that a backup in words can be shown again. A file is written once and never
repaired or made anew by itself: when the main file fails, the copy is used and the caller is told. Instead of a key
stretched from a passphrase, a PKCS#11 token's AES key can wrap the secret (custody.pkcs11). Not here: asking for the
passphrase, slowing down guesses (passphrases), what is done to all files (keyring).

Generations: `deposit.key` is the first secret of its role, `deposit.2.key` the one after a rotation, and so on; both
open, and the fingerprint tells them apart. An address is named (role, generation, index): the same index is another
address in each.

Layout: magic (16 bytes), header length (2 bytes, big-endian), header (deterministic CBOR), ciphertext with its tag.
Everything before the ciphertext is associated data. Version 1 had no generation and no language: 1 and English.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import cbor2
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from base.entropy import Entropy
from base.files import write_atomically
from custody.derivation import AccountKeys, Role, fingerprint
from custody.errors import KeyFileExists, KeyFileLocked, KeyFileMissing, KeyFileUnsafe
from custody.rolekeys import HdKeys
from custody.seeds import Language, seed_from_entropy

LOCKED: Final = "a key file doesn't open: wrong passphrase, or damaged together with its copy"
"""The one text for everything that doesn't open, so that it tells an attacker nothing."""

GENERATIONS_MAX: Final = 99

_MAGIC = b"onebook key file"
_VERSION = 2
_KEY_BYTES = 32
_SALT_BYTES = 16
_NONCE_BYTES = 12
"""96 bits, as NIST SP 800-38D recommends for GCM; a file's key is fresh by its salt, so a random one can't repeat."""
_FILE_BYTES_MAX = 4096
"""A key file is about 300 bytes; anything longer isn't one."""
_NAME = re.compile(rf"({'|'.join(Role)})(?:\.([2-9]|[1-9][0-9]))?\.key(?:\.copy)?")


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one guess at the passphrase costs (RFC 9106)."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def within_bounds(self) -> bool:
        """Whether this is a cost that we'd write; read from a damaged header it could ask for all memory."""
        return 8 * self.lanes <= self.memory_kib <= 4 * 1024 * 1024 and 1 <= self.passes <= 64 and 1 <= self.lanes <= 16

    def weaker_than(self, other: "Argon2Cost") -> bool:
        """Whether a guess costs less here: less memory, or fewer passes over it."""
        return self.memory_kib < other.memory_kib or self.passes < other.passes


@dataclass(frozen=True, slots=True)
class KeyFileHeader:
    """What a key file says openly about itself. `token_key` is the label of the token's key that wraps the secret,
    where one does; then there is no cost and no salt.
    """

    role: Role
    fingerprint: bytes
    cost: Argon2Cost | None
    salt: bytes
    nonce: bytes
    generation: int = 1
    language: Language = Language.ENGLISH
    token_key: str | None = None
    version: int = _VERSION

    def encode(self) -> bytes:
        """The associated data: magic, length and header."""
        told: dict[str, object] = {
            "version": self.version,
            "role": self.role.value,
            "fingerprint": self.fingerprint,
            "cipher": "aes-256-gcm",
            "nonce": self.nonce,
        }
        if self.version >= 2:
            told |= {"generation": self.generation, "language": self.language.value}
        if self.cost is not None:
            told |= {"kdf": "argon2id", "salt": self.salt, "memory_kib": self.cost.memory_kib}
            told |= {"passes": self.cost.passes, "lanes": self.cost.lanes}
        else:
            told |= {"kdf": "pkcs11", "token_key": self.token_key}
        body = cbor2.dumps(told, canonical=True)
        return _MAGIC + len(body).to_bytes(2, "big") + body

    @property
    def weak(self) -> bool:
        """Whether guessing its passphrase costs less than that of new files; `onebook keys passphrase` raises it."""
        return self.cost is not None and self.cost.weaker_than(Argon2Cost())


class Wrap(Protocol):
    """What turns a secret into a file's ciphertext and back: a passphrase or a token."""

    def header(
        self, role: Role, mark: bytes, *, generation: int, language: Language, entropy: Entropy
    ) -> KeyFileHeader:
        """A new file's header, with what this wrap needs to open it again."""
        ...

    def seal(self, header: KeyFileHeader, secret: bytes) -> bytes:
        """The ciphertext, authenticated together with the header."""
        ...

    def open(self, header: KeyFileHeader, sealed: bytes) -> bytes | None:
        """The secret, or None when it doesn't open: a wrong passphrase, another token, altered bytes."""
        ...


@dataclass(frozen=True, slots=True)
class PassphraseWrap:
    """AES-256-GCM under a key that Argon2id stretches from a passphrase."""

    passphrase: bytes = field(repr=False)
    cost: Argon2Cost = field(default_factory=Argon2Cost)

    def header(
        self, role: Role, mark: bytes, *, generation: int, language: Language, entropy: Entropy
    ) -> KeyFileHeader:
        salt, nonce = entropy.draw(_SALT_BYTES), entropy.draw(_NONCE_BYTES)
        return KeyFileHeader(role, mark, self.cost, salt, nonce, generation, language)

    def seal(self, header: KeyFileHeader, secret: bytes) -> bytes:
        assert header.cost is not None
        return AESGCM(self._stretch(header, header.cost)).encrypt(header.nonce, secret, header.encode())

    def open(self, header: KeyFileHeader, sealed: bytes) -> bytes | None:
        if header.cost is None:
            return None
        try:
            return AESGCM(self._stretch(header, header.cost)).decrypt(header.nonce, sealed, header.encode())
        except InvalidTag:
            return None

    def _stretch(self, header: KeyFileHeader, cost: Argon2Cost) -> bytes:
        return hash_secret_raw(
            secret=self.passphrase,
            salt=header.salt,
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=_KEY_BYTES,
            type=Type.ID,
        )


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A role's secret, out of its file. `failed` is the main file when the copy had to be used; `weak` says that its
    passphrase is cheaper to guess than today's files' (`onebook keys passphrase` raises the cost).
    """

    role: Role
    fingerprint: bytes
    secret: bytes = field(repr=False)
    failed: Path | None = None
    generation: int = 1
    language: Language = Language.ENGLISH
    weak: bool = False

    def account(self) -> AccountKeys:
        """The keys derived from the secret."""
        return AccountKeys(self.role, seed_from_entropy(self.secret, self.language))

    def keys(self) -> HdKeys:
        """The same, as the signer uses them."""
        return HdKeys(self.account(), generation=self.generation)


def key_path(folder: Path, role: Role, generation: int = 1) -> Path:
    """Where a role's key file lies in the keys' folder."""
    return folder / (f"{role.value}.key" if generation == 1 else f"{role.value}.{generation}.key")


def copy_path(path: Path) -> Path:
    """Where the second copy of a key file lies."""
    return path.with_name(path.name + ".copy")


def present(folder: Path) -> list[tuple[Role, int]]:
    """The (role, generation) of every key of which the file or its copy is in the folder, in order."""
    names = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    found = {(Role(match[1]), int(match[2] or 1)) for match in names if match is not None}
    return sorted(found, key=lambda key: (list(Role).index(key[0]), key[1]))


def create(
    folder: Path,
    role: Role,
    secret: bytes,
    *,
    passphrase: bytes,
    entropy: Entropy,
    cost: Argon2Cost | None = None,
    generation: int = 1,
    language: Language = Language.ENGLISH,
) -> KeyFileHeader:
    """Write a role's key file and its copy. Raises KeyFileExists when either is there already."""
    wrap = PassphraseWrap(passphrase, cost or Argon2Cost())
    return create_wrapped(folder, role, secret, wrap=wrap, entropy=entropy, generation=generation, language=language)


def create_wrapped(
    folder: Path,
    role: Role,
    secret: bytes,
    *,
    wrap: Wrap,
    entropy: Entropy,
    generation: int = 1,
    language: Language = Language.ENGLISH,
) -> KeyFileHeader:
    """The same, wrapped by whatever is given. Raises KeyFileExists when file or copy is there already."""
    path = refuse_taken(folder, role, generation)
    mark = fingerprint(AccountKeys(role, seed_from_entropy(secret, language)).xpub)
    header = wrap.header(role, mark, generation=generation, language=language, entropy=entropy)
    sealed = header.encode() + wrap.seal(header, secret)
    write_atomically(path, sealed)
    write_atomically(copy_path(path), sealed)
    return header


def refuse_taken(folder: Path, role: Role, generation: int = 1) -> Path:
    """Where a new key file would lie. Raises KeyFileExists when it or its copy is there already."""
    path = key_path(folder, role, generation)
    for taken in (path, copy_path(path)):
        if taken.exists():
            raise KeyFileExists(f"{taken} exists: a key file is never written over; move it away yourself")
    return path


def open_key(folder: Path, role: Role, *, passphrase: bytes, generation: int = 1) -> OpenedKey:
    """A role's secret: from the main file, else from the copy.

    Raises KeyFileMissing when there is neither, KeyFileUnsafe when others may read one of them, and KeyFileLocked,
    always with the same message, when no file opens.
    """
    return open_wrapped(folder, role, wrap=PassphraseWrap(passphrase), generation=generation)


def open_wrapped(folder: Path, role: Role, *, wrap: Wrap, generation: int = 1) -> OpenedKey:
    """The same, whatever wraps the secret."""
    path = key_path(folder, role, generation)
    candidates = [candidate for candidate in (path, copy_path(path)) if candidate.exists()]
    if not candidates:
        raise KeyFileMissing(f"no {role.value} key: {path} is missing, and so is its copy; restore one or the mnemonic")
    for candidate in candidates:
        _refuse_unsafe(candidate)
    for candidate in candidates:
        split = _split(candidate.read_bytes())
        if split is None or (split[0].role, split[0].generation) != (role, generation):
            continue
        header, sealed = split
        secret = wrap.open(header, sealed)
        if secret is not None:
            failed = None if candidate == path else path
            return OpenedKey(role, header.fingerprint, secret, failed, generation, header.language, header.weak)
    raise KeyFileLocked(LOCKED)


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


def _split(content: bytes) -> tuple[KeyFileHeader, bytes] | None:
    """Header and ciphertext of a key file, or None when it isn't exactly one."""
    start = len(_MAGIC) + 2
    if len(content) > _FILE_BYTES_MAX or len(content) < start or not content.startswith(_MAGIC):
        return None
    end = start + int.from_bytes(content[len(_MAGIC) : start], "big")
    try:
        told = cbor2.loads(content[start:end], max_depth=2, allow_indefinite=False, allow_duplicate_keys=False)
        header = _header(told)
        exact = header.encode() == content[:end]  # so that no header means the same as another
    except (cbor2.CBORError, KeyError, TypeError, ValueError):
        return None
    by_passphrase = header.cost is not None and header.cost.within_bounds() and len(header.salt) == _SALT_BYTES
    right = exact and len(header.nonce) == _NONCE_BYTES and (by_passphrase or isinstance(header.token_key, str))
    return (header, content[end:]) if right else None


def _header(told: dict[str, object]) -> KeyFileHeader:
    """The header that a CBOR map means, exactly typed. Raises KeyError, TypeError, ValueError."""
    by_passphrase = told["kdf"] == "argon2id"
    version, generation = _whole(told["version"]), _whole(told.get("generation", 1))
    if version not in (1, _VERSION) or not 1 <= generation <= GENERATIONS_MAX:
        raise ValueError("a version or generation that we don't write")
    return KeyFileHeader(
        role=Role(str(told["role"])),
        fingerprint=_bytes(told["fingerprint"]),
        cost=Argon2Cost(*(_whole(told[name]) for name in ("memory_kib", "passes", "lanes"))) if by_passphrase else None,
        salt=_bytes(told["salt"]) if by_passphrase else b"",
        nonce=_bytes(told["nonce"]),
        generation=generation,
        language=Language(str(told.get("language", Language.ENGLISH.value))),
        token_key=None if by_passphrase else str(told["token_key"]),
        version=version,
    )


def _whole(told: object) -> int:
    if type(told) is not int:
        raise TypeError("not a whole number")
    return told


def _bytes(told: object) -> bytes:
    if not isinstance(told, bytes):
        raise TypeError("not bytes")
    return told
