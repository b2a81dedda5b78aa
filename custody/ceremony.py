"""Making keys, offline, before the signer's first start.

Not here: showing the words to people (cli), telling a journal which keys and policy it serves (enrolment).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from base.entropy import Entropy
from custody import keystore
from custody.derivation import AccountKeys, Role, fingerprint
from custody.errors import KeyFileExists
from custody.keystore import Argon2Cost
from custody.seeds import create_entropy, entropy_from_words, seed_from_entropy, words_from_entropy


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """What a ceremony gives for one role. `words` is the only backup: shown once, never stored or logged."""

    role: Role
    xpub: str
    fingerprint: bytes
    words: str = field(repr=False)


def create_keys(
    folder: Path,
    *,
    passphrase: bytes,
    entropy: Entropy,
    roles: Iterable[Role] = tuple(Role),
    words: int = 24,
    cost: Argon2Cost | None = None,
) -> dict[Role, CreatedKey]:
    """A separate new seed per role, in encrypted files under `folder` (made with mode 0700 if it isn't there).

    Raises KeyFileExists before anything is written when a role has a file already.
    """
    secrets = {role: create_entropy(entropy, words=words) for role in roles}
    return _store(folder, secrets, passphrase=passphrase, entropy=entropy, cost=cost)


def restore_keys(
    folder: Path,
    words: dict[Role, str],
    *,
    passphrase: bytes,
    entropy: Entropy,
    cost: Argon2Cost | None = None,
) -> dict[Role, CreatedKey]:
    """Key files from the backups in words: the same fingerprints and addresses. Raises MnemonicInvalid."""
    secrets = {role: entropy_from_words(text) for role, text in words.items()}
    return _store(folder, secrets, passphrase=passphrase, entropy=entropy, cost=cost)


def _store(
    folder: Path, secrets: dict[Role, bytes], *, passphrase: bytes, entropy: Entropy, cost: Argon2Cost | None
) -> dict[Role, CreatedKey]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in secrets:
        path = keystore.key_path(folder, role)
        if path.exists() or keystore.copy_path(path).exists():
            raise KeyFileExists(f"{path} exists: a key file is never written over; move it away yourself")
    created = {}
    for role, secret in secrets.items():
        keystore.create(folder, role, secret, passphrase=passphrase, entropy=entropy, cost=cost)
        xpub = AccountKeys(role, seed_from_entropy(secret)).xpub
        created[role] = CreatedKey(role, xpub, fingerprint(xpub), words_from_entropy(secret))
    return created
