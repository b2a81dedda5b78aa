"""A house on a real chain with a real signer whose withdrawals are paid together, and a worker that can be killed.

async with batch_world(anvil, signer, database) as world:
    await world.open()
    asked = [await world.ask(1_000_000) for _ in range(3)]
    await world.bring_to_their_end(asked)
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import SystemClock
from base.entropy import SystemEntropy
from chain import addresses, tables
from chain.broadcaster import Broadcaster
from chain.checkpoints import Checkpoint
from chain.coin_watch import CoinWatch
from chain.estimates import NetworkFees
from chain.evm.addresses import created_address, show_address
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Follower
from chain.networks import Deployment, Network, Registry
from chain.payout import payout_code
from chain.payout_contract import PayoutContract
from chain.senders import Senders
from chain.signing import OwnAddress, OwnKey, Role
from chain.token_watch import TokenWatch
from custody.derivation import keccak
from custody.policy_starter import Limits, NetworkStart, starter_policy
from custody.policy_starter import PayoutContract as PayoutRules
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.support.chain import RunningChain
from tests.support.signer import RunningSigner, start_signer
from tests.wallet.conftest import ALICE, FixedRates, fund, key
from treasury.inflows import Inflows
from treasury.reconciliation import Reconciler
from wallet.batch_ends import BatchEnds
from wallet.batch_rules import Terms
from wallet.batches import Batches, Gatherer
from wallet.deposits import Deposits
from wallet.own_gas import OwnGas
from wallet.resources import Withdrawal
from wallet.tables import batch_legs, batches, paid_alone
from wallet.withdrawal_states import ENDED, WithdrawalState
from wallet.withdrawals import Withdrawals
from wiring.payouts import Payouts
from wiring.signing import CustodySigner, XpubAddresses

PER_TRANSFER = 100_000_000
"""The most of USDC that the signer lets go at once, in smallest units."""

TERMS = Terms(legs_min=2, legs_max=100, wait=timedelta(0))
"""Whoever waits goes as soon as there are two."""


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


@contextmanager
def batch_signer(folder: Path, chain: RunningChain) -> Iterator[RunningSigner]:
    """A signer whose policy lets gas:0 create the payout contract first of all, and hot pay by it."""
    much = Limits(per_transfer=10**24, per_day=10**26)
    policy = starter_policy(
        NetworkStart(
            chain_id=chain.chain_id,
            tokens={chain.token("USDC").lower(): replace(much, per_transfer=PER_TRANSFER)},
            native=much,
            top_ups=much,
            fee_wei_max=10**18,
            payout=PayoutRules(code_hash=bytes(keccak(payout_code().creation)), fee_wei_max=10**19),
        )
    )
    running = start_signer(folder / "signer", policy)
    try:
        yield running
    finally:
        running.stop()


@dataclass
class Worker:
    """A freshly started worker's steps about withdrawals."""

    batches: Batches
    withdrawals: Withdrawals
    ends: BatchEnds
    gas: OwnGas
    broadcaster: Broadcaster

    async def step(self) -> int:
        """Each once."""
        moved = await self.batches.step() + await self.withdrawals.step()
        moved += len((await self.broadcaster.step()).states)
        return moved + await self.ends.step() + await self.gas.step()


