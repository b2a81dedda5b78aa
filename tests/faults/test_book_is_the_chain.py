"""Random blocks, branches, lies and restarts: at the end the book is what a scan of the final chain finds."""

import os
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.errors import ConfigError, Unavailable
from chain.follower import Follower
from chain.networks import Deployment, Registry
from chain.token_watch import TokenWatch
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.owing import receivable_account
from ledger.service import PostgresLedger
from tests.chain.support import NumberedAddresses
from tests.faults.lies import Kind
from tests.faults.lying_node import LyingNode, lying_node
from tests.faults.support import Stage, stage, truth
from tests.support.chain import RunningChain
from treasury.inflows import Inflows
from treasury.reconciliation import Reconciler
from wallet.deposit_addresses import DepositAddresses
from wallet.deposits import Deposits
from wallet.receivables import Receivables
from wallet.resources import DepositState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(float(os.environ.get("SECONDS", "60")) + 240)]

KINDS = frozenset(Kind) - {Kind.REPLACEMENT, Kind.FORK, Kind.LOGS_LIMIT, Kind.DELAY, Kind.INVENT}
"""What a reader can meet, but for branches (the chain itself has those) and what only costs time."""

USERS = ("usr_alice", "usr_bob", "usr_carol")
ASSETS = {"USDC": 6, "DAI": 18, "ETH": 18}
SPENDABLE, FINAL = 2, 12
DEEPEST = 6
"""Blocks that are replaced at most: less than are final, more than can be spent."""

ROUNDS = 40
"""So many, or as long as SECONDS says."""


