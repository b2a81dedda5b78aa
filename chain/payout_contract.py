"""What nodes tell of the payout contract before it's used: whether it stands there, what it may take, which legs fail.

Only the code at a final block lets it be used, as two nodes tell it where there are so many. What is tried beforehand
is a node's word, and decides no more than who shares a transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from chain.errors import InsufficientFunds, MethodUnsupported, NodeMisbehaved, NodeRefused, RateLimited
from chain.evm.node import Node
from chain.evm.rpc import Json
from chain.evm.signed import transfer_call
from chain.payout import NATIVE_LEG_GAS, payout_code
from chain.signing import Leg, OwnKey

_ALLOWANCE = bytes.fromhex("dd62ed3e")
"""First four bytes of keccak("allowance(address,address)"), ERC-20."""
_STIPEND_GAS = 2_300
"""What the EVM adds to a recipient's gas when the coin comes with a call."""
_TX_GAS = 21_000
_WORD = 32


@dataclass(frozen=True, slots=True)
class PayoutContract:
    """Where the contract lies or will lie on a network: what `deployer` creates with this nonce, and nobody else."""

    network: str
    address: str
    deployer: OwnKey
    nonce: int


async def stands(node: Node, address: str, *, block: str) -> bool:
    """Whether our contract's very code is at `address`, at the block with this hash.

    Raises NodeUnavailable, NodeMisbehaved when no node, or no two that agree, tell.
    """
    found = await node.tokens.states([address], block=block)
    return found[address].code_hash == "0x" + keccak(payout_code().runtime).hex()


async def allowance(node: Node, token: str, *, owner: str, spender: str) -> int:
    """What `spender` may take of the owner's now, in chain units."""
    call = _ALLOWANCE + _word(owner) + _word(spender)
    told = await node.rpc.call("eth_call", {"to": token, "data": "0x" + call.hex()}, "latest")
    return int.from_bytes(_bytes(told)[:_WORD], "big")


async def unfit(node: Node, legs: Sequence[Leg], *, contract: str | None, sender: str) -> frozenset[int]:
    """Places of the legs that would fail if each were paid now, with the gas that the contract gives it.

    What the sender lacks money for isn't tried. Raises NodeUnavailable, NodeMisbehaved, RateLimited.
    """
    calls: list[dict[str, str]] = []
    for leg in legs:
        if contract is None:
            gas = hex(_TX_GAS + NATIVE_LEG_GAS + _STIPEND_GAS)
            calls.append({"from": sender, "to": leg.to, "value": hex(leg.amount), "gas": gas})
        else:
            calls.append({"from": sender, "to": contract, "data": "0x" + transfer_call(leg.to, leg.amount).hex()})
    told = await node.rpc.batch([("eth_call", [call, "latest"]) for call in calls])
    return frozenset(place for place, answer in enumerate(told) if _fails(answer, is_token=contract is not None))


async def unused(node: Node, addresses: Sequence[str], *, block: str) -> frozenset[str]:
    """Of these addresses those that hold nothing of the coin: a contract that pays a new one owes 25,000 gas more."""
    held = await node.coins([(address, block) for address in addresses])
    return frozenset(address for address, balance in zip(addresses, held, strict=True) if balance == 0)


def _fails(answer: Json | NodeRefused, *, is_token: bool) -> bool:
    match answer:
        case RateLimited() | MethodUnsupported():
            raise answer
        case InsufficientFunds():
            return False
        case NodeRefused():
            return True
    said = _bytes(answer)
    return is_token and bool(said) and int.from_bytes(said[:_WORD], "big") != 1


def _bytes(told: Json) -> bytes:
    try:
        return bytes.fromhex(told.removeprefix("0x"))
    except (AttributeError, ValueError) as problem:
        raise NodeMisbehaved(f"{told!r} isn't hexadecimal") from problem


def _word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(_WORD, b"\0")
