"""Seals: signed statements of what a stretch of the book says, made to be kept where the database isn't.

A seal covers the next contiguous stretch of commands by the root of the Merkle tree over their leaves, and names the
hash of the seal before it; so the newest seal speaks for all of the book up to its last command. Here are the values,
the signature, and the files that they travel in; nothing here reaches a database (`ledger.sealing` does).
"""

import hashlib
import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from base.errors import ConfigError
from base.files import write_atomically
from base.nesting import is_nested_within
from ledger.canonical import dump, instant_text
from ledger.errors import ProofInvalid

FORMAT = "onebook-seal-1"
"""Begins every statement's meaning: nothing else that the key might ever sign can pass for a seal."""

DOCUMENT_BYTES_MAX = 10_000
"""A seal's file is under a kilobyte; anything longer isn't one."""

_LEVELS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a seal states. `root` is over the leaves from `first_seq` to `last_seq`, both included (RFC 9162);
    `previous` is the hash of the statement before it, None for the first.
    """

    book: str
    number: int
    first_seq: int
    last_seq: int
    root: bytes
    previous: bytes | None
    sealed_at: datetime

    @property
    def size(self) -> int:
        """Commands under the seal."""
        return self.last_seq - self.first_seq + 1

    def statement(self) -> bytes:
        """The very bytes that are signed: canonical JSON."""
        return dump(self.terms())

    def digest(self) -> bytes:
        """What the next seal names as the one before it."""
        return hashlib.sha256(self.statement()).digest()

    def terms(self) -> dict[str, object]:
        """The statement as plain JSON."""
        return {
            "format": FORMAT,
            "book": self.book,
            "number": self.number,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "root": self.root.hex(),
            "previous": None if self.previous is None else self.previous.hex(),
            "sealed_at": instant_text(self.sealed_at),
        }


@dataclass(frozen=True, slots=True)
class SignedSeal:
    """A seal with the Ed25519 signature (RFC 8032) over its statement and the public key that made it, 32 bytes."""

    seal: Seal
    signature: bytes
    key: bytes

    def check(self, trusted: Collection[bytes] = ()) -> None:
        """Raise ProofInvalid unless its key is one of `trusted` (none given: any) and the signature is that key's."""
        if trusted and self.key not in trusted:
            raise ProofInvalid(
                f"seal {self.seal.number} is signed by another key than the trusted one", code="key_not_trusted"
            )
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(self.signature, self.seal.statement())
        except (InvalidSignature, ValueError) as error:
            raise ProofInvalid(
                f"the signature of seal {self.seal.number} isn't one of its statement", code="signature_invalid"
            ) from error

    def document(self) -> dict[str, object]:
        """The seal as plain JSON, as its file says it."""
        return {"statement": self.seal.terms(), "signature": self.signature.hex(), "key": self.key.hex()}


def seal_of_terms(told: Any) -> Seal:
    """The seal that a statement's plain JSON means. Raises ProofInvalid for anything that isn't exactly one."""
    try:
        previous = told["previous"]
        seal = Seal(
            book=told["book"],
            number=told["number"],
            first_seq=told["first_seq"],
            last_seq=told["last_seq"],
            root=bytes.fromhex(told["root"]),
            previous=None if previous is None else bytes.fromhex(previous),
            sealed_at=datetime.fromisoformat(told["sealed_at"]).astimezone(UTC),
        )
        exact = seal.terms() == told and seal.size > 0 and len(seal.root) == 32
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProofInvalid("the seal's statement can't be read", code="seal_malformed") from error
    if not exact:
        raise ProofInvalid("the seal's statement isn't one of this format", code="seal_malformed")
    return seal


def seal_of_document(told: Any) -> SignedSeal:
    """The signed seal that a file's JSON means; its signature isn't checked yet. Raises ProofInvalid."""
    try:
        signature, key = bytes.fromhex(told["signature"]), bytes.fromhex(told["key"])
        terms = told["statement"]
    except (KeyError, TypeError, ValueError) as error:
        raise ProofInvalid("this isn't a seal: a statement, a signature and a key", code="seal_malformed") from error
    return SignedSeal(seal_of_terms(terms), signature, key)


# Files


def seals_folder(folder: Path, book: str) -> Path:
    """Where a book's seals lie."""
    return folder / quote(book, safe="")


def seal_path(folder: Path, book: str, number: int) -> Path:
    """Where a seal's file lies."""
    return seals_folder(folder, book) / f"{number:08d}.json"


def write_seal(folder: Path, signed: SignedSeal) -> Path:
    """Write a seal's file, whole or not at all."""
    path = seal_path(folder, signed.seal.book, signed.seal.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(signed.document(), indent=2) + "\n"
    write_atomically(path, text.encode(), mode=0o644)
    return path


def read_seal(path: Path) -> SignedSeal:
    """The signed seal in a file; its signature isn't checked yet. Raises ConfigError and ProofInvalid."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    try:
        if len(content) > DOCUMENT_BYTES_MAX or not is_nested_within(content, _LEVELS_MAX):
            raise ValueError
        return seal_of_document(json.loads(content))
    except ValueError as error:
        raise ProofInvalid(f"{path} isn't a seal", code="seal_malformed") from error


def seal_numbers(folder: Path, book: str) -> list[int]:
    """The numbers of the seals in a folder, in order."""
    place = seals_folder(folder, book)
    names = [path.stem for path in place.glob("*.json")] if place.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


# Keys


class SealKey:
    """The installation's key for seals. It signs statements of seals, and no other bytes."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, seal: Seal) -> SignedSeal:
        """The seal with our signature. Ed25519 is deterministic: the same seal gives the same bytes."""
        return SignedSeal(seal, self._private.sign(seal.statement()), self.public)


KEY_NAME = "seal.key"
"""The private key's file: PEM (PKCS #8), mode 0600. The worker reads it unattended."""

PUBLIC_NAME = "seal.pem"
"""The public key's file beside the seals: PEM."""


def make_seal_key(path: Path) -> SealKey:
    """A new key, written to `path`. Raises ConfigError when there is a file already: a key is never written over."""
    if path.exists():
        raise ConfigError(f"{path} exists: a key file is never written over", code="key_exists")
    private = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return SealKey(private)


def load_seal_key(path: Path) -> SealKey:
    """The key in a file. Raises ConfigError when it's missing, readable by others, or no Ed25519 key."""
    try:
        status, content = path.stat(), path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the key for seals can't be read from {path} ({error.strerror}); `onebook init` makes one, and so does"
            f" `openssl genpkey -algorithm ed25519 -out {path}`",
            code="no_seal_key",
        ) from error
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} can be read by others than its owner: chmod 600 {path}", code="key_unsafe")
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} isn't a private key in PEM", code="key_malformed") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path} isn't an Ed25519 key", code="key_malformed")
    return SealKey(private)


def public_pem(key: bytes) -> bytes:
    """A public key as PEM, for `openssl` and other programs."""
    public = Ed25519PublicKey.from_public_bytes(key)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def parse_public_key(told: str) -> bytes:
    """A public key given as 64 hex digits, or as the name of a PEM file. Raises ConfigError."""
    try:
        if len(key := bytes.fromhex(told)) == 32:
            return key
    except ValueError:
        pass
    path = Path(told)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{told} is neither a public key of 64 hex digits nor a file that can be read") from error
    try:
        public = load_pem_public_key(content)
    except ValueError as error:
        raise ConfigError(f"{told} isn't a public key in PEM", code="key_malformed") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(f"{told} isn't an Ed25519 key", code="key_malformed")
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
