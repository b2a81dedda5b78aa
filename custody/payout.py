"""Calls of the payout contract (`hardhat-local/contracts/OnebookPayout.sol`), encoded by the ABI's rules. Pure.

    payNative((bytes32 id, address to, uint256 amount)[] legs)
    payToken(address token, (bytes32 id, address to, uint256 amount)[] legs)

A leg's id is the Keccak-256 of its withdrawal's id.
"""

from collections.abc import Sequence
from typing import Final

from custody.derivation import keccak
from custody.intents import Leg

PAY_NATIVE: Final = bytes(keccak(b"payNative((bytes32,address,uint256)[])")[:4])
PAY_TOKEN: Final = bytes(keccak(b"payToken(address,(bytes32,address,uint256)[])")[:4])


def leg_id(subject: str) -> bytes:
    """How the contract's events name a withdrawal: 32 bytes."""
    return bytes(keccak(subject.encode("ascii")))


def native_call(legs: Sequence[Leg]) -> bytes:
    """The call data of a batch in the network's own coin."""
    return PAY_NATIVE + _word(32) + _legs(legs)


def token_call(token: bytes, legs: Sequence[Leg]) -> bytes:
    """The call data of a batch in a token."""
    return PAY_TOKEN + token.rjust(32, b"\0") + _word(64) + _legs(legs)


def leg_ids(call: bytes) -> tuple[bytes, ...]:
    """The ids of the legs that such a call pays; none when it's another call."""
    start = {PAY_NATIVE: 4 + 32, PAY_TOKEN: 4 + 64}.get(call[:4])
    if start is None:
        return ()
    first = start + 32
    count = int.from_bytes(call[start:first], "big")
    return tuple(call[place : place + 32] for place in range(first, len(call), 96)) if count else ()


def _legs(legs: Sequence[Leg]) -> bytes:
    return _word(len(legs)) + b"".join(
        leg_id(leg.subject) + leg.to.rjust(32, b"\0") + _word(leg.amount) for leg in legs
    )


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