@dataclass
class BatchWorld:
    """Everything on one chain. Amounts are smallest units."""

    chain: RunningChain
    engine: AsyncEngine
    ledger: PostgresLedger
    registry: Registry
    network: Network
    node: Pool
    follower: Follower
    watch: TokenWatch
    coins: CoinWatch
    deposits: Deposits
    inflows: Inflows
    reconciler: Reconciler
    payouts: Payouts
    contract: PayoutContract
    hot: str
    gas: str
    signer: CustodySigner
    terms: Terms = TERMS
    names: int = 0
    common: dict[str, Any] = field(default_factory=dict)

    def worker(self, checkpoint: Checkpoint | None = None, *, node: Node | None = None) -> Worker:
        """A new process's parts. `node`: who is asked for the block of a batch, instead of the usual one."""
        gatherer = Gatherer(terms=self.terms, contract=self.contract, node=self.node)
        senders = Senders(self.engine, registry=self.registry, nodes={"local": self.node}, count=1)
        gathering = Batches(
            self.engine,
            registry=self.registry,
            gatherers={"local": gatherer},
            senders=senders,
            checkpoint=checkpoint,
            **self.common,
        )
        clock = self.common["clock"]
        return Worker(
            batches=gathering,
            withdrawals=Withdrawals(
                self.engine,
                registry=self.registry,
                fees=NetworkFees({"local": self.node}, clock=SystemClock()),
                rates=FixedRates(),
                senders=senders,
                gathering=gathering,
                checkpoint=checkpoint,
                **self.common,
            ),
            ends=BatchEnds(
                self.engine,
                ledger=self.ledger,
                registry=self.registry,
                nodes={"local": node or self.node},
                clock=clock,
                checkpoint=checkpoint,
            ),
            gas=OwnGas(self.engine, ledger=self.ledger, registry=self.registry, clock=clock),
            broadcaster=Broadcaster(
                engine=self.engine,
                network=self.network,
                nodes=[self.node],
                signer=self.signer,
                clock=clock,
                checkpoint=checkpoint,
                resend_seconds=0,
            ),
        )

    async def follow(self, blocks: int = 0) -> None:
        """Mine, take in what there is, and book what arrived."""
        if blocks:
            self.chain.mine(blocks)
        for _ in range(30):
            if (await self.follower.step()).did not in ("advanced", "went_back"):
                break
        await self.watch.step()
        await self.coins.step()
        for _ in range(10):
            if not await self.deposits.step() + await self.inflows.step():
                return

    async def forget_contract(self) -> None:
        """From now on the chain is followed by a process whose policy names no payout contract."""
        await self.follower.close()
        clock = self.common["clock"]
        self.follower = Follower(engine=self.engine, network=self.network, nodes=self.node, clock=clock)

    async def open(self, *, usdc: int = 1_000_000_000, deploy: bool = True) -> None:
        """Fund hot and gas, give Alice 500 USDC and 5 ETH of it, and have the payout contract created."""
        await self.follow()
        broadcaster = self.worker().broadcaster
        for address, role in ((self.hot, Role.HOT), (self.gas, Role.GAS)):
            self.chain.faucet(address, 20 * 10**18)
            await broadcaster.enrol(OwnAddress(OwnKey(role, 0), address))
        self.chain.transfer("USDC", self.hot, usdc)
        await self.follow(blocks=5)
        await fund(self.ledger, user_account(ALICE, "USDC"), 500_000_000, name="usdc")
        await fund(self.ledger, user_account(ALICE, "ETH"), 5 * 10**18, name="eth")
        if deploy:
            await self.deploy()

    async def deploy(self) -> None:
        """The payout contract, as `onebook payout deploy` has it created."""
        await self.payouts.deploy()
        worker = self.worker()
        for _ in range(10):
            await worker.broadcaster.step()
            await self.follow(blocks=3)
            if (await self.payouts.standing()).stands and await worker.gas.step():
                return
        raise AssertionError(await self.payouts.standing())

    async def ask(self, amount: int, *, asset: str = "USDC", to: str | None = None) -> Withdrawal:
        """Alice withdraws to an address that nobody ever used, or to `to`."""
        self.names += 1
        to = to or self.fresh()
        return await self.worker().withdrawals.request(
            key=key(f"w{self.names}"), owner=ALICE, asset=asset, network="local", to=show_address(to), amount=amount
        )

    def fresh(self) -> str:
        """An address that nobody ever used."""
        return "0x" + SystemEntropy().draw(20).hex()

    def known(self) -> str:
        """An address that holds one wei."""
        address = self.fresh()
        self.chain.rpc("anvil_setBalance", address, hex(1))
        return address

    async def approve_all(self, worker: Worker) -> None:
        """Held, screened, approved."""
        for _ in range(2):
            await worker.withdrawals.step()

    async def gathered(self, asked: Sequence[Withdrawal]) -> Worker:
        """A worker that has put these into batches, and no further."""
        worker = self.worker()
        await self.approve_all(worker)
        assert await worker.batches.step() == len(asked)
        assert {one.state for one in await self.now(asked)} == {WithdrawalState.NONCE_RESERVED}
        return worker

    async def now(self, asked: Sequence[Withdrawal]) -> list[Withdrawal]:
        """These withdrawals as they are."""
        withdrawals = self.worker().withdrawals
        return [await withdrawals.get(ALICE, one.id) for one in asked]

    async def bring_to_their_end(
        self, asked: Sequence[Withdrawal], checkpoint: Checkpoint | None = None, *, rounds: int = 40
    ) -> list[Withdrawal]:
        """Work until all have ended, starting a new worker whenever one is killed."""
        worker = self.worker(checkpoint)
        for _ in range(rounds):
            try:
                await worker.step()
            except Killed:
                worker = self.worker()
            await self.follow(blocks=2)
            found = await self.now(asked)
            if all(one.state in ENDED for one in found):
                await self.come_to_rest()
                return found
        raise AssertionError([(one.state, one.waiting_for, one.reason) for one in found])

    async def come_to_rest(self) -> None:
        """Nothing is left to be done."""
        worker = self.worker()
        for _ in range(12):
            moved = await worker.step()
            await self.follow(blocks=2)
            if not moved:
                return
        raise AssertionError("there is always something to do")

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def house(self, purpose: str, asset: str) -> int:
        return await self.balance(house_account(purpose, asset))

    async def gas_paid(self) -> int:
        """Wei that our own transactions cost, as the chain tells of each mined one."""
        total = 0
        for sender in (self.hot, self.gas):
            for tx_hash in await self.sent_by(sender):
                receipt = self.chain.receipt(tx_hash)
                total += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        return total

    async def sent_by(self, sender: str) -> list[str]:
        """Hashes of the live transactions that this address sent, in order."""
        sent = tables.outgoing.c
        async with tx(self.engine) as connection:
            query = select(sent.tx_hash).where(sent.sender == sender, ~sent.orphaned)
            return list((await connection.execute(query.order_by(sent.nonce))).scalars())

    async def rows(self) -> tuple[list[Any], list[Any], dict[str, str]]:
        """All batches, all legs, and why who is paid alone."""
        async with tx(self.engine) as connection:
            made = (await connection.execute(select(batches).order_by(batches.c.id))).all()
            by_place = select(batch_legs).order_by(batch_legs.c.batch, batch_legs.c.position)
            legs = (await connection.execute(by_place)).all()
            alone = await connection.execute(select(paid_alone.c.withdrawal, paid_alone.c.reason))
            return list(made), list(legs), {row[0]: row[1] for row in alone}

    async def transactions(self, kind: str) -> list[Any]:
        """Own transactions of this kind, in order of nonces."""
        own = tables.transactions
        async with tx(self.engine) as connection:
            query = select(own).where(own.c.kind == kind).order_by(own.c.nonce, own.c.id)
            return list((await connection.execute(query)).all())

    async def must_agree(self) -> None:
        """The book is what our addresses hold; nothing is in flight, nothing in suspense but what was put there."""
        await self.follow(blocks=4)
        await self.come_to_rest()
        run = await self.reconciler.run()
        assert (run.in_flight, run.breaks) == ((), ()), run
        assert await self.house("in-transit:local:out", "USDC") == 0
        assert await self.house("in-transit:local:out", "ETH") == 0
        assert await self.house("network-fees", "ETH") == -await self.gas_paid()


