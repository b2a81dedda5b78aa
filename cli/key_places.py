"""Where a command finds the signer's keys: a folder of key files, and a PKCS#11 token beside it or none.

Both come from options, else from the configuration. One passphrase, or the token's PIN, opens all of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.asking import ask_for, refuse_half_a_token
from cli.policies import keys_path
from custody.intents import keys_named
from custody.passphrases import Guard
from custody.rolekeys import RoleKeys
from custody.stores import open_store
from wiring.settings import Settings

Pkcs11Module = Annotated[
    Path | None,
    typer.Option("--pkcs11-module", help="PKCS#11 library of a token with keys; else the configured, if any."),
]
Pkcs11Token = Annotated[
    str | None, typer.Option("--pkcs11-token", help="Label of that token; its PIN is asked for, not a passphrase.")
]


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """A folder of key files; `pkcs11` is the module and label of the token beside it, None if all keys are files."""

    folder: Path
    pkcs11: tuple[Path, str] | None

    def ask(self, descriptor: int | None) -> bytes:
        """The passphrase or PIN: from `descriptor`, else asked at the terminal. Raises ConfigError."""
        return ask_for("the keys" if self.pkcs11 is None else f"the token {self.pkcs11[1]!r} (its PIN)", descriptor)

    @contextmanager
    def opened(self, fingerprints: Mapping[str, bytes], secret: bytes) -> Iterator[dict[str, RoleKeys]]:
        """The keys of these names and fingerprints; those in a token sign as long as this lasts.

        Raises KeyFileMissing, KeyFileLocked (a wrong passphrase or PIN, which is counted), TokenRefused,
        TokenUnavailable.
        """
        module, token = self.pkcs11 or (None, None)
        with Guard(self.folder).attempt():
            store = open_store(self.folder, secret, module=module, token=token)
            held = {name: store.find(keys_named(name)[0], mark) for name, mark in fingerprints.items()}
        try:
            yield held
        finally:
            store.close()


def key_place(keys: Path | None, module: Path | None, token: str | None, settings: Settings | None) -> KeyPlace:
    """Where the keys are: by the options, else by the configuration. Raises ConfigError."""
    refuse_half_a_token(module, token)
    configured = None if settings is None else settings.pkcs11
    return KeyPlace(keys_path(keys, settings), (module, token) if module and token else configured)
