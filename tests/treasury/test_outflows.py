"""What leaves own addresses without us, in scripted blocks: found once, booked once, taken back, accounted for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from sqlalchemy import insert, select

from chain import foreign_store, tables
from chain.foreign import AccountState
from chain.foreign_watch import ForeignWatch
from chain.observations import Observation, Outgoing
from chain.transaction_states import Kind
from db.engine import tx
from ledger.accounts import house_account
from tests.treasury.conftest import Treasury
from tests.wallet.conftest import ALICE, USDC, key
from tests.wallet.scripted_chain import digest, paid
from treasury.alerts import AlertCode, Alerts
from treasury.errors import SenderChanged
from treasury.outflows import Outflows
from treasury.records import BreakReason, OutflowState
from treasury.sender_reviews import SenderReviews

pytestmark = pytest.mark.slow

TX, OTHER_TX = digest("theft"), digest("another theft")
THIEF = "0x" + "7e" * 20
CUSTODY, SUSPENSE = house_account("custody:local:hot", "USDC"), house_account("suspense", "USDC")


@dataclass
class ScriptedAccounts:
    """Tells what the test set of own addresses, whatever the block; of others that nobody knows."""

    told: dict[str, AccountState] = field(default_factory=dict)

    async def accounts_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[AccountState | None]:
        return [self.told.get(address) for address, _ in asked]


@dataclass
class Watched:
    """Treasury with a watch over the house's addresses."""

    treasury: Treasury
    accounts: ScriptedAccounts
    reviews: SenderReviews

    def __post_init__(self) -> None:
        self.watch = self.new_watch()

    @property
    def outflows(self) -> Outflows:
        return self.treasury.outflows

    def new_watch(self) -> ForeignWatch:
        """As a new process would have it."""
        house = self.treasury.house
        return ForeignWatch(
            house.chain.engine,
            network=house.chain.network,
            contracts=house.registry.tokens("local"),
            nodes=self.accounts,
            clock=house.chain.clock,
        )

    async def work(self) -> tuple[int, int]:
        """How many findings and bookings there were."""
        return await self.watch.step(), await self.outflows.step()

    async def halted(self) -> dict[str, str]:
        async with tx(self.treasury.house.chain.engine) as connection:
            return await foreign_store.halted_senders(connection, "local")

    async def accept(self) -> None:
        for one in await self.reviews.all():
            await self.reviews.accept(
                treasurer="usr_t", network="local", address=one.address, state=one.state, reason="known"
            )

    async def make_ours(self, tx_hash: str, sender: str, kind: Kind = Kind.WITHDRAWAL, recipient: str = THIEF) -> None:
        """The record as it is once it knows that this transaction is ours, by whatever way it had forgotten it."""
        now = self.treasury.house.chain.clock.now()
        common = {"network": "local", "kind": "pay", "nonce": 4, "gas_limit": 1}
        async with tx(self.treasury.house.chain.engine) as connection:
            await connection.execute(
                insert(tables.transactions).values(
                    id="txn_1",
                    network="local",
                    kind=kind,
                    book="main",
                    subject="wdr_1",
                    state="broadcast",
                    sender_role="hot",
                    sender_generation=1,
                    sender_index=0,
                    sender=sender,
                    nonce=4,
                    contract=USDC,
                    recipient=recipient,
                    amount=5,
                    gas_limit=1,
                    fee_wei_max=1,
                    created_at=now,
                    updated_at=now,
                )
            )
            await connection.execute(
                insert(tables.attempts).values(
                    transaction_id="txn_1",
                    attempt=1,
                    **common,
                    max_fee_per_gas=1,
                    max_priority_fee_per_gas=1,
                    tx_hash=tx_hash,
                    raw=b"raw",
                    created_at=now,
                )
            )


@pytest.fixture
async def watched(treasury, database, clock) -> Watched:
    reviews = SenderReviews(database.engine(), registry=treasury.house.registry, clock=clock)
    return Watched(treasury, ScriptedAccounts(), reviews)


def left(house, amount: int = 5_000_000, tx_hash: str = TX, **more) -> Observation:
    terms = {"place": "log:0", "sender": house.hot} | more
    return Observation(tx_hash=tx_hash, contract=USDC, recipient=THIEF, amount=amount, **terms)


def sent(house, tx_hash: str = TX, nonce: int = 4, *, gas_used: int = 50_000) -> Outgoing:
    return Outgoing(tx_hash, house.hot, nonce, USDC, True, gas_used, 10**9)


