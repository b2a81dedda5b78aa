"""A sanctions oracle on the network: a contract that answers `isSanctioned(address) -> bool`.

The interface is that of Chainalysis' public oracle (https://go.chainalysis.com/chainalysis-oracle-docs.html), which
stands on several networks; any contract that has it serves.
"""

from collections.abc import Collection

from eth_hash.auto import keccak

from chain.errors import NodeRefused, Reverted, ScreeningUnavailable
from chain.evm.addresses import ZERO
from chain.evm.rpc import Json, Rpc

_IS_SANCTIONED = "0x" + keccak(b"isSanctioned(address)")[:4].hex()
_NO, _YES = f"0x{0:064x}", f"0x{1:064x}"


class SanctionsOracle:
    """A `chain.screening.Screening` over the contract at `address` (lower-case hex), asked through `rpc`."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self._address = address

    async def objections(self, addresses: Collection[str], *, block: str) -> dict[str, str]:
        """Those it calls sanctioned at the block with this hash (EIP-1898).

        Raises ScreeningUnavailable if it answers anything but yes or no, and what `Rpc.batch` raises.
        """
        asked = sorted(addresses)
        at = {"blockHash": block}
        answers = await self._rpc.batch(
            [
                ("eth_call", [{"to": self._address, "data": f"{_IS_SANCTIONED}{address[2:]:0>64}"}, at])
                for address in asked
            ]
        )
        listed = [address for address, answer in zip(asked, answers, strict=True) if self._yes(answer)]
        return dict.fromkeys(listed, f"the sanctions oracle {self._address}")

    async def answers(self, *, block: str) -> bool:
        """Whether there is a contract with this interface as of that block. Raises what `Rpc.batch` raises."""
        try:
            await self.objections([ZERO], block=block)
        except ScreeningUnavailable:
            return False
        return True

    def _yes(self, answer: Json | NodeRefused) -> bool:
        if isinstance(answer, NodeRefused) and not isinstance(answer, Reverted):
            raise answer
        if answer not in (_NO, _YES):
            told = "refuses to answer" if isinstance(answer, Reverted) else f"answers {str(answer)[:80]!r}"
            raise ScreeningUnavailable(f"the sanctions oracle {self._address} {told}, neither yes nor no")
        return bool(answer == _YES)
