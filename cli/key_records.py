"""What is recorded of keys openly: the file of public things that a ceremony writes, and what drills compare with."""

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.errors import ConfigError
from base.files import write_atomically
from custody import keyring
from custody.ceremony import PublicKey
from custody.derivation import Role, checksummed
from custody.errors import KeyFileMissing
from custody.intents import keys_name
from custody.passphrases import Guard
from custody.rolekeys import RoleKeys, address_source
from custody.stores import open_store


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a key; `addresses` is empty where only its fingerprint is. `source` says where from."""

    source: Path
    fingerprint: bytes
    addresses: tuple[str, ...] = ()

    def differences(self, found: PublicKey) -> list[str]:
        """What disagrees between the record and a key that was found, as sentences."""
        told = []
        if found.fingerprint != self.fingerprint:
            told.append(f"fingerprint {found.fingerprint.hex()}, recorded {self.fingerprint.hex()}")
        for index, (address, known) in enumerate(zip(found.addresses, self.addresses, strict=False)):
            if address != known:
                told.append(f"address {index}: {address}, recorded {known}")
        return told


def write(path: Path, keys: Sequence[PublicKey]) -> None:
    """Write the file of public things: JSON, readable by all."""
    document = {
        "keys": [
            {
                "role": key.role.value,
                "generation": key.generation,
                "fingerprint": key.fingerprint.hex(),
                "public": key.public,
                "language": key.language.value,
                "addresses": key.addresses,
            }
            for key in keys
        ]
    }
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode(), mode=0o644)


def recorded(path: Path | None, keys: Path, role: Role, generation: int) -> Recorded:
    """What is recorded of a key: in the file of public things, an onebook.toml's [xpubs], else its key file.

    Raises ConfigError when the file doesn't say it, KeyFileMissing when there is no key file either.
    """
    if path is None:
        for key in keyring.list_keys(keys):
            if (key.role, key.generation) == (role, generation) and key.header is not None:
                return Recorded(keys, key.header.fingerprint)
        raise KeyFileMissing(
            f"no {role.value} key of generation {generation} in {keys} to compare with: name a record with --recorded"
        )
    try:
        text = path.read_text(encoding="utf-8")
        told = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        if path.suffix == ".toml":
            return _of_public(path, str(told["xpubs"][keys_name(role, generation)]))
        entry = _entry(told, role, generation)
        addresses = tuple(str(address) for address in entry["addresses"])
        return Recorded(path, bytes.fromhex(str(entry["fingerprint"])), addresses)
    except OSError as problem:
        raise ConfigError(f"{path} can't be read: {problem.strerror}") from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise ConfigError(
            f"{path} records no {role.value} key of generation {generation}: name the file that the ceremony wrote"
        ) from problem


def rows_of_files(keys: Path) -> list[dict[str, Any]]:
    """The key files of a folder, for `keys list`."""
    return [_row(key) for key in keyring.list_keys(keys)]


def rows_of_token(keys: Path, module: Path, label: str, pin: bytes) -> list[dict[str, Any]]:
    """The keys inside a token, for `keys list`."""
    from custody.pkcs11 import Token  # here, so that who has no token loads nothing for it

    with Guard(keys).attempt():
        token = Token.open(module, label, pin)
    with token:
        held = [public_of(token.keys(role, generation)) for role, generation in token.present()]
    return [
        {
            "role": key.role.value,
            "generation": key.generation,
            "fingerprint": key.fingerprint.hex(),
            "language": None,
            "cost": f"in token {label}",
            "problem": None,
        }
        for key in held
    ]


def with_addresses(
    rows: list[dict[str, Any]],
    keys: Path,
    secret: bytes,
    roles: Sequence[Role],
    module: Path | None,
    token: str | None,
    warn: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The rows with the first address of each key, after opening all of them. Raises like the store."""
    with Guard(keys).attempt():
        store = open_store(keys, secret, module=module, token=token, warn=warn)
        try:
            opened = {(each.role.value, each.generation): each for role in roles for each in store.open(role)}
        finally:
            store.close()
    addresses = {name: checksummed(each.address(0)) for name, each in opened.items()}
    return [row | {"address": addresses[row["role"], row["generation"]]} for row in rows]


def public_of(keys: RoleKeys) -> PublicKey:
    """What may be known of opened keys."""
    return PublicKey(keys.role, keys.generation, keys.public, keys.fingerprint)


def _row(key: keyring.ListedKey) -> dict[str, Any]:
    header = key.header
    cost = None
    if header is not None and header.cost is not None:
        cost = f"argon2id {header.cost.memory_kib // 1024} MiB x {header.cost.passes}"
    elif header is not None:
        cost = f"token key {header.token_key!r}"
    return {
        "role": key.role.value,
        "generation": key.generation,
        "fingerprint": None if header is None else header.fingerprint.hex(),
        "language": None if header is None else header.language.value,
        "cost": cost,
        "problem": key.problem,
    }


def _of_public(path: Path, public: str) -> Recorded:
    source = address_source(public)
    addresses = tuple(source.checksummed(index) for index in range(1 if public.startswith("secp256k1:") else 5))
    return Recorded(path, source.fingerprint, addresses)


def _entry(told: Any, role: Role, generation: int) -> dict[str, Any]:
    for entry in told["keys"]:
        if (entry["role"], entry["generation"]) == (role.value, generation):
            return dict(entry)
    raise KeyError(role.value)
