"""Many addresses' balances in one question, without a contract on the chain: `eth_call` with code put in for the call.

The code stands at an address for this one call only (a state override, as geth, anvil, Hardhat, Erigon and others know
them), so that only gas limits how much is asked at once. It reads the native coin as well as tokens.
"""

from collections.abc import Sequence

from chain.errors import NodeMisbehaved
from chain.evm.rpc import Call, Json

ADDRESSES_AT_ONCE = 1_000
"""Addresses asked for in one call: some 8 million gas for a token behind a proxy; the strictest nodes allow 2**24."""

WORD_BYTES = 32
"""Length of the answer for each address."""

READER = "0x00000000000000000000000000000000000b00c0"
"""Where the code stands during the call. Nothing is there, and nothing depends on which address it is."""

_CODE = bytes.fromhex(
    "6370a08231 60e0 1b 6000 52"  # memory begins with the selector of balanceOf(address)
    "6000 35 6040 6020"  # on the stack: the token, the next answer's place in memory, the next address's in the call
    "5b 36 81 10 15 604d 57"  # 12: while there are addresses
    "80 35 6060 1c"  # take one
    "83 15 603d 57"  # without a token: its coins
    "6004 52 6020 82 6024 6000 86 5a fa"  # else token.balanceOf(it), into the answer's place
    "3d 601f 10 16 15 6056 57"  # refused, or less than a word: give up
    "6041 56"
    "5b 31 82 52"  # 3d: coins
    "5b 6014 01 90 6020 01 90 6012 56"  # 41: the next one
    "5b 50 6040 90 03 6040 f3"  # 4d: return the answers
    "5b 6000 6000 fd"  # 56: revert
)


def balances_call(contract: str | None, owners: Sequence[str], *, block: str) -> Call:
    """The question what `owners` (at most ADDRESSES_AT_ONCE) hold of a token or (None) the coin at a block's hash."""
    token = "0x0" if contract is None else contract
    asked = f"0x{int(token, 16):064x}" + "".join(owner[2:] for owner in owners)
    at = {"blockHash": block}  # EIP-1898
    return "eth_call", [{"to": READER, "data": asked}, at, {READER: {"code": "0x" + _CODE.hex()}}]


def read_balances(told: Json, owners: int) -> list[int]:
    """The answer's figures, one for each owner. Raises NodeMisbehaved for anything else."""
    try:
        words = bytes.fromhex(told.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError) as problem:
        raise NodeMisbehaved("balances that aren't hexadecimal") from problem
    if len(words) != owners * WORD_BYTES:
        raise NodeMisbehaved(f"{len(words)} bytes of balances for {owners} addresses")
    return [int.from_bytes(words[start : start + WORD_BYTES]) for start in range(0, len(words), WORD_BYTES)]
