"""Sweeps as the treasurer sees them: listed, asked for, and tried again. The worker carries them out (`sweeping`)."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from chain.errors import NotYetFollowed
from chain.evm.addresses import parse_address
from chain.networks import Deployment, Registry
from chain.signing import OwnAddress
from chain.status import status_if_followed
from db.engine import tx
from ledger.errors import RequestConflict
from ledger.requests import RequestKey
from treasury import sweep_store
from treasury.errors import SweepUnfit
from treasury.holdings import Holdings
from treasury.sweep_policy import sweepable
from treasury.sweep_records import Sweep
from treasury.sweep_states import OPEN, Method, SweepState


class Sweeps:
    """Sweeps of one book."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        registry: Registry,
        holdings: Holdings,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._engine = engine
        self._book = book
        self._registry = registry
        self._holdings = holdings
        self._clock = clock
        self._entropy = entropy

    async def get(self, sweep: str) -> Sweep:
        """One sweep. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await sweep_store.load_sweep(connection, self._book, sweep)
        if found is None:
            raise NotFound(f"there is no sweep {sweep[:40]!r}", param="sweep")
        return found

    async def recent(
        self, *, state: SweepState | None = None, before: str | None = None, limit: int = 50
    ) -> list[Sweep]:
        """Sweeps, newest first, in this state, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await sweep_store.list_sweeps(connection, self._book, state=state, before=before, limit=limit)

    async def request(
        self, *, key: RequestKey, treasurer: str, network: str, asset: str, address: str
    ) -> tuple[Sweep, bool]:
        """Have what this address holds of `asset` swept now, whatever the thresholds; and whether that's a repeat.

        Raises NotOnNetwork, InvalidAddress, NotFound (no deposit address of ours), SweepUnfit (nothing there that may
        leave, or it's on its way or refused already), NotYetFollowed, RequestConflict, Unavailable.
        """
        async with tx(self._engine) as connection:
            first = await sweep_store.find_request(connection, self._book, key.id)
        if first is not None:
            return await self._repeated(first, key), True
        deployment = self._registry.by_asset(network, asset)
        own = await self._own(network, parse_address(address, param="address"))
        await self._require_free(own, deployment)
        await self._require_something(own, deployment)
        planned = plan(own, deployment, id=new_id("swp", self._clock, self._entropy), clock=self._clock)
        planned = replace(planned, asked_by=treasurer)
        async with tx(self._engine) as connection:
            made = await sweep_store.insert_sweep(connection, self._book, planned, request=key)
            first = None if made else await sweep_store.find_request(connection, self._book, key.id)
        if first is not None:
            return await self._repeated(first, key), True
        if not made:
            raise SweepUnfit("a sweep of this address has just begun", param="address", code="sweep_under_way")
        return planned, False

    async def retry(self, sweep: str) -> tuple[Sweep, bool]:
        """Try an unsweepable one again at once, and as often as before; and whether it needed no asking.

        Raises NotFound, SweepUnfit (it has ended).
        """
        found = await self.get(sweep)
        if found.state in OPEN:
            return found, True
        if found.state is not SweepState.UNSWEEPABLE:
            raise SweepUnfit(f"the sweep is {found.state}: there is nothing to try again", param="sweep")
        async with tx(self._engine) as connection:
            now = self._clock.now()
            await sweep_store.change_sweep(connection, self._book, found, now=now, tries=0, next_try_at=now)
        return await self.get(sweep), False

    async def _own(self, network: str, address: str) -> OwnAddress:
        async with tx(self._engine) as connection:
            own = await sweep_store.load_deposit_address(
                connection, self._book, self._registry.network(network), address
            )
        if own is None:
            raise NotFound("this is no deposit address of ours", param="address")
        return own

    async def _require_free(self, own: OwnAddress, deployment: Deployment) -> None:
        async with tx(self._engine) as connection:
            there = await sweep_store.unfinished_at(connection, self._book, deployment.network, [own.address])
        for one in there:
            if one.state in OPEN:
                said = f"{one.id} is under way at this address; one goes after the other"
                raise SweepUnfit(said, param="address", code="sweep_under_way", sweep=one.id)
            if one.contract == deployment.contract:
                said = f"{one.id} was refused: {one.reason}; try that one again"
                raise SweepUnfit(said, param="address", code="sweep_refused", sweep=one.id)

    async def _require_something(self, own: OwnAddress, deployment: Deployment) -> None:
        network, place = self._registry.network(deployment.network), (own.address, deployment.contract)
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, network)
        if at is None:
            raise NotYetFollowed(f"network {network.name} wasn't followed yet")
        holding = (await self._holdings.measure(network, at, [place])).get(place)
        if holding is None or not sweepable(holding):
            kept = 0 if holding is None else holding.kept_back
            raise SweepUnfit(
                f"no final {deployment.asset} there may leave"
                + (", since what is there waits for its review" if kept else ""),
                param="address",
                code="nothing_to_sweep",
                kept_back=str(kept),
            )

    async def _repeated(self, first: tuple[str, bytes], key: RequestKey) -> Sweep:
        sweep, content = first
        if content != key.content:
            raise RequestConflict("this idempotency key was used for another request", first=sweep)
        return await self.get(sweep)


def plan(own: OwnAddress, deployment: Deployment, *, id: str, clock: Clock) -> Sweep:
    """A sweep that is still to begin."""
    now = clock.now()
    return Sweep(
        id=id,
        state=SweepState.PLANNED,
        method=Method.TRANSFER if deployment.domain is None else Method.AUTHORISATION,
        network=deployment.network,
        asset=deployment.asset,
        contract=deployment.contract,
        address=own,
        chain_amount=None,
        amount=None,
        number=0,
        tries=0,
        next_try_at=None,
        waiting_for=None,
        reason=None,
        gas_limit=None,
        fee_wei_max=None,
        valid_before=None,
        tx_hash=None,
        block_number=None,
        block_hash=None,
        place=None,
        asked_by=None,
        created_at=now,
        updated_at=now,
    )
