"""Changing a sweep's row: by compare-and-set, so that of two workers at one sweep the second writes nothing."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from chain.networks import Registry, to_ledger_units
from db.engine import tx
from ledger.engine import Ledger
from ledger.riders import Advance
from treasury import sweep_store
from treasury.sweep_policy import retry_after
from treasury.sweep_records import Sweep
from treasury.sweep_states import SweepState, advance
from treasury.tables import sweeps

REASON_LENGTH_MAX = 1_000
"""Characters of a reason that are kept: nodes can be talkative."""


class SweepRows:
    """Rows of one book's sweeps. `tries`: so many refusals in a row, then only a treasurer has it tried again."""

    def __init__(self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, tries: int, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._tries = tries
        self._clock = clock

    async def refused(self, sweep: Sweep, why: str, **columns: object) -> bool:
        """It can't be swept now, for this reason; it's tried again later."""
        return await self.set(sweep, SweepState.UNSWEEPABLE, **self.refusal(sweep, why), **columns)

    def refusal(self, sweep: Sweep, why: str) -> dict[str, object]:
        """The columns of that."""
        tries = sweep.tries + 1
        later = self._clock.now() + retry_after(tries) if tries < self._tries else None
        return {"tries": tries, "next_try_at": later, "reason": why[:REASON_LENGTH_MAX]}

    async def drop(self, sweep: Sweep, why: str) -> bool:
        """There is nothing to sweep."""
        return await self.set(sweep, SweepState.DROPPED, reason=why, next_try_at=None)

    async def terms(self, begun: Sweep) -> dict[str, object]:
        """The columns of what is begun."""
        deployment = self._registry.by_contract(begun.network, begun.contract)
        assert deployment is not None
        assert begun.chain_amount is not None
        scale = (await self._ledger.asset(begun.asset)).scale
        return {
            "number": begun.number,
            "method": begun.method,
            "chain_amount": begun.chain_amount,
            "amount": to_ledger_units(begun.chain_amount, deployment, scale=scale),
            "gas_limit": begun.gas_limit,
            "fee_wei_max": begun.fee_wei_max,
            "valid_before": begun.valid_before,
            "reason": None,
        }

    async def wait(self, sweep: Sweep, lacking: str | None, why: str | None) -> bool:
        """Say what it waits for; its state stays. Not a move: always False."""
        if (sweep.waiting_for, sweep.reason) != (lacking, why):
            async with tx(self._engine) as connection:
                await self.change(connection, sweep, sweep.state, waiting_for=lacking, reason=why)
        return False

    async def set(self, sweep: Sweep, to: SweepState, **columns: object) -> bool:
        """Move it on; whether nobody else had."""
        async with tx(self._engine) as connection:
            return await self.change(connection, sweep, to, **columns)

    async def change(self, connection: AsyncConnection, sweep: Sweep, to: SweepState, **columns: object) -> bool:
        """The same in the caller\'s tx. It waits for nothing then, unless that is said."""
        change = {"state": advance(sweep.state, to), "waiting_for": None, **columns}
        return await sweep_store.change_sweep(connection, self._ledger.book, sweep, now=self._clock.now(), **change)

    def row(self, sweep: Sweep, to: SweepState, **columns: object) -> Advance:
        """The change of a sweep's row that rides with its entry."""
        key = {"book": self._ledger.book, "id": sweep.id}
        expect = {"state": sweep.state.value, "number": sweep.number}
        fresh = {"state": advance(sweep.state, to).value, "waiting_for": None, "updated_at": self._clock.now()}
        return Advance(sweeps.name, key, expect, {**fresh, **columns})
