"""Makes users and keys, and tells from a secret who is asking. One `Identity` serves one book."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import is_id, new_id
from db.engine import Driver, tx
from db.errors import UniqueBroken
from db.gathering import Gathering
from identity import store
from identity.errors import (
    HandleTaken,
    InvalidHandle,
    InvalidKeyRequest,
    ScopeMissing,
    UnknownKey,
    UnknownUser,
    WrongKey,
)
from identity.keys import (
    LABEL_LENGTH_MAX,
    PREFIX,
    RATE_PER_MINUTE,
    RATE_PER_MINUTE_MAX,
    ApiKey,
    NewKey,
    Principal,
    hint_of,
    make_secret,
    plain_hash,
    principal_of,
    secret_hash,
)
from identity.people import ID_PREFIX, User, parse_handle, parse_name, parse_person
from identity.scopes import HOUSE_SCOPES, USER_SCOPES, Scope, parse_scopes

MEMORY_SECONDS = 2
"""How long a process trusts what it read of a key or a user: the longest until another's revocation is seen here."""

_MEMORY = timedelta(seconds=MEMORY_SECONDS)

MEMORY_MAX = 10_000
"""Keys, and users, remembered at most."""

USE_NOTED_SECONDS = 60
"""A key's last use is written at most this often."""

