"""Refill requests: what the hot address is short of, asked from cold, whose keys no process here has.

One stands per network and asset: as long as payments wait for it, or less than the floor is there. It's closed by what
a cold address sends; where none is configured, the same amount from anybody is offered as its evidence, and a treasurer
says that it is. Who brings it, and how, is people's work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from chain import addresses, foreign_store
from chain.networks import Deployment, Registry, to_ledger_units
from chain.payments import Lack
from chain.signing import OwnKey, Role
from chain.status import NetworkStatus, status_if_followed
from db.engine import tx
from ledger.engine import Ledger
from treasury import refill_store
from treasury import sweep_entries as entries
from treasury.errors import RefillUnfit
from treasury.records import Inflow
from treasury.sweep_records import Refill, RefillState


@dataclass(frozen=True, slots=True)
class Floor:
    """With less than `floor` at the hot address it's filled up to `target`; smallest units."""

    floor: int
    target: int


class Unpaid(Protocol):
    """Knows what payments lack that no sender can make; the wallet's withdrawals do."""

    async def lacking(self) -> Sequence[Lack]:
        """By network and asset."""
        ...


class Refills:
    """Asks for refills of one book, and closes them. `floors` by (network, asset), `cold` addresses by network."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        payments: Unpaid,
        floors: Mapping[tuple[str, str], Floor],
        cold: Mapping[str, frozenset[str]],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._payments = payments
        self._floors = dict(floors)
        self._cold = cold
        self._clock = clock
        self._entropy = entropy
        self._met: dict[str, int] = {}

    async def step(self) -> int:
        """Ask for what is short, close what has come; returns how many requests changed."""
        changed, lacking = 0, await self._payments.lacking()
        for deployment in self._registry.deployments:
            async with tx(self._engine) as connection:
                at = await status_if_followed(connection, self._registry.network(deployment.network))
            if at is not None and not at.halted:
                changed += await self._look(deployment, at, lacking)
        return changed

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Refill]:
        """Requests, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await refill_store.list_refills(connection, self._ledger.book, before=before, limit=limit)

    async def close(self, refill: str, *, inflow: str) -> tuple[Refill, bool]:
        """Say that this inflow is the refill; and whether that was said before. Raises NotFound, RefillUnfit."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            known = await refill_store.load_refill(connection, book, refill)
            if known is None:
                raise NotFound(f"there is no refill {refill[:40]!r}", param="refill")
            if known.state is RefillState.CLOSED and known.inflow == inflow:
                return known, True
            if known.state not in (RefillState.OPEN, RefillState.ARRIVED):
                raise RefillUnfit(f"the refill is {known.state}", param="refill", state=known.state.value)
            fitting = [one.id for one in await refill_store.load_arrivals(connection, book, known)]
            if inflow not in fitting:
                raise RefillUnfit(
                    f"no inflow of {known.asset} to the hot address since then has this id", param="inflow"
                )
            await self._change(connection, known, RefillState.CLOSED, inflow=inflow)
            closed = await refill_store.load_refill(connection, book, refill)
        assert closed is not None, "nothing deletes these rows"
        return closed, False

    async def _look(self, deployment: Deployment, at: NetworkStatus, lacking: Sequence[Lack]) -> bool:
        async with tx(self._engine) as connection:
            hot = await addresses.house(connection, key=OwnKey(Role.HOT, 0))
            halted = await foreign_store.halted_senders(connection, deployment.network)
        if hot is not None and hot.address in halted:
            return False  # whoever made it act without us would get what comes there
        need = await self._need(deployment, [one for one in lacking if one.network == deployment.network])
        async with tx(self._engine) as connection:
            known = await refill_store.load_standing(
                connection, self._ledger.book, deployment.network, deployment.asset
            )
            if known is None:
                return need is not None and await self._ask(connection, deployment, *need)
            arrivals = await refill_store.load_arrivals(connection, self._ledger.book, known)
            if (closing := await self._closing(connection, known, arrivals)) is not None:
                return await self._change(connection, known, closing[0], inflow=closing[1])
            if need is None and known.state is RefillState.OPEN:
                # What met it may be a refill that isn't final yet: it lapses once nothing of then can come any more.
                if at.final_height <= self._met.setdefault(known.id, at.height):
                    return False
                return await self._change(connection, known, RefillState.LAPSED)
            self._met.pop(known.id, None)
            if need is not None and known.state is RefillState.OPEN and need[0] > known.amount:
                return await self._change(connection, known, known.state, amount=need[0], reason=need[1])
        return False

    async def _need(self, deployment: Deployment, lacking: Sequence[Lack]) -> tuple[int, str] | None:
        """How much is short, and why; None when nothing is."""
        asset = await self._ledger.asset(deployment.asset)
        account = await self._ledger.account(entries.custody(deployment.network, "hot", asset.code))
        held = 0 if account is None else max(0, -account.balance)
        async with tx(self._engine) as connection:
            wanted = await refill_store.load_wanted(connection, deployment.network, deployment.contract)
        floor = self._floors.get((deployment.network, asset.code))
        up_to_target = max(0, floor.target - held) if floor is not None else 0
        short = sum(one.amount for one in lacking if one.asset == asset.code)
        if deployment.contract is None:
            gas_wei = sum(one.gas_wei for one in lacking)
            short += to_ledger_units(gas_wei, deployment, scale=asset.scale)
        if wanted.short or short:
            due = short + to_ledger_units(wanted.amount, deployment, scale=asset.scale)
            return max(due - held, up_to_target) or due, "payments wait for it"
        if floor is not None and held < floor.floor:
            return up_to_target, "less than the floor is there"
        return None

    async def _closing(
        self, connection: AsyncConnection, known: Refill, arrivals: list[Inflow]
    ) -> tuple[RefillState, str] | None:
        """What becomes of a standing request by what has come; None: nothing."""
        cold = self._cold.get(known.network, frozenset())
        if cold:
            found = next((one.id for one in arrivals if one.sender in cold), None)
            return None if found is None else (RefillState.CLOSED, found)
        if known.state is RefillState.ARRIVED and known.inflow is not None:
            named = await refill_store.is_named(connection, self._ledger.book, known.inflow)
            return (RefillState.CLOSED, known.inflow) if named else None
        found = next((one.id for one in arrivals if one.amount == known.amount), None)
        return None if found is None else (RefillState.ARRIVED, found)

    async def _ask(self, connection: AsyncConnection, deployment: Deployment, amount: int, reason: str) -> bool:
        now = self._clock.now()
        refill = Refill(
            id=new_id("rfl", self._clock, self._entropy),
            state=RefillState.OPEN,
            network=deployment.network,
            asset=deployment.asset,
            amount=amount,
            reason=reason,
            inflow=None,
            created_at=now,
            updated_at=now,
        )
        return await refill_store.insert_refill(connection, self._ledger.book, refill)

    async def _change(self, connection: AsyncConnection, known: Refill, to: RefillState, **columns: object) -> bool:
        change = {"state": to, **columns}
        return await refill_store.change_refill(connection, self._ledger.book, known, now=self._clock.now(), **change)
