"""Tiers of users: who is in which, read at most half a second ago; and who put them there, for good."""

import time
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from db.engine import Driver, tx
from db.errors import UniqueBroken
from db.gathering import Gathering
from tariff import store
from tariff.errors import TariffInvalid, TierChanged, TierReasonMissing, UnknownTier
from tariff.schedule import Tariff
from tariff.store import TierChange

MEMORY_SECONDS = 0.5
"""How long a process trusts what it read of a user's tier: the longest until another's change is seen here."""

MEMORY_MAX = 10_000
"""Users remembered at most."""

REASON_LENGTH_MAX = 500
"""Characters of a reason."""


class Tiers:
    """The tiers of one book's users."""

    def __init__(self, engine: AsyncEngine, *, book: str, tariff: Tariff, clock: Clock) -> None:
        self._engine = engine
        self._book = book
        self._tariff = tariff
        self._clock = clock
        self._read: dict[str, tuple[str, float]] = {}  # until when it's trusted, by the monotonic clock in seconds
        self._asking = Gathering(engine, self._load)

    async def of(self, owner: str) -> str:
        """The tier of a user (an id), of the tariff. Raises TariffInvalid for one that the tariff hasn't."""
        if len(self._tariff.tiers) == 1:
            return self._tariff.default_tier
        tier, until = self._read.get(owner, ("", 0.0))  # seconds
        if time.monotonic() >= until:
            asked = time.monotonic()
            tier = await self._asking.ask(owner) or self._tariff.default_tier
            if len(self._read) >= MEMORY_MAX:
                self._read.clear()
            self._read[owner] = (tier, asked + MEMORY_SECONDS)
        if tier not in self._tariff.tiers:
            raise vanished({tier: 1})
        return tier

    async def change(self, owner: str, *, to: str, reason: str, by: str) -> list[TierChange]:
        """Put a user (an id) into a tier: at once here, within MEMORY_SECONDS in other processes. Their history.

        Into the one that they're in: no change. Raises UnknownTier, TierReasonMissing, TierChanged.
        """
        if to not in self._tariff.tiers:
            known = ", ".join(self._tariff.tiers)
            raise UnknownTier(
                f"there is no tier {to[:40]!r}; there is {known}", param="tier", known=list(self._tariff.tiers)
            )
        said = " ".join(reason.split())
        if not said or len(said) > REASON_LENGTH_MAX or not said.isprintable():
            raise TierReasonMissing(
                f"say why, in 1 to {REASON_LENGTH_MAX} printable characters: it's kept with the change", param="reason"
            )
        history = await self.history(owner)
        before = history[0].to_tier if history else self._tariff.default_tier
        if before == to:
            return history
        change = TierChange(owner, len(history) + 1, before, to, said, by, self._clock.now())
        try:
            async with tx(self._engine) as connection:
                await store.add_change(connection, self._book, change)
        except UniqueBroken as error:
            raise TierChanged(
                "somebody else changed this user's tier just now; look at it, and decide again"
            ) from error
        finally:
            self._read.pop(owner, None)
        return [change, *history]

    async def history(self, owner: str) -> list[TierChange]:
        """Who put the user into which tier, newest first; nothing for one who was always in the default tier."""
        async with tx(self._engine) as connection:
            return await store.load_changes(connection, self._book, owner)

    async def require_known(self) -> None:
        """Raise TariffInvalid if users are in tiers that the tariff hasn't any more."""
        async with tx(self._engine) as connection:
            counts = await store.count_tiers(connection, self._book)
        if lost := {tier: count for tier, count in counts.items() if tier not in self._tariff.tiers}:
            raise vanished(lost)

    async def _load(self, driver: Driver, owners: Sequence[str]) -> dict[str, str]:
        return await store.find_tiers(driver, self._book, owners)

    async def aclose(self) -> None:
        """Let connections go."""
        await self._asking.aclose()


def vanished(lost: dict[str, int]) -> TariffInvalid:
    """The error for tiers that the tariff lost while users are in them."""
    told = ", ".join(f"{tier} ({count} user{'s' if count > 1 else ''})" for tier, count in sorted(lost.items()))
    return TariffInvalid(
        f"users are in tiers that the tariff hasn't: {told}; write these tiers back, or put the users into others",
        code="tier_vanished",
    )
