"""How far a network was taken in, and which of its blocks count: for people, and for those who credit and pay."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chain import store
from chain.disagreements import OpenDisagreement, open_disagreement
from chain.errors import NotYetFollowed
from chain.networks import Network

NODES_DISAGREE = "nodes_disagree"
"""Why a network is halted: too few of its nodes tell the same block."""


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """Blocks up to `spendable_height` and `final_height` are that; heights are -1 before there is any such block.

    `behind` is how many blocks the node told of and weren't taken in. `trusting_one_node`: no second endpoint must
    agree. `roots_verified`: the last block's hash and roots were recomputed. `halted`: crediting and paying must stop,
    and since when; either until an operator has looked, or while `disagreement` lasts. `epoch` rises with each new
    leader, and when the network is re-anchored: heights of one say nothing of another. `late`: observations that were
    recorded later than their blocks.
    """

    network: str
    chain_id: int
    genesis_hash: str
    height: int
    block_hash: str | None
    head_height: int
    behind: int
    spendable_height: int
    final_height: int
    roots_verified: bool
    trusting_one_node: bool
    halted: str | None
    epoch: int
    late: int
    halted_at: datetime | None
    disagreement: OpenDisagreement | None
    updated_at: datetime


async def network_status(connection: AsyncConnection, network: Network) -> NetworkStatus:
    """How far `network` was taken in. Raises NotYetFollowed before its follower's first step."""
    at = await store.followed(connection, network.name)
    if at is None:
        raise NotYetFollowed(f"network {network.name} has never been followed; is the worker running?")
    disagreement = await open_disagreement(connection, network.name)
    halted, halted_at = at.halted, at.halted_at
    if halted is None and disagreement is not None and disagreement.found.stops:
        halted, halted_at = NODES_DISAGREE, disagreement.first_seen_at
    return NetworkStatus(
        network=at.network,
        chain_id=at.chain_id,
        genesis_hash=at.genesis_hash,
        height=at.height,
        block_hash=at.block_hash,
        head_height=at.head_height,
        behind=max(0, at.head_height - at.height),
        spendable_height=max(-1, at.height - network.spendable_depth + 1, at.final_height),
        final_height=at.final_height,
        roots_verified=at.roots_verified,
        trusting_one_node=len(network.rpc_urls) == 1,
        halted=halted,
        halted_at=halted_at,
        disagreement=disagreement,
        epoch=at.epoch,
        late=at.late,
        updated_at=at.updated_at,
    )


async def status_if_followed(connection: AsyncConnection, network: Network) -> NetworkStatus | None:
    """How far `network` was taken in; None before its follower's first step."""
    try:
        return await network_status(connection, network)
    except NotYetFollowed:
        return None
