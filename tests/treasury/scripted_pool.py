"""A network's nodes as an epoch asks them: they tell the blocks and balances that the test wrote, or don't."""

from collections import defaultdict
from dataclasses import dataclass, field

from chain.observations import BlockRef
from tests.wallet.scripted_chain import GENESIS, ScriptedChain


@dataclass
class ScriptedPool:
    """Follows a scripted chain. `lags` blocks behind it; on another `branch`; `torn`: no two tell the same."""

    chain: ScriptedChain
    held: dict[tuple[str | None, str], int] = field(default_factory=lambda: defaultdict(int))
    lags: int = 0
    ahead: int = 0
    branch: dict[int, str] = field(default_factory=dict)
    torn: bool = False
    forgetful: bool = False
    error: Exception | None = None
    asked: int = 0

    def ref(self, height: int) -> BlockRef:
        hashes = self.chain.hashes
        parent = hashes[height - 1] if height else GENESIS
        return BlockRef(height, self.branch.get(height, hashes[height]), parent)

    async def head(self):
        if self.error is not None:
            raise self.error
        known = self.chain.height - self.lags
        return BlockRef(known + self.ahead, "0x" + "ab" * 32, GENESIS) if self.ahead else self.ref(known)

    async def refs(self, heights):
        return {height: self.ref(height) for height in heights}

    async def witnessed(self, refs):
        return [] if self.torn else list(refs)

    async def coins_witnessed(self, asked):
        return await self.token_balances([(None, *one) for one in asked])

    async def token_balances(self, asked):
        self.asked += len(asked)
        assert {at for _, _, at in asked} <= set(self.chain.hashes)
        return [None if self.forgetful else self.held[contract, address] for contract, address, _ in asked]
