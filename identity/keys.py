"""API keys: how a secret is made, checked and hashed, and what is remembered of it. Pure.

A secret is `ob_live_` + 52 base32 characters (256 random bits) + 7 that check them. The check lets a typing error be
refused without asking the database, and lets a scanner tell a leaked key from noise. What is stored is the SHA-256 of
the secret: a slow hash defends guessable passwords, and 256 random bits can't be guessed.
"""

import base64
import hashlib
import re
import zlib
from dataclasses import dataclass
from datetime import datetime

from base.entropy import Entropy
from identity.errors import KeyExpired, KeyRevoked, ScopeMissing, WrongKey
from identity.scopes import Scope

PREFIX = "ob_live"
"""Begins the secrets of an ordinary book. A test book has another, so that its keys can't be taken for real ones."""

SECRET_BYTES = 32
"""Random bytes in a secret: 256 bits."""

RATE_PER_MINUTE = 1200
"""Requests a minute that a key may make, unless it was given another limit."""

RATE_PER_MINUTE_MAX = 100_000
LABEL_LENGTH_MAX = 100

_FORM = re.compile(r"([a-z0-9_]{1,20})_([a-z2-7]{52})([a-z2-7]{7})", re.ASCII)
_HINT_LENGTH = 4


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key once its secret has been shown. `hint` is the secret's end, to tell keys apart.

    `person`: whose a key of the house is. It never changes: what was proposed with a key was proposed by that person.
    """

    id: str
    user_id: str | None
    label: str
    hint: str
    scopes: frozenset[Scope]
    rate_per_minute: int
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    person: str | None = None

    @property
    def acts_as(self) -> str:
        """Who acts, as far as anybody knows: the person, else the user, else the key."""
        return self.person or self.user_id or self.id


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `secret` exists here and nowhere else: it isn't stored and can't be shown again."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: a key and what it may do. `user_id` is None for a key of the house, whose is `person`'s."""

    key_id: str
    user_id: str | None
    scopes: frozenset[Scope]
    rate_per_minute: int
    person: str | None = None

    @property
    def acts_as(self) -> str:
        """Who acts: what needs two people compares these. A key of nobody's counts as a person of its own."""
        return self.person or self.owner

    @property
    def owner(self) -> str:
        """In whose name idempotency keys are remembered: the user's, whichever key they use; else the key's."""
        return self.user_id or self.key_id

    def require(self, scope: Scope) -> None:
        """Raises ScopeMissing unless the key has this scope."""
        if scope not in self.scopes:
            raise ScopeMissing(
                f"this key lacks the scope {scope}; ask an operator for a key that has it",
                needed=str(scope),
                granted=sorted(self.scopes),
            )


def make_secret(entropy: Entropy, prefix: str = PREFIX) -> str:
    """A fresh secret that begins with `prefix`."""
    body = _base32(entropy.draw(SECRET_BYTES))
    return f"{prefix}_{body}{_check(prefix, body)}"


def secret_hash(secret: str, prefix: str = PREFIX) -> bytes:
    """What is stored of a secret. Raises WrongKey for text that can't be one: another prefix, a typing error."""
    found = _FORM.fullmatch(secret)
    if found is None or found.group(3) != _check(found.group(1), found.group(2)):
        raise WrongKey("this is not an API key: it is incomplete or mistyped")
    if found.group(1) != prefix:
        raise WrongKey(f"this key is for another book: keys of this one begin with {prefix}_")
    return plain_hash(secret)


def plain_hash(text: str) -> bytes:
    """What `secret_hash` gives for a secret, and for any other text something that no key has."""
    return hashlib.sha256(text.encode()).digest()


def hint_of(secret: str) -> str:
    """The secret's last characters, 20 bits of its check: 236 unknown bits remain."""
    return secret[-_HINT_LENGTH:]


def principal_of(key: ApiKey, now: datetime) -> Principal:
    """Whom `key` stands for at `now`. Raises KeyRevoked and KeyExpired."""
    if key.revoked_at is not None:
        raise KeyRevoked("this key was revoked; ask an operator for another", revoked_at=key.revoked_at.isoformat())
    if key.expires_at is not None and now >= key.expires_at:
        raise KeyExpired("this key has expired; ask an operator for another", expired_at=key.expires_at.isoformat())
    return Principal(
        key_id=key.id,
        user_id=key.user_id,
        scopes=key.scopes,
        rate_per_minute=key.rate_per_minute,
        person=key.person,
    )


def _check(prefix: str, body: str) -> str:
    """CRC-32 of prefix and body: 32 bits, seven base32 characters."""
    return _base32(zlib.crc32(f"{prefix}_{body}".encode("ascii")).to_bytes(4, "big"))


def _base32(octets: bytes) -> str:
    return base64.b32encode(octets).decode("ascii").rstrip("=").lower()
