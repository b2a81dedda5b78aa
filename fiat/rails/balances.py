"""What each provider says that it owes us, and what stands against comparing that with the book now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from base.errors import OnebookError
from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import Desk
from fiat.rails.protocol import Balance, Capability, Rail


@dataclass(frozen=True, slots=True, kw_only=True)
class RailStanding:
    """One rail's balances by asset, in signed smallest units: positive is owed to us.

    `unjudged`: why they can't be compared now; None: they can. `leaving`: by asset, how many payouts the provider may
    have taken out of its balance and not ended, so that the book has more.
    """

    rail: str
    balances: dict[str, int]
    leaving: dict[str, int]
    unjudged: str | None = None


class RailBalances:
    """Asks every rail that tells a balance."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def rail_balances(self) -> Sequence[RailStanding]:
        """One after the other; a provider that doesn't answer is named, and keeps nobody from the others."""
        able = [rail for rail in self._desk.rails.all.values() if Capability.BALANCE in rail.capabilities]
        return [await self._standing(rail) for rail in able]

    async def _standing(self, rail: Rail) -> RailStanding:
        try:
            told = await rail.balances()
        except OnebookError as error:
            return RailStanding(rail=rail.name, balances={}, leaving={}, unjudged=error.message)
        foreign = sorted({one.asset for one in told if one.amount} - (await self._desk.ledger.assets()).keys())
        async with tx(self._desk.engine) as connection:
            leaving = await store.payouts_outside(connection, self._desk.book, rail.name)
            moved_at = await store.last_moved(connection, self._desk.book, rail.name)
        return RailStanding(
            rail=rail.name,
            balances={one.asset: one.amount for one in told},
            leaving=leaving,
            unjudged=f"it has {foreign[0]}, which is no asset here" if foreign else _older(told, moved_at),
        )


def _older(told: Sequence[Balance], moved_at: datetime | None) -> str | None:
    as_of = min((one.as_of for one in told if one.as_of is not None), default=None)
    if as_of is None or moved_at is None or moved_at < as_of:
        return None
    return f"its balances are of {as_of:%Y-%m-%d %H:%M:%S} UTC, and something moved since"
