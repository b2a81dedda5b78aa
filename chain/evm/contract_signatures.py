"""Whether a contract says that a signature is its own (ERC-1271), at one block: for wallets that are contracts.

A contract that takes whatever it's asked about says nothing by its yes, and anybody could call what it holds their own.
So it's asked about other 32 bytes as well, and must say no to these.
"""

from chain.errors import NodeRefused, Reverted
from chain.evm.rpc import Rpc

_IS_VALID = bytes.fromhex("1626ba7e")
"""First four bytes of keccak("isValidSignature(bytes32,bytes)"); the same four, and 28 zeros, are a yes."""

_YES = "0x" + _IS_VALID.hex().ljust(64, "0")


def signed_call(digest: bytes, signature: bytes) -> bytes:
    """Call data that asks a contract whether `signature` is its own over the 32 bytes of `digest`."""
    words = -(-len(signature) // 32)
    head = digest + (64).to_bytes(32) + len(signature).to_bytes(32)
    return _IS_VALID + head + signature.ljust(32 * words, b"\0")


async def is_signed(rpc: Rpc, contract: str, digest: bytes, signature: bytes, *, block_hash: str) -> bool | None:
    """What the contract says at the block with this hash; False where none stands, and where it takes anything.

    None: the node can't tell. Raises NodeUnavailable, NodeMisbehaved.
    """
    said = await _said(rpc, contract, digest, signature, block_hash)
    if not said:
        return said
    takes_anything = await _said(rpc, contract, bytes(255 - byte for byte in digest), signature, block_hash)
    return None if takes_anything is None else not takes_anything


async def _said(rpc: Rpc, contract: str, digest: bytes, signature: bytes, block_hash: str) -> bool | None:
    asked = {"to": contract, "data": "0x" + signed_call(digest, signature).hex()}
    try:
        told = await rpc.call("eth_call", asked, {"blockHash": block_hash})
    except Reverted:
        return False
    except NodeRefused:
        return None
    return isinstance(told, str) and told.lower() == _YES
