"""Reading contracts and fees in comfort: web3.py, over our own connection.

Its own HTTP provider, which would send again by itself, isn't used; nor is anything here that sends. What needs speed
or exactness (blocks, receipts, sending) goes without it.
"""

from typing import Any, cast

from eth_typing import ChecksumAddress
from web3 import AsyncWeb3
from web3.exceptions import Web3Exception
from web3.providers.async_base import AsyncBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chain.errors import NodeMisbehaved
from chain.evm.addresses import show_address
from chain.evm.rpc import Rpc
from chain.fees import Market, read_market

_HISTORY_BLOCKS = 10
_TIP_PERCENTILE = 50
_ABI = [
    {
        "type": "function",
        "name": "balanceOf",
        "stateMutability": "view",
        "inputs": [{"name": "owner", "type": "address"}],
        "outputs": [{"name": "", "type": "uint256"}],
    },
    {
        "type": "function",
        "name": "decimals",
        "stateMutability": "view",
        "inputs": [],
        "outputs": [{"name": "", "type": "uint8"}],
    },
]
"""What is asked of an ERC-20 token."""


class _OverRpc(AsyncBaseProvider):
    """Lets web3.py ask through an `Rpc`, whose errors pass through as they are."""

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self._rpc = rpc

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        result = await self._rpc.call(method, *params)
        return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, "result": result})


class Comfort:
    """Questions about contracts and fees. Raises NodeRefused, NodeUnavailable, NodeMisbehaved."""

    def __init__(self, rpc: Rpc) -> None:
        self._web3: AsyncWeb3[Any] = AsyncWeb3(_OverRpc(rpc))

    async def market(self) -> Market:
        """What the next block asks, and the middle tip of the last blocks, in wei per gas."""
        try:
            history = await self._web3.eth.fee_history(_HISTORY_BLOCKS, "latest", [_TIP_PERCENTILE])
            tips = [block[0] for block in history["reward"]]
            filled = [ratio > 0 for ratio in history["gasUsedRatio"]]
            return read_market(history["baseFeePerGas"], filled, tips)
        except (Web3Exception, LookupError, ValueError) as problem:
            raise NodeMisbehaved(f"a fee history that can't be read: {problem}") from problem

    async def token_balance(self, contract: str, owner: str, *, block: str | None = None) -> int:
        """What `owner` holds of the token, in chain units, at the block with this hash or at the head."""
        asked = self._token(contract).functions.balanceOf(_checksummed(owner))
        return await self._read(asked, contract, block)

    async def decimals(self, contract: str) -> int:
        """The token's own word on its decimals."""
        return await self._read(self._token(contract).functions.decimals(), contract, None)

    def _token(self, contract: str) -> Any:
        return self._web3.eth.contract(address=_checksummed(contract), abi=_ABI)

    @staticmethod
    async def _read(asked: Any, contract: str, block: str | None) -> int:
        try:
            return int(await asked.call(block_identifier=block or "latest"))
        except (Web3Exception, ValueError) as problem:
            raise NodeMisbehaved(f"{contract} doesn't answer as a token: {problem}") from problem


def _checksummed(address: str) -> ChecksumAddress:
    return ChecksumAddress(cast(Any, show_address(address)))
