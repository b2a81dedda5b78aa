"""Gas per recipient: paid alone, and as one leg of a batch through the payout contract, from receipts of a local anvil.

Of a token each leg carries its part of the allowance before the batch. "Known": the recipient had some before.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from eth_hash.auto import keccak

from bench.frame import Options
from chain import local
from chain.local import LocalChain, NodeKind
from chain.payout import Leg, native_call, token_call

SENDER = 2
"""The development account that pays; it owns ether and tokens."""

SIZES = (1, 10, 100)
QUICK_SIZES = (1, 10)
ALONE = "alone"

_AMOUNT = 1_000
_GAS = 16_000_000


def measure(options: Options, folder: Path) -> Iterator[tuple[str, float]]:
    """Each wanted row with its gas, on a chain of its own in `folder`."""
    sizes = QUICK_SIZES if options.quick else SIZES
    wanted = [
        (asset, age, size)
        for asset in ("usdc", "eth")
        for age in ("known", "new")
        for size in (ALONE, *sizes)
        if options.wants(_row(asset, age, size))
    ]
    if not wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with LocalChain.start(NodeKind.ANVIL, folder, port=None) as anvil:
        payer = _Payer(anvil)
        for asset, age, size in wanted:
            count = size if isinstance(size, int) else 1
            whom = payer.recipients(asset, count, known=age == "known")
            gas = payer.alone(asset, whom[0]) if size == ALONE else payer.together(asset, whom) / count
            yield _row(asset, age, size), gas


def _row(asset: str, age: str, size: int | str) -> str:
    return f"gas_per_leg_{asset}_{age}_{size}"


class _Payer:
    """Pays from one development account, and reads what it took off the receipts."""

    def __init__(self, anvil: LocalChain) -> None:
        self._url, self._usdc = anvil.url, anvil.tokens["USDC"].address
        self._contract = local.deploy_payout(self._url)
        self._count = 0
        self.together("usdc", self.recipients("usdc", 1, known=False))  # the first allowance ever takes more

    def recipients(self, asset: str, count: int, *, known: bool) -> list[str]:
        """Addresses that nobody used, or that have some of the asset already."""
        found = []
        for _ in range(count):
            self._count += 1
            address = "0x" + keccak(b"recipient %d" % self._count)[-20:].hex()
            if known:
                self.alone(asset, address)
            found.append(address)
        return found

    def alone(self, asset: str, to: str) -> int:
        """Gas of one payment by itself."""
        if asset == "eth":
            return self._send(to, b"", value=_AMOUNT)
        return self._send(self._usdc, local.encode_call("transfer(address,uint256)", to, _AMOUNT))

    def together(self, asset: str, whom: Sequence[str]) -> int:
        """Gas of one batch, with its allowance."""
        legs = [Leg(bytes(keccak(to.encode())), to, _AMOUNT) for to in whom]
        total = _AMOUNT * len(legs)
        if asset == "eth":
            return self._send(self._contract, native_call(legs), value=total)
        allowed = self._send(self._usdc, local.encode_call("approve(address,uint256)", self._contract, total))
        return allowed + self._send(self._contract, token_call(self._usdc, legs))

    def _send(self, to: str, call: bytes, value: int = 0) -> int:
        tx_hash = local.send(self._url, to=to, call=call, value=value, sender=SENDER, gas=_GAS)
        receipt = local.await_receipt(self._url, tx_hash)
        assert receipt["status"] == "0x1", receipt
        return int(receipt["gasUsed"], 16)
