"""Leaving a local chain that was reset: its blocks count no longer, and the new chain is followed from its beginning.

Between `leave` and `settled` the network is halted (`chain_reset`): the new chain is read, but nothing is credited,
signed or sent. What was booked from the lost chain is taken back meanwhile by whoever booked it; that isn't done here.

NothingReset   (Rejected)     the node's chain is the one that was followed: there is nothing to do
CannotReanchor (ConfigError)  it would not be right for what is on record; says what to do
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.errors import ConfigError, Rejected
from chain import reanchor_store as store
from chain import transaction_store
from chain.errors import NotYetFollowed
from chain.evm.pool import Pool
from chain.networks import Network
from chain.observations import BlockRef
from chain.store import Followed, followed
from db.engine import tx

HALTED_RESET = "chain_reset"
"""Why a network is halted: its chain is gone, and what was booked from it isn't all taken back yet."""


class NothingReset(Rejected):
    default_code = "nothing_reset"


class CannotReanchor(ConfigError):
    default_code = "cannot_reanchor"


@dataclass(frozen=True, slots=True)
class Reset:
    """A chain that was followed and is gone, and the one that the nodes serve now.

    `begun`: it was left already, and what was booked from it is being taken back; then `lost` is the new chain's row.
    """

    network: Network
    lost: Followed
    genesis_hash: str
    head_height: int
    begun: bool


async def look(engine: AsyncEngine, network: Network, pool: Pool, *, book: str) -> Reset:
    """What was followed as `network` and what its nodes serve now. Every node is asked, and all must serve one chain.

    Raises NotYetFollowed, WrongChain (a node serves another chain than the configuration names), NothingReset,
    CannotReanchor, NodeUnavailable, NodeMisbehaved.
    """
    async with tx(engine) as connection:
        at = await followed(connection, network.name)
        lowest = await store.lowest_live(connection, network.name)
        traces = await store.own_traces(connection, network)
        reused = await store.was_signed_for(connection, network.chain_id)
    if at is None:
        raise NotYetFollowed(f"network {network.name} has never been followed: there is nothing to re-anchor")
    genesis_hash, head_height = await _served(pool)
    begun = at.halted == HALTED_RESET and (at.chain_id, at.genesis_hash) == (network.chain_id, genesis_hash)
    if begun:
        return Reset(network, at, genesis_hash, head_height, begun=True)
    if (at.chain_id, at.genesis_hash) == (network.chain_id, genesis_hash):
        await _refuse_if_still_there(network, lowest, pool)
    if reused:
        raise CannotReanchor(
            f"the signer was asked for transactions on chain id {network.chain_id} already: on another chain with this"
            " id its journal's nonces would be wrong and its signatures still good. Start the local chain with a fresh"
            " id (`onebook chain up` draws one), and name that in onebook.toml and in the signer's policy",
            code="chain_id_reused",
        )
    if strangers := [other for other in traces.books if other != book]:
        raise CannotReanchor(
            f"book {strangers[0]} has deposit addresses in this database too: a network is re-anchored for all its"
            " books or none, and this command knows one",
            code="several_books",
        )
    return Reset(network, at, genesis_hash, head_height, begun=False)


async def leave(engine: AsyncEngine, reset: Reset, *, first_nonces: dict[str, int], now: datetime) -> None:
    """Orphan all that was taken in, put aside what the new chain would collide with, and halt: one tx.

    `first_nonces` are the house's senders' on the new chain, by address. Raises CannotReanchor if the network has moved
    since it was looked at.
    """
    network, lost = reset.network, reset.lost
    async with tx(engine) as connection:
        await store.locked(connection, network.name)
        at = await followed(connection, network.name)
        if at is None or (at.chain_id, at.genesis_hash, at.height, at.block_hash) != (
            lost.chain_id,
            lost.genesis_hash,
            lost.height,
            lost.block_hash,
        ):
            raise CannotReanchor(f"network {network.name} was followed on meanwhile: look again")
        await store.set_aside(connection, network.name, under=store.name_aside(at))
        await store.orphan_all(connection, network.name)
        await store.change_network(
            connection,
            network.name,
            chain_id=network.chain_id,
            genesis_hash=reset.genesis_hash,
            height=network.start_height - 1,
            block_hash=None,
            head_height=-1,
            final_height=-1,
            roots_verified=False,
            halted=HALTED_RESET,
            halted_at=now,
            epoch=at.epoch + 1,
            updated_at=now,
        )
        await _begin_nonces(connection, network.name, first_nonces)


async def settled(engine: AsyncEngine, network: Network, *, first_nonces: dict[str, int], now: datetime) -> None:
    """All that was booked from the lost chain is taken back: the network is halted no longer. Again is harmless.

    A payment that was being reserved in the instant of leaving, and was given up since, is put aside too: it was never
    signed, and must not be.
    """
    async with tx(engine) as connection:
        await store.locked(connection, network.name)
        at = await followed(connection, network.name)
        if at is None or at.halted != HALTED_RESET:
            return
        if await store.has_transactions(connection, network.name):
            await store.set_aside(connection, network.name, under=store.name_aside(at))
            await _begin_nonces(connection, network.name, first_nonces)
        await store.change_network(connection, network.name, halted=None, halted_at=None, updated_at=now)


async def _served(pool: Pool) -> tuple[str, int]:
    """The genesis hash and the head of the chain that every node serves. Raises CannotReanchor when they differ."""
    told = {await node.check(None) for node in pool.nodes}
    if len(told) > 1:
        raise CannotReanchor(
            f"the nodes of network {pool.network.name} serve different chains: {', '.join(sorted(told))}"
        )
    return told.pop(), (await pool.head()).number


async def _refuse_if_still_there(network: Network, lowest: BlockRef | None, pool: Pool) -> None:
    """By the lowest block: where that is another one, every later one is."""
    if lowest is None:
        raise NothingReset(f"network {network.name}: nothing but the genesis block was taken in, and it is still there")
    for node in pool.nodes:
        found = (await node.refs([lowest.number]))[lowest.number]
        if found is not None and found.block_hash == lowest.block_hash:
            raise NothingReset(
                f"network {network.name} was not reset: block {lowest.block_hash} at height {lowest.number}, which was"
                " taken in, is on the node's chain"
            )


async def _begin_nonces(connection: AsyncConnection, network: str, first: dict[str, int]) -> None:
    for sender, nonce in sorted(first.items()):
        await transaction_store.begin_nonces(connection, network=network, sender=sender, first=nonce)
