"""Receivables: what a user owes the house after a credit was taken back, repaid from whatever they get next.

It arises where a deposit leaves the chain, or a payment the bank, after its value was spent. While one is open its
owner sends nothing, to nobody: the book refuses what would (`receivable_open`). Its own entry for it stands in
`house/receivable:<user>/<asset>`.
"""

from collections.abc import Callable
from functools import partial

from ledger.accounts import HOUSE, Account, user_account
from ledger.asking import stopping, work
from ledger.commands import Group, Post, Posting, alone
from ledger.engine import Ledger
from ledger.owing import PREFIX
from ledger.requests import content_hash, worker_id


class Receivables:
    """Repays what is owed out of what its owner has."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def open(self) -> list[Account]:
        """The receivables that are open: house accounts with a negative balance."""
        accounts = await self._ledger.accounts(owner=HOUSE)
        return [account for account in accounts if account.purpose.startswith(PREFIX) and account.balance < 0]

    async def step(self) -> int:
        """Take what debtors have available towards what they owe; returns how many paid something.

        What is frozen stays where it is: nothing is tried that the book would refuse.
        """
        makers: list[Callable[[int], Group]] = []
        freezes = await self._ledger.freezes()
        for owed in await self.open():
            owner = owed.purpose.removeprefix(PREFIX)
            theirs = await self._ledger.account(user_account(owner, owed.asset))
            if theirs is None or stopping(freezes, theirs.id, owed.id):
                continue
            if theirs.available > 0:
                posting = Posting(theirs.id, owed.id, owed.asset, min(theirs.available, -owed.balance))
                makers.append(partial(_repay, owed, posting))
        return (await work(self._ledger, *makers)).count(None)


def _repay(owed: Account, posting: Posting, attempt: int) -> Group:
    # The counters tell one repayment from the next; a repeat before they moved is the same repayment.
    source = f"repay:{owed.id}:{owed.debits_posted}:{owed.credits_posted}"
    post = Post(id=worker_id(source, attempt), postings=(posting,))
    return alone(post, content=content_hash(source))
