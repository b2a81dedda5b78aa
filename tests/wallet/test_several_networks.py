"""Three networks at once on real nodes, each with a finality, decimals and a cap of its own, in one book."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from base.clock import ManualClock, SystemClock
from base.entropy import SeededEntropy
from chain.estimates import NetworkFees
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import HALTED_BELOW_FINAL, Did, Follower
from chain.local import NodeKind
from chain.networks import GWEI, Deployment, Encoding, Network, Registry
from chain.status import NetworkStatus, network_status
from chain.token_watch import TokenWatch
from db.engine import tx
from ledger.accounts import user_account
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.support.chain import RunningChain, start_local_chain
from tests.support.postgres import Database
from tests.wallet.conftest import ALICE
from tests.wallet.scripted_chain import DerivedAddresses
from treasury.inflows import Inflows
from treasury.reconciliation import Reconciler
from wallet.deposit_addresses import DepositAddresses
from wallet.deposits import Deposits
from wallet.resources import DepositState

pytestmark = pytest.mark.slow

STRANGER = "0x" + "66" * 20
SIX, EIGHTEEN = 10**12, 1
"""Smallest units of USDC (scale 18 here) in one of a token with 6 decimals, and with 18."""


@dataclass
class Place:
    """A network and the parts that follow it."""

    chain: RunningChain
    network: Network
    pool: Pool
    follower: Follower
    watch: TokenWatch

    async def follow(self) -> None:
        for _ in range(60):
            if (await self.follower.step()).did not in (Did.ADVANCED, Did.WENT_BACK):
                break
        await self.watch.step()


@dataclass
class House:
    """All networks, one book, and Alice's one address on all of them."""

    places: dict[str, Place]
    database: Database
    registry: Registry
    ledger: PostgresLedger
    deposits: Deposits
    inflows: Inflows
    reconciler: Reconciler
    to: str = field(default="")

    def pay(self, network: str, token: str, amount: int) -> None:
        self.places[network].chain.transfer(token, self.to, amount)

    async def settle(self, **blocks: int) -> None:
        """Mine so many blocks of each, follow all, and book what arrived."""
        for name, count in blocks.items():
            self.places[name].chain.mine(count)
        for place in self.places.values():
            await place.follow()
        for _ in range(10):
            if not await self.deposits.step() + await self.inflows.step():
                return
        raise AssertionError("the house never came to rest")

    async def alice(self, asset: str) -> int:
        found = await self.ledger.account(user_account(ALICE, asset))
        return 0 if found is None else found.balance

    async def shown(self) -> dict[str, list[DepositState]]:
        """What Alice sees of her deposits, by network."""
        found = await self.deposits.list_for(ALICE)
        return {name: [one.state for one in found if one.network == name] for name in self.places}

    async def status(self, name: str) -> NetworkStatus:
        async with tx(self.database.engine()) as connection:
            return await network_status(connection, self.places[name].network)


@pytest.fixture
async def house(tmp_path: Path, database: Database, clock: ManualClock) -> AsyncIterator[House]:
    """`tagged` believes the node's finalized tag; `deep` counts blocks, on Hardhat; `foreign` isn't recomputed."""
    entropy, engine = SeededEntropy(7), database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for code, kind in (("USDC", AssetKind.STABLECOIN), ("ETH", AssetKind.CRYPTO), ("COIN", AssetKind.CRYPTO)):
        await ledger.register_asset(Asset(code, kind, 18))
    with ExitStack() as stack:
        chains = {
            "tagged": stack.enter_context(start_local_chain(tmp_path / "tagged", epoch_slots=3)),
            "deep": stack.enter_context(start_local_chain(tmp_path / "deep", NodeKind.HARDHAT)),
            "foreign": stack.enter_context(start_local_chain(tmp_path / "foreign", chain_id=8_453)),
        }
        policies: dict[str, dict[str, Any]] = {
            "tagged": {"native_asset": "ETH", "spendable_depth": 2, "final_depth": None},
            "deep": {"native_asset": "COIN", "spendable_depth": 3, "final_depth": 5},
            "foreign": {"native_asset": "ETH", "spendable_depth": 1, "final_depth": 9, "encoding": Encoding.UNKNOWN},
        }
        networks = [
            Network(name=name, chain_id=chain.chain_id, rpc_urls=(chain.url,), **policies[name])
            for name, chain in chains.items()
        ]
        usdc = {"tagged": ("USDC", 6), "deep": ("DAI", 18), "foreign": ("USDC", 6)}
        registry = Registry(
            networks,
            [
                *(Deployment(asset=one.native_asset, network=one.name, contract=None, decimals=18) for one in networks),
                *(
                    Deployment(
                        asset="USDC", network=name, contract=chains[name].token(token).lower(), decimals=decimals
                    )
                    for name, (token, decimals) in usdc.items()
                ),
            ],
        )
        rpcs = {network.name: HttpRpc(network.rpc_urls[0]) for network in networks}
        pools = {network.name: Pool(network, [Node(network, rpcs[network.name])]) for network in networks}
        places = {
            network.name: Place(
                chains[network.name],
                network,
                pools[network.name],
                Follower(engine=engine, network=network, nodes=pools[network.name], clock=clock),
                TokenWatch(
                    engine,
                    network=network,
                    tokens=registry.tokens(network.name),
                    reader=pools[network.name].tokens,
                    clock=clock,
                ),
            )
            for network in networks
        }
        common: dict[str, Any] = {"ledger": ledger, "registry": registry, "clock": clock, "entropy": entropy}
        found = House(
            places=places,
            database=database,
            registry=registry,
            ledger=ledger,
            deposits=Deposits(engine, **common),
            inflows=Inflows(engine, **common),
            reconciler=Reconciler(engine, nodes=pools, banks=[], **common),
        )
        await found.settle()
        issuing = DepositAddresses(engine, book="main", registry=registry, source=DerivedAddresses(), clock=clock)
        found.to = (await issuing.issue(ALICE, "tagged")).address
        yield found
        for place in places.values():
            await place.follower.close()
            await rpcs[place.network.name].close()


