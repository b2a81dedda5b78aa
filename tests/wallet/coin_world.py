"""A house on a real chain that also watches for ether that no transaction's value tells of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chain import local
from chain.coin_watch import CoinWatch
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.networks import Traces
from ledger.accounts import house_account
from tests.chain.support import BentRpc
from tests.support.chain import RunningChain
from tests.support.contracts import create
from tests.wallet.conftest import key
from tests.wallet.token_world import TokenWorld
from treasury.adjustments import Adjustments
from treasury.reconciliation import Reconciler
from treasury.records import BreakReason, Reconciliation
from wallet.resources import Deposit, DepositState

ETHER = 10**18
STEPS_MAX = 20


@dataclass
class CoinWorld:
    """A `TokenWorld` with a coin watch; `to` is Alice's address."""

    world: TokenWorld
    watch: CoinWatch
    rpc: BentRpc
    """What balances and traces are asked through; a test may bend it."""

    @property
    def to(self) -> str:
        return self.world.to

    @property
    def chain(self) -> RunningChain:
        return self.world.chain

    def watch_anew(self, *urls: str, traces: Traces | None = None, balances_per_block: int = 100) -> None:
        """Start the watch as a new process would, with nodes at these addresses (by default the chain's own)."""
        network = replace(
            self.world.network,
            rpc_urls=urls or (self.chain.url,),
            traces=traces or self.watch.network.traces,
            balances_per_block=balances_per_block,
        )
        rpcs = [BentRpc(HttpRpc(url)) for url in network.rpc_urls]
        self.rpc = rpcs[0]
        pool = Pool(network, [Node(network, rpc) for rpc in rpcs])
        self.watch = CoinWatch(self.world.engine, network=network, nodes=pool, clock=self.world.common["clock"])

    async def settle(self, blocks: int = 4) -> None:
        """Mine, follow, watch, and book what arrived."""
        if blocks:
            self.chain.mine(blocks)
        await self.world.follow()
        for _ in range(STEPS_MAX):
            if not await self.watch.step() + await self.world.deposits.step() + await self.world.inflows.step():
                return
        raise AssertionError("the house never came to rest")

    def payer(self) -> str:
        return create(self.chain, "Payer")

    def call(self, contract: str, function: str, *arguments: object, value: int = 0, gas: int | None = None) -> str:
        """Call a contract as a stranger; the hash, once mined."""
        doing = local.encode_call(function, *arguments)
        return local.send(self.chain.url, to=contract, call=doing, value=value, gas=gas)

    def held(self, address: str | None = None) -> int:
        return self.chain.balance("ETH", address or self.to)

    async def alice(self) -> int:
        return await self.world.alice("ETH")

    async def suspense(self) -> int:
        return await self.world.suspense("ETH")

    async def shown(self) -> list[Deposit]:
        return await self.world.shown()

    async def credit(self, deposit: Deposit, name: str = "c", evidence: str | None = "the sender's own statement"):
        return await self.world.deposit_reviews.credit(
            key=key(name, evidence),
            treasurer="usr_treasurer",
            deposit=deposit.id,
            reason="looked at",
            evidence=evidence,
        )

    async def assign(self, evidence: str | None, amount: int, name: str = "a") -> None:
        """The treasurer moves what waits in suspense to the house's capital."""
        common = {name: self.world.common[name] for name in ("clock", "entropy")}
        await Adjustments(self.world.engine, ledger=self.world.ledger, **common).move(
            key=key(name),
            treasurer="usr_treasurer",
            source="suspense",
            target="capital",
            asset="ETH",
            amount=amount,
            reason="our own funding",
            evidence=evidence,
        )

    async def reconcile(self) -> Reconciliation:
        reconciler = Reconciler(
            self.world.engine,
            registry=self.world.registry,
            nodes={"local": self.world.node},
            banks=[],
            surpluses=[self.world.deposit_reviews, self.world.inflows],
            **self.world.common,
        )
        return await reconciler.run()

    async def require_agreement(self, *surpluses: tuple[str, int, int]) -> None:
        """Book and chain agree, and the breaks are these surpluses: (address, block, amount) each."""
        run = await self.reconcile()
        assert (run.in_flight, [judged.skipped for judged in run.networks]) == ((), [None])
        suspense = house_account("suspense", "ETH")
        assert {(one.reason, one.network, one.account, one.detail, one.found) for one in run.breaks} == {
            (BreakReason.SURPLUS, "local", suspense, f"{address} block {block}", amount)
            for address, block, amount in surpluses
        }
        assert len(run.breaks) == len(surpluses)

    async def require_credited(self, *amounts: int) -> list[Deposit]:
        """Alice was credited these, in the order of the chain, each once: what she sees, owns and holds on chain."""
        shown = await self.shown()
        assert [(one.state, one.amount) for one in shown] == [(DepositState.FINAL, amount) for amount in amounts]
        assert (await self.alice(), self.held(), await self.suspense()) == (sum(amounts), sum(amounts), 0)
        assert await self.world.deposit_reviews.kept_back("local") == {}
        await self.require_agreement()
        return shown


def coin_world(world: TokenWorld, traces: Traces, urls: Sequence[str] = ()) -> CoinWorld:
    """The world, watched under this policy."""
    network = replace(world.network, traces=traces)
    made = CoinWorld(
        world, CoinWatch(world.engine, network=network, nodes=Pool(network, []), clock=world.common["clock"]), world.rpc
    )
    made.watch_anew(*urls)
    return made
