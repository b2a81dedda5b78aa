"""Books what the house's transactions for itself cost, once they're final: allowances, deployments, anchors.

They pay nobody, so no withdrawal or sweep books them. What an allowance cost is shared by its batch's legs as well, but
by what users pay, not by another booking.
"""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain.networks import Registry, to_ledger_units
from db.engine import tx
from ledger.accounts import house_account
from ledger.asking import work
from ledger.engine import Ledger
from ledger.riders import Insert
from wallet import batch_entries, batch_store
from wallet import withdrawal_entries as entries
from wallet.batch_store import GasPaid
from wallet.tables import own_gas

AT_ONCE = 100
"""Transactions that one step books."""


class OwnGas:
    """Dr network-fees / Cr custody of whoever paid."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock

    async def step(self) -> int:
        """Book what has become final since; returns how many transactions."""
        async with tx(self._engine) as connection:
            found = await batch_store.load_unbooked_own(
                connection, self._ledger.book, self._registry.networks, limit=AT_ONCE
            )
        return sum([await self._book(paid) for paid in found])

    async def _book(self, paid: GasPaid) -> bool:
        native = self._registry.by_asset(paid.network, self._registry.network(paid.network).native_asset)
        scale = (await self._ledger.asset(native.asset)).scale
        amount = to_ledger_units(paid.fee_wei, native, scale=scale)
        key = {"book": self._ledger.book, "transaction_id": paid.transaction}
        told = {"kind": paid.kind, "network": paid.network, "fee_wei": paid.fee_wei, "booked_at": self._clock.now()}
        postings = entries.gas_postings(paid.network, native.asset, amount, role=paid.role)
        if not postings:
            async with tx(self._engine) as connection:
                await batch_store.note_free(connection, key | told)
            return True
        await self._ledger.ensure_open(
            house_account(entries.GAS_EXPENSE, native.asset), *(one.credit for one in postings)
        )
        row = Insert(own_gas.name, key, told)
        (refusal,) = await work(self._ledger, partial(batch_entries.own_gas, paid, postings, row))
        return refusal is None
