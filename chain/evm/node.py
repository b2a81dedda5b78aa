"""A node of one network, asked in the chain's own terms: which chain, which blocks, what is owned, send this.

It keeps no opinion between questions, except what the node can do.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from eth_hash.auto import keccak

from base.nesting import limit_recursion
from chain.errors import (
    AlreadyKnown,
    MethodUnsupported,
    NodeMisbehaved,
    NodeRefused,
    NodeUnavailable,
    RateLimited,
    WrongChain,
)
from chain.evm import multicall
from chain.evm.blocks import Block, read_block, read_ref
from chain.evm.rpc import Json, Rpc
from chain.evm.signed import balance_call
from chain.evm.token_reader import TokenReader
from chain.evm.traces import TRACER
from chain.evm.transfers import TRANSFER_TOPIC
from chain.fees import Market
from chain.foreign import AccountState, delegate_of
from chain.networks import Network
from chain.observations import BlockRef
from chain.sending import Handed, Taking, answer_of

if TYPE_CHECKING:
    from chain.evm.comfort import Comfort

_FINALIZED = "finalized"
_TRACE_BLOCK, _TRACE_TRANSACTION = "debug_traceBlockByHash", "debug_traceTransaction"


class Node:
    """One endpoint of `network`. Every method raises NodeRefused, NodeUnavailable or NodeMisbehaved."""

    def __init__(self, network: Network, rpc: Rpc) -> None:
        self.network = network
        self.rpc = rpc
        self.tokens = TokenReader(rpc)
        self._has_block_receipts = True
        self._has_overrides = True
        self._tracing: str | None = _TRACE_BLOCK

    @cached_property
    def _comfort(self) -> "Comfort":
        # Imported when it's first needed: web3.py takes longer to import than most commands take to run.
        from chain.evm.comfort import Comfort

        limit_recursion()
        return Comfort(self.rpc)

    async def check(self, genesis_hash: str | None) -> str:
        """The genesis block's hash, after making sure that this is the network's chain, which `genesis_hash` began.

        Asked anew on every step, in one question with one answer: what sits behind an address can change. Raises
        WrongChain.
        """
        told_id, genesis = await self._all([("eth_chainId", []), ("eth_getBlockByNumber", ["0x0", False])])
        chain_id = _number(told_id)
        if chain_id != self.network.chain_id:
            raise WrongChain(
                f"the node of network {self.network.name} serves chain {chain_id}, not {self.network.chain_id}: it is"
                " another chain's, or that of a local chain that was started anew (docs/local-chain.md)",
                configured=self.network.chain_id,
                served=chain_id,
            )
        found = read_ref(genesis).block_hash
        for expected in (self.network.genesis_hash, genesis_hash):
            if expected is not None and expected != found:
                raise WrongChain(
                    f"network {self.network.name} began with block {expected}, the node's chain with {found}: it is"
                    " another chain, or a local one that was started anew: `onebook chain reanchor"
                    f" {self.network.name}` goes on with that one (docs/local-chain.md)",
                    expected=expected,
                    served=found,
                )
        return found

    async def head(self) -> BlockRef:
        """The newest block."""
        return read_ref(await self.rpc.call("eth_getBlockByNumber", "latest", False))

    async def finalized(self) -> BlockRef | None:
        """The newest block that the node calls final, if it calls any so."""
        block = await self.rpc.call("eth_getBlockByNumber", _FINALIZED, False)
        return read_ref(block) if block is not None else None

    async def refs(self, heights: Iterable[int]) -> dict[int, BlockRef | None]:
        """The blocks at these heights; None where the node has none."""
        asked = list(heights)
        answers = await self._all([("eth_getBlockByNumber", [hex(height), False]) for height in asked])
        found = {height: read_ref(block) if block else None for height, block in zip(asked, answers, strict=True)}
        if any(ref is not None and ref.number != height for height, ref in found.items()):
            raise NodeMisbehaved("a block of another height than asked for")
        return found

    async def block(self, ref: BlockRef) -> Block | None:
        """The whole block with this hash and its receipts, checked; None if the node doesn't have it (any more)."""
        return next(iter(await self.blocks([ref])), None)

    async def blocks(self, refs: Sequence[BlockRef]) -> list[Block]:
        """The whole blocks with these hashes and their receipts, checked: as many from the first on as the node has."""
        if not refs:
            return []
        told = await self._with_receipts([ref.block_hash for ref in refs])
        return await asyncio.to_thread(self._read, refs, told)

    def _read(self, refs: Sequence[BlockRef], told: Sequence[tuple[Json, Sequence[Json] | None]]) -> list[Block]:
        """In a thread, since a full block takes some hundredths of a second and others wait for the loop."""
        whole: list[Block] = []
        for ref, (block, receipts) in zip(refs, told, strict=True):
            if block is None or receipts is None or any(receipt is None for receipt in receipts):
                break
            found = read_block(block, receipts, self.network.encoding)
            if found.ref != ref:
                raise NodeMisbehaved(f"asked for block {ref.block_hash}, given {found.ref.block_hash}")
            whole.append(found)
        return whole

    async def transfer_logs(self, where: Mapping[str, str]) -> list[Json]:
        """Logs of token transfers `where` (`fromBlock` and `toBlock`, or `blockHash`: EIP-234), as the node tells them.

        Raises LogsLimited for more than it gives at once.
        """
        told = await self.rpc.call("eth_getLogs", {**where, "topics": [TRANSFER_TOPIC]})
        if not isinstance(told, list):
            raise NodeMisbehaved("logs that aren't a list")
        return told

    async def send(self, raw: bytes) -> None:
        """Hand in a signed transaction, once. That the node has it already is success (AlreadyKnown isn't raised)."""
        try:
            await self.rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        except AlreadyKnown:
            return

    async def hand_in(self, raw: bytes, *, unless: str | None = None) -> list[Handed]:
        """Hand in a signed transaction, once, and tell what the node did with it: whatever that is, nothing is raised.

        `unless`: its hash; a node that knows it isn't sent it again.
        """
        try:
            return [await self._hand_in(raw, unless)]
        except (NodeRefused, NodeUnavailable, NodeMisbehaved) as problem:
            return [answer_of("1", problem)]

    async def _hand_in(self, raw: bytes, unless: str | None, name: str = "1") -> Handed:
        """As `hand_in`, but what isn't an answer is raised."""
        if unless is not None and await self.knows(unless):
            return Handed(name, Taking.KNOWN)
        try:
            await self.rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        except NodeRefused as refused:
            if isinstance(refused, RateLimited):
                raise
            return answer_of(name, refused)
        return answer_of(name, None)

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node has the transaction, waiting or mined."""
        return await self.rpc.call("eth_getTransactionByHash", tx_hash) is not None

    async def placed(self, tx_hashes: Sequence[str]) -> dict[str, int | None]:
        """Of these transactions those that the node has: the height each is mined at, None while it waits."""
        told = await self._all([("eth_getTransactionByHash", [tx_hash]) for tx_hash in tx_hashes])
        found = {tx_hash: one for tx_hash, one in zip(tx_hashes, told, strict=True) if one is not None}
        return {name: _number(one["blockNumber"]) if one.get("blockNumber") else None for name, one in found.items()}

    async def senders(self, tx_hashes: Sequence[str]) -> dict[str, str | None]:
        """Who sent each of these transactions, by the node's word (lower-case hex); None for one that it hasn't got."""
        told = await self._all([("eth_getTransactionByHash", [tx_hash]) for tx_hash in tx_hashes])
        return {name: None if one is None else _address(one) for name, one in zip(tx_hashes, told, strict=True)}

    async def next_nonce(self, address: str) -> int:
        """How many transactions of `address` are mined."""
        return _number(await self.rpc.call("eth_getTransactionCount", address, "latest"))

    async def balance(self, contract: str | None, owner: str, *, block: str | None = None) -> int:
        """What `owner` holds of a token or (None) of the native coin, in chain units, at a block's hash or the head."""
        if contract is not None:
            return await self._comfort.token_balance(contract, owner, block=block)
        at: Json = {"blockHash": block} if block else "latest"  # EIP-1898
        return _number(await self.rpc.call("eth_getBalance", owner, at))

    async def holdings(self, owners: Sequence[tuple[str | None, str]]) -> list[int]:
        """What each (contract or None, owner) holds at the head, asked at once."""
        calls: list[tuple[str, Sequence[object]]] = [
            ("eth_getBalance", [owner, "latest"])
            if contract is None
            else ("eth_call", [{"to": contract, "data": balance_call(owner)}, "latest"])
            for contract, owner in owners
        ]
        return [_number(told) for told in await self._all(calls)] if calls else []

    async def try_calls(self, calls: Sequence[Mapping[str, str]]) -> list[bytes | NodeRefused]:
        """What each call would answer at the newest block, or the refusal in its place. Raises RateLimited."""
        asked = [("eth_call", [call, "latest"]) for call in calls]
        told = await self.rpc.batch(asked) if asked else []
        return [answer if _refused(answer) else _bytes(answer) for answer in told]

    async def balances(self, owners: Sequence[tuple[str | None, str]], *, block: str) -> list[int]:
        """The balances of (contract or None, owner) at the block with this hash, in order.

        Many in one question where the node can put code in for a call (`chain.evm.multicall`), else one by one.
        """
        if not self._has_overrides:
            return await self._balances_one_by_one(owners, block)
        try:
            return await self._balances_together(owners, block)
        except RateLimited:
            raise
        except NodeRefused:
            found = await self._balances_one_by_one(owners, block)
            self._has_overrides = False  # not for want of the block, then
            return found

    async def _balances_together(self, owners: Sequence[tuple[str | None, str]], block: str) -> list[int]:
        places: dict[str | None, list[int]] = {}
        for place, (contract, _) in enumerate(owners):
            places.setdefault(contract, []).append(place)
        parts = [
            (contract, own[start : start + multicall.ADDRESSES_AT_ONCE])
            for contract, own in places.items()
            for start in range(0, len(own), multicall.ADDRESSES_AT_ONCE)
        ]
        found = [0] * len(owners)
        for contract, part in parts:
            method, params = multicall.balances_call(contract, [owners[place][1] for place in part], block=block)
            told = multicall.read_balances(await self.rpc.call(method, *params), len(part))
            for place, units in zip(part, told, strict=True):
                found[place] = units
        return found

    async def _balances_one_by_one(self, owners: Sequence[tuple[str | None, str]], block: str) -> list[int]:
        at = {"blockHash": block}  # EIP-1898
        calls: list[tuple[str, Sequence[object]]] = [
            ("eth_getBalance", [owner, at])
            if contract is None
            else ("eth_call", [{"to": contract, "data": balance_call(owner)}, at])
            for contract, owner in owners
        ]
        return [_number(told) for told in await self._all(calls)] if calls else []

    async def coins(self, asked: Sequence[tuple[str, str]]) -> list[int | None]:
        """What each (address, block hash) holds of the native coin, in wei; None: the node doesn't know (any more)."""
        told = await self.rpc.batch([("eth_getBalance", [owner, {"blockHash": at}]) for owner, at in asked])
        return [None if isinstance(answer, NodeRefused) else _number(answer) for answer in told]

    async def accounts(self, asked: Sequence[tuple[str, str]]) -> list[AccountState | None]:
        """The nonce and code of each (address, block hash); None: the node doesn't know (any more)."""
        calls: list[tuple[str, Sequence[object]]] = []
        for owner, at in asked:
            calls += [(method, [owner, {"blockHash": at}]) for method in ("eth_getTransactionCount", "eth_getCode")]
        told = await self.rpc.batch(calls)
        return [_account(nonce, code) for nonce, code in zip(told[::2], told[1::2], strict=True)]

    async def trace(self, block_hash: str) -> list[tuple[str, Json]] | None:
        """(hash, trace) of each transaction of the block, as `chain.evm.traces` reads them; None: it can't be traced.

        A node without debug_traceBlockByHash (Hardhat) is asked transaction by transaction.
        """
        if self._tracing == _TRACE_BLOCK:
            (told,) = await self.rpc.batch([(_TRACE_BLOCK, [block_hash, TRACER])])
            if not isinstance(told, MethodUnsupported):
                return None if _refused(told) else _by_transaction(told)
            self._tracing = _TRACE_TRANSACTION
        if self._tracing is None:
            return None
        block = await self.rpc.call("eth_getBlockByHash", block_hash, False)
        hashes = list(block["transactions"]) if block else []
        traces = await self.rpc.batch([(_TRACE_TRANSACTION, [tx_hash, TRACER]) for tx_hash in hashes])
        if any(isinstance(answer, MethodUnsupported) for answer in traces):
            self._tracing = None
        if block is None or [answer for answer in traces if _refused(answer)]:
            return None
        return list(zip(hashes, traces, strict=True))

    async def decimals(self, contract: str) -> int:
        """The token's own word on its decimals."""
        return await self._comfort.decimals(contract)

    async def market(self) -> Market:
        """What gas costs now."""
        return await self._comfort.market()

    async def estimate_gas(self, *, sender: str, to: str, value: int, call: bytes) -> int:
        """The gas that this would take now. Raises Reverted, InsufficientFunds where it wouldn't work."""
        wanted = {"from": sender, "to": to, "value": hex(value), "data": "0x" + call.hex()}
        return _number(await self.rpc.call("eth_estimateGas", wanted))

    async def _with_receipts(self, hashes: Sequence[str]) -> list[tuple[Json, Sequence[Json] | None]]:
        """(block, its receipts in order) for each hash, as they're told; None for what the node doesn't have."""
        wanted = [("eth_getBlockByHash", [block_hash, True]) for block_hash in hashes]
        if self._has_block_receipts:
            asked = [("eth_getBlockReceipts", [block_hash]) for block_hash in hashes]
            answers = await self.rpc.batch([call for pair in zip(wanted, asked, strict=True) for call in pair])
            if not any(isinstance(receipts, MethodUnsupported) for receipts in answers[1::2]):
                told = [_accepted(answer) for answer in answers]
                return list(zip(told[::2], told[1::2], strict=True))
            self._has_block_receipts = False
        blocks = await self._all(wanted)
        listed = [[one["hash"] for one in block["transactions"]] if block else [] for block in blocks]
        receipts = iter(
            await self._all([("eth_getTransactionReceipt", [tx_hash]) for hashes in listed for tx_hash in hashes])
        )
        return [
            (block, [next(receipts) for _ in hashes]) if block else (None, None)
            for block, hashes in zip(blocks, listed, strict=True)
        ]

    async def _all(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Json]:
        return [_accepted(answer) for answer in await self.rpc.batch(calls)]