@asynccontextmanager
async def batch_world(chain: RunningChain, signer: RunningSigner, database: Any) -> AsyncIterator[BatchWorld]:
    """The house; `open` it before use."""
    clock, entropy, engine = SystemClock(), SystemEntropy(), database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    for asset in (Asset("USDC", AssetKind.STABLECOIN, 6), Asset("ETH", AssetKind.CRYPTO, 18)):
        await ledger.register_asset(asset)
    network = Network(
        name="local",
        chain_id=chain.chain_id,
        rpc_urls=(chain.url,),
        native_asset="ETH",
        spendable_depth=2,
        final_depth=3,
        tip_floor=10**9,
    )
    registry = Registry(
        [network],
        [
            Deployment(asset="USDC", network="local", contract=chain.token("USDC").lower(), decimals=6),
            Deployment(asset="ETH", network="local", contract=None, decimals=18),
        ],
    )
    node = Pool(network, [Node(network, HttpRpc(chain.url))])
    source = XpubAddresses(signer.xpubs)
    async with tx(engine) as connection:
        hot = await addresses.enrol(connection, source, key=OwnKey(Role.HOT, 0), clock=clock)
        gas = await addresses.enrol(connection, source, key=OwnKey(Role.GAS, 0), clock=clock)
    contract = PayoutContract("local", created_address(gas.address, 0), OwnKey(Role.GAS, 0), 0)
    follower = Follower(engine=engine, network=network, nodes=node, clock=clock, payouts=[contract.address])
    common: dict[str, Any] = {"ledger": ledger, "clock": clock, "entropy": entropy}
    inflows = Inflows(engine, registry=registry, **common)
    made = BatchWorld(
        chain=chain,
        engine=engine,
        ledger=ledger,
        registry=registry,
        network=network,
        node=node,
        follower=follower,
        watch=TokenWatch(engine, network=network, tokens=registry.tokens("local"), reader=node.tokens, clock=clock),
        coins=CoinWatch(engine, network=network, nodes=node, clock=clock),
        deposits=Deposits(engine, registry=registry, **common),
        inflows=inflows,
        reconciler=Reconciler(
            engine, registry=registry, nodes={"local": node}, banks=[], surpluses=[inflows], **common
        ),
        payouts=Payouts(
            engine,
            book=ledger.book,
            network=network,
            node=node,
            contract=contract,
            deployer=gas.address,
            terms=TERMS,
            clock=clock,
            entropy=entropy,
        ),
        contract=contract,
        hot=hot.address,
        gas=gas.address,
        signer=CustodySigner(signer.client()),
        common=common,
    )
    yield made
    await made.follower.close()
