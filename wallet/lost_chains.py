"""What users had on a chain that is gone: withdrawals under way are given up, deposits are taken back.

A withdrawal under way can't be paid any more: what was signed for it names the lost chain's id, and is good on no
other. Its hold is released. Withdrawals come before deposits, so that what a lost deposit had been held for is there to
take back. Final withdrawals stay: they were paid, on a chain that is gone; what that leaves in custody is the
treasury's (`treasury.lost_custody`).
"""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain.networks import Network
from db.engine import tx
from ledger.asking import work
from ledger.commands import Group
from ledger.engine import Ledger
from ledger.riders import Advance
from wallet import deposit_store, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.deposits import Deposits
from wallet.resources import Withdrawal
from wallet.tables import withdrawals
from wallet.withdrawal_states import WithdrawalState, catch_up

BATCH = 200
"""Withdrawals that one call gives up at most."""

REASON = "the chain on which it was to be paid was reset"
"""What its owner reads of a withdrawal that was given up."""


class LostChains:
    """Ends what users had under way on a chain that is gone. The network must be halted meanwhile."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, deposits: Deposits, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._deposits = deposits
        self._clock = clock

    async def give_up(self, network: Network) -> int:
        """Cancel up to BATCH withdrawals under way, each with its hold; returns how many. Call until it's 0."""
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_open_on(connection, self._ledger.book, network.name, limit=BATCH)
        return (await work(self._ledger, *(partial(self._given_up, one) for one in found))).count(None)

    async def take_back(self, network: Network) -> int:
        """Void or reverse what was booked for deposits that are gone; returns how many. Call until it's 0."""
        return await self._deposits.take_back(network)

    async def remaining(self, network: Network) -> dict[str, int]:
        """How many withdrawals are under way and how many live deposits are gone: (0, 0) when all is taken back."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            under_way = await withdrawal_store.load_open_on(connection, book, network.name, limit=BATCH)
            gone = await deposit_store.load_vanished(connection, book, network.name, limit=BATCH)
        return {"withdrawals": len(under_way), "deposits": len(gone)}

    def _given_up(self, withdrawal: Withdrawal, attempt: int) -> Group:
        change = {
            "state": catch_up(withdrawal.state, WithdrawalState.CANCELLED).value,
            "cancellable": False,
            "waiting_for": None,
            "reason": REASON,
            "block_number": None,
            "block_hash": None,
            "fee_wei": None,
            "updated_at": self._clock.now(),
        }
        key = {"book": self._ledger.book, "id": withdrawal.id}
        row = Advance(withdrawals.name, key, {"state": withdrawal.state.value}, change)
        return Group((entries.release(withdrawal, attempt),), (row,))
