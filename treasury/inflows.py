"""Inflows: what strangers (or the operator) send to the house's own hot and gas addresses, booked once it's final.

It stands in suspense until the treasurer says what it was; what a cold address of the house sends is a refill. Our own
transactions are told by their hash and booked by whoever made them. A token that isn't an asset of this book isn't
booked here; the chain's record shows it.
"""

from collections.abc import Mapping
from functools import partial

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from chain.networks import Network, Registry, to_ledger_units
from chain.signing import Role
from chain.status import status_if_followed
from db.engine import tx
from ledger.accounts import house_account
from ledger.asking import work
from ledger.commands import Group, Post, Posting, alone
from ledger.engine import Ledger
from ledger.requests import content_hash, worker_id
from ledger.riders import Advance, Insert
from treasury import inflow_store
from treasury.errors import TreasuryCorrupt
from treasury.inflow_store import HouseArrival
from treasury.records import Inflow, InflowState
from treasury.tables import inflows

BATCH = 200
"""Inflows that one step books at most per network."""

SUSPENSE = "suspense"


class Inflows:
    """Books what arrives at the house."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        clock: Clock,
        entropy: Entropy,
        cold: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """`cold`: by network, addresses (lower-case hex) of the house whose keys no process here has."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._entropy = entropy
        self._cold = dict(cold or {})

    async def step(self) -> int:
        """Book what has become final since, and take back what left the chain; returns how many."""
        return sum([await self._network(network) for network in self._registry.networks.values()])

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Inflow]:
        """Inflows, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await inflow_store.list_inflows(connection, self._ledger.book, before=before, limit=limit)

    async def open_surpluses(self) -> list[Inflow]:
        """Surpluses at the house's addresses that no adjustment names as its evidence, oldest first."""
        async with tx(self._engine) as connection:
            return await inflow_store.load_open_surpluses(connection, self._ledger.book, limit=BATCH)

    async def take_back(self, network: Network) -> int:
        """Reverse up to BATCH booked inflows whose transfer has left the chain; returns how many."""
        async with tx(self._engine) as connection:
            gone = await inflow_store.load_vanished_inflows(connection, self._ledger.book, network.name, limit=BATCH)
        return (await work(self._ledger, *(partial(self._reverse, inflow) for inflow in gone))).count(None)

    async def _network(self, network: Network) -> int:
        taken_back = await self.take_back(network)
        book = self._ledger.book
        contracts = [deployment.contract for deployment in self._registry.on(network.name)]
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, network)
            if at is None or not contracts:
                return taken_back
            arrivals = await inflow_store.load_house_arrivals(
                connection, book, network.name, contracts=contracts, through=at.final_height, limit=BATCH
            )
        found = [] if at.halted else [await self._inflow(arrival) for arrival in arrivals]
        await self._ledger.ensure_open(*sorted({side for inflow in found for side in _sides(inflow)}))
        booked = await work(self._ledger, *(partial(self._book, inflow) for inflow in found))
        return taken_back + booked.count(None)

    async def _inflow(self, arrival: HouseArrival) -> Inflow:
        deployment = self._registry.by_contract(arrival.network, arrival.contract)
        if deployment is None:
            raise TreasuryCorrupt(f"{arrival.contract} on {arrival.network} is no asset of ours")
        asset = await self._ledger.asset(deployment.asset)
        return Inflow(
            id=new_id("inf", self._clock, self._entropy),
            state=InflowState.BOOKED,
            asset=asset.code,
            amount=to_ledger_units(arrival.chain_amount, deployment, scale=asset.scale),
            network=arrival.network,
            role=arrival.role,
            sender=arrival.sender,
            address=arrival.address,
            block_number=arrival.block_number,
            block_hash=arrival.block_hash,
            tx_hash=arrival.tx_hash,
            place=arrival.place,
            version=arrival.version,
            source=f"custody:{arrival.network}:cold" if self._is_refill(arrival) else SUSPENSE,
            booked_at=self._clock.now(),
        )

    def _is_refill(self, arrival: HouseArrival) -> bool:
        return arrival.role == Role.HOT and arrival.sender in self._cold.get(arrival.network, frozenset())

    def _book(self, inflow: Inflow, attempt: int) -> Group:
        custody, source = _sides(inflow)
        post = Post(
            id=_command(inflow, "book", attempt),
            subject=inflow.id,
            evidence=inflow.evidence,
            postings=(Posting(custody, source, inflow.asset, inflow.amount),),
        )
        row = Insert(
            inflows.name, inflow_store.inflow_key(self._ledger.book, inflow), inflow_store.inflow_values(inflow)
        )
        # Content of the evidence only: a second worker gives the same inflow another id, and that is no conflict.
        evidence = msgspec.structs.astuple(inflow.evidence)
        return alone(post, row, content=content_hash(["inflow", *evidence, inflow.version]))

    def _reverse(self, inflow: Inflow, attempt: int) -> Group:
        custody, source = _sides(inflow)
        post = Post(
            id=_command(inflow, "reverse", attempt),
            subject=inflow.id,
            evidence=inflow.evidence,
            postings=(Posting(source, custody, inflow.asset, inflow.amount),),
        )
        booked, reversed_ = {"state": InflowState.BOOKED.value}, {"state": InflowState.REVERSED.value}
        return alone(post, Advance(inflows.name, inflow_store.inflow_key(self._ledger.book, inflow), booked, reversed_))


def _sides(inflow: Inflow) -> tuple[str, str]:
    custody = house_account(f"custody:{inflow.network}:{inflow.role}", inflow.asset)
    return custody, house_account(inflow.source, inflow.asset)


def _command(inflow: Inflow, act: str, attempt: int) -> str:
    where = f"{inflow.network}:{inflow.block_hash}:{inflow.tx_hash}:{inflow.place}"
    return worker_id(f"inflow:{where}:v{inflow.version}:{act}", attempt)
