"""The wallet on a real node with a real signer: deposit, reorg, withdrawal, a worker killed between any two steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from base.clock import SystemClock
from base.entropy import SystemEntropy
from chain import addresses
from chain.broadcaster import Broadcaster
from chain.estimates import NetworkFees
from chain.evm.addresses import show_address
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Follower
from chain.networks import Deployment, Network, Registry
from chain.senders import Senders
from chain.signing import OwnKey, Role
from chain.token_watch import TokenWatch
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.money import Asset, AssetKind
from ledger.requests import request_key
from ledger.service import PostgresLedger
from tests.support.chain import RunningChain, start_local_chain
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.wallet.conftest import ALICE, FixedRates, key
from treasury.adjustments import Adjustments
from treasury.inflows import Inflows
from treasury.reconciliation import Reconciler
from wallet.deposit_addresses import DepositAddresses
from wallet.deposits import Deposits
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawals import Withdrawals
from wiring.signing import CustodySigner, XpubAddresses

pytestmark = pytest.mark.slow

STRANGER = "0x00000000000000000000000000000000deadbeef"


class Killed(Exception):
    """Stands for the process's end."""


@dataclass
class KillAt:
    """Ends the step at the first checkpoint of this name, once."""

    name: str | None

    def reached(self, name: str) -> None:
        if name == self.name:
            self.name = None
            raise Killed(name)


