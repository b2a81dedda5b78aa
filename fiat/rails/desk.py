"""What all that follows providers' objects shares: the rails by name, the book, and when to look again."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import OnebookError
from fiat.personal import Vault
from fiat.rails.booking import FeeBearer
from fiat.rails.errors import NotCapable, RailMisconfigured, RateLimited, UnknownRail
from fiat.rails.protocol import CALL_SECONDS, Capability, Rail
from fiat.top_ups import BANK
from ledger.engine import Ledger
from tariff.desk import Desk as TariffDesk

LEASE = timedelta(seconds=3 * CALL_SECONDS)
"""How long nobody else takes up an object whose provider is being asked: longer than all calls of one look."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2, 3600
"""Between looks at an object that somebody else moves on: doubled each time, since a webhook tells it sooner."""

BATCH = 50
"""Objects that one step takes up."""


class Rails:
    """The payment providers that are configured, by name."""

    def __init__(self, rails: Iterable[Rail] = ()) -> None:
        self._rails: dict[str, Rail] = {}
        for rail in rails:
            if rail.name == BANK or rail.name in self._rails:
                raise RailMisconfigured(f"two rails are called {rail.name!r}, or it's the bank's name")
            self._rails[rail.name] = rail

    @property
    def all(self) -> Mapping[str, Rail]:
        return self._rails

    def named(self, names: Collection[str]) -> list[Rail]:
        """Those of these names, or all if none is named."""
        return [rail for name, rail in self._rails.items() if not names or name in names]

    def get(self, name: str) -> Rail:
        """The rail of this name. Raises UnknownRail, which names the known ones."""
        if name not in self._rails:
            known = ", ".join(sorted(self._rails)) or "none"
            raise UnknownRail(f"there is no rail {name[:40]!r}; there is {known}", param="rail")
        return self._rails[name]

    def able(self, name: str, *needed: Capability) -> Rail:
        """The rail of this name, if it can do this. Raises UnknownRail, NotCapable."""
        rail = self.get(name)
        for capability in needed:
            if capability not in rail.capabilities:
                raise NotCapable(
                    f"rail {name} doesn't do that: {capability}", param="rail", capability=capability.value
                )
        return rail


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One book's rails and what they're worked with.

    `vault` opens what is personal in bank lines. `bearer`: who pays the providers' fees. `accounts`: our configured
    bank accounts, by name, whose lines may be settlements' money. `tariff`: what top-ups cost and use up.
    `reached` is told of instants at which a process may be killed: `submitted` before the provider is asked,
    `answered` before that is written down.
    """

    engine: AsyncEngine
    ledger: Ledger
    rails: Rails
    vault: Vault
    clock: Clock
    entropy: Entropy
    bearer: FeeBearer = FeeBearer.HOUSE
    accounts: tuple[str, ...] = ()
    tariff: TariffDesk = field(default_factory=TariffDesk)
    reached: Callable[[str], None] = lambda _: None

    @property
    def book(self) -> str:
        return self.ledger.book

    def leased(self) -> datetime:
        """Until when an object is this process's own."""
        return self.clock.now() + LEASE

    def later(self, attempts: int, error: OnebookError | None = None) -> datetime:
        """When to look again after so many looks, or after this failure."""
        seconds = min(FIRST_WAIT_SECONDS << min(attempts, 20), LONGEST_WAIT_SECONDS)
        if isinstance(error, RateLimited) and error.retry_after is not None:
            seconds = max(seconds, error.retry_after)
        return self.clock.now() + timedelta(seconds=seconds)