async def test_f48_what_left_without_us_is_booked_once_final_with_its_gas(watched):
    house = watched.treasury.house
    await house.chain.mine(left(house), sent=(sent(house),))
    assert await watched.work() == (1, 0)
    assert list(await watched.halted()) == [house.hot]
    await house.chain.mine_empty(3)
    assert await watched.work() == (0, 2)
    assert await watched.work() == (0, 0)
    assert (await house.balance(CUSTODY), await house.balance(SUSPENSE)) == (5_000_000, -5_000_000)
    assert await house.balance(house_account("suspense", "ETH")) == -50_000 * 10**9
    assert await house.balance(house_account("custody:local:hot", "ETH")) == 50_000 * 10**9
    token, gas = sorted(await watched.outflows.recent(), key=lambda one: one.place == "gas")
    assert (token.address, token.recipient, token.tx_hash, token.place) == (house.hot, THIEF, TX, "log:0")
    assert (gas.address, gas.recipient, gas.tx_hash, gas.place) == (house.hot, None, TX, "gas")
    assert token.evidence.block_hash == house.chain.hashes[token.block_number]
    await house.assert_sums_to_zero()


async def test_two_workers_at_once_find_and_book_it_once(watched):
    house = watched.treasury.house
    await house.chain.mine(left(house), sent=(sent(house),))
    await house.chain.mine_empty(3)
    found = await asyncio.gather(*(watched.new_watch().step() for _ in range(3)))
    await asyncio.gather(*(watched.outflows.step() for _ in range(3)))
    assert sum(found) == 1
    assert await house.balance(SUSPENSE) == -5_000_000


async def test_f48_taken_back_when_its_block_leaves_the_chain_and_booked_anew_when_it_is_mined_again(watched):
    house = watched.treasury.house
    await house.chain.mine(left(house), sent=(sent(house),))
    await house.chain.mine_empty(3)
    await watched.work()
    await house.chain.reorg(4)
    assert await watched.work() == (0, 2)
    assert (await house.balance(CUSTODY), await house.balance(SUSPENSE)) == (0, 0)
    assert list(await watched.halted()) == [house.hot]  # who signed once can sign again
    await house.chain.mine_empty(1)
    await house.chain.mine(left(house), sent=(sent(house),))
    await house.chain.mine_empty(3)
    assert await watched.work() == (0, 2)
    assert await house.balance(SUSPENSE) == -5_000_000
    states = sorted((one.version, one.state) for one in await watched.outflows.recent())
    assert states == [(1, OutflowState.REVERSED)] * 2 + [(2, OutflowState.BOOKED)] * 2


async def test_a_halted_network_books_nothing_but_takes_back(watched):
    house = watched.treasury.house
    await house.chain.mine(left(house))
    await house.chain.mine_empty(3)
    await watched.work()
    await house.chain.mine(left(house, tx_hash=OTHER_TX))
    await house.chain.mine_empty(8)
    await house.chain.reorg(1, halted="reorg_below_final")
    assert await watched.work() == (1, 0)
    await house.chain.reorg(10)
    assert await watched.work() == (0, 0)
    await house.chain.reorg(2)
    assert (await watched.work(), await house.balance(SUSPENSE)) == ((0, 1), 0)


async def test_a_token_that_nobody_configured_tells_nothing_of_us(watched):
    house = watched.treasury.house
    look_alike = Observation(TX, "log:0", "0x" + "66" * 20, house.hot, THIEF, 5)
    await house.chain.mine(look_alike)
    await house.chain.mine_empty(3)
    assert (await watched.work(), await watched.halted()) == ((0, 0), {})


async def test_what_turns_out_to_be_ours_halts_nothing_any_more_and_is_taken_back(watched):
    house = watched.treasury.house
    await house.chain.mine(left(house), sent=(sent(house),))
    await house.chain.mine_empty(3)
    await watched.work()
    await watched.make_ours(TX, house.hot)
    assert await watched.work() == (1, 2)
    assert (await watched.halted(), await house.balance(SUSPENSE), await house.balance(CUSTODY)) == ({}, 0, 0)
    async with tx(house.chain.engine) as connection:
        (row,) = await connection.execute(select(tables.sender_findings))
    assert (row.closed_at is not None, row.closed_by, row.reason) == (True, None, None)
    assert await watched.work() == (0, 0)


