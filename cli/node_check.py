"""Asks a node of the reader's own what only a chain can tell: where an epoch's hash stands, what contracts signed.

The node is believed, and nobody else: which block holds the transaction, and whether it's final, is its word.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chain.errors import NodeMisbehaved, NodeRefused
from chain.evm.contract_signatures import is_signed
from chain.evm.rpc import HttpRpc
from treasury.errors import SolvencyProofInvalid
from treasury.solvency_reading import Place, control_digest
from treasury.solvency_statements import AnchorTold, BlockTold, ControlTold, Published

_HASH = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-f]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnchorSeen:
    """An anchor as a node shows it: in which block, when that was made, and up to where blocks are final there."""

    block_number: int
    block_hash: str
    at: datetime
    final_through: int


@dataclass(frozen=True, slots=True)
class NodeSaid:
    """What a node shows of an epoch. `anchor`: None where its hash is on no chain of that node's. `confirmed`: where
    contracts took their signatures."""

    anchor: AnchorSeen | None
    confirmed: frozenset[Place]


async def look_up(url: str, published: Published) -> NodeSaid:
    """What the node at `url` shows of an epoch that was checked as far as it can be without one.

    Raises SolvencyProofInvalid (`not_anchored`, `anchor_differs`, `anchor_not_final`, `control_invalid`), and what
    nodes do.
    """
    rpc = HttpRpc(url)
    try:
        return await _look(rpc, published)
    finally:
        await rpc.close()


async def _look(rpc: HttpRpc, published: Published) -> NodeSaid:
    chain_id, anchor = _number(await rpc.call("eth_chainId")), published.anchor
    told = next((one for one in published.statement.networks if one.chain_id == chain_id), None)
    here = None if told is None else told.network
    contracts = [one for one in published.controls if one.kind == "contract" and one.network == here]
    if anchor is not None and anchor.network == here and told is not None:
        seen = await _anchored(rpc, published.digest, anchor, told)
    elif contracts:
        seen = None
    elif anchor is None:
        raise _wrong("not_anchored", "nothing in it says that the epoch's hash is on a chain: ask for it again later")
    else:
        raise _wrong("anchor_differs", f"the node serves chain {chain_id}; its hash is said to be on {anchor.network}")
    confirmed = [await _confirmed(rpc, published, one) for one in contracts]
    return NodeSaid(seen, frozenset(one for one in confirmed if one is not None))


async def _confirmed(rpc: HttpRpc, published: Published, control: ControlTold) -> Place | None:
    """Where it is, if the contract says that the signature is its own, then or now; None where the node can't tell.

    Raises SolvencyProofInvalid where it says no.
    """
    assert control.block_number is not None, "what was published was checked before"
    assert control.block_hash is not None, "what was published was checked before"
    await _canonical(rpc, control.block_number, control.block_hash, f"the block at which {control.address} was asked")
    final_through, final_hash = await _final(rpc)
    if control.block_number > final_through:
        raise _wrong(
            "control_invalid", f"block {control.block_number}, at which {control.address} was asked, isn't final"
        )
    digest = control_digest(published, control.network, control.address)
    signature, said = bytes.fromhex(control.signature), None
    for block_hash in (control.block_hash, final_hash):  # nodes forget the state of old blocks
        if said is None:
            said = await is_signed(rpc, control.address, digest, signature, block_hash=block_hash)
    if said is False:
        raise _wrong("control_invalid", f"the contract {control.address} doesn't take the signature as its own")
    return (control.network, control.address) if said else None


async def _anchored(rpc: HttpRpc, digest: str, anchor: AnchorTold, told: BlockTold) -> AnchorSeen:
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
    final_through, _ = await _final(rpc)
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


async def _final(rpc: HttpRpc) -> tuple[int, str]:
    """The height up to which the node calls blocks final, and that block's hash."""
    try:
        block = await rpc.call("eth_getBlockByNumber", "finalized", False)
    except NodeRefused as refusal:
        raise _wrong("anchor_not_final", f"the node doesn't say which blocks are final: {refusal.message}") from refusal
    if not isinstance(block, dict):
        raise _wrong("anchor_not_final", "the node calls no block final")
    return _number(block.get("number")), _hash(block.get("hash"))


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
