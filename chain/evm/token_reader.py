"""Tokens, asked at one block by its hash: their code, what stands behind it, upgrades, balances (EIP-20, EIP-1967).

A refusal by the contract is an answer (it doesn't say); any other refusal of the node is none, and raises.
"""

from collections.abc import Mapping, Sequence

from eth_hash.auto import keccak

from chain.errors import NodeMisbehaved, NodeRefused, Reverted
from chain.evm.rpc import Json, Rpc
from chain.tokens import BEACON_SLOT, IMPLEMENTATION_SLOT, UPGRADED_TOPICS, ZOS_SLOT, TokenState

_DECIMALS = "0x" + keccak(b"decimals()")[:4].hex()
_IMPLEMENTATION = "0x" + keccak(b"implementation()")[:4].hex()
_BALANCE_OF = "0x" + keccak(b"balanceOf(address)")[:4].hex()
_WORD_DIGITS = 64
_DECIMALS_MAX = 255
_CALLS_PER_TOKEN = 5


class TokenReader:
    """Questions about tokens to one node. Raises NodeRefused, NodeUnavailable, NodeMisbehaved."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def states(self, contracts: Sequence[str], *, block: str) -> dict[str, TokenState]:
        """Each contract at the block with this hash (EIP-1898). A few questions for all of them."""
        at = {"blockHash": block}
        calls: list[tuple[str, Sequence[object]]] = []
        for contract in contracts:
            calls.append(("eth_getCode", [contract, at]))
            calls += [
                ("eth_getStorageAt", [contract, slot, at]) for slot in (IMPLEMENTATION_SLOT, BEACON_SLOT, ZOS_SLOT)
            ]
            calls.append(("eth_call", [{"to": contract, "data": _DECIMALS}, at]))
        told = await self._rpc.batch(calls)
        rows = {
            contract: told[place * _CALLS_PER_TOKEN : (place + 1) * _CALLS_PER_TOKEN]
            for place, contract in enumerate(contracts)
        }
        slots = {contract: [_address(row[part]) for part in (1, 2, 3)] for contract, row in rows.items()}
        beacons = await self._beacons([beacon for _, beacon, _ in slots.values() if beacon], at)
        behind = {
            contract: eip1967 or zos or (beacons[beacon] if beacon else None)
            for contract, (eip1967, beacon, zos) in slots.items()
        }
        hashes = await self._code_hashes([address for address in behind.values() if address], at)
        return {
            contract: TokenState(
                code_hash=_code_hash(row[0]),
                decimals=_decimals(row[4]),
                eip1967=slots[contract][0],
                beacon=slots[contract][1],
                zos=slots[contract][2],
                implementation=behind[contract],
                behind_hash=hashes.get(behind[contract] or ""),
            )
            for contract, row in rows.items()
        }

    async def upgrades(self, addresses: Sequence[str], *, first: int, last: int) -> dict[str, int]:
        """Of these proxies and beacons those that told of an upgrade in blocks `first` to `last`: the latest height."""
        asked = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": list(addresses),
            "topics": [list(UPGRADED_TOPICS)],
        }
        told = await self._rpc.call("eth_getLogs", asked)
        if not isinstance(told, list):
            raise NodeMisbehaved("logs that aren't a list")
        found: dict[str, int] = {}
        for log in told:
            try:
                address, height = str(log["address"]).lower(), int(log["blockNumber"], 16)
            except (KeyError, TypeError, ValueError) as problem:
                raise NodeMisbehaved(f"a log that can't be read: {problem}") from problem
            found[address] = max(height, found.get(address, -1))
        return found

    async def balances(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        """What each (contract, owner, block hash) holds, in chain units; None: node or token don't tell."""
        told = await self._rpc.batch(
            [
                (
                    "eth_call",
                    [{"to": contract, "data": f"{_BALANCE_OF}{owner[2:]:0>{_WORD_DIGITS}}"}, {"blockHash": at}],
                )
                for contract, owner, at in asked
            ]
        )
        return [None if isinstance(answer, NodeRefused) else _word(answer) for answer in told]

    async def _beacons(self, beacons: Sequence[str], at: Mapping[str, str]) -> dict[str, str | None]:
        told = await self._rpc.batch(
            [("eth_call", [{"to": beacon, "data": _IMPLEMENTATION}, at]) for beacon in beacons]
        )
        return {beacon: _address(_said(answer)) for beacon, answer in zip(beacons, told, strict=True)}

    async def _code_hashes(self, addresses: Sequence[str], at: Mapping[str, str]) -> dict[str, str | None]:
        told = await self._rpc.batch([("eth_getCode", [address, at]) for address in addresses])
        return {address: _code_hash(answer) for address, answer in zip(addresses, told, strict=True)}


def _said(answer: Json | NodeRefused) -> Json:
    """What a contract answered; empty where it refused to."""
    if isinstance(answer, Reverted):
        return "0x"
    if isinstance(answer, NodeRefused):
        raise answer
    return answer


def _code_hash(answer: Json | NodeRefused) -> str | None:
    code = _bytes(_said(answer))
    return "0x" + keccak(code).hex() if code else None


def _decimals(answer: Json | NodeRefused) -> int | None:
    value = _word(_said(answer))
    return value if value is not None and value <= _DECIMALS_MAX else None


def _address(answer: Json | NodeRefused) -> str | None:
    value = _word(_said(answer))
    return f"0x{value:040x}" if value is not None and 0 < value < 1 << 160 else None


def _word(answer: Json) -> int | None:
    """The one word that was answered; None for anything shorter."""
    told = _bytes(answer)
    return int.from_bytes(told[:32], "big") if len(told) >= _WORD_DIGITS // 2 else None


def _bytes(answer: Json) -> bytes:
    try:
        return bytes.fromhex(answer.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError) as problem:
        raise NodeMisbehaved(f"{answer!r} isn't hexadecimal") from problem
