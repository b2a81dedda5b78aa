"""What is held, for an epoch: every own address at one final block per network, banks by statement, providers by word.

Which block, is told by the snapshot in which users are read as well: the one through which the book has taken the chain
in. Nothing is told while a chain isn't settled, or where too few nodes tell the same: an epoch is refused then.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from chain.networks import Deployment, Network, Registry, to_ledger_units
from chain.observations import BlockRef
from chain.status import NetworkStatus, status_if_followed
from treasury import sample_store, solvency_store
from treasury.comparison import RailStanding
from treasury.errors import ChainUnsettled, ReservesUnavailable
from treasury.sample_store import OwnedBy
from treasury.solvency_statements import AtAddress, AtAddresses, AtBank, AtProvider, BlockTold, Reserve

PROVIDERS = "asking payment providers what they owe us"
"""What is told of that part."""

COLD, DEPOSIT = "cold", "deposit"
"""Roles of addresses: no process here has the keys of the first, and users know the second."""

AT_ONCE = 200
"""Balances asked for in one call."""

Telling = Callable[[str, int, int], object]
"""Hears how far something is: what, how much was done since the last time (0: it begins), how much there is in all."""


class ReserveNode(Protocol):
    """A network's nodes as one; the chain's `Pool` answers. What matters is told by two, where there are so many."""

    async def head(self) -> BlockRef:
        """The newest block that two have reached."""
        ...

    async def refs(self, heights: Iterable[int]) -> dict[int, BlockRef | None]:
        """The blocks at these heights."""
        ...

    async def witnessed(self, refs: Sequence[BlockRef]) -> list[BlockRef]:
        """As many of these, from the first on, as two tell."""
        ...

    async def coins_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[int | None]:
        """What each (address, block hash) holds of the native coin, in wei; None: no two tell the same."""
        ...

    async def token_balances(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        """What each (contract, address, block hash) holds; None: nobody knows (any more)."""
        ...


class ClosingBalance(Protocol):
    """What a bank's latest statement says that it owes us, at the end of which day."""

    @property
    def account(self) -> str: ...
    @property
    def asset(self) -> str: ...
    @property
    def balance(self) -> int: ...
    @property
    def as_of(self) -> date: ...
    @property
    def statement(self) -> str: ...


class BankStatements(Protocol):
    """Knows what the banks last told."""

    async def closing_balances(self) -> Sequence[ClosingBalance]:
        """The latest closing balance of each of our accounts that has a statement."""
        ...