PAGE_MAX = 1000
"""Rows that one list call gives at most."""


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Identity:
    """The users and keys of one book. A key that isn't given a rate gets `rate_per_minute`."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        book: str,
        clock: Clock,
        entropy: Entropy,
        key_prefix: str = PREFIX,
        rate_per_minute: int = RATE_PER_MINUTE,
    ) -> None:
        self._engine = engine
        self._book = book
        self._clock = clock
        self._entropy = entropy
        self._prefix = key_prefix
        self._rate = rate_per_minute
        self._read: dict[bytes, tuple[ApiKey, datetime]] = {}
        self._noted: dict[str, datetime] = {}
        self._people: dict[str, tuple[User, datetime]] = {}
        self._named = Gathering(engine, self._load_people)
        self._held = Gathering(engine, self._load_held)
        self._uses = Gathering(engine, self._mark_used)

    async def aclose(self) -> None:
        """Finish what is being written down, and let connections go."""
        for gathering in (self._named, self._held, self._uses):
            await gathering.aclose()

    async def create_user(self, *, handle: str, name: str | None = None) -> User:
        """Make a user. Raises InvalidHandle, and HandleTaken if somebody has this handle in any case of letters."""
        parsed = parse_handle(handle)
        user = User(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            handle=parsed,
            name=parse_name(name or parsed),
            created_at=self._clock.now(),
        )
        try:
            async with tx(self._engine) as connection:
                await store.add_user(connection, self._book, user)
        except UniqueBroken as error:
            raise HandleTaken(f"the handle @{parsed} is taken; choose another", param="handle") from error
        return user

    async def user(self, who: str) -> User:
        """The user that `usr_...`, `@handle` or `handle` means. Raises UnknownUser."""
        found = await self._find(who)
        if found is None:
            raise UnknownUser(f"there is no user {who[:40]!r}", param="user")
        return found

    async def resolve(self, who: str) -> str:
        """The id of the user whom a payer named: this is the wallet's directory. Raises UnknownUser."""
        found = await self._find(who)
        if found is None:
            raise UnknownUser(
                f"nobody here is called {who[:40]!r}; write @handle or a user id",
                code="unknown_recipient",
                param="recipient",
            )
        return found.id

    async def resolve_all(self, named: Sequence[str]) -> dict[str, str]:
        """The ids of those of these users who are found, by how they were named; read together."""
        found = {who: self._remembered(who) for who in named}
        unknown = [who for who, user in found.items() if user is None]
        found |= dict(zip(unknown, await asyncio.gather(*map(self._find, unknown)), strict=True))
        return {who: user.id for who, user in found.items() if user is not None}

    async def users(self, *, before: str | None = None, after: str | None = None, limit: int = 50) -> list[User]:
        """Users, newest first (with `after`: the next made after it, oldest first)."""
        async with tx(self._engine) as connection:
            return await store.list_users(
                connection, self._book, before=before, after=after, limit=min(limit, PAGE_MAX)
            )

    async def create_key(
        self,
        *,
        label: str,
        scopes: Iterable[str],
        user: str | None = None,
        expires_at: datetime | None = None,
        rate_per_minute: int | None = None,
        person: str | None = None,
        granted_by: Principal | None = None,
    ) -> NewKey:
        """Make a key for a user (id or handle) or, without one, for the house. Its secret is in the answer only.

        A user's key carries user scopes, a key of the house the others, and may say whose it is (`person`).
        `granted_by` may grant of the house's scopes only what it has itself. Raises InvalidKeyRequest, UnknownUser,
        ScopeMissing.
        """
        asked = parse_scopes(scopes)
        rate = self._rate if rate_per_minute is None else rate_per_minute
        _check_terms(label, rate, expires_at, self._clock.now())
        _check_grant(asked, for_user=user is not None, granted_by=granted_by)
        if person is not None and user is not None:
            raise InvalidKeyRequest("a user's key is its user's: only keys of the house name a person", param="person")
        owner = None if user is None else await self.user(user)
        return await self._add_key(
            label=label,
            scopes=asked,
            user_id=owner.id if owner else None,
            expires_at=None if expires_at is None else expires_at.astimezone(UTC),
            rate_per_minute=rate,
            person=None if person is None else parse_person(person),
            created_by=granted_by.key_id if granted_by else None,
        )

    async def create_operator_key(self, *, label: str = "first operator") -> NewKey:
        """Make a key with every permission of the house: the one that an installation begins with."""
        return await self.create_key(label=label, scopes=[str(scope) for scope in HOUSE_SCOPES])

    async def staff_keys(self, person: str | None, *, scope: Scope) -> list[ApiKey]:
        """Keys of one of the house's people (None: of nobody) that may do this now, oldest first, at most PAGE_MAX."""
        async with tx(self._engine) as connection:
            return await store.find_staff_keys(
                connection, self._book, scope=scope, at=self._clock.now(), person=person, limit=PAGE_MAX
            )

    async def keys_that_may(self, *scopes: Scope) -> list[ApiKey]:
        """Keys that may do all of this now, whoever has them, oldest first, at most PAGE_MAX."""
        async with tx(self._engine) as connection:
            return await store.find_keys_that_may(
                connection, self._book, scopes=scopes, at=self._clock.now(), limit=PAGE_MAX
            )

    async def key(self, key_id: str) -> ApiKey:
        """The key with this id. Raises UnknownKey."""
        await self._uses.settled()
        async with tx(self._engine) as connection:
            found = await store.find_key(connection, self._book, key_id=key_id)
        if found is None:
            raise UnknownKey(f"there is no key {key_id[:40]!r}", param="key")
        return found

    async def keys(
        self, *, user: str | None = None, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[ApiKey]:
        """Keys, newest first, of one user or of all (with `after`: the next made after it, oldest first)."""
        owner = None if user is None else (await self.user(user)).id
        await self._uses.settled()
        async with tx(self._engine) as connection:
            return await store.list_keys(
                connection, self._book, user_id=owner, before=before, after=after, limit=min(limit, PAGE_MAX)
            )

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Take a key back: at once in this process, within MEMORY_SECONDS in others. Again: no change.

        Raises UnknownKey.
        """
        async with tx(self._engine) as connection:
            await store.mark_revoked(connection, self._book, key_id, self._clock.now())
        self._read.clear()
        return await self.key(key_id)

    async def authenticate(self, secret: str) -> Principal:
        """Who holds this secret. Raises WrongKey, KeyRevoked, KeyExpired."""
        now = self._clock.now()
        key = self._recent(plain_hash(secret), now)
        if key is None:
            key = await self._recall(secret_hash(secret, self._prefix), now)
        principal = principal_of(key, now)
        self._note_use(principal.key_id, now)
        return principal

    async def _find(self, who: str) -> User | None:
        """The user named, remembered for a moment: users are never removed."""
        name = _name_of(who)
        user = None if name is None else self._remembered(name)
        if name is None or user is not None:
            return user
        now = self._clock.now()
        user = await self._named.ask(name)
        if user is not None:
            if len(self._people) >= MEMORY_MAX:
                self._people.clear()
            self._people[name] = (user, now)
        return user

    def _remembered(self, name: str) -> User | None:
        """The user with this name, if they were read a moment ago."""
        user, read_at = self._people.get(name.removeprefix("@"), (None, _LONG_AGO))
        return user if abs(self._clock.now() - read_at) < _MEMORY else None

    def _recent(self, digest: bytes, now: datetime) -> ApiKey | None:
        """The key with this hash, if it was read a moment ago."""
        key, read_at = self._read.get(digest, (None, now))
        return key if abs(now - read_at) < _MEMORY else None

    async def _recall(self, digest: bytes, now: datetime) -> ApiKey:
        """The key with this hash, read anew. Unknown hashes aren't remembered."""
        key = await self._held.ask(digest)
        if key is None:
            raise WrongKey("this key is unknown here")
        if len(self._read) >= MEMORY_MAX:
            self._read.clear()
        self._read[digest] = (key, now)
        return key

    def _note_use(self, key_id: str, now: datetime) -> None:
        """Write down that a key is used, once in a while; nobody waits for that."""
        noted = self._noted.get(key_id)
        if noted is not None and abs(now - noted) < timedelta(seconds=USE_NOTED_SECONDS):
            return
        if len(self._noted) >= MEMORY_MAX:
            self._noted.clear()
        self._noted[key_id] = now
        self._uses.put((key_id, now))

    async def _load_people(self, driver: Driver, names: Sequence[str]) -> dict[str, User]:
        return await store.find_users(driver, self._book, names)

    async def _load_held(self, driver: Driver, hashes: Sequence[bytes]) -> dict[bytes, ApiKey]:
        return await store.find_keys(driver, self._book, hashes)

    async def _mark_used(
        self, driver: Driver, uses: Sequence[tuple[str, datetime]]
    ) -> dict[tuple[str, datetime], None]:
        await store.mark_used(driver, self._book, dict(uses))
        return {}

    async def _add_key(
        self,
        *,
        label: str,
        scopes: frozenset[Scope],
        user_id: str | None,
        expires_at: datetime | None,
        rate_per_minute: int,
        person: str | None,
        created_by: str | None,
    ) -> NewKey:
        secret = make_secret(self._entropy, self._prefix)
        key = ApiKey(
            id=new_id("key", self._clock, self._entropy),
            user_id=user_id,
            label=label,
            hint=hint_of(secret),
            scopes=scopes,
            rate_per_minute=rate_per_minute,
            created_at=self._clock.now(),
            created_by=created_by,
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
            person=person,
        )
        async with tx(self._engine) as connection:
            await store.add_key(connection, self._book, key, secret_hash(secret, self._prefix))
        return NewKey(key=key, secret=secret)


@lru_cache(MEMORY_MAX)
def _name_of(who: str) -> str | None:
    """The id or the handle that is meant, None if it can't be either."""
    try:
        return who if is_id(ID_PREFIX, who) else parse_handle(who)
    except InvalidHandle:
        return None


def _check_terms(label: str, rate_per_minute: int, expires_at: datetime | None, now: datetime) -> None:
    if not label.strip() or len(label) > LABEL_LENGTH_MAX or not label.isprintable():
        raise InvalidKeyRequest(f"a label is 1 to {LABEL_LENGTH_MAX} printable characters", param="label")
    if not 1 <= rate_per_minute <= RATE_PER_MINUTE_MAX:
        raise InvalidKeyRequest(
            f"a rate is 1 to {RATE_PER_MINUTE_MAX} requests a minute", param="rate_per_minute", given=rate_per_minute
        )
    if expires_at is not None and expires_at <= now:
        raise InvalidKeyRequest("a key can't expire in the past", param="expires_at", now=now.isoformat())


def _check_grant(scopes: frozenset[Scope], *, for_user: bool, granted_by: Principal | None) -> None:
    misplaced = scopes - (USER_SCOPES if for_user else HOUSE_SCOPES)
    if misplaced:
        sentence = (
            "a user's key can't carry scopes of the house"
            if for_user
            else "user scopes need a user: name the key's owner"
        )
        raise InvalidKeyRequest(sentence, param="scopes", misplaced=sorted(misplaced))
    if granted_by is not None and not for_user and (beyond := scopes - granted_by.scopes):
        raise ScopeMissing("a key can grant only the house's scopes that it has", missing=sorted(beyond))
