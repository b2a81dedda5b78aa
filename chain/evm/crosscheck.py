"""What was recorded block by block, held against what a node tells of the same heights by `eth_getLogs` ranges.

The record came from whole blocks, by hash; a range comes from a node's index, by number. Where they differ the whole
block, verified, decides. Only token transfers: the native coin writes no logs. Nothing is written here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncEngine

from chain import addresses, store
from chain.errors import LogsLimited, NodeMisbehaved, NodeUnavailable
from chain.evm import transfers
from chain.evm.blocks import Block, Log
from chain.evm.node import Node
from chain.evm.rpc import Json
from chain.networks import Network
from chain.observations import BlockRef
from db.engine import tx

RANGE_BLOCKS = 2000
"""Blocks in the first question; refused, it's halved down to one."""

Transfer = tuple[str, str, str, str, int]
"""Transaction, contract, sender, recipient, amount in chain units."""


class Fault(StrEnum):
    """Who is wrong about a transfer, by the whole block."""

    UNRECORDED = "unrecorded"
    """It's in the block and wasn't recorded; also when its address became ours only later."""
    INVENTED = "invented"
    """It was recorded and isn't in the block."""
    RANGE_WRONG = "range_wrong"
    """The record is right: the node's range left it out, or told of it without cause."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One transfer that the range and the record don't both have."""

    fault: Fault
    number: int
    block_hash: str
    transfer: Transfer


async def cross_check(
    engine: AsyncEngine, network: Network, node: Node, *, lowest: int, highest: int
) -> list[Difference]:
    """Compare the heights `lowest` to `highest`, both included and taken in, with the node's ranges.

    Raises NodeUnavailable when the node hasn't come so far or lacks a block, NodeMisbehaved when it tells of other
    blocks than ours (or there was a reorganisation meanwhile: ask again), ValueError for heights not taken in.
    """
    async with tx(engine) as connection:
        ours = await store.live_hashes(connection, network.name, lowest=lowest, highest=highest)
        recorded = await store.token_transfers(connection, network.name, lowest=lowest, highest=highest)
    if len(ours) != highest - lowest + 1:
        raise ValueError(f"not all of {lowest} to {highest} was taken in")
    if (await node.head()).number < highest:
        raise NodeUnavailable(f"the node hasn't come to block {highest}")  # it would answer with an empty list
    told: dict[int, Counter[Transfer]] = {}
    for start in range(lowest, highest + 1, RANGE_BLOCKS):
        for number, transfer in await _logs(node, ours, start, min(highest, start + RANGE_BLOCKS - 1)):
            told.setdefault(number, Counter())[transfer] += 1
    touched = {address for found in told.values() for transfer in found for address in transfer[2:4]}
    async with tx(engine) as connection:
        own = await addresses.own_among(connection, network.family, touched)
    differences: list[Difference] = []
    for number in sorted(ours):
        range_has = _of(own, told.get(number, Counter()))
        we_have = Counter(recorded.get(number, ()))
        if range_has != we_have:
            ref = BlockRef(number, ours[number], "")
            differences += await _judge(engine, network, node, ref, range_has, we_have)
    return differences


async def _logs(node: Node, ours: Mapping[int, str], lowest: int, highest: int) -> list[tuple[int, Transfer]]:
    """The transfers of a range, halved as often as the node wants it; one block that is too much is read by hash."""
    try:
        if lowest == highest:
            where = {"blockHash": ours[lowest]}
        else:
            where = {"fromBlock": hex(lowest), "toBlock": hex(highest)}
        logs = await node.transfer_logs(where)
    except LogsLimited:
        if lowest == highest:
            block = await _block(node, BlockRef(lowest, ours[lowest], ""))
            return [(lowest, found) for found in _in(block)]
        middle = (lowest + highest) // 2
        return await _logs(node, ours, lowest, middle) + await _logs(node, ours, middle + 1, highest)
    return list(_read(logs, ours, lowest, highest))


def _read(logs: list[Json], ours: Mapping[int, str], lowest: int, highest: int) -> Iterator[tuple[int, Transfer]]:
    for log in logs:
        try:
            number, block_hash, tx_hash = int(log["blockNumber"], 16), log["blockHash"], log["transactionHash"]
            event = Log(log["address"].lower(), tuple(log["topics"]), bytes.fromhex(log["data"][2:]))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise NodeMisbehaved(f"a log that can't be read: {problem}") from problem
        if not lowest <= number <= highest or ours[number] != block_hash:
            raise NodeMisbehaved(f"asked for the logs of {lowest} to {highest}, given one of block {block_hash}")
        if (found := transfers.of_log(tx_hash, 0, event)) is not None:
            yield number, (found.tx_hash, str(found.contract), found.sender, found.recipient, found.amount)


async def _judge(
    engine: AsyncEngine,
    network: Network,
    node: Node,
    ref: BlockRef,
    range_has: Counter[Transfer],
    we_have: Counter[Transfer],
) -> list[Difference]:
    """What differs in one block, by the whole block."""
    block = await _block(node, ref)
    async with tx(engine) as connection:
        own = await addresses.own_among(connection, network.family, transfers.touched(block))
    has = _of(own, Counter(_in(block)))
    wrong = {Fault.UNRECORDED: has - we_have, Fault.INVENTED: we_have - has}
    wrong[Fault.RANGE_WRONG] = (range_has - has) + (has - range_has)
    return [
        Difference(fault, ref.number, ref.block_hash, transfer)
        for fault, found in wrong.items()
        for transfer in sorted(found.elements())
    ]


async def _block(node: Node, ref: BlockRef) -> Block:
    (known,) = (await node.refs([ref.number])).values()
    if known is None or known.block_hash != ref.block_hash:
        raise NodeMisbehaved(f"the node has another block than ours at {ref.number}")
    block = await node.block(known)
    if block is None:
        raise NodeUnavailable(f"the node doesn't tell block {ref.block_hash}")
    return block


def _in(block: Block) -> list[Transfer]:
    return [
        (found.tx_hash, found.contract, found.sender, found.recipient, found.amount)
        for found in transfers.observations(block, transfers.touched(block))
        if found.contract is not None
    ]


def _of(own: frozenset[str], found: Counter[Transfer]) -> Counter[Transfer]:
    """Those that concern an own address."""
    return Counter({one: count for one, count in found.items() if one[2] in own or one[3] in own})
