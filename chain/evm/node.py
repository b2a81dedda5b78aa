"""A node of one network, asked in the chain's own terms: which chain, which blocks, what is owned, send this.

It keeps no opinion between questions, except whether the node has a method.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from base.nesting import limit_recursion
from chain.errors import AlreadyKnown, MethodUnsupported, NodeMisbehaved, NodeRefused, WrongChain
from chain.evm.blocks import Block, read_block, read_ref
from chain.evm.rpc import Json, Rpc
from chain.fees import Market
from chain.networks import Network
from chain.observations import BlockRef

if TYPE_CHECKING:
    from chain.evm.comfort import Comfort

_FINALIZED = "finalized"


class Node:
    """One endpoint of `network`. Every method raises NodeRefused, NodeUnavailable or NodeMisbehaved."""

    def __init__(self, network: Network, rpc: Rpc) -> None:
        self.network = network
        self._rpc = rpc
        self._has_block_receipts = True

    @cached_property
    def _comfort(self) -> "Comfort":
        # Imported when it's first needed: web3.py takes longer to import than most commands take to run.
        from chain.evm.comfort import Comfort

        limit_recursion()
        return Comfort(self._rpc)

    async def check(self, genesis_hash: str | None) -> str:
        """The genesis block's hash, after making sure that this is the network's chain, which `genesis_hash` began.

        Asked anew on every step, in one question with one answer: what sits behind an address can change. Raises
        WrongChain.
        """
        told_id, genesis = await self._all([("eth_chainId", []), ("eth_getBlockByNumber", ["0x0", False])])
        chain_id = _number(told_id)
        if chain_id != self.network.chain_id:
            raise WrongChain(
                f"the node of network {self.network.name} serves chain {chain_id}, not {self.network.chain_id}",
                configured=self.network.chain_id,
                served=chain_id,
            )
        found = read_ref(genesis).block_hash
        for expected in (self.network.genesis_hash, genesis_hash):
            if expected is not None and expected != found:
                raise WrongChain(
                    f"network {self.network.name} began with block {expected}, the node's chain with {found}: it is"
                    " another chain, or a local one that was started anew, which needs a database and a signer's"
                    " journal of its own",
                    expected=expected,
                    served=found,
                )
        return found

    async def head(self) -> BlockRef:
        """The newest block."""
        return read_ref(await self._rpc.call("eth_getBlockByNumber", "latest", False))

    async def finalized(self) -> BlockRef | None:
        """The newest block that the node calls final, if it calls any so."""
        block = await self._rpc.call("eth_getBlockByNumber", _FINALIZED, False)
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
        block, receipts = await self._with_receipts(ref.block_hash)
        if block is None or receipts is None or any(receipt is None for receipt in receipts):
            return None
        whole = read_block(block, receipts, self.network.encoding)
        if whole.ref != ref:
            raise NodeMisbehaved(f"asked for block {ref.block_hash}, given {whole.ref.block_hash}")
        return whole

    async def send(self, raw: bytes) -> None:
        """Hand in a signed transaction, once. That the node has it already is success (AlreadyKnown isn't raised)."""
        try:
            await self._rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        except AlreadyKnown:
            return

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node has the transaction, waiting or mined."""
        return await self._rpc.call("eth_getTransactionByHash", tx_hash) is not None

    async def placed(self, tx_hashes: Sequence[str]) -> dict[str, int | None]:
        """Of these transactions those that the node has: the height each is mined at, None while it waits."""
        told = await self._all([("eth_getTransactionByHash", [tx_hash]) for tx_hash in tx_hashes])
        found = {tx_hash: one for tx_hash, one in zip(tx_hashes, told, strict=True) if one is not None}
        return {name: _number(one["blockNumber"]) if one.get("blockNumber") else None for name, one in found.items()}

    async def next_nonce(self, address: str) -> int:
        """How many transactions of `address` are mined."""
        return _number(await self._rpc.call("eth_getTransactionCount", address, "latest"))

    async def balance(self, contract: str | None, owner: str, *, block: str | None = None) -> int:
        """What `owner` holds of a token or (None) of the native coin, in chain units, at a block's hash or the head."""
        if contract is not None:
            return await self._comfort.token_balance(contract, owner, block=block)
        at: Json = {"blockHash": block} if block else "latest"  # EIP-1898
        return _number(await self._rpc.call("eth_getBalance", owner, at))

    async def balances(self, owners: Sequence[tuple[str | None, str]], *, block: str) -> list[int]:
        """The balances of (contract or None, owner) at the block with this hash, in order."""
        return [await self.balance(contract, owner, block=block) for contract, owner in owners]

    async def decimals(self, contract: str) -> int:
        """The token's own word on its decimals."""
        return await self._comfort.decimals(contract)

    async def market(self) -> Market:
        """What gas costs now."""
        return await self._comfort.market()

    async def estimate_gas(self, *, sender: str, to: str, value: int, call: bytes) -> int:
        """The gas that this would take now. Raises Reverted, InsufficientFunds where it wouldn't work."""
        wanted = {"from": sender, "to": to, "value": hex(value), "data": "0x" + call.hex()}
        return _number(await self._rpc.call("eth_estimateGas", wanted))

    async def _with_receipts(self, block_hash: str) -> tuple[Json, Sequence[Json] | None]:
        by_hash = ("eth_getBlockByHash", [block_hash, True])
        if self._has_block_receipts:
            block, receipts = await self._rpc.batch([by_hash, ("eth_getBlockReceipts", [block_hash])])
            if not isinstance(receipts, MethodUnsupported):
                return _accepted(block), _accepted(receipts)
            self._has_block_receipts = False
        block = await self._rpc.call(*by_hash[:1], *by_hash[1])
        if block is None:
            return None, None
        hashes = [transaction["hash"] for transaction in block["transactions"]]
        return block, await self._all([("eth_getTransactionReceipt", [tx_hash]) for tx_hash in hashes])

    async def _all(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Json]:
        return [_accepted(answer) for answer in await self._rpc.batch(calls)]


def _accepted(answer: Json | NodeRefused) -> Json:
    if isinstance(answer, NodeRefused):
        raise answer
    return answer


def _number(told: Json) -> int:
    try:
        return int(told, 16)
    except (TypeError, ValueError) as problem:
        raise NodeMisbehaved(f"{told!r} isn't a number") from problem


def load_libraries() -> None:
    """Import now what takes long, rather than in the middle of the first question: for processes that stay."""
    from eth_account import Account as Account

    from chain.evm import comfort as comfort

    limit_recursion()
