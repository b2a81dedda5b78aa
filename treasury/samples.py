"""What own addresses held at a block, as nodes told while they still knew: values. Amounts are smallest units. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ledger.accounts import house_account

ROLES = ("deposit", "hot", "gas")
"""Roles of own addresses; each has a custody account per network and asset."""


def custody(network: str, role: str, asset: str) -> str:
    """The account of what own addresses of a role hold there."""
    return house_account(f"custody:{network}:{role}", asset)


@dataclass(frozen=True, slots=True)
class Deviation:
    """An own address (lower-case hex) that held something else than what was seen of it came to."""

    account: str
    asset: str
    address: str
    found: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Balances at one block. `held`: by custody account. `judged_at`: since when its block is final; None before.

    `deviating` has at most `DEVIATIONS_MAX` addresses.
    """

    network: str
    block_number: int
    block_hash: str
    mined_at: datetime
    taken_at: datetime
    held: Mapping[str, int]
    deviating: tuple[Deviation, ...]
    judged_at: datetime | None = None


DEVIATIONS_MAX = 1_000
"""So many deviating addresses are kept of a sample; the accounts' sums tell of the others."""
