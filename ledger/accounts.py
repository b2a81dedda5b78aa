"""Accounts: their names, their four counters, and what is available on them. Pure.

An account's id is a name that people can read in an alert: `owner/purpose/asset`. A user's accounts have purpose
`wallet`; the house's owner is `house` and its purposes are those of the chart of accounts: `custody:local:hot`, `fees`.
"""

import re
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from ledger.errors import InvalidCommand

HOUSE = "house"
WALLET = "wallet"

LIMITED_HOUSE_PURPOSES = frozenset({"fx"})
"""House purposes that may not be overdrawn: the exchange sells only the stock that it was given."""

_NAMES_KEPT = 20_000
"""Names that are remembered as taken apart, or put together."""

_PART = re.compile(r"[A-Za-z0-9_.:+-]{1,100}", re.ASCII)


class Account(msgspec.Struct, frozen=True, gc=False):
    """One owner's share in one asset for one purpose. Counters are smallest units and only the pending ones fall.

    `limited` accounts may not owe more than `credit_line`; others may have either sign.
    """

    id: str
    owner: str
    purpose: str
    asset: str
    limited: bool
    frozen: bool = False
    closed: bool = False
    credit_line: int = 0
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0

    @property
    def balance(self) -> int:
        """Posted credits less posted debits: positive is what the house owes the owner. Sums to zero per asset."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        """What the owner can still spend: balance and credit line, less what is held. Held credits don't count."""
        return self.balance - self.debits_pending + self.credit_line

    def add(
        self,
        *,
        debits_posted: int = 0,
        credits_posted: int = 0,
        debits_pending: int = 0,
        credits_pending: int = 0,
    ) -> "Account":
        """The account with these (possibly negative) steps added to its counters."""
        return replace(
            self,
            debits_posted=self.debits_posted + debits_posted,
            credits_posted=self.credits_posted + credits_posted,
            debits_pending=self.debits_pending + debits_pending,
            credits_pending=self.credits_pending + credits_pending,
        )


@lru_cache(_NAMES_KEPT)
def account_id(owner: str, purpose: str, asset: str) -> str:
    """The id of the account of `owner` for `purpose` in `asset`."""
    for part in (owner, purpose, asset):
        if not _PART.fullmatch(part):
            raise InvalidCommand(f"{part!r} can't be part of an account's name")
    return f"{owner}/{purpose}/{asset}"


def user_account(owner: str, asset: str) -> str:
    """The id of a user's wallet account in `asset`."""
    return account_id(owner, WALLET, asset)


def house_account(purpose: str, asset: str) -> str:
    """The id of a house account, such as `house/custody:local:hot/USDC`."""
    return account_id(HOUSE, purpose, asset)


def new_account(account: str) -> Account:
    """A fresh account by its id, limited unless it is a house account whose purpose has no limit."""
    owner, purpose, asset = split_account_id(account)
    return Account(
        id=account,
        owner=owner,
        purpose=purpose,
        asset=asset,
        limited=owner != HOUSE or purpose in LIMITED_HOUSE_PURPOSES,
    )


_PLACED = frozenset({"custody", "in-transit", "provider", "bank"})
"""Kinds of house purposes that name where the value is, or the way it's on."""


@lru_cache(_NAMES_KEPT)
def place_of(purpose: str) -> str | None:
    """The network, rail or bank account that a purpose of the house is at (`custody:local:hot`: `local`), if any."""
    kind, _, rest = purpose.partition(":")
    return rest.partition(":")[0] or None if kind in _PLACED else None


@lru_cache(_NAMES_KEPT)
def split_account_id(account: str) -> tuple[str, str, str]:
    """(owner, purpose, asset) of an account's id. Raises InvalidCommand if it isn't one."""
    parts = account.split("/")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidCommand(f"{account!r} is no account: an account is named owner/purpose/asset")
    return parts[0], parts[1], parts[2]
