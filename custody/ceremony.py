"""Making keys, offline, before the signer's first start: drawn in memory, shown and written down, only then stored.

Not here: showing the words to people (cli), telling a journal which keys and policy it serves (enrolment).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from base.entropy import Entropy
from custody import keystore
from custody.derivation import AccountKeys, Role
from custody.keystore import Argon2Cost, KeyFileHeader, PassphraseWrap, Wrap
from custody.rolekeys import HdKeys, RoleKeys, address_source
from custody.seeds import Language, create_entropy, read_words, seed_from_entropy, words_from_entropy

SHOWN_ADDRESSES = 5
"""First addresses of a role that a drill compares."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """What a ceremony gives for one role. `words` is the only backup: shown once, never stored or logged."""

    role: Role
    xpub: str
    fingerprint: bytes
    words: str = field(repr=False)

    def keys(self) -> HdKeys:
        """The keys themselves, to begin a journal with."""
        return HdKeys(AccountKeys(self.role, seed_from_entropy(*read_words(self.words))))


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What may be known of a role's key: nothing here can spend. `public` is an xpub, or a single key's public key."""

    role: Role
    generation: int
    public: str
    fingerprint: bytes
    language: Language = Language.ENGLISH

    @property
    def addresses(self) -> list[str]:
        """The first addresses, in EIP-55 spelling; the only one of a key in a token."""
        source = address_source(self.public)
        shown = 1 if self.public.startswith("secp256k1:") else SHOWN_ADDRESSES
        return [source.checksummed(index) for index in range(shown)]


@dataclass(frozen=True, slots=True)
class DrawnKey:
    """A role's secret that is nowhere but here yet."""

    role: Role
    secret: bytes = field(repr=False)
    language: Language = Language.ENGLISH
    generation: int = 1

    @property
    def words(self) -> str:
        """Its mnemonic, in its own language."""
        return words_from_entropy(self.secret, self.language)

    def public(self) -> PublicKey:
        """What may be known of it."""
        xpub = AccountKeys(self.role, seed_from_entropy(self.secret, self.language)).xpub
        return PublicKey(self.role, self.generation, xpub, address_source(xpub).fingerprint, self.language)


def draw_keys(entropy: Entropy, roles: Iterable[Role], *, words: int = 24, generation: int = 1) -> list[DrawnKey]:
    """A separate new secret per role, stored nowhere yet."""
    return [DrawnKey(role, create_entropy(entropy, words=words), generation=generation) for role in roles]


def store_keys(folder: Path, keys: Sequence[DrawnKey], *, wrap: Wrap, entropy: Entropy) -> list[KeyFileHeader]:
    """Write drawn keys into files under `folder` (made with mode 0700 if it isn't there).

    Raises KeyFileExists before anything is written when one of them has a file already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in keys:
        keystore.refuse_taken(folder, key.role, key.generation)
    return [
        keystore.create_wrapped(
            folder,
            key.role,
            key.secret,
            wrap=wrap,
            entropy=entropy,
            generation=key.generation,
            language=key.language,
        )
        for key in keys
    ]


def keys_of(created: Mapping[Role, CreatedKey]) -> dict[str, RoleKeys]:
    """Created keys by name, as a journal is begun with them."""
    return {role.value: key.keys() for role, key in created.items()}


def create_keys(
    folder: Path,
    *,
    passphrase: bytes,
    entropy: Entropy,
    roles: Iterable[Role] = tuple(Role),
    words: int = 24,
    cost: Argon2Cost | None = None,
) -> dict[Role, CreatedKey]:
    """A separate new seed per role, in encrypted files under `folder`; for an installation whose words are shown after.

    Raises KeyFileExists before anything is written when a role has a file already.
    """
    drawn = draw_keys(entropy, roles, words=words)
    return _store(folder, drawn, passphrase=passphrase, entropy=entropy, cost=cost)


def restore_keys(
    folder: Path,
    words: dict[Role, str],
    *,
    passphrase: bytes,
    entropy: Entropy,
    cost: Argon2Cost | None = None,
) -> dict[Role, CreatedKey]:
    """Key files from the backups in words: the same fingerprints and addresses. Raises MnemonicInvalid."""
    drawn = [DrawnKey(role, *read_words(text)) for role, text in words.items()]
    return _store(folder, drawn, passphrase=passphrase, entropy=entropy, cost=cost)


def _store(
    folder: Path, drawn: Sequence[DrawnKey], *, passphrase: bytes, entropy: Entropy, cost: Argon2Cost | None
) -> dict[Role, CreatedKey]:
    store_keys(folder, drawn, wrap=PassphraseWrap(passphrase, cost or Argon2Cost()), entropy=entropy)
    shown = {key.role: (key, key.public()) for key in drawn}
    return {
        role: CreatedKey(role, public.public, public.fingerprint, key.words) for role, (key, public) in shown.items()
    }
