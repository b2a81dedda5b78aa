"""The chain's side of reconciliation: what nodes say that own addresses hold, and what is booked and seen of it.

Asked at the head, judged when final. A network that can't be judged now is told with the reason, and with the block
through which it last was: never a wrong number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.errors import Unavailable
from chain.errors import NodeRefused
from chain.networks import Deployment, Network, Registry, to_ledger_units
from chain.status import NetworkStatus, status_if_followed
from db.engine import tx
from treasury import break_store, comparison, comparison_store, sample_store
from treasury.comparison_store import Seen
from treasury.records import Finding, InFlight, JudgedNetwork
from treasury.sample_store import At
from treasury.samples import ROLES, Sample, custody
from treasury.sampling import BalanceReader, Sampler

BEHIND_MAX = 64
"""A follower that is so many blocks behind tells nothing of now: nodes forget the states that it's at."""


@dataclass(frozen=True, slots=True)
class ChainSnapshot:
    """What one network's side of the database says through a sample's block. `expected`: of addresses that deviated, by
    (asset, address), in smallest units."""

    sample: Sample
    booked: dict[str, int]
    in_flight: list[InFlight]
    expected: dict[tuple[str, str], int]
    seen: Seen

    @property
    def judged(self) -> JudgedNetwork:
        """Through which block it's compared."""
        return JudgedNetwork(self.sample.network, self.sample.block_number, self.sample.block_hash)

    @property
    def findings(self) -> list[Finding]:
        """Where book and chain differ."""
        return comparison.chain_differs(
            self.sample, booked=self.booked, in_flight=self.in_flight, expected=self.expected
        )

    @property
    def booked_through(self) -> Seen:
        """Up to where everything that was seen is booked: below the first movement that isn't."""
        through = self.seen.block_number
        lowest = min((item.block_number for item in self.in_flight), default=through + 1)
        return Seen(min(through, lowest - 1), self.seen.seq)


class ChainCheck:
    """Samples and reads all networks of a registry, as far as there are nodes for them."""

    def __init__(
        self, engine: AsyncEngine, *, registry: Registry, nodes: Mapping[str, BalanceReader], clock: Clock
    ) -> None:
        self._engine = engine
        self._registry = registry
        self.samplers = {
            name: Sampler(engine, network=network, deployments=registry.on(name), node=nodes[name], clock=clock)
            for name, network in registry.networks.items()
            if name in nodes
        }
        self._booked_through: dict[str, Seen] = {}

    async def sample(self, scales: dict[str, int], *, whole: bool) -> dict[str, str]:
        """Ask nodes for balances. By network, why none could tell.

        A whole run asks at the last final block. The worker asks at the head, whose block will be final once, and at
        the final one only while it has no sample of any.
        """
        trouble = {}
        for name, network in self._registry.networks.items():
            async with tx(self._engine) as connection:
                at = await status_if_followed(connection, network)
                if at is None:
                    continue
                final = await sample_store.load_block(connection, name, at.final_height)
                head = await sample_store.load_block(connection, name, at.height)
                kept = await sample_store.newest_sample(connection, name, through=at.final_height)
            if final is None:
                continue
            if whole or kept is None:
                why = await self._take(name, final, scales, stored=kept is not None)
            else:
                why = _behind(at)
            if why is None and not whole and head is not None:
                why = await self._take(name, head, scales)
            if why is not None:
                trouble[name] = why
        return trouble

    async def _take(self, network: str, at: At, scales: dict[str, int], *, stored: bool = False) -> str | None:
        """Sample at a block; why that can't be done now. `stored`: an older sample will do for a forgotten block."""
        sampler = self.samplers.get(network)
        if sampler is None:
            return "no node is configured"
        try:
            await sampler.take(at, scales)
        except NodeRefused as error:
            return None if stored else error.message
        except Unavailable as error:
            return error.message
        return None

    async def read(
        self, connection: AsyncConnection, scales: Mapping[str, int], trouble: Mapping[str, str], *, whole: bool
    ) -> tuple[list[ChainSnapshot], list[JudgedNetwork]]:
        """What is booked and seen of each network; those that can't be judged now, for `trouble` or else."""
        snapshots, skipped = [], []
        for network in self._registry.networks.values():
            found = await self._snapshot(connection, network, scales, trouble.get(network.name), whole=whole)
            if isinstance(found, JudgedNetwork):
                skipped.append(found)
            else:
                snapshots.append(found)
                self._booked_through[network.name] = found.booked_through
        return snapshots, skipped

    async def _snapshot(
        self,
        connection: AsyncConnection,
        network: Network,
        scales: Mapping[str, int],
        trouble: str | None,
        *,
        whole: bool,
    ) -> ChainSnapshot | JudgedNetwork:
        """What is booked and seen through the newest sample whose block is final; or why there's nothing to judge."""
        at = await status_if_followed(connection, network)
        if at is None:
            return JudgedNetwork(network.name, None, None, skipped="it was never followed")
        sample = await sample_store.newest_sample(connection, network.name, through=at.final_height)
        if await sample_store.load_block(connection, network.name, at.final_height) is None:
            trouble = f"halted: {at.halted}" if at.halted else "no block is final yet"
        if sample is None or trouble is not None:
            why = trouble or "no node told balances at a final block yet"
            number, block_hash = (None, None) if sample is None else (sample.block_number, sample.block_hash)
            return JudgedNetwork(network.name, number, block_hash, skipped=why)
        through, deployments = sample.block_number, self._registry.on(network.name)
        accounts = [custody(network.name, role, one.asset) for one in deployments for role in ROLES]
        booked = await sample_store.sum_through(connection, network.name, accounts=accounts, through=through)
        since = None if whole else self._booked_through.get(network.name)
        seen = Seen(through, await sample_store.last_seen(connection, network.name))
        in_flight = []
        if since is None or await sample_store.anything_since(connection, network.name, since):
            in_flight = await _in_flight(connection, deployments, scales, through=through, since=since)
        doubtful = {one.address for one in sample.deviating}
        told, corrected = {}, {}
        if doubtful:
            told = await sample_store.load_expected(connection, network, through=through, only=doubtful)
            corrected = await break_store.load_corrections(connection, network.name)
        expected = dict(corrected)
        for (contract, address), units in told.items():
            found = self._registry.by_contract(network.name, contract)
            if found is not None:
                amount = to_ledger_units(units, found, scale=scales[found.asset])
                expected[found.asset, address] = amount + corrected.get((found.asset, address), 0)
        return ChainSnapshot(sample, booked, in_flight, expected, seen)


def _behind(at: NetworkStatus) -> str | None:
    """Why a network that isn't followed closely can't be judged."""
    if at.behind <= BEHIND_MAX:
        return None
    return f"its follower is {at.behind} blocks behind the node, at block {at.height}"


async def _in_flight(
    connection: AsyncConnection,
    deployments: Sequence[Deployment],
    scales: Mapping[str, int],
    *,
    through: int,
    since: Seen | None,
) -> list[InFlight]:
    """What was seen through a block and isn't booked, gas included, in smallest units."""
    found = []
    for one in deployments:
        moving = await comparison_store.load_in_flight(connection, one, through=through, since=since)
        if one.contract is None:
            moving += await comparison_store.load_unbooked_gas(connection, one, through=through, since=since)
        found += [_in_ledger_units(item, one, scales) for item in moving]
    return found


def _in_ledger_units(item: InFlight, deployment: Deployment, scales: Mapping[str, int]) -> InFlight:
    return replace(item, amount=to_ledger_units(item.amount, deployment, scale=scales[deployment.asset]))