def _accepted(answer: Json | NodeRefused) -> Json:
    if isinstance(answer, NodeRefused):
        raise answer
    return answer


def _refused(answer: Json | NodeRefused) -> bool:
    """Whether the node won't answer this at all. Raises RateLimited, which says nothing about the question."""
    if isinstance(answer, RateLimited):
        raise answer
    return isinstance(answer, NodeRefused)


def _by_transaction(told: Json) -> list[tuple[str, Json]]:
    try:
        return [(str(one["txHash"]), one["result"]) for one in told]
    except (KeyError, TypeError) as problem:
        raise NodeMisbehaved(f"traces that can't be read: {type(problem).__name__}: {problem}") from problem


def _number(told: Json) -> int:
    try:
        return int(told, 16)
    except (TypeError, ValueError) as problem:
        raise NodeMisbehaved(f"{told!r} isn't a number") from problem


def _bytes(told: Json) -> bytes:
    try:
        return bytes.fromhex(told.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError) as problem:
        raise NodeMisbehaved(f"{told!r} isn't hexadecimal") from problem


def _account(nonce: Json, code: Json) -> AccountState | None:
    if _refused(nonce) or _refused(code):
        return None
    held = _bytes(code)
    code_hash = "0x" + keccak(held).hex() if held else None
    return AccountState(_number(nonce), code_hash, delegate_of(held.hex()))


def _address(transaction: Json) -> str:
    try:
        return str(transaction["from"]).lower()
    except (KeyError, TypeError) as problem:
        raise NodeMisbehaved("a transaction without a sender") from problem


def load_libraries() -> None:
    """Import now what takes long, rather than in the middle of the first question: for processes that stay."""
    from eth_account import Account as Account

    from chain.evm import comfort as comfort

    limit_recursion()
