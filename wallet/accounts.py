"""A user's balances, as the book has them. Nothing is kept beside the book."""

from dataclasses import dataclass
from datetime import datetime

from ledger.accounts import WALLET, Account, new_account, user_account
from ledger.engine import Ledger
from ledger.owing import receivable_account
from ledger.statements import TimeKind


@dataclass(frozen=True, slots=True)
class Balance:
    """One user's share in one asset, in smallest units.

    `balance` is booked; `held` of it is set aside, so `available` can be spent; `incoming` is seen but not yet theirs.
    """

    asset: str
    balance: int
    held: int
    available: int
    incoming: int


class Accounts:
    """Reads users' accounts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def balances(self, owner: str) -> list[Balance]:
        """The user's balances by asset code: one for every asset they ever had an account in."""
        accounts = await self._ledger.accounts(owner=owner)
        return [_balance(account) for account in sorted(accounts, key=_by_asset) if account.purpose == WALLET]

    async def balances_at(
        self, owner: str, at: datetime, *, by: TimeKind = TimeKind.BOOKED, known_at: datetime | None = None
    ) -> list[tuple[str, int]]:
        """Asset codes, and what was booked (or had taken effect) at `at`; see `ledger.engine.Ledger.balance_at`."""
        balances = await self.balances(owner)
        return [
            (asset, await self._ledger.balance_at(user_account(owner, asset), at, by=by, known_at=known_at))
            for asset in (balance.asset for balance in balances)
        ]

    async def balance(self, owner: str, asset: str) -> Balance:
        """The user's balance in one asset, zero where they have no account. Raises UnknownAsset."""
        await self._ledger.asset(asset)
        name = user_account(owner, asset)
        return _balance(await self._ledger.account(name) or new_account(name))

    async def owed(self, owner: str) -> list[tuple[str, int]]:
        """What the user owes the house, by asset code, in smallest units; only what is open."""
        found = []
        for asset in sorted(await self._ledger.assets()):
            account = await self._ledger.account(receivable_account(owner, asset))
            if account is not None and account.balance < 0:
                found.append((asset, -account.balance))
        return found


def _balance(account: Account) -> Balance:
    return Balance(
        asset=account.asset,
        balance=account.balance,
        held=account.debits_pending,
        available=account.available,
        incoming=account.credits_pending,
    )


def _by_asset(account: Account) -> str:
    return account.asset
