"""Positions: per asset, what the house owes, holds, expects and is owed. Pure sums over the book's accounts."""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.accounts import HOUSE, Account
from ledger.engine import Ledger

HELD = ("custody", "bank", "provider")
"""Purposes of the house's assets that somebody else can confirm."""


@dataclass(frozen=True, slots=True)
class Position:
    """One asset, in smallest units. Every figure is positive in its usual direction.

    `owed`: to users. `held`: in custody, at banks and providers. `in_transit`: on its way out or in. `receivable`: owed
    by users. `unassigned`: in suspense and quarantine. `stock`: the exchange's. `equity`: capital and income less
    expenses. held + receivable = owed + in_transit + unassigned + stock + equity.
    """

    asset: str
    owed: int
    held: int
    in_transit: int
    receivable: int
    unassigned: int
    stock: int
    equity: int

    @property
    def covered(self) -> bool:
        """Whether what is held reaches for what is owed and on its way."""
        return self.held >= self.owed + self.in_transit


class Positions:
    """Reads positions."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def all(self) -> list[Position]:
        """The position of every known asset, by code."""
        accounts = await self._ledger.accounts()
        return [position(code, accounts) for code in sorted(await self._ledger.assets())]


def position(asset: str, accounts: Iterable[Account]) -> Position:
    """One asset's position from all accounts."""
    sums = dict.fromkeys(("owed", "held", "in_transit", "receivable", "unassigned", "stock", "equity"), 0)
    for account in accounts:
        if account.asset == asset:
            part, sign = _part(account)
            sums[part] += sign * account.balance
    return Position(asset=asset, **sums)


def _part(account: Account) -> tuple[str, int]:
    if account.owner != HOUSE:
        return "owed", 1
    kind = account.purpose.partition(":")[0]
    if kind in HELD:
        return "held", -1
    return {
        "receivable": ("receivable", -1),
        "in-transit": ("in_transit", 1),
        "suspense": ("unassigned", 1),
        "quarantine": ("unassigned", 1),
        "fx": ("stock", 1),
    }.get(kind, ("equity", 1))
