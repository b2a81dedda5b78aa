"""Price feeds on a local chain: the contract `LocalPriceFeed`, whose owner, the faucet, says what the price is."""

from eth_abi.abi import encode

from chain.local import accounts, artifact, deploy, encode_call, send

DECIMALS = 8
"""What Chainlink's feeds of currencies have."""


def deploy_feed(url: str, pair: str, *, decimals: int = DECIMALS) -> str:
    """Create a feed that has told nothing yet; `pair` is its description, such as `ETH/USD`. Its checksummed address.

    Raises ToolsMissing, LocalTxReverted, LocalNodeRefused, LocalNodeDown.
    """
    code = bytes.fromhex(artifact("LocalPriceFeed")["bytecode"].removeprefix("0x"))
    return deploy(url, code + encode(["address", "uint8", "string"], [accounts(url)[0], decimals, pair]))


def tell_price(url: str, feed: str, answer: int, *, at: int = 0) -> str:
    """Tell a price in the feed's own units, as of Unix time `at` (0: the block's). The transaction's hash, once mined.

    Raises LocalTxReverted, LocalNodeRefused, LocalNodeDown.
    """
    return send(url, to=feed, call=encode_call("setAnswer(int256,uint256)", answer, at))
