"""The chart of accounts as reports show it: which side an account stands on, and what it's part of. Pure."""

from dataclasses import dataclass
from enum import StrEnum

USERS = "users"
"""All users' accounts together, as the store groups them; no purpose of the house is called so."""

RECEIVABLE = "receivable"
"""What users owe, together."""


class Side(StrEnum):
    """The sides of a balance sheet, in its order."""

    ASSETS = "assets"
    LIABILITIES = "liabilities"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSES = "expenses"


@dataclass(frozen=True, slots=True)
class Class:
    """What an account is: its side, its word, and which network, bank or rail it's at (`local:hot`, `main`)."""

    side: Side
    word: str
    place: str = ""

    @property
    def sign(self) -> int:
        """What turns credits less debits into the figure that is shown: assets and expenses are debits."""
        return -1 if self.side in (Side.ASSETS, Side.EXPENSES) else 1

    @property
    def held(self) -> bool:
        """Whether somebody outside can confirm it: a chain, a bank, a provider."""
        return self.word in HELD


HELD = ("custody", "bank", "provider")

INCOME = ("fees", "fx-result")
EXPENSES = ("network-fees", "rail-fees", "fees-waived", "rounding", "promotion")

_SIDES = {
    "custody": Side.ASSETS,
    "bank": Side.ASSETS,
    "provider": Side.ASSETS,
    RECEIVABLE: Side.ASSETS,
    "suspense": Side.LIABILITIES,
    "quarantine": Side.LIABILITIES,
    **dict.fromkeys(INCOME, Side.INCOME),
    **dict.fromkeys(EXPENSES, Side.EXPENSES),
}
"""Sides by the first part of a purpose; the house's own capital, stock and whatever else is equity."""

_WORDS = ("custody", "bank", "provider", RECEIVABLE, "in-transit-in", "overdrawn", USERS, "in-transit-out")
_ORDER = (*_WORDS, "suspense", "quarantine", "capital", "fx", *INCOME, *EXPENSES)


def class_of(group: str) -> Class:
    """The class of a group of accounts: USERS, RECEIVABLE, or a purpose of the house such as `custody:local:hot`."""
    if group == USERS:
        return Class(Side.LIABILITIES, USERS)
    kind, _, place = group.partition(":")
    if kind == "in-transit":
        where, _, way = place.rpartition(":")
        inward = way == "in"
        return Class(Side.ASSETS if inward else Side.LIABILITIES, f"in-transit-{'in' if inward else 'out'}", where)
    if kind in _SIDES or kind in ("capital", "fx"):
        return Class(_SIDES.get(kind, Side.EQUITY), kind, place)
    return Class(Side.EQUITY, "other", group)


OVERDRAWN = Class(Side.ASSETS, "overdrawn")
"""What users are below zero by, within their credit lines."""


def order_of(one: Class) -> tuple[int, int, str, str]:
    """Where a class stands in a report."""
    rank = _ORDER.index(one.word) if one.word in _ORDER else len(_ORDER)
    return list(Side).index(one.side), rank, one.word, one.place


def place_of(one: Class) -> tuple[str, str] | None:
    """What kind of place it's at, and which: (`network`, `local`), (`bank`, `main`), (`rail`, `stripe`)."""
    kinds = {"custody": "network", "bank": "bank", "provider": "rail"}
    return (kinds[one.word], one.place.partition(":")[0]) if one.word in kinds else None
