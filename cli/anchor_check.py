"""Looks at a node of the reader's own whether an epoch's hash stands on the chain where the house says.

The node is believed, and nobody else: which block holds the transaction, and whether it's final, is its word.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chain.errors import NodeMisbehaved, NodeRefused
from chain.evm.rpc import HttpRpc
from treasury.errors import SolvencyProofInvalid
from treasury.solvency_statements import AnchorTold, BlockTold, Published

_HASH = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnchorSeen:
    """An anchor as a node shows it: in which block, when that was made, and up to where blocks are final there."""

    block_number: int
    block_hash: str
    at: datetime
    final_through: int


async def look_up(url: str, published: Published) -> AnchorSeen:
    """The anchor of an epoch, as the node at `url` shows it.

    Raises SolvencyProofInvalid (`not_anchored`, `anchor_differs`, `anchor_not_final`), and what nodes do.
    """
    anchor = published.anchor
    if anchor is None:
        raise _wrong("not_anchored", "nothing in it says that the epoch's hash is on a chain: ask for it again later")
    block = next((one for one in published.statement.networks if one.network == anchor.network), None)
    assert block is not None, "what was published was checked before"
    rpc = HttpRpc(url)
    try:
        return await _look(rpc, published.digest, anchor, block)
    finally:
        await rpc.close()


async def _look(rpc: HttpRpc, digest: str, anchor: AnchorTold, told: BlockTold) -> AnchorSeen:
    chain_id = _number(await rpc.call("eth_chainId"))
    if chain_id != told.chain_id:
        raise _wrong("anchor_differs", f"the node serves chain {chain_id}; {anchor.network} is chain {told.chain_id}")
    found = await rpc.call("eth_getTransactionByHash", anchor.tx)
    if not isinstance(found, dict):
        raise _wrong("anchor_differs", f"the node knows no transaction {anchor.tx}")
    expected = {"hash": anchor.tx, "from": anchor.sender, "to": anchor.to, "input": f"0x{digest}"}
    for name, value in expected.items():
        if str(found.get(name)).lower() != value:
            raise _wrong(
                "anchor_differs", f"transaction {anchor.tx} has {str(found.get(name))[:80]} for {name}: not {value}"
            )
    if found.get("blockHash") is None or found.get("blockNumber") is None:
        raise _wrong("anchor_not_final", f"transaction {anchor.tx} is in no block at this node: ask again later")
    block_hash, number = _hash(found["blockHash"]), _number(found["blockNumber"])
    if anchor.state == "final" and (number, block_hash) != (anchor.block_number, anchor.block_hash):
        raise _wrong("anchor_differs", f"the node has it in block {number} {block_hash}, not in the block that is told")
    await _check_done(rpc, anchor, block_hash)
    at = await _canonical(rpc, number, block_hash, "the block that holds it")
    await _canonical(rpc, told.block_number, told.block_hash, "the block at which the epoch's balances were read")
    final_through = await _final(rpc)
    if number > final_through:
        raise _wrong(
            "anchor_not_final",
            f"its hash is in block {number}, and the node calls blocks up to {final_through} final: ask again later",
        )
    return AnchorSeen(number, block_hash, datetime.fromtimestamp(at, UTC), final_through)


async def _check_done(rpc: HttpRpc, anchor: AnchorTold, block_hash: str) -> None:
    receipt = await rpc.call("eth_getTransactionReceipt", anchor.tx)
    if not isinstance(receipt, dict) or _hash(receipt.get("blockHash")) != block_hash:
        raise NodeMisbehaved("the node's receipt isn't of the block in which it has the transaction")
    if receipt.get("status") != "0x1":
        raise _wrong("anchor_differs", f"transaction {anchor.tx} failed")


async def _canonical(rpc: HttpRpc, number: int, block_hash: str, what: str) -> int:
    """The time of the block of that height, in Unix seconds. Raises unless it's the one with this hash."""
    block = await rpc.call("eth_getBlockByNumber", hex(number), False)
    if not isinstance(block, dict) or _hash(block.get("hash")) != block_hash:
        raise _wrong("anchor_differs", f"{what}, {number}, has another hash at this node than {block_hash}")
    return _number(block.get("timestamp"))


async def _final(rpc: HttpRpc) -> int:
    """The height up to which the node calls blocks final."""
    try:
        block = await rpc.call("eth_getBlockByNumber", "finalized", False)
    except NodeRefused as refusal:
        raise _wrong("anchor_not_final", f"the node doesn't say which blocks are final: {refusal.message}") from refusal
    if not isinstance(block, dict):
        raise _wrong("anchor_not_final", "the node calls no block final")
    return _number(block.get("number"))


def _hash(told: Any) -> str:
    if not isinstance(told, str) or not _HASH.fullmatch(told):
        raise NodeMisbehaved("the node tells a hash that is none")
    return told


def _number(told: Any) -> int:
    if not isinstance(told, str) or not _NUMBER.fullmatch(told):
        raise NodeMisbehaved("the node tells a number that is none")
    return int(told, 16)


def _wrong(code: str, why: str) -> SolvencyProofInvalid:
    return SolvencyProofInvalid(why, code=code)
