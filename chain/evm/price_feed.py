"""A price feed contract: the interface of Chainlink's aggregators (AggregatorV3Interface), which others share.

`latestRoundData() -> (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)` and
`decimals() -> uint8` (https://docs.chain.link/data-feeds/api-reference).
"""

from datetime import UTC, datetime

from eth_hash.auto import keccak

from chain.errors import NodeRefused, PriceFeedBroken
from chain.evm.rpc import Json, Rpc

_LATEST = "0x" + keccak(b"latestRoundData()")[:4].hex()
_DECIMALS = "0x" + keccak(b"decimals()")[:4].hex()
_WORD = 64
_DECIMALS_MAX = 77
"""Beyond it 10 to that power is no uint256."""


class ChainPriceFeed:
    """The contract at `address`, asked through `rpc`."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self._address = address.lower()

    async def latest(self) -> tuple[int, int, datetime]:
        """(answer, signed; its decimals; when it was given), both at the newest block.

        Raises PriceFeedBroken where no such contract answers, and what `Rpc.batch` raises.
        """
        asked = [("eth_call", [{"to": self._address, "data": data}, "latest"]) for data in (_LATEST, _DECIMALS)]
        told, decimals = await self._rpc.batch(asked)
        words = self._words(told, 5)
        (places,) = self._words(decimals, 1)
        if places > _DECIMALS_MAX:
            raise PriceFeedBroken(f"the price feed {self._address} tells {places} decimals")
        answer = words[1] - (1 << 256) if words[1] >> 255 else words[1]
        try:
            updated_at = datetime.fromtimestamp(words[3], UTC)
        except (OverflowError, ValueError, OSError):
            raise PriceFeedBroken(f"the price feed {self._address} tells an impossible instant") from None
        if words[3] == 0:
            raise PriceFeedBroken(f"the price feed {self._address} has no answer yet")
        return answer, places, updated_at

    def _words(self, told: Json | NodeRefused, count: int) -> list[int]:
        if isinstance(told, NodeRefused):
            raise PriceFeedBroken(f"the price feed {self._address} refuses to answer: {told.message}") from told
        digits = told.removeprefix("0x") if isinstance(told, str) else ""
        if len(digits) != count * _WORD:
            raise PriceFeedBroken(f"no price feed answers at {self._address}")
        try:
            return [int(digits[at : at + _WORD], 16) for at in range(0, len(digits), _WORD)]
        except ValueError:
            raise PriceFeedBroken(f"no price feed answers at {self._address}") from None
