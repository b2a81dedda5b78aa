"""Users, and what their accounts cost: for the tests of account fees and a process that one of them kills."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.tariff.samples import HEAD, read

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

FEES = read(
    HEAD
    + 'account_fee = { asset = "EUR", amount = "2.00", short = "waive" }\n'
    + "[tiers.taking]\n"
    + 'account_fee = { asset = "EUR", amount = "2.00", short = "take_what_is_there" }\n'
    + "[tiers.owing]\n"
    + 'account_fee = { asset = "EUR", amount = "2.00", short = "owe" }\n'
    + "[tiers.free]\n"
)


@dataclass(frozen=True)
class User:
    id: str
    created_at: datetime


@dataclass
class Directory:
    """Knows users by the order in which they were made."""

    known: list[User] = field(default_factory=lambda: [User(f"usr_{name}", LONG_AGO) for name in ("alice", "bob")])

    async def users(self, *, before: str | None = None, after: str | None = None, limit: int = 50) -> Sequence[User]:
        return [user for user in self.known if user.id > (after or "")][:limit]
