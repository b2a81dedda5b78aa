"""A house on a real chain that is told which tokens it knows; everything is the real thing but keys and fees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import ManualClock
from base.entropy import SeededEntropy
from chain import addresses
from chain.evm.addresses import show_address
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.evm.token_reader import TokenReader
from chain.follower import Did, Follower
from chain.networks import Deployment, Network, Registry
from chain.senders import Senders
from chain.signing import OwnKey, Role
from chain.token_watch import TokenWatch
from db.engine import tx
from exchange.rates import Rates
from exchange.rates_file import parse_rates
from ledger.accounts import house_account, user_account
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.chain.support import BentRpc
from tests.support.chain import RunningChain
from tests.wallet.conftest import ALICE, RATES, FixedFees, key
from tests.wallet.scripted_chain import DerivedAddresses
from treasury.inflows import Inflows
from treasury.reconciliation import Reconciler
from treasury.token_reviews import TokenReviews
from wallet.deposit_addresses import DepositAddresses
from wallet.deposit_reviews import DepositReviews
from wallet.deposits import Deposits
from wallet.resources import Deposit, DepositState, Withdrawal
from wallet.withdrawals import Withdrawals

ASSETS = (
    Asset("TOK", AssetKind.CRYPTO, 18),
    Asset("USDC", AssetKind.STABLECOIN, 6),
    Asset("ETH", AssetKind.CRYPTO, 18),
)

UNIT = 10**12
"""Smallest units of TOK (scale 18) in one of a token with 6 decimals."""


class TokenRates:
    """A TOK is worth 1,000 USD."""

    async def current(self) -> Rates:
        return parse_rates(f'{RATES}\n[[pairs]]\nbase = "TOK"\nquote = "USD"\nrate = "1000"\n')


@dataclass
class TokenWorld:
    """Alice's address, and what the house makes of what is paid to it. TOK is whichever token a test deploys."""

    chain: RunningChain
    engine: AsyncEngine
    network: Network
    node: Node
    rpc: BentRpc
    """What tokens are asked through; a test may bend it."""
    follower: Follower
    ledger: PostgresLedger
    common: Mapping[str, Any]
    to: str = ""

    def know(self, contract: str | None = None, **more: Any) -> None:
        """Start the house anew with ETH and USDC, and TOK at `contract`. `more` of its deployment: quirks, minimum."""
        entries = [
            Deployment(asset="ETH", network="local", contract=None, decimals=18),
            Deployment(asset="USDC", network="local", contract=self.chain.token("USDC").lower(), decimals=6),
        ]
        if contract is not None:
            entries.append(Deployment(asset="TOK", network="local", contract=contract, **{"decimals": 6} | more))
        self.registry = registry = Registry([self.network], entries)
        common = {"registry": registry, **self.common}
        self.watch = TokenWatch(
            self.engine,
            network=self.network,
            tokens=registry.tokens("local"),
            reader=TokenReader(self.rpc),
            clock=self.common["clock"],
        )
        self.deposits = Deposits(self.engine, **common)
        self.inflows = Inflows(self.engine, **common)
        self.reconciler = Reconciler(self.engine, nodes={"local": self.node}, banks=[], **common)
        self.withdrawals = Withdrawals(
            self.engine,
            fees=FixedFees(),
            rates=TokenRates(),
            senders=Senders(self.engine, registry=registry, nodes={"local": self.node}, count=1),
            **common,
        )
        by_hand = {name: common[name] for name in ("registry", "clock")}
        self.reviews = TokenReviews(self.engine, **by_hand)
        self.deposit_reviews = DepositReviews(self.engine, ledger=self.ledger, **by_hand)

    async def follow(self) -> None:
        for _ in range(30):
            if (await self.follower.step()).did not in (Did.ADVANCED, Did.WENT_BACK):
                break
        await self.watch.step()

    async def settle(self, blocks: int = 4) -> None:
        """Mine, follow, and book what arrived."""
        if blocks:
            self.chain.mine(blocks)
        await self.follow()
        for _ in range(10):
            if not await self.deposits.step() + await self.inflows.step():
                return
        raise AssertionError("the house never came to rest")

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def alice(self, asset: str = "TOK") -> int:
        return await self.balance(user_account(ALICE, asset))

    async def suspense(self, asset: str = "TOK") -> int:
        return await self.balance(house_account("suspense", asset))

    async def shown(self) -> list[Deposit]:
        """What Alice sees of her deposits, in the order of the chain."""
        found = await self.deposits.list_for(ALICE)
        return sorted(found, key=lambda deposit: (deposit.block_number, deposit.place))

    async def states(self) -> list[DepositState]:
        return [deposit.state for deposit in await self.shown()]

    async def withdraw(self, amount: int, name: str = "w") -> Withdrawal:
        to = show_address("0x00000000000000000000000000000000deadbeef")
        return await self.withdrawals.request(
            key=key(name), owner=ALICE, asset="TOK", network="local", to=to, amount=amount
        )

    async def require_agreement(self) -> None:
        """The book sums to zero and is what our addresses hold on chain."""
        run = await self.reconciler.run()
        assert (run.breaks, run.in_flight, [judged.skipped for judged in run.networks]) == ((), (), [None])


async def token_world(
    chain: RunningChain, engine: AsyncEngine, clock: ManualClock, entropy: SeededEntropy
) -> TokenWorld:
    """The world, with an address of Alice's; it knows ETH and USDC."""
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    network = Network(
        name="local",
        chain_id=chain.chain_id,
        rpc_urls=(chain.url,),
        native_asset="ETH",
        spendable_depth=2,
        final_depth=4,
    )
    node = Node(network, HttpRpc(chain.url))
    source = DerivedAddresses()
    async with tx(engine) as connection:
        await addresses.enrol(connection, source, key=OwnKey(Role.HOT, 0), clock=clock)
    follower = Follower(engine=engine, network=network, nodes=Pool(network, [node]), clock=clock)
    common = {"ledger": ledger, "clock": clock, "entropy": entropy}
    world = TokenWorld(chain, engine, network, node, BentRpc(HttpRpc(chain.url)), follower, ledger, common)
    world.know()
    await world.follow()
    issuing = DepositAddresses(engine, book="main", registry=world.registry, source=source, clock=clock)
    world.to = (await issuing.issue(ALICE, "local")).address
    return world
