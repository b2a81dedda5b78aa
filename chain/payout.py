"""The payout contract: its code, the calls that pay a batch of legs, and what its events say. Pure, without web3.

The contract and its guarantees: docs/payout-contract.md. Its code is read from `contracts/onebook_payout.json`, made by
`hardhat-local/ship.py` and committed: no Node and no compiler is needed to run. Not in it: whether a leg may be paid
(the signer judges each as a transfer), and whether it was (its event together with the token's own `Transfer`).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from base.errors import BrokenInvariant
from chain.evm.addresses import parse_address
from chain.evm.blocks import Log

LEGS_MAX = 100
"""Legs that one call may carry; the contract refuses more."""

NATIVE_LEG_GAS = 50_000
"""Gas that a recipient of the native coin may use; the EVM adds 2,300 to it. Fixed in the contract."""

TOKEN_LEG_GAS = 120_000
"""Gas that a token may use for one transfer. Fixed in the contract."""

ALLOWANCE_GAS = 100_000
"""Gas limit of the allowance before a batch of a token: USDC takes 56,000."""

DEPLOYMENT_GAS = 650_000
"""Gas limit of creating the contract, which takes 504,000."""

LEG_TOPIC = "0x55846c0d5ffc6765de04fcb524e39d902a9f6db52a9a29858d0e041ae3f62b84"
"""keccak("Leg(bytes32,address,uint256,bool)"): the first topic of a leg's event; the second is the leg's id."""

_PAY_NATIVE = bytes.fromhex("1ab801c4")
"""First four bytes of keccak("payNative((bytes32,address,uint256)[])")."""
_PAY_TOKEN = bytes.fromhex("76282b09")
"""First four bytes of keccak("payToken(address,(bytes32,address,uint256)[])")."""

_CALL_RESERVE = 60_000
"""Gas that must be left besides a leg's own when the leg begins. Fixed in the contract."""
_TX_GAS = 21_000
_CALL_BYTE_GAS = 16
"""What a byte of call data that isn't zero costs (EIP-2028)."""
_NATIVE_AROUND_GAS = 15_000
"""A native leg's most besides what the recipient uses: cold address 2,600, value 9,000, event 2,000, loops."""
_TOKEN_AROUND_GAS = 5_000
"""A token leg's most besides what the token uses: event 2,000, cold address once, call data, loop."""
_WORD = 32
_AMOUNT_MAX = 2**256 - 1
_CODE_FILE = Path(__file__).parent / "contracts" / "onebook_payout.json"


@dataclass(frozen=True, slots=True)
class Leg:
    """One payment of a batch: an id of 32 bytes, the recipient (hex), the amount in chain units."""

    id: bytes
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class LegOutcome:
    """What the contract says of a leg; `position` is its event's within the receipt."""

    position: int
    leg: Leg
    paid: bool


@dataclass(frozen=True, slots=True)
class PayoutCode:
    """The code that creates the contract (no arguments follow it), and the code that then stands at its address."""

    creation: bytes
    runtime: bytes
    creation_sha256: str
    """The hash (hex) by which the signer's policy names the contract."""


@cache
def payout_code() -> PayoutCode:
    """The committed code. Raises BrokenInvariant if the file contradicts itself."""
    found = json.loads(_CODE_FILE.read_bytes())
    creation, runtime = (bytes.fromhex(found[name].removeprefix("0x")) for name in ("creation_code", "runtime_code"))
    digest = hashlib.sha256(creation).hexdigest()
    if digest != found["creation_code_sha256"] or not creation.endswith(runtime):
        raise BrokenInvariant(f"{_CODE_FILE.name} was changed: its code doesn't have the hash it names")
    return PayoutCode(creation=creation, runtime=runtime, creation_sha256=digest)


def native_call(legs: Sequence[Leg]) -> bytes:
    """Call data that pays `legs` out of the transaction's value, which is at least their sum; the rest comes back.

    Raises BrokenInvariant for legs that nobody should have put into one batch (see `_legs`).
    """
    return _PAY_NATIVE + _number(_WORD) + _legs(legs)


def token_call(token: str, legs: Sequence[Leg]) -> bytes:
    """Call data that pays `legs` in `token` by the allowance that the sender gave. Raises as `native_call`."""
    return _PAY_TOKEN + _address(token) + _number(2 * _WORD) + _legs(legs)


def gas_bound(legs: int, *, native: bool) -> int:
    """A gas limit that suffices for so many legs even if each recipient or the token burns all it is given.

    An estimate is lower, and is enough while the recipients behave as they did for it; below what a leg is promised
    the contract refuses the whole batch. For 100 legs the bound is under the 2^24 of EIP-7825.
    """
    share, around = (NATIVE_LEG_GAS, _NATIVE_AROUND_GAS) if native else (TOKEN_LEG_GAS, _TOKEN_AROUND_GAS)
    call_bytes = 4 + _WORD * (3 + 3 * legs)
    reserve = share // 63 + _CALL_RESERVE  # must be there at the last leg, and stays unspent
    return _TX_GAS + call_bytes * _CALL_BYTE_GAS + legs * (share + around) + reserve


def tail_gas(*, native: bool) -> int:
    """What of a gas limit must be left when the last leg begins, and stays unspent if that behaves."""
    share = NATIVE_LEG_GAS if native else TOKEN_LEG_GAS
    return share + share // 63 + _CALL_RESERVE


def leg_outcomes(logs: Iterable[Log], contract: str) -> tuple[LegOutcome, ...]:
    """What `contract` (lower-case hex) says of its legs in the `logs` of one receipt; other logs are left out.

    Raises BrokenInvariant for a leg's event in a form that the contract never writes: then its code is another one.
    """
    return tuple(
        LegOutcome(position, *_leg(log))
        for position, log in enumerate(logs)
        if log.contract == contract and log.topics[:1] == (LEG_TOPIC,)
    )


def _leg(log: Log) -> tuple[Leg, bool]:
    to, amount, paid = (int.from_bytes(log.payload[at : at + _WORD], "big") for at in (0, _WORD, 2 * _WORD))
    if len(log.topics) != 2 or len(log.payload) != 3 * _WORD or to >= 2**160 or paid not in (0, 1):
        raise BrokenInvariant(f"{log.contract} writes a Leg event that isn't the payout contract's")
    return Leg(id=bytes.fromhex(log.topics[1][2:]), to=f"0x{to:040x}", amount=amount), paid == 1


def _legs(legs: Sequence[Leg]) -> bytes:
    """The array's length and legs (contract ABI). Stricter than the contract: distinct ids, nothing paid to nobody."""
    if not 1 <= len(legs) <= LEGS_MAX:
        raise BrokenInvariant(f"a batch has 1 to {LEGS_MAX} legs, not {len(legs)}")
    if len({leg.id for leg in legs}) != len(legs):
        raise BrokenInvariant("two legs of a batch have the same id")
    if any(len(leg.id) != _WORD or not 0 < leg.amount <= _AMOUNT_MAX for leg in legs):
        raise BrokenInvariant("a leg's id is 32 bytes, and its amount from 1 to 2^256 - 1")
    if sum(leg.amount for leg in legs) > _AMOUNT_MAX:
        raise BrokenInvariant("the legs of a batch come to more than 2^256 - 1")
    return _number(len(legs)) + b"".join(leg.id + _address(leg.to) + _number(leg.amount) for leg in legs)


def _number(number: int) -> bytes:
    return number.to_bytes(_WORD, "big")


def _address(text: str) -> bytes:
    return bytes.fromhex(parse_address(text)[2:]).rjust(_WORD, b"\0")