@pytest.fixture
def anvil(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def signer(tmp_path, anvil) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", generous_policy(anvil.chain_id, anvil.token("USDC").lower()))
    yield running
    running.stop()


@dataclass
class World:
    """A whole house on one real chain."""

    chain: RunningChain
    ledger: PostgresLedger
    follower: Follower
    watch: TokenWatch
    addresses: DepositAddresses
    deposits: Deposits
    inflows: Inflows
    adjustments: Adjustments
    reconciler: Reconciler
    node: Node
    parts: dict[str, Any]
    signing: dict[str, Any]
    hot: str

    def worker(self, killer: KillAt | None = None) -> tuple[Withdrawals, Broadcaster]:
        """A freshly started worker's two steps."""
        return Withdrawals(**self.parts, checkpoint=killer), Broadcaster(**self.signing, checkpoint=killer)

    async def follow(self) -> None:
        for _ in range(30):
            if (await self.follower.step()).did not in ("advanced", "went_back"):
                break
        await self.watch.step()

    async def settle(self, blocks: int = 0) -> None:
        """Mine, follow, and book what arrived."""
        if blocks:
            self.chain.mine(blocks)
        await self.follow()
        for _ in range(10):
            if not await self.deposits.step() + await self.inflows.step():
                return

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance


@pytest.fixture
async def world(anvil, signer, database):
    clock, entropy, engine = SystemClock(), SystemEntropy(), database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for asset in (
        Asset("USD", AssetKind.FIAT, 2),
        Asset("USDC", AssetKind.STABLECOIN, 6),
        Asset("ETH", AssetKind.CRYPTO, 18),
    ):
        await ledger.register_asset(asset)
    network = Network(
        name="local",
        chain_id=anvil.chain_id,
        rpc_urls=(anvil.url,),
        native_asset="ETH",
        spendable_depth=2,
        final_depth=4,
        tip_floor=10**9,
        start_height=0,
    )
    registry = Registry(
        [network],
        [
            Deployment(asset="USDC", network="local", contract=anvil.token("USDC").lower(), decimals=6),
            Deployment(asset="ETH", network="local", contract=None, decimals=18),
        ],
    )
    node = Node(network, HttpRpc(anvil.url))
    source = XpubAddresses(signer.xpubs)
    async with tx(engine) as connection:
        hot = await addresses.enrol(connection, source, key=OwnKey(Role.HOT, 0), clock=clock)
    follower = Follower(engine=engine, network=network, nodes=Pool(network, [node]), clock=clock)
    common: dict[str, Any] = {"ledger": ledger, "clock": clock, "entropy": entropy}
    yield World(
        chain=anvil,
        ledger=ledger,
        follower=follower,
        watch=TokenWatch(engine, network=network, tokens=registry.tokens("local"), reader=node.tokens, clock=clock),
        addresses=DepositAddresses(engine, book="main", registry=registry, source=source, clock=clock),
        deposits=Deposits(engine, registry=registry, **common),
        inflows=Inflows(engine, registry=registry, **common),
        adjustments=Adjustments(engine, **common),
        reconciler=Reconciler(engine, registry=registry, nodes={"local": node}, banks=[], **common),
        node=node,
        parts={
            "engine": engine,
            "registry": registry,
            "fees": NetworkFees({"local": node}, clock=SystemClock()),
            "rates": FixedRates(),
            "senders": Senders(engine, registry=registry, nodes={"local": node}, count=1),
            **common,
        },
        signing={
            "engine": engine,
            "network": network,
            "nodes": [node],
            "signer": CustodySigner(signer.client()),
            "clock": clock,
        },
        hot=hot.address,
    )
    await follower.close()


async def funded(world: World) -> None:
    """The hot address has 1,000 USDC and 10 ETH, and Alice deposits 100 USDC."""
    await world.follow()
    world.chain.faucet(world.hot, 10 * 10**18)
    world.chain.transfer("USDC", world.hot, 1_000_000_000)
    to = (await world.addresses.issue(ALICE, "local")).address
    world.chain.transfer("USDC", to, 100_000_000)
    await world.settle(blocks=4)
    assert await world.balance(user_account(ALICE, "USDC")) == 100_000_000


async def ask(world: World, amount: int = 40_000_000):
    return await world.worker()[0].request(
        key=key("w"), owner=ALICE, asset="USDC", network="local", to=show_address(STRANGER), amount=amount
    )


async def brought_to_its_end(world: World, withdrawal_id: str, killer: KillAt | None = None):
    """Work until the withdrawal ended, starting a new worker whenever one is killed."""
    withdrawals, broadcaster = world.worker(killer)
    for _ in range(60):
        try:
            await withdrawals.step()
            await broadcaster.step()
        except Killed:
            withdrawals, broadcaster = world.worker()
        world.chain.mine(1)
        await world.settle()
        found = await withdrawals.get(ALICE, withdrawal_id)
        if found.state in (WithdrawalState.FINAL, WithdrawalState.REVERTED, WithdrawalState.REJECTED):
            return found
    raise AssertionError(f"still {found}")


async def test_a_journey_through_the_chain_leaves_no_break(world):
    await funded(world)
    await world.adjustments.move(
        key=request_key(owner="usr_treasurer", route="/test", key="capital", body=None),
        treasurer="usr_treasurer",
        source="suspense",
        target="capital",
        asset="USDC",
        amount=1_000_000_000,
        reason="the house's own funding",
    )
    run = await world.reconciler.run()
    assert run.clean, run
    withdrawal = await ask(world)
    done = await brought_to_its_end(world, withdrawal.id)
    assert done.state is WithdrawalState.FINAL
    assert 0 < done.fee <= done.fee_highest
    assert world.chain.balance("USDC", STRANGER) == 40_000_000
    assert await world.balance(user_account(ALICE, "USDC")) == 60_000_000 - done.fee
    assert await world.balance(house_account("network-fees", "ETH")) == -done.fee_wei
    assert await world.balance(house_account("in-transit:local:out", "USDC")) == 0
    run = await world.reconciler.run()
    assert run.clean, run
    assert run.in_flight == ()


async def test_the_hash_of_a_withdrawal_is_shown_from_its_sending_on(world):
    await funded(world)
    withdrawal = await ask(world)
    withdrawals, broadcaster = world.worker()
    world.chain.set_automine(False)
    for _ in range(12):
        await withdrawals.step()
        await broadcaster.step()
    sent = await withdrawals.get(ALICE, withdrawal.id)
    assert (sent.state, sent.block_number) == (WithdrawalState.BROADCAST, None)
    assert world.chain.rpc("eth_getTransactionByHash", sent.tx_hash)["hash"] == sent.tx_hash
    world.chain.set_automine(True)
    assert (await brought_to_its_end(world, withdrawal.id)).tx_hash == sent.tx_hash


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_reorganisation_takes_a_deposit_back(world, depth):
    await world.follow()
    to = (await world.addresses.issue(ALICE, "local")).address
    world.chain.transfer("USDC", to, 5_000_000)
    await world.settle(blocks=depth - 1)
    assert await world.balance(user_account(ALICE, "USDC")) == (5_000_000 if depth > 1 else 0)
    world.chain.reorg(depth, longer=6)
    await world.settle()
    account = await world.ledger.account(user_account(ALICE, "USDC"))
    assert (account.balance, account.credits_pending) == (0, 0)
    assert (await world.reconciler.run()).clean
    world.chain.transfer("USDC", to, 7_000_000)
    await world.settle(blocks=4)
    assert await world.balance(user_account(ALICE, "USDC")) == 7_000_000
    assert (await world.reconciler.run()).clean


@pytest.mark.parametrize(
    "moment",
    [
        "withdrawal.held.after",
        "withdrawal.approved.before",
        "withdrawal.approved.after",
        "signing.before",
        "signing.after",
        "stored",
        "sending.before",
        "sending.after",
        "mined.seen",
        "final.seen",
        "withdrawal.mined.before",
        "withdrawal.mined.after",
    ],
)
async def test_f29_killed_at_any_moment_it_pays_once_and_the_book_is_right(world, moment):
    await funded(world)
    withdrawal = await ask(world)
    killer = KillAt(moment)
    done = await brought_to_its_end(world, withdrawal.id, killer)
    assert killer.name is None, "the moment never came"
    assert done.state is WithdrawalState.FINAL
    assert world.chain.balance("USDC", STRANGER) == 40_000_000
    assert await world.balance(user_account(ALICE, "USDC")) == 60_000_000 - done.fee
    assert (await world.reconciler.run()).clean


async def test_f57_one_unit_that_nobody_booked_is_named(world):
    await funded(world)
    world.chain.as_token_owner("USDC", "mint(address,uint256)", show_address(world.hot), 1)
    await world.follow()
    world.chain.mine(4)
    await world.follow()
    run = await world.reconciler.run()
    assert [(item.account, item.amount) for item in run.in_flight] == [
        (house_account("custody:local:hot", "USDC"), 1)
    ]  # seen, final, not booked yet
    await world.settle()
    assert (await world.reconciler.run()).clean
    world.chain.rpc("anvil_setBalance", world.hot, hex(1))
    world.chain.mine(5)
    await world.settle()
    (found,) = (await world.reconciler.run()).breaks
    assert (found.network, found.account, found.found) == ("local", house_account("custody:local:hot", "ETH"), 1)
