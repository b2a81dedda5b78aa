"""A node that invents: from one height on it tells a chain of its own, whose hashes and roots all fit.

Only another node can tell. The invented block holds one of the true block's transactions with another recipient and
value; every block after it hangs on it.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from eth_hash.auto import keccak

from chain.evm import blocks

Json: TypeAlias = Any


class Truth(Protocol):
    """The true node."""

    async def truth(self, method: str, *params: object) -> Json: ...


@dataclass(slots=True)
class Invention:
    """A payment of `value` wei to `to`, in the block at `height`. What was invented once stays the same."""

    height: int
    to: str
    value: int
    told: dict[str, Json] = field(default_factory=dict)
    """The invented blocks, whole, by their true ones' hashes."""
    originals: dict[str, str] = field(default_factory=dict)
    """The true hash of each invented one."""

    async def answer(self, method: str, params: list[Json], true: Json, node: Truth) -> Json:
        """What this node tells instead of `true`."""
        if method in ("eth_getBlockByNumber", "eth_getBlockByHash"):
            if method == "eth_getBlockByHash" and params[0] in self.originals:
                true = await node.truth(method, self.originals[params[0]], True)
            if not true or int(true["number"], 16) < self.height:
                return true
            whole = await self._block(true["hash"], node)
            return whole if params[1] else {**whole, "transactions": [sent["hash"] for sent in whole["transactions"]]}
        if method == "eth_getBlockReceipts" and params[0] in self.originals:
            block = await self._block(self.originals[params[0]], node)
            receipts = await node.truth(method, self.originals[params[0]])
            hashes = [sent["hash"] for sent in block["transactions"]]
            return [
                {**receipt, "blockHash": block["hash"], "transactionHash": tx_hash}
                for receipt, tx_hash in zip(receipts, hashes, strict=True)
            ]
        return true

    async def _block(self, true_hash: str, node: Truth) -> Json:
        if true_hash not in self.told:
            block = await node.truth("eth_getBlockByHash", true_hash, True)
            if int(block["number"], 16) == self.height:
                sent = block["transactions"][0]
                sent |= {"to": self.to, "value": hex(self.value)}
                sent["hash"] = "0x" + keccak(blocks.encode_transaction(sent)).hex()
                block["transactionsRoot"] = blocks.transactions_root(block)
            else:
                block["parentHash"] = (await self._block(block["parentHash"], node))["hash"]
            block["hash"] = blocks.header_hash(block)
            for sent in block["transactions"]:
                sent["blockHash"] = block["hash"]
            self.told[true_hash], self.originals[block["hash"]] = block, true_hash
        return self.told[true_hash]