class ProviderBalances(Protocol):
    """Knows what payment providers say that they owe us."""

    async def rail_balances(self) -> Sequence[RailStanding]:
        """What each says now that can tell; one that doesn't answer is named with the reason."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One network as the snapshot has it: through which block, and our addresses there."""

    network: Network
    at: NetworkStatus
    final_hash: str
    addresses: tuple[OwnedBy, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: the blocks at which it was read, the lines, and providers that couldn't tell."""

    blocks: tuple[BlockTold, ...]
    reserves: tuple[Reserve, ...]
    untold: tuple[str, ...]


class Reserves:
    """Reads what is held. `cold`: by network, addresses of ours that no process has keys of (lower-case hex).

    `named_deposits`: so many deposit addresses of a network are named at most, those that hold most.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        nodes: Mapping[str, ReserveNode],
        banks: Sequence[BankStatements],
        rails: ProviderBalances | None = None,
        cold: Mapping[str, Sequence[str]] | None = None,
        named_deposits: int = 0,
    ) -> None:
        self._registry = registry
        self._nodes = nodes
        self._banks = banks
        self._rails = rails
        self._cold = cold or {}
        self._named_deposits = named_deposits

    async def sides(self, connection: AsyncConnection) -> list[Side]:
        """Every network as the snapshot has it. Raises ChainUnsettled, ReservesUnavailable."""
        return [await self._side(connection, network) for network in self._registry.networks.values()]

    async def _side(self, connection: AsyncConnection, network: Network) -> Side:
        at = await status_if_followed(connection, network)
        if at is None:
            raise ReservesUnavailable(f"network {network.name} was never followed; is the worker running?")
        if at.halted is not None:
            raise ChainUnsettled(f"network {network.name} is halted ({at.halted}): an epoch waits until that ends")
        block_hash = await solvency_store.load_block_hash(connection, network.name, at.final_height)
        if block_hash is None:
            raise ReservesUnavailable(f"no block of network {network.name} is final yet")
        own = await sample_store.load_own_addresses(connection, network)
        cold = [OwnedBy(COLD, address) for address in self._cold.get(network.name, ())]
        return Side(network, at, block_hash, (*own, *cold))

    async def unchanged(self, connection: AsyncConnection, sides: Sequence[Side]) -> None:
        """Raise ChainUnsettled unless the blocks that were read stand as they stood."""
        for side in sides:
            network = side.network.name
            now = await status_if_followed(connection, side.network)
            live = await solvency_store.load_block_hash(connection, network, side.at.final_height)
            if now is None or now.halted is not None or (live, now.epoch) != (side.final_hash, side.at.epoch):
                raise ChainUnsettled(f"network {network} changed while its balances were read: try again")

    async def read(self, sides: Sequence[Side], scales: Mapping[str, int], *, told: Telling = lambda *_: None) -> Found:
        """Ask nodes, banks and providers. Raises ChainUnsettled, ReservesUnavailable, and what the nodes do."""
        lines: list[Reserve] = []
        for side in sides:
            node = self._nodes[side.network.name]
            await _check_settled(side, node)
            lines += await self._on_chain(side, node, scales, told)
        for bank in self._banks:
            lines += [_at_bank(one) for one in await bank.closing_balances() if one.balance]
        standings: Sequence[RailStanding] = []
        if self._rails is not None:
            told(PROVIDERS, 0, 1)
            standings = await self._rails.rail_balances()
            told(PROVIDERS, 1, 1)
        for one in standings:
            if one.unjudged is None:
                lines += [
                    AtProvider(asset=asset, amount=str(amount), provider=one.rail)
                    for asset, amount in sorted(one.balances.items())
                    if amount
                ]
        blocks = tuple(
            BlockTold(
                network=side.network.name,
                chain_id=side.network.chain_id,
                block_number=side.at.final_height,
                block_hash=side.final_hash,
                nodes=1 if side.at.trusting_one_node else 2,
            )
            for side in sides
        )
        return Found(blocks, tuple(lines), tuple(one.rail for one in standings if one.unjudged is not None))

    async def _on_chain(self, side: Side, node: ReserveNode, scales: Mapping[str, int], told: Telling) -> list[Reserve]:
        held: dict[tuple[OwnedBy, str], int] = {}
        deployments = self._registry.on(side.network.name)
        total = len(deployments) * len(side.addresses)

        def asked(step: int) -> None:
            told(f"asking the nodes of {side.network.name} what is held", step, total)

        for deployment in deployments:
            for own, units in await _balances(side, node, deployment, asked):
                held[own, deployment.asset] = to_ledger_units(units, deployment, scale=scales[deployment.asset])
        named = _named(held, self._named_deposits)
        lines: list[Reserve] = []
        rest: dict[tuple[str, str], list[int]] = {}
        for (own, asset), amount in held.items():
            if own.role == DEPOSIT and own.address not in named:
                rest.setdefault((own.role, asset), []).append(amount)
                continue
            lines.append(
                AtAddress(
                    asset=asset, amount=str(amount), network=side.network.name, role=own.role, address=own.address
                )
            )
        lines += [
            AtAddresses(
                asset=asset,
                amount=str(sum(amounts)),
                network=side.network.name,
                role=role,
                addresses=len(amounts),
            )
            for (role, asset), amounts in rest.items()
        ]
        return lines


async def _check_settled(side: Side, node: ReserveNode) -> None:
    """Raise unless the nodes have come as far as the book, and tell its very blocks."""
    name, at = side.network.name, side.at
    head = await node.head()
    if head.number < at.height:
        raise ReservesUnavailable(f"the nodes of {name} are at block {head.number}, the book is at {at.height}")
    if head.number - at.height > side.network.spendable_depth:
        raise ReservesUnavailable(f"the book is {head.number - at.height} blocks behind the nodes of {name}")
    told = await node.refs([at.height, at.final_height])
    here, final = told[at.height], told[at.final_height]
    if here is None or final is None or (here.block_hash, final.block_hash) != (at.block_hash, side.final_hash):
        raise ChainUnsettled(f"a reorg of {name} is under way: the nodes tell another block than the book has")
    if await node.witnessed([final]) != [final]:
        raise ReservesUnavailable(f"the nodes of {name} disagree about block {final.number}")


async def _balances(
    side: Side, node: ReserveNode, deployment: Deployment, asked: Callable[[int], None]
) -> list[tuple[OwnedBy, int]]:
    """What each own address holds of one asset at the final block; only those that hold something.

    `asked` hears for how many more the nodes have answered; 0 before they're asked.
    """
    found = []
    asked(0)
    for start in range(0, len(side.addresses), AT_ONCE):
        part = side.addresses[start : start + AT_ONCE]
        at = side.final_hash
        if deployment.contract is None:
            told = await node.coins_witnessed([(own.address, at) for own in part])
        else:
            told = await node.token_balances([(deployment.contract, own.address, at) for own in part])
        for own, units in zip(part, told, strict=True):
            if units is None:
                raise ReservesUnavailable(
                    f"no two nodes of {side.network.name} tell what {own.address} holds of {deployment.asset} at block"
                    f" {side.at.final_height}"
                )
            if units:
                found.append((own, units))
        asked(len(part))
    return found


def _named(held: Mapping[tuple[OwnedBy, str], int], count: int) -> frozenset[str]:
    """The deposit addresses that hold the greatest shares of an asset."""
    totals: dict[str, int] = {}
    for (_, asset), amount in held.items():
        totals[asset] = totals.get(asset, 0) + amount
    shares: dict[str, Fraction] = {}
    for (own, asset), amount in held.items() if count else ():
        if own.role == DEPOSIT:
            shares[own.address] = max(shares.get(own.address, Fraction()), Fraction(amount, totals[asset]))
    return frozenset(sorted(shares, key=lambda address: (-shares[address], address))[:count])


def _at_bank(told: ClosingBalance) -> AtBank:
    return AtBank(
        asset=told.asset,
        amount=str(told.balance),
        account=told.account,
        statement=_plain(told.statement),
        as_of=told.as_of.isoformat(),
    )


def _plain(text: str) -> str:
    """A bank's own reference as far as it's printable ASCII; what isn't becomes `?`."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in text)[:200] or "?"
