"""Personal data at rest: names, account numbers and what payers wrote, sealed by keys that are not in the database.

AES-256-GCM; each sealed value names its key, so that keys can be rotated, and is bound to its book, table and row, so
that it can't be moved to another. Who must find equal values without reading them compares keyed hashes (HMAC-SHA-256).
Nothing here logs, and no error repeats what was sealed.

    personal.key: one key a line, `<key id> <64 hex digits>`; the last one seals, all of them open.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from base.errors import BrokenInvariant, ConfigError
from base.files import write_atomically
from fiat.errors import PersonalKeyMissing

KEY_NAME = "personal.key"

KEY_BYTES = 32
"""AES-256."""

_ID_BYTES = 4
_NONCE_BYTES = 12
"""GCM's own size (NIST SP 800-38D); drawn at random, so one key is for at most 2^32 values."""

_FORM = b"\x01"
"""The first byte of a sealed value: form 1 is id, nonce, then ciphertext with its tag."""

Personal = Mapping[str, str]
"""What is sealed together: field -> text."""


class Vault:
    """Seals and opens. Made of keys by their ids, in the order in which they were made: the newest seals."""

    def __init__(self, keys: Mapping[bytes, bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ConfigError("personal data needs at least one key, each of 32 bytes", code="personal_key_malformed")
        self._ciphers = {id: AESGCM(key) for id, key in keys.items()}
        self._lookup_keys = {id: hmac.digest(key, b"onebook personal lookup", "sha256") for id, key in keys.items()}
        self._newest = next(reversed(list(keys)))

    @property
    def newest(self) -> str:
        """The id of the key that seals now, as hex."""
        return self._newest.hex()

    @property
    def head(self) -> bytes:
        """The first bytes of every value that the newest key sealed."""
        return _FORM + self._newest

    def seal(self, personal: Personal, *, book: str, table: str, row: str) -> bytes:
        """`personal`, sealed for this row alone. Empty texts aren't kept."""
        plain = msgspec.json.encode({name: text for name, text in personal.items() if text})
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, plain, _place(book, table, row))
        return _FORM + self._newest + nonce + sealed

    def open(self, sealed: bytes, *, book: str, table: str, row: str) -> dict[str, str]:
        """What was sealed for this row. Raises PersonalKeyMissing; BrokenInvariant where it was altered or moved."""
        from cryptography.exceptions import InvalidTag

        id = key_of(sealed)
        if id not in self._ciphers:
            raise PersonalKeyMissing(
                f"personal data was sealed by key {id.hex()}, which isn't in the key file: put that file back",
                key=id.hex(),
            )
        start = len(_FORM) + _ID_BYTES
        nonce, secret = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            plain = self._ciphers[id].decrypt(nonce, secret, _place(book, table, row))
        except InvalidTag:
            raise BrokenInvariant(
                f"the personal data of {table} {row} was altered, or belongs to another row"
            ) from None
        opened: dict[str, str] = json.loads(plain)
        return opened

    def mark(self, text: str) -> str:
        """The keyed hash of `text`, by which an equal one is found: the newest key's id and 64 hex digits."""
        return _mark(self._newest, self._lookup_keys[self._newest], text)

    def digests(self, content: bytes) -> tuple[bytes, ...]:
        """Keyed hashes of what a request held, so that nobody can guess its personal data from what the book keeps.

        The first is the newest key's, which is kept; a request from before a rotation was kept by another's.
        """
        keys = reversed(self._lookup_keys.values())
        return tuple(hmac.digest(key, content, "sha256") for key in keys)


class NoVault(Vault):
    """Stands where there are no bank accounts, so nothing personal; whoever uses it hears what is missing."""

    def __init__(self, why: str) -> None:
        self._why = why

    @property
    def newest(self) -> str:
        raise PersonalKeyMissing(self._why)

    def seal(self, personal: Personal, *, book: str, table: str, row: str) -> bytes:
        raise PersonalKeyMissing(self._why)

    def open(self, sealed: bytes, *, book: str, table: str, row: str) -> dict[str, str]:
        raise PersonalKeyMissing(self._why)

    @property
    def head(self) -> bytes:
        raise PersonalKeyMissing(self._why)

    def mark(self, text: str) -> str:
        raise PersonalKeyMissing(self._why)

    def digests(self, content: bytes) -> tuple[bytes, ...]:
        raise PersonalKeyMissing(self._why)


def key_of(sealed: bytes) -> bytes:
    """The id of the key that sealed it. Raises BrokenInvariant for what isn't sealed in a known form."""
    if not sealed.startswith(_FORM) or len(sealed) < len(_FORM) + _ID_BYTES + _NONCE_BYTES + 16:
        raise BrokenInvariant("a sealed value isn't in a form that this version knows")
    return sealed[len(_FORM) : len(_FORM) + _ID_BYTES]


# The key file


def make_key_file(path: Path) -> None:
    """A file with a first key, for its owner alone. Raises ConfigError where there is one: it's never written over."""
    if path.exists():
        raise ConfigError(f"{path} exists: a key file is never written over", code="key_exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _line(secrets.token_bytes(KEY_BYTES)).encode(), mode=0o600)


def add_key(path: Path) -> str:
    """Add a key that seals from now on, and return its id. Values sealed before are opened by the older ones."""
    text = path.read_text(encoding="ascii")
    parse_keys(text, path.name)
    line = _line(secrets.token_bytes(KEY_BYTES))
    write_atomically(path, (text.rstrip("\n") + "\n" + line).encode(), mode=0o600)
    return line.split()[0]


def drop_keys_but(path: Path, newest: str) -> int:
    """Leave only the key with this id, once nothing is sealed by another; how many went."""
    lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    kept = [line for line in lines if line.split()[0] == newest]
    write_atomically(path, ("\n".join(kept) + "\n").encode(), mode=0o600)
    return len(lines) - len(kept)


def load_vault(path: Path, *, given: str | None = None) -> Vault:
    """The vault of a key file, or of the same text `given` by a variable. Raises PersonalKeyMissing, ConfigError."""
    if given is not None:
        return Vault(parse_keys(given, "ONEBOOK_PERSONAL_KEYS"))
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise PersonalKeyMissing(
            f"there is no {path}, which opens the personal data in this database: put it back from its backup;"
            " for a database that has none yet, `onebook bank new-key` makes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as a key file", code="personal_key_malformed") from error
    return Vault(parse_keys(text, path.name))


def parse_keys(text: str, name: str) -> dict[bytes, bytes]:
    """Keys by id, in the file's order. Raises ConfigError, which names the line and never repeats it."""
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            told, secret = line.split()
            id, key = bytes.fromhex(told), bytes.fromhex(secret)
        except ValueError:
            id, key = b"", b""
        if len(key) != KEY_BYTES or id != _id_of(key):
            raise ConfigError(
                f"{name}, line {number}: not a key and its id as `onebook bank new-key` writes them",
                code="personal_key_malformed",
            )
        keys[id] = key
    if not keys:
        raise ConfigError(f"{name} holds no key", code="personal_key_malformed")
    return keys


def _line(key: bytes) -> str:
    return f"{_id_of(key).hex()} {key.hex()}\n"


def _id_of(key: bytes) -> bytes:
    """Four bytes that tell keys apart and a mistyped one."""
    return hashlib.sha256(b"onebook personal key id" + key).digest()[:_ID_BYTES]


def _mark(id: bytes, key: bytes, text: str) -> str:
    return f"{id.hex()}:{hmac.digest(key, text.encode(), 'sha256').hex()}"


def _place(book: str, table: str, row: str) -> bytes:
    return json.dumps([book, table, row]).encode()
