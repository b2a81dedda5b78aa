"""Where keys are: a folder of key files, or a PKCS#11 token and a folder beside it. The signer asks either alike.

    with Guard(folder).attempt():                                  # counts a wrong passphrase or PIN
        store = open_store(folder, passphrase, warn=warn)
        keys = {role: store.find(role, mark) for role, mark in fingerprints.items()}

Not here: making and destroying keys (ceremony, keyring, pkcs11), telling what is there without opening it (keyring).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from custody import keyring, keystore
from custody.derivation import Role
from custody.errors import KeyFileMissing
from custody.keystore import PassphraseWrap, Wrap
from custody.rolekeys import RoleKeys

if TYPE_CHECKING:
    from custody.pkcs11 import Token

Warn = Callable[[str], None]


class KeyStore(Protocol):
    """Every generation of every role's keys, opened by one passphrase or PIN."""

    def open(self, role: Role) -> list[RoleKeys]:
        """A role's keys, oldest generation first: new addresses come from the last, all of them can pay and sweep.

        Raises KeyFileMissing, KeyFileUnsafe, KeyFileLocked (one constant text), TokenRefused, TokenUnavailable.
        """
        ...

    def find(self, role: Role, fingerprint: bytes) -> RoleKeys:
        """The keys of that fingerprint alone, of whichever generation. Raises like `open`."""
        ...

    def close(self) -> None:
        """Log out of a token; files need nothing. Keys in a token sign no more after this."""
        ...


@dataclass(frozen=True, slots=True)
class FileStore:
    """Key files under a passphrase."""

    folder: Path
    passphrase: bytes = field(repr=False)
    warn: Warn = lambda _: None

    def open(self, role: Role) -> list[RoleKeys]:
        found = keyring.generations(self.folder, role)
        if not found:
            raise KeyFileMissing(
                f"no {role.value} key in {self.folder}: restore its file, or its backup by `keys import`"
            )
        return [_opened(self.folder, role, each, PassphraseWrap(self.passphrase), self.warn) for each in found]

    def find(self, role: Role, fingerprint: bytes) -> RoleKeys:
        generation = keyring.generation_of(self.folder, role, fingerprint)
        return _opened(self.folder, role, generation, PassphraseWrap(self.passphrase), self.warn)

    def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Hot and gas keys in a token, and the key files that its AES key wraps."""

    token: Token
    folder: Path
    warn: Warn = lambda _: None

    def open(self, role: Role) -> list[RoleKeys]:
        found: list[RoleKeys] = [self.token.keys(held, each) for held, each in self.token.present() if held is role]
        for each in keyring.generations(self.folder, role):
            found.append(_opened(self.folder, role, each, self.token.wrap(), self.warn))
        if not found:
            raise KeyFileMissing(
                f"no {role.value} key in the token nor in {self.folder}: `onebook keys ceremony` makes one"
            )
        return sorted(found, key=lambda keys: keys.generation)

    def find(self, role: Role, fingerprint: bytes) -> RoleKeys:
        for held, generation in self.token.present():
            if held is role:
                keys = self.token.keys(held, generation)
                if keys.fingerprint == fingerprint:
                    return keys
        generation = keyring.generation_of(self.folder, role, fingerprint)
        return _opened(self.folder, role, generation, self.token.wrap(), self.warn)

    def close(self) -> None:
        self.token.close()


def open_store(
    folder: Path, secret: bytes, *, module: Path | None = None, token: str | None = None, warn: Warn = lambda _: None
) -> KeyStore:
    """The store of an installation: with a PKCS#11 module and a token's label the token, else the files.

    `secret` is the PIN or passphrase. A wrong PIN raises KeyFileLocked here, a wrong passphrase when a key is opened.
    """
    if module is None or token is None:
        return FileStore(folder, secret, warn)
    from custody.pkcs11 import Token  # here, so that who has no token loads nothing for it

    return TokenStore(Token.open(module, token, secret), folder, warn)


def _opened(folder: Path, role: Role, generation: int, wrap: Wrap, warn: Warn) -> RoleKeys:
    key = keystore.open_wrapped(folder, role, wrap=wrap, generation=generation)
    if key.failed is not None:
        warn(f"{key.failed} is damaged or missing; the copy opened. Check the disk, then restore it from the copy")
    if key.weak:
        warn(f"the {role.value} key's passphrase is cheaper to guess than new ones: `onebook keys passphrase` helps")
    return key.keys()
