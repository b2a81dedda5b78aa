"""Names of receivables: the house's accounts of what users owe. Who repays them is `wallet.receivables`."""

from ledger.accounts import house_account
from ledger.engine import Ledger

PREFIX = "receivable:"


def receivable_account(owner: str, asset: str) -> str:
    """The house account that holds what `owner` owes in `asset`, as a negative balance."""
    return house_account(PREFIX + owner, asset)


async def receivable_accounts(ledger: Ledger, owner: str) -> tuple[str, ...]:
    """What a command of the user's must find `owing_nothing`: decided under the book's lock, it can't be overtaken."""
    return tuple([receivable_account(owner, asset) for asset in await ledger.assets()])