async def test_a_withdrawal_explains_what_leaves_its_sender_and_a_sweep_what_leaves_others(watched):
    """The recipient of a withdrawal, a contract, could draw on an allowance of another address of ours meanwhile."""
    house = watched.treasury.house
    deposit = (await house.addresses.issue(ALICE, "local")).address
    await watched.make_ours(TX, house.hot)
    both = left(house), left(house, place="log:1", sender=deposit)
    await house.chain.mine(*both, sent=(sent(house),))
    assert await watched.work() == (1, 0)
    assert list(await watched.halted()) == [deposit]
    await house.chain.mine_empty(3)
    await watched.work()
    assert [(one.address, one.role) for one in await watched.outflows.recent()] == [(deposit, "deposit")]
    async with tx(house.chain.engine) as connection:
        await connection.execute(tables.transactions.update().values(kind=Kind.SWEEP))
    assert await watched.work() == (1, 1)
    assert (await watched.halted(), await house.balance(SUSPENSE)) == ({}, 0)


async def test_what_left_is_a_break_until_an_adjustment_names_it(watched):
    house, treasury = watched.treasury.house, watched.treasury
    await house.chain.mine(left(house))
    await house.chain.mine_empty(3)
    await watched.work()
    treasury.node.held[USDC, house.hot] = -5_000_000  # the book begins with nothing there
    (found,) = (await treasury.reconciler.run()).breaks
    assert (found.reason, found.account, found.found) == (BreakReason.FOREIGN_OUTFLOW, SUSPENSE, 5_000_000)
    assert found.detail == f"{house.hot} {TX} log:0"
    (outflow,) = await watched.outflows.open_outflows()
    await treasury.adjustments.move(
        key=key("loss"),
        treasurer="usr_t",
        source="capital",
        target="suspense",
        asset="USDC",
        amount=5_000_000,
        reason="stolen",
        evidence=outflow.id,
    )
    assert (await treasury.reconciler.run()).breaks == ()
    assert await house.balance(SUSPENSE) == 0


async def test_f48_a_nonce_that_moved_by_itself_is_found_once_for_each_move(watched):
    house, told = watched.treasury.house, watched.accounts.told
    await house.chain.mine_empty(5)
    told[house.hot] = AccountState(7)  # where the chain says that it begins
    assert (await watched.work(), await watched.halted()) == ((0, 0), {})
    await house.chain.mine(left(house), sent=(sent(house, nonce=7),))
    await watched.make_ours(TX, house.hot)
    await house.chain.mine_empty(3)
    told[house.hot] = AccountState(8)
    assert (await watched.work(), await watched.halted()) == ((0, 0), {})
    await house.chain.mine_empty(1)
    told[house.hot] = AccountState(9)
    assert await watched.work() == (1, 0)
    assert list((await watched.halted()).values()) == [
        f"its nonce is 9 in block {house.chain.height - 3}, by the transactions it sent 8"
    ]
    await watched.accept()
    for watch in (watched.watch, watched.new_watch()):
        watched.watch = watch
        await house.chain.mine_empty(1)
        assert (await watched.work(), await watched.halted()) == ((0, 0), {})
    told[house.hot] = AccountState(10)
    await house.chain.mine_empty(1)
    assert await watched.work() == (1, 0)


async def test_of_deposit_addresses_those_that_hold_something_are_looked_at(watched):
    house, told = watched.treasury.house, watched.accounts.told
    rich, poor = [(await house.addresses.issue(owner, "local")).address for owner in (ALICE, "usr_poor")]
    told |= dict.fromkeys((rich, poor), AccountState(1, "0x" + "c0" * 32))
    await house.chain.mine(paid(rich, 5_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(3)
    assert await watched.work() == (2, 0)
    assert list(await watched.halted()) == [rich]


async def test_only_what_was_shown_is_accepted(watched, clock):
    house, reviews = watched.treasury.house, watched.reviews
    await house.chain.mine(left(house))
    await watched.work()
    (shown,) = await reviews.all()
    await house.chain.mine(left(house, tx_hash=OTHER_TX))
    await watched.work()
    terms = {"treasurer": "usr_t", "network": "local", "address": house.hot, "reason": "known"}
    with pytest.raises(SenderChanged):
        await reviews.accept(state=shown.state, **terms)
    terms_of = {"ledger": house.ledger, "registry": house.registry, "clock": clock}
    alerts = await Alerts(house.chain.engine, **terms_of).open()
    assert [(one.code, "2 findings" in one.text) for one in alerts] == [(AlertCode.SENDER_HALTED, True)]
    (shown,) = await reviews.all()
    assert len((await reviews.accept(state=shown.state, **terms)).findings) == 2
    assert (await reviews.all(), await watched.halted()) == ([], {})
    async with tx(house.chain.engine) as connection:
        rows = list(await connection.execute(select(tables.sender_findings)))
    assert {(row.closed_by, row.reason, row.closed_at) for row in rows} == {("usr_t", "known", clock.now())}