@dataclass
class Books:
    """The house's parts on one stage; started anew they know only what is written."""

    at: Stage
    engine: AsyncEngine
    clock: ManualClock
    entropy: SeededEntropy
    registry: Registry
    addresses: dict[str, str] = field(default_factory=dict)
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What users got from each other, less what they gave, by (user, asset)."""

    async def open(self) -> None:
        self.ledger = PostgresLedger(self.engine, clock=self.clock)
        await self.ledger.create_book()
        for code, scale in ASSETS.items():
            await self.ledger.register_asset(Asset(code, AssetKind.CRYPTO, scale))
        self.start()

    def start(self) -> None:
        network = self.at.following.network
        common: dict[str, Any] = {
            "ledger": self.ledger, "registry": self.registry, "clock": self.clock, "entropy": self.entropy,
        }  # fmt: skip
        self.deposits = Deposits(self.engine, **common)
        self.inflows = Inflows(self.engine, **common)
        self.receivables = Receivables(self.ledger)
        self.reconciler = Reconciler(self.engine, nodes={network.name: self.at.pool}, banks=[], **common)
        self.watch = TokenWatch(
            self.engine,
            network=network,
            tokens=self.registry.tokens(network.name),
            reader=self.at.pool.tokens,
            clock=self.clock,
        )

    async def restart(self) -> None:
        """As after the end of the process: nothing is remembered but what is written."""
        following = self.at.following
        await following.follower.close()
        following.follower = Follower(
            engine=self.engine, network=following.network, nodes=self.at.pool, clock=self.clock
        )
        self.ledger = PostgresLedger(self.engine, clock=self.clock)
        self.start()

    async def work(self) -> None:
        """One round of everything that the worker does. Whatever a liar stops is done in a later one."""
        for step in (self.at.step, self.watch.step, self.deposits.step, self.inflows.step, self.receivables.step):
            try:
                await step()
            except (Unavailable, ConfigError):
                self.at.seconds.at += 60

    async def send(self, dice: random.Random, number: int) -> None:
        """A user pays another one, if the book lets them."""
        giver, taker = dice.sample(USERS, 2)
        asset = dice.choice(list(ASSETS))
        await self.ledger.ensure_open(user_account(giver, asset), user_account(taker, asset))
        found = await self.ledger.account(user_account(giver, asset))
        if found is None or found.available <= 0:
            return
        amount = dice.randint(1, found.available)
        posting = Posting(user_account(giver, asset), user_account(taker, asset), asset, amount)
        (outcomes,) = await self.ledger.submit(alone(Post(id=f"p{number}", subject=f"p{number}", postings=(posting,))))
        assert outcomes
        after = await self.ledger.account(user_account(giver, asset))
        assert after is not None
        if after.balance < found.balance:
            self.sent[giver, asset] -= amount
            self.sent[taker, asset] += amount

    async def net(self, user: str, asset: str) -> int:
        """What a user has, less what they owe."""
        held = [await self.ledger.account(one) for one in (user_account(user, asset), receivable_account(user, asset))]
        return sum(one.balance for one in held if one is not None)


def registry_of(at: Stage) -> Registry:
    chain, network = at.chain, at.following.network
    tokens = [
        Deployment(asset=code, network=network.name, contract=chain.token(code).lower(), decimals=ASSETS[code])
        for code in ("USDC", "DAI")
    ]
    return Registry([network], [Deployment(asset="ETH", network=network.name, contract=None, decimals=18), *tokens])


def move_the_chain(chain: RunningChain, dice: random.Random, to: str, *, lowest: int) -> int:
    """Something happens on chain, above height `lowest`; how many blocks were replaced."""
    if dice.random() < 0.7:
        chain.transfer(dice.choice(list(ASSETS)), to, dice.randint(1, 10**6))
    if dice.random() < 0.4:
        chain.mine(dice.randint(1, 3))
    deepest = min(DEEPEST, chain.height() - lowest)
    if dice.random() < 0.2 and deepest:
        depth = dice.randint(1, deepest)
        chain.reorg(depth, longer=dice.randint(0, 2))
        return depth
    return 0


async def live(
    anvil: RunningChain, engine: AsyncEngine, clock: ManualClock, liars: tuple[LyingNode, LyingNode], seed: int
) -> None:
    dice, entropy = random.Random(seed), SeededEntropy(seed)
    at = stage(anvil, engine, clock, *liars, spendable_depth=SPENDABLE, final_depth=FINAL)
    books = Books(at, engine, clock, entropy, registry_of(at))
    await books.open()
    await at.arrive()
    issuing = DepositAddresses(engine, book="main", registry=books.registry, source=NumberedAddresses(), clock=clock)
    for user in USERS:
        books.addresses[user] = (await issuing.issue(user, at.following.network.name)).address.lower()
    for number, liar in enumerate(liars):
        liar.lie_at_random(seed + number, among=KINDS, one_in=8 * (number + 1))
    lowest, replaced, restarts, rounds = anvil.height(), 0, 0, 0
    deadline = time.monotonic() + float(os.environ.get("SECONDS", "0"))
    while rounds < ROUNDS or time.monotonic() < deadline:
        rounds += 1
        replaced += move_the_chain(anvil, dice, books.addresses[dice.choice(USERS)], lowest=lowest)
        await books.work()
        if dice.random() < 0.3:
            await books.send(dice, rounds)
        if dice.random() < 0.1:
            restarts += 1
            await books.restart()
    for liar in liars:
        liar.be_honest()
    anvil.mine(FINAL)
    await at.arrive()
    for _ in range(10):
        await books.work()
    told = sum((liar.told for liar in liars), Counter[Kind]())
    print(f"{rounds=} {replaced=} {restarts=} lies={told.total()}")
    assert min(replaced, restarts, told.total()) > 0, "a run in which nothing happened shows nothing"
    await require_the_chain(books)
    await at.following.follower.close()


async def require_the_chain(books: Books) -> None:
    """Users have what a scan of the chain finds for them; the house holds the sum; people are shown the same."""
    chain, names = books.at.chain, {"": "ETH"} | {books.at.chain.token(code): code for code in ("USDC", "DAI")}
    names = {contract.lower(): code for contract, code in names.items()}
    found: Counter[tuple[str, str]] = Counter()
    by_address = {address: user for user, address in books.addresses.items()}
    scanned = truth(chain, list(by_address), chain.height())
    shown = [one for user in USERS for one in await books.deposits.list_for(user)]
    print(
        "\n".join(
            f"{one.owner} {one.asset} {one.amount} {one.state} {one.block_number} {one.block_hash} {one.tx_hash}"
            for one in shown
        )
    )
    print("\n".join(map(str, scanned)))
    for _, _, contract, recipient, amount in scanned:
        found[by_address[recipient], names[contract.lower()]] += amount
    for asset in ASSETS:
        total = 0
        for user in USERS:
            assert await books.net(user, asset) == found[user, asset] + books.sent[user, asset], (user, asset)
            total += found[user, asset]
        held = await books.ledger.account(house_account(f"custody:{books.at.following.network.name}:deposit", asset))
        assert (
            (0 if held is None else -held.balance)
            == total
            == sum(chain.balance(asset, address) for address in by_address)
        )
    live_ones = [one for one in shown if one.state not in (DepositState.ORPHANED, DepositState.REVERSED)]
    assert {one.state for one in live_ones} <= {DepositState.FINAL}
    assert len(live_ones) == len(scanned)
    run = await books.reconciler.run()
    assert (run.breaks, run.in_flight, [judged.skipped for judged in run.networks]) == ((), (), [None])


async def test_whatever_nodes_and_branches_do_the_book_is_the_final_chain(anvil, database, clock):
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print(f"seed: {seed}")
    async with lying_node(anvil.url) as one, lying_node(anvil.url) as two:
        await live(anvil, database.engine(), clock, (one, two), seed)
