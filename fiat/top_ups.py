"""Top-ups: value that entered over a rail for a user. Pure; a bank's top-up is final as soon as it's known."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Rail(StrEnum):
    BANK = "bank"


class TopUpState(StrEnum):
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """`amount` smallest units of `asset` credited to `owner`. `source` is its name on its rail: a bank line's id."""

    id: str
    owner: str
    rail: Rail
    asset: str
    amount: int
    state: TopUpState
    source: str
    created_at: datetime
    replayed: bool = False
