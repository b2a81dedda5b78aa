"""A user's balances, as the book has them. Nothing is kept beside the book."""

from dataclasses import dataclass

from ledger.accounts import WALLET, Account, new_account, user_account
from ledger.engine import Ledger


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

    async def balance(self, owner: str, asset: str) -> Balance:
        """The user's balance in one asset, zero where they have no account. Raises UnknownAsset."""
        await self._ledger.asset(asset)
        name = user_account(owner, asset)
        return _balance(await self._ledger.account(name) or new_account(name))


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
