"""Outflows: what left own addresses without us, booked once it's final, with its gas.

It stands in suspense until somebody says what it was: a loss is written off by an adjustment that names it, a payment
of ours that was lost from the record is told by resolving its withdrawal. What our own transactions move is booked by
whoever made them; a booked outflow that turns out to be one of those is taken back, as is one that left the chain.
"""

from collections.abc import Collection, Iterable
from functools import partial

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from chain.networks import Network, Registry, to_ledger_units
from chain.status import status_if_followed
from db.engine import tx
from ledger.accounts import house_account
from ledger.asking import work
from ledger.commands import Group, Post, Posting, alone
from ledger.engine import Ledger
from ledger.requests import content_hash, worker_id
from ledger.riders import Advance, Insert
from treasury import outflow_store as rows
from treasury.errors import TreasuryCorrupt
from treasury.outflow_store import Departed
from treasury.records import Outflow, OutflowState
from treasury.tables import outflows

BATCH = 200
"""Outflows that one step books at most, per network; it comes again for the rest."""

SUSPENSE = "suspense"


class Outflows:
    """Books what left own addresses without us."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._entropy = entropy

    async def step(self) -> int:
        """Book what is final and new on each network, and take back what isn't so any more; returns how many."""
        return sum([await self._network(network) for network in self._registry.networks.values()])

    async def recent(self, *, before: str | None = None, limit: int = 50) -> list[Outflow]:
        """Outflows, newest first, those older than the id `before`."""
        async with tx(self._engine) as connection:
            return await rows.list_outflows(connection, self._ledger.book, before=before, limit=limit)

    async def open_outflows(self) -> list[Outflow]:
        """What nobody has accounted for yet, oldest first."""
        async with tx(self._engine) as connection:
            return await rows.load_open_outflows(connection, self._ledger.book, limit=BATCH)

    async def places(self, network: str, *, tx_hash: str, block_hash: str) -> dict[str, bool]:
        """Where in this transaction something left us that is booked, and whether nobody has accounted for it yet."""
        found = await self._booked_in(network, tx_hash, block_hash)
        return {one.place: one.accounted_by is None for one in found}

    async def account_for(
        self, network: str, *, tx_hash: str, block_hash: str, places: Collection[str], by: str
    ) -> list[Advance]:
        """The rows of what left there, as `by` accounts for it: refused if somebody else does first."""
        found = await self._booked_in(network, tx_hash, block_hash)
        return [rows.accounted(self._ledger.book, one, by) for one in found if one.place in places]

    async def _booked_in(self, network: str, tx_hash: str, block_hash: str) -> list[Outflow]:
        async with tx(self._engine) as connection:
            return await rows.load_booked(
                connection, self._ledger.book, network, tx_hash=tx_hash, block_hash=block_hash
            )

    async def take_back(self, network: Network) -> int:
        """Reverse up to BATCH booked outflows that aren't any more; returns how many."""
        async with tx(self._engine) as connection:
            gone = await rows.load_vanished_outflows(connection, self._ledger.book, network.name, limit=BATCH)
        return (await work(self._ledger, *(partial(self._reverse, outflow) for outflow in gone))).count(None)

    async def _network(self, network: Network) -> int:
        taken_back = await self.take_back(network)
        book = self._ledger.book
        contracts = [deployment.contract for deployment in self._registry.on(network.name)]
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, network)
            if at is None or at.halted or not contracts:
                return taken_back
            left = await rows.load_departed(
                connection, book, network.name, contracts=contracts, through=at.final_height, limit=BATCH
            )
            if None in contracts:
                left += await rows.load_departed_gas(
                    connection, book, network.name, through=at.final_height, limit=BATCH
                )
        found = [await self._outflow(departed) for departed in left]
        await self._ledger.ensure_open(*_accounts(found))
        booked = await work(self._ledger, *(partial(self._book, outflow) for outflow in found))
        return taken_back + booked.count(None)

    async def _outflow(self, left: Departed) -> Outflow:
        deployment = self._registry.by_contract(left.network, left.contract)
        if deployment is None:
            raise TreasuryCorrupt(f"{left.contract} on {left.network} is no asset of ours")
        asset = await self._ledger.asset(deployment.asset)
        return Outflow(
            id=new_id("out", self._clock, self._entropy),
            state=OutflowState.BOOKED,
            asset=asset.code,
            amount=to_ledger_units(left.chain_amount, deployment, scale=asset.scale),
            network=left.network,
            role=left.role,
            address=left.address,
            recipient=left.recipient,
            block_number=left.block_number,
            block_hash=left.block_hash,
            tx_hash=left.tx_hash,
            place=left.place,
            version=left.version,
            booked_at=self._clock.now(),
        )

    def _book(self, outflow: Outflow, attempt: int) -> Group:
        custody, suspense = _sides(outflow)
        post = Post(
            id=_command(outflow, "book", attempt),
            subject=outflow.id,
            evidence=outflow.evidence,
            postings=(Posting(suspense, custody, outflow.asset, outflow.amount),),
        )
        row = Insert(outflows.name, rows.outflow_key(self._ledger.book, outflow), rows.outflow_values(outflow))
        # Content of the evidence only: a second worker gives the same outflow another id, and that is no conflict.
        evidence = msgspec.structs.astuple(outflow.evidence)
        return alone(post, row, content=content_hash(["outflow", *evidence, outflow.version]))

    def _reverse(self, outflow: Outflow, attempt: int) -> Group:
        custody, suspense = _sides(outflow)
        post = Post(
            id=_command(outflow, "reverse", attempt),
            subject=outflow.id,
            evidence=outflow.evidence,
            postings=(Posting(custody, suspense, outflow.asset, outflow.amount),),
        )
        booked, reversed_ = {"state": OutflowState.BOOKED.value}, {"state": OutflowState.REVERSED.value}
        return alone(post, Advance(outflows.name, rows.outflow_key(self._ledger.book, outflow), booked, reversed_))


def _sides(outflow: Outflow) -> tuple[str, str]:
    custody = house_account(f"custody:{outflow.network}:{outflow.role}", outflow.asset)
    return custody, house_account(SUSPENSE, outflow.asset)


def _accounts(found: Iterable[Outflow]) -> list[str]:
    return sorted({side for outflow in found for side in _sides(outflow)})


def _command(outflow: Outflow, act: str, attempt: int) -> str:
    where = f"{outflow.network}:{outflow.block_hash}:{outflow.tx_hash}:{outflow.place}"
    return worker_id(f"outflow:{where}:v{outflow.version}:{act}", attempt)