async def test_each_network_credits_by_its_own_rules_into_one_book(house: House):
    house.pay("tagged", "USDC", 2_500_000)
    house.pay("deep", "DAI", 7)
    house.pay("foreign", "USDC", 1)
    await house.settle()
    assert await house.alice("USDC") == 1 * SIX, "one block is enough on this one alone"
    await house.settle(tagged=1, deep=1)
    assert await house.alice("USDC") == 2_500_001 * SIX
    await house.settle(deep=1)
    assert await house.alice("USDC") == 2_500_001 * SIX + 7 * EIGHTEEN
    house.pay("deep", "ETH", 5)
    house.pay("tagged", "ETH", 11)
    await house.settle(tagged=12, deep=12, foreign=12)
    assert (await house.alice("COIN"), await house.alice("ETH")) == (5, 11), "each network's coin is its own asset"
    statuses = [await house.status(name) for name in house.places]
    assert [one.roots_verified for one in statuses] == [True, True, False]
    tagged, deep, foreign = statuses
    told = int(house.places["tagged"].chain.rpc("eth_getBlockByNumber", "finalized", False)["number"], 16)
    assert (tagged.final_height, deep.final_height, foreign.final_height) == (told, deep.height - 4, foreign.height - 8)
    assert await house.shown() == {
        "tagged": [DepositState.FINAL] * 2,
        "deep": [DepositState.FINAL] * 2,
        "foreign": [DepositState.FINAL],
    }
    run = await house.reconciler.run()
    assert (run.breaks, run.in_flight, [judged.skipped for judged in run.networks]) == ((), (), [None] * 3)


async def test_f04_a_network_that_halts_or_is_down_stops_nothing_of_the_others(house: House):
    house.pay("foreign", "USDC", 3)
    await house.settle(foreign=12)
    assert await house.alice("USDC") == 3 * SIX
    house.places["foreign"].chain.reorg(13, longer=2)
    await house.settle()
    assert (await house.status("foreign")).halted == HALTED_BELOW_FINAL
    assert await house.alice("USDC") == 0, "what was final there is gone, and taken back"
    house.pay("foreign", "USDC", 9)
    house.pay("tagged", "USDC", 4)
    house.pay("deep", "DAI", 8)
    await house.settle(tagged=2, deep=3, foreign=12)
    assert await house.alice("USDC") == 4 * SIX + 8 * EIGHTEEN, "the halted one credits nothing"
    assert [(await house.status(name)).halted for name in ("tagged", "deep")] == [None, None]
    house.places["deep"].chain.node.stop()
    house.pay("tagged", "USDC", 5)
    house.places["tagged"].chain.mine(2)
    await house.places["tagged"].follow()
    await house.deposits.step()
    assert await house.alice("USDC") == 9 * SIX + 8 * EIGHTEEN, "a node that is down is its own network's trouble"


async def test_caps_and_prices_are_each_network_s_own(house: House):
    fees = NetworkFees({name: place.pool for name, place in house.places.items()}, clock=SystemClock())
    for place in house.places.values():
        native = house.registry.by_contract(place.network.name, None)
        assert native is not None
        assert await fees.estimate(native, sender=place.chain.accounts[1], to=STRANGER, amount=1) is not None
    dear = house.places["tagged"].chain
    dear.rpc("anvil_setNextBlockBaseFeePerGas", hex(600 * GWEI))
    dear.mine()
    fees = NetworkFees({name: place.pool for name, place in house.places.items()}, clock=SystemClock())  # knows nothing
    for name, place in house.places.items():
        native = house.registry.by_contract(name, None)
        assert native is not None
        found = await fees.estimate(native, sender=place.chain.accounts[1], to=STRANGER, amount=1)
        assert (found is None) == (name == "tagged")
