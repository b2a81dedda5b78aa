"""The monthly fee of accounts: the worker walks through all users once a month, however often it's begun anew.

Due is who was a user when the month (UTC) began, in the tier that they had then; so a user's first, begun month is
free. A month in which no worker ran isn't caught up with.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from db.engine import tx
from ledger.commands import Group
from ledger.engine import Ledger
from tariff import account_fee_entries as entries
from tariff import store
from tariff.limits import month_began, month_of
from tariff.schedule import AccountFee, Tariff

PAGE = 500
"""Users looked at in one step."""


class Person(Protocol):
    """A user, as far as a fee needs them."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


class People(Protocol):
    """Knows all users. Identity implements it."""

    async def users(self, *, before: str | None = None, after: str | None = None, limit: int = 50) -> Sequence[Person]:
        """With `after` (an id): the next made after it, oldest first."""
        ...


class AccountFees:
    """Takes what accounts cost."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, tariff: Tariff, people: People, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._tariff = tariff
        self._people = people
        self._clock = clock
        self._month = ""
        self._after: str | None = ""

    async def step(self) -> int:
        """Take the month's fee of the next users; how many were looked at. 0 once all were, until the month is over."""
        now = self._clock.now()
        if month_of(now) != self._month:  # also where a clock was put back: what was taken before isn't taken again
            self._month, self._after = month_of(now), ""
        if self._after is None:
            return 0
        people = await self._people.users(after=self._after, limit=PAGE)
        began = month_began(now)
        await self._take([person.id for person in people if person.created_at < began], began)
        self._after = people[-1].id if people and people[-1].created_at < began else None
        return len(people)

    async def _take(self, owners: Sequence[str], began: datetime) -> None:
        month = month_of(began)
        known = {outcome.id for outcome in await self._ledger.outcomes(*(entries.command_id(o, month) for o in owners))}
        owners = [owner for owner in owners if entries.command_id(owner, month) not in known]
        async with tx(self._engine) as connection:
            tiers = await store.load_tiers_at(connection, self._ledger.book, owners, began)
        posts = [
            entries.account_fee(owner, month, tier, fee)
            for owner in owners
            for tier in (tiers.get(owner, self._tariff.default_tier),)
            if (fee := self._fee(tier)) is not None
        ]
        if posts:
            await self._ledger.ensure_open(*dict.fromkeys(side for post in posts for side in entries.accounts(post)))
            await self._ledger.submit(*(Group((post,)) for post in posts))

    def _fee(self, tier: str) -> AccountFee | None:
        """None also for a tier that the tariff doesn't have any more."""
        return self._tariff.tiers[tier].account_fee if tier in self._tariff.tiers else None
