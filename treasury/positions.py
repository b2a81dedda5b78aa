"""Positions of all assets at one moment, read in one snapshot: now, at an instant, or through a network's final block.

What they are is in `treasury.position`, the SQL in `treasury.position_store`. An instant means what was booked by then.
Through block N means what that network's blocks caused up to N, and all else that was booked by that block's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import ConfigError, OnebookError, Unavailable
from chain.networks import Registry
from chain.status import status_if_followed
from db.engine import tx
from exchange.rates import Rates
from ledger import reading
from ledger.engine import Ledger
from ledger.errors import UnknownAsset
from ledger.money import Asset
from treasury import position_store, sample_store
from treasury.errors import MomentUnfit
from treasury.position import PAYERS, RUNWAY_SPAN, GasSpent, Hot, Position, Runway, positions_of
from treasury.position_store import BlockTime, Sums
from treasury.refills import Floor
from treasury.told_by_nodes import ToldByNodes, compare
from treasury.valuing import Valuation, value_all


class RateHistory(Protocol):
    """Where the rates of a moment are from."""

    async def at(self, when: datetime) -> Rates:
        """The rates that could be used then. Raises Unavailable, ConfigError where none are kept."""
        ...


@dataclass(frozen=True, slots=True)
class Through:
    """A network's block up to which is asked."""

    network: str
    number: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All positions of one moment. `seq` is the last command in them; `block` the final one that was asked for, and
    `told` what nodes told of it; both None where none was."""

    at: datetime
    seq: int
    block: BlockTime | None
    told: ToldByNodes | None
    assets: Mapping[str, Asset]
    positions: list[Position]
    hot: list[Hot]
    runways: list[Runway]
    valuation: Valuation | None


class Positions:
    """Reads positions of one book. `reference`: what they're valued in where nobody names another asset."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        rates: RateHistory,
        floors: Mapping[tuple[str, str], Floor],
        reference: str | None,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._rates = rates
        self._floors = dict(floors)
        self._reference = reference
        self._clock = clock

    async def read(
        self, *, at: datetime | None = None, through: Through | None = None, reference: str | None = None
    ) -> Standing:
        """Every known asset's position, by code.

        Raises MomentUnfit for an instant to come or before the book, for a block that isn't final or was never taken
        in, and for both at once; UnknownAsset, UnknownNetwork.
        """
        now = self._clock.now()
        if at is not None and through is not None:
            raise MomentUnfit("a moment is an instant or a block, not both: leave one out", param="block")
        if at is not None and at > now:
            raise MomentUnfit("nobody knows what comes: ask for an instant that was", param="at")
        valued_in = reference or self._reference
        unit = None if valued_in is None else await self._unit(valued_in)
        assets = await self._ledger.assets()
        async with tx(self._engine) as connection:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            number = await reading.book_number(connection, self._ledger.book)
            block = None if through is None else await self._final_block(connection, through)
            moment = at if block is None else min(block.at, now)
            seq = await self._seq(connection, number, moment, is_block=block is not None)
            sums = await _sums(connection, number, seq=seq, through=through, is_past=moment is not None)
            positions = positions_of(assets, sums)
            told = None if block is None else await _told(connection, block, positions)
            runways = [
                await self._runway(connection, number, one, moment or now, seq) for one in self._coins(positions)
            ]
        when = moment or now
        return Standing(
            at=when,
            seq=seq,
            block=block,
            told=told,
            assets=assets,
            positions=positions,
            hot=self._hot(positions),
            runways=runways,
            valuation=None
            if unit is None
            else value_all(positions, await self._rates_at(when), assets=assets, reference=unit, at=when),
        )

    async def _unit(self, reference: str) -> Asset:
        try:
            return await self._ledger.asset(reference)
        except UnknownAsset as error:
            raise UnknownAsset(error.message, param="reference", asset=reference) from error

    async def _final_block(self, connection: AsyncConnection, through: Through) -> BlockTime:
        network = self._registry.network(through.network)
        at = await status_if_followed(connection, network)
        final = -1 if at is None else at.final_height
        if through.number > final:
            words = "none is yet" if final < 0 else f"{final} is the last that is"
            raise MomentUnfit(
                f"block {through.number} of {network.name} isn't final: {words}", param="block", final_block=final
            )
        block = await position_store.load_block(connection, network.name, through.number)
        if block is None:
            raise MomentUnfit(
                f"block {through.number} of {network.name} was never taken in: the book began to follow it later",
                param="block",
            )
        return block

    async def _seq(self, connection: AsyncConnection, number: int, at: datetime | None, *, is_block: bool) -> int:
        """The last command that counts. A block may be older than the book: then none does but those of blocks."""
        if at is None:
            return await reading.load_seq(connection, number)
        seq = await reading.seq_at(connection, number, at)
        if seq == 0 and not is_block:
            began = await position_store.first_booked_at(connection, number)
            words = "nothing is in it yet" if began is None else f"its first entry is of {began.isoformat()}"
            raise MomentUnfit(f"that was before the book: {words}", param="at")
        return seq

    def _coins(self, positions: list[Position]) -> list[tuple[str, str, int]]:
        """Each network with its coin, and how much of it lies where gas is paid from."""
        by_asset = {position.asset: position for position in positions}
        found = []
        for network in self._registry.networks.values():
            held = by_asset[network.native_asset].on(network.name) if network.native_asset in by_asset else {}
            found.append((network.name, network.native_asset, sum(held.get(role, 0) for role in PAYERS)))
        return found

    async def _runway(
        self, connection: AsyncConnection, number: int, coin: tuple[str, str, int], at: datetime, seq: int
    ) -> Runway:
        network, asset, coins = coin
        since = await reading.seq_at(connection, number, at - RUNWAY_SPAN)
        paid = await position_store.load_gas_paid(
            connection, number, network=network, asset=asset, since=since, through=seq
        )
        span = RUNWAY_SPAN if paid.before or paid.first_at is None else at - paid.first_at
        return Runway(network, asset, coins, GasSpent(paid.amount, span))

    def _hot(self, positions: list[Position]) -> list[Hot]:
        """Of each deployment, how much of what own addresses hold lies at hot ones."""
        by_asset, found = {position.asset: position for position in positions}, []
        for deployment in self._registry.deployments:
            held = by_asset[deployment.asset].on(deployment.network) if deployment.asset in by_asset else {}
            floor = self._floors.get((deployment.network, deployment.asset))
            found.append(
                Hot(
                    network=deployment.network,
                    asset=deployment.asset,
                    hot=held.get("hot", 0),
                    custody=sum(held.values()),
                    floor=None if floor is None else floor.floor,
                    target=None if floor is None else floor.target,
                )
            )
        return found

    async def _rates_at(self, when: datetime) -> Rates | OnebookError:
        try:
            return await self._rates.at(when)
        except (Unavailable, ConfigError) as error:
            return error


async def _told(connection: AsyncConnection, block: BlockTime, positions: list[Position]) -> ToldByNodes:
    """What nodes told of a final block, if it was sampled; else which ones were, around it."""
    network = block.network
    sample = await sample_store.newest_sample(connection, network, through=block.number, judged=True)
    if sample is not None and sample.block_hash == block.block_hash:
        return compare(sample, positions)
    above = await sample_store.first_sample_above(connection, network, block.number)
    return ToldByNodes(network, None, below=None if sample is None else sample.block_number, above=above)


async def _sums(connection: AsyncConnection, number: int, *, seq: int, through: Through | None, is_past: bool) -> Sums:
    if through is not None:
        return await position_store.sums_through(
            connection, number, network=through.network, block=through.number, seq=seq
        )
    return await (
        position_store.sums_at(connection, number, seq) if is_past else position_store.sums_now(connection, number)
    )
