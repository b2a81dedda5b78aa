"""Reconciling in steps: one unit anywhere is named in the next cycle, and what merely moves is never a break."""

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from base.errors import Unavailable
from db.engine import tx
from ledger.accounts import user_account
from ledger.commands import Hold, Post, Posting, Settle, Void, alone
from tests.treasury.conftest import Told
from tests.treasury.test_reconciliation import DEPOSIT, HOT, journey
from tests.wallet.conftest import ALICE, BOB, USDC
from tests.wallet.scripted_chain import digest, paid
from treasury import journal_check_store
from treasury.book_check import BookCheck
from treasury.journal_check import JournalSeen
from treasury.reconciliation import Reconciler
from treasury.records import BreakReason
from treasury.sampling import Sampler, held_at

pytestmark = pytest.mark.slow

WALLET = user_account(ALICE, "USDC")


class WithoutCounters(BookCheck):
    async def _find_drift(self, connection, number):
        return []


class WithoutHolds(BookCheck):
    async def _find_held_drift(self, connection, number):
        return []


class WithoutJournal(BookCheck):
    async def _look(self, connection, number, *, through, next_bucket, whole):
        return JournalSeen([], next_bucket, sums_stale=False)


class OnlyWhatIsToldOf(Sampler):
    """Believes that what no event tells of is what it was."""

    async def _ask(self, addresses, at):
        return await super()._ask(addresses, at) if self._memory is None else self._memory.held


class OnlySums(Sampler):
    """Compares what all addresses of a role hold together."""

    def _deviating(self, *known):
        return []


def behind_the_book(statement: str):
    """Somebody writes past all triggers and rights."""

    @asynccontextmanager
    async def spoilt(treasury, database, _to):
        async def write(sign: int) -> None:
            async with tx(database.engine(admin=True)) as connection:
                await connection.execute(text("SET LOCAL session_replication_role = replica"))
                changed = await connection.execute(text(statement.replace("{unit}", f"({sign})")))
                assert changed.rowcount == 1

        await write(1)
        yield
        await write(-1)

    return spoilt


@asynccontextmanager
async def deleted_line(treasury, database, _to):
    """A line is gone for a while."""
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text(f"CREATE TABLE gone AS {LINE.format('l.*')}"))
        await connection.execute(
            text(f"DELETE FROM ledger_lines WHERE (seq, line) IN ({LINE.format('l.seq, l.line')})")
        )
    yield
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text("INSERT INTO ledger_lines SELECT * FROM gone"))
        await connection.execute(text("DROP TABLE gone"))


@asynccontextmanager
async def more_on_chain(treasury, _database, to):
    treasury.node.held[USDC, to] += 1
    yield
    treasury.node.held[USDC, to] -= 1


@asynccontextmanager
async def moved_on_chain(treasury, _database, to):
    """From one own address to another of the same role: the sums stay."""
    treasury.node.held[USDC, to] += 1
    treasury.node.held[USDC, treasury.other] -= 1
    yield
    treasury.node.held[USDC, to] -= 1
    treasury.node.held[USDC, treasury.other] += 1


LINE = (
    "SELECT {} FROM ledger_lines l JOIN ledger_accounts a ON a.account = l.credit"
    f" WHERE a.name = '{WALLET}' AND l.kind = 'posted' ORDER BY l.seq LIMIT 1"
)
ALTERED = "UPDATE ledger_lines SET {0} = {0} + {{unit}} WHERE (seq, line) IN (" + LINE.format("l.seq, l.line") + ")"
COUNTER = f"UPDATE ledger_accounts SET {{0}} = {{0}} + {{{{unit}}}} WHERE name = '{WALLET}'"


@dataclass(frozen=True)
class Place:
    """Where a unit is put, what the cycle must name, and which check, switched off in a subclass, misses it."""

    spoil: Any
    reason: BreakReason
    account: str
    network: str = ""
    blind: Any = BookCheck


PLACES = {
    "stored debits": Place(
        behind_the_book(COUNTER.format("debits_posted")), BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutCounters
    ),
    "stored credits": Place(
        behind_the_book(COUNTER.format("credits_posted")), BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutCounters
    ),
    "stored held debits": Place(
        behind_the_book(COUNTER.format("debits_pending")), BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutCounters
    ),
    "stored held credits": Place(
        behind_the_book(COUNTER.format("credits_pending")), BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutCounters
    ),
    "an open hold": Place(
        behind_the_book(
            "UPDATE ledger_holds SET amount = amount + {unit}, remaining = remaining + {unit} WHERE state = 'open'"
        ),
        BreakReason.HOLD_DRIFT,
        WALLET,
        blind=WithoutHolds,
    ),
    "a line's amount": Place(
        behind_the_book(ALTERED.format("amount")), BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutJournal
    ),
    "a balance after a line": Place(
        behind_the_book(ALTERED.format("credit_balance")), BreakReason.JOURNAL_DIFFERS, DEPOSIT, blind=WithoutJournal
    ),
    "a line that is gone": Place(deleted_line, BreakReason.COUNTER_DRIFT, WALLET, blind=WithoutJournal),
    "an address": Place(more_on_chain, BreakReason.CHAIN_DIFFERS, DEPOSIT, "local", blind=OnlyWhatIsToldOf),
    "two addresses": Place(moved_on_chain, BreakReason.CHAIN_DIFFERS, DEPOSIT, "local", blind=OnlySums),
}


def blinded(treasury, clock, entropy, blind):
    """A reconciler with one check replaced by a blind one."""
    house = treasury.house
    engine, node = house.chain.engine, treasury.node
    made = Reconciler(
        engine, ledger=house.ledger, registry=house.registry, nodes={"local": node}, banks=[], clock=clock,
        entropy=entropy,
    )  # fmt: skip
    if issubclass(blind, Sampler):
        network = house.registry.network("local")
        made._chain_check.samplers["local"] = blind(
            engine, network=network, deployments=house.registry.on("local"), node=node, clock=clock
        )
    else:
        made._book_check = blind("main")
    return made


@pytest.fixture
async def settled(treasury):
    """A house that was reconciled: Alice has a deposit of 50 USDC and an open hold, Bob's address 1 USDC."""
    house = treasury.house
    to = await journey(treasury)
    treasury.other = (await house.addresses.issue(BOB, "local")).address
    await house.chain.mine(paid(treasury.other, 1_000_000, contract=USDC, tx_hash=digest("bob")))
    treasury.node.held[USDC, treasury.other] = 1_000_000
    await house.chain.mine_empty(4)
    await treasury.work()
    posting = Posting(WALLET, user_account(BOB, "USDC"), "USDC", 5)
    await house.ledger.submit(alone(Hold(id="held", postings=(posting,))))
    assert (await treasury.reconciler.run_changes()).clean
    return to


async def cycle(treasury, reconciler, *, chain):
    """One more block, then what changed is reconciled; `chain`: again when that block is final."""
    await treasury.house.chain.mine()
    run = await reconciler.run_changes()
    if chain:
        await treasury.house.chain.mine_empty(treasury.house.chain.network.final_depth)
        run = await reconciler.run_changes()
    return run


@pytest.mark.parametrize("blindly", [False, True], ids=["seen", "missed by a blind check"])
async def test_f57_one_unit_in_any_place_is_named_within_one_cycle(
    treasury, settled, database, clock, entropy, blindly
):
    for name, place in PLACES.items():
        reconciler = treasury.reconciler
        if blindly:
            reconciler = blinded(treasury, clock, entropy, place.blind)
            assert (await cycle(treasury, reconciler, chain=bool(place.network))).breaks == (), name
        async with place.spoil(treasury, database, settled):
            run = await cycle(treasury, reconciler, chain=bool(place.network))
            named = {(found.reason, found.network, found.account, found.asset) for found in run.breaks}
            expected = (place.reason, place.network, place.account, "USDC")
            assert (expected in named) is not blindly, (name, run.breaks)
            if not blindly and place.reason is not BreakReason.JOURNAL_DIFFERS:
                one = next(found for found in run.breaks if (found.reason, found.account) == expected[::2])
                assert abs(one.found - one.expected) in (1, 50_000_000), name  # of the line that is gone: all of it
        run = await cycle(treasury, reconciler, chain=bool(place.network))
        assert run.breaks == (), (name, run.breaks)


@pytest.mark.timeout(400)
async def test_three_hundred_cycles_with_bookings_between_them_find_nothing(treasury, settled, clock):
    house, dice = treasury.house, random.Random(57)
    ledger, holds = house.ledger, ["held"]
    await ledger.ensure_open(user_account(BOB, "USDC"))
    ran = 0
    for number in range(310):
        giver, taker = dice.sample([WALLET, user_account(BOB, "USDC")], 2)
        posting = Posting(giver, taker, "USDC", dice.randint(1, 1000))
        match dice.randrange(4):
            case 0:
                await ledger.submit(alone(Hold(id=f"h{number}", postings=(posting,))))
                holds.append(f"h{number}")
            case 1 if holds:
                one = holds.pop(dice.randrange(len(holds)))
                end = Settle(id=f"s{number}", hold=one, amounts=((0, 1),), close=True)
                await ledger.submit(alone(end if dice.random() < 0.5 else Void(id=f"v{number}", hold=one)))
            case _:
                await ledger.submit(alone(Post(id=f"p{number}", postings=(posting,))))
        if number % 30 == 0:
            amount = dice.randint(1, 10**6)
            await house.chain.mine(paid(settled, amount, contract=USDC, tx_hash=digest("deposit", number)))
            treasury.node.held[USDC, settled] += amount
            await treasury.work()
        if number % 50 == 25:
            await house.chain.mine_empty(2)
            await house.chain.reorg(2)
        await house.chain.mine_empty(1)
        clock.advance(timedelta(seconds=12))
        ran += await treasury.reconciler.step()
        (run,) = await treasury.reconciler.recent(limit=1)
        assert (run.open_breaks, [judged.skipped for judged in run.networks]) == (0, [None]), number
    assert ran >= 300
    assert (await treasury.reconciler.run()).clean
    clock.advance(timedelta(hours=3))
    await treasury.reconciler.step()
    kept = [one for one in await treasury.reconciler.recent(limit=500) if not one.changed]
    assert len(kept) <= 4, "of quiet runs older than an hour one each hour"


async def test_a_reorganisation_while_the_node_is_asked_skips_the_network_and_keeps_its_breaks(treasury, settled):
    treasury.node.held[USDC, settled] += 1
    run = await cycle(treasury, treasury.reconciler, chain=True)
    (found,) = run.breaks
    assert (found.detail, found.at) == (settled, f"block {run.networks[0].block_number}")
    chain, told = treasury.house.chain, treasury.node.balances

    async def balances(owners, *, block):
        treasury.node.balances = told
        await chain.reorg(1)
        return await told(owners, block=block)

    await chain.mine()
    treasury.node.held[USDC, settled] -= 1
    treasury.node.balances = balances
    skipped = await treasury.reconciler.run_changes()
    (network,) = skipped.networks
    assert "a reorganisation is under way" in network.skipped
    assert (network.block_number, network.block_hash) == (run.networks[0].block_number, run.networks[0].block_hash)
    assert [one.id for one in skipped.breaks] == [found.id]
    assert (await cycle(treasury, treasury.reconciler, chain=True)).clean


async def test_what_was_sampled_on_a_lost_branch_is_never_judged(treasury, settled, database):
    chain, held = treasury.house.chain, treasury.node.held
    await chain.mine(paid(settled, 7, contract=USDC, tx_hash=digest("lost")))
    held[USDC, settled] += 7
    assert (await treasury.reconciler.run_changes()).clean
    lost = chain.hashes[-1]
    await chain.reorg(1)
    held[USDC, settled] -= 7
    run = await cycle(treasury, treasury.reconciler, chain=True)
    assert (run.breaks, run.networks[0].skipped) == ((), None)
    async with tx(database.engine()) as connection:
        kept = set(await connection.scalars(text("SELECT block_hash FROM treasury_samples")))
    assert lost not in kept
    assert run.networks[0].block_hash in kept


async def test_a_node_that_lags_and_a_follower_far_behind_are_told_and_never_a_number(treasury, settled, database):
    treasury.node.held[USDC, settled] += 1
    (found,) = (await cycle(treasury, treasury.reconciler, chain=True)).breaks
    treasury.node.held[USDC, settled] -= 1
    await treasury.house.chain.mine_empty(5)
    treasury.node.error = Unavailable("the node hasn't got that block")
    lagging = await treasury.reconciler.run_changes()
    assert (lagging.networks[0].skipped, [one.id for one in lagging.breaks]) == (
        "the node hasn't got that block",
        [found.id],
    )
    treasury.node.error = None
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("UPDATE chain_networks SET head_height = height + 65"))
    behind = await treasury.reconciler.run_changes()
    assert "65 blocks behind the node" in behind.networks[0].skipped
    assert [one.id for one in behind.breaks] == [found.id]
    assert (await cycle(treasury, treasury.reconciler, chain=True)).clean


async def test_what_the_chain_said_stays_known_by_block_and_by_instant(treasury, settled, database):
    engine, chain = database.engine(), treasury.house.chain
    assert await held_at(engine, "local", 0) is None
    early = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0]
    before = await held_at(engine, "local", early.block_number)
    await chain.mine(paid(settled, 7, contract=USDC, tx_hash=digest("more")))
    treasury.node.held[USDC, settled] += 7
    later = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0]
    after = await held_at(engine, "local", chain.height)
    assert before is not None
    assert after is not None
    assert (before.block_number, after.block_number) == (early.block_number, later.block_number)
    assert (before.held[DEPOSIT], after.held[DEPOSIT]) == (51_000_000, 51_000_007)
    assert after.held[HOT] == 900_000_000
    assert await held_at(engine, "local", early.block_number) == before
    assert await held_at(engine, "local", before.mined_at + timedelta(milliseconds=1)) == before


async def test_a_rewritten_line_is_counted_whoever_rewrote_it_and_though_it_was_taken_back(treasury, settled, database):
    async def counted():
        async with tx(database.engine()) as connection:
            return await journal_check_store.count_rewritten(connection, 1)

    before = await counted()
    async with database.engine(admin=True).connect() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        newest = "(SELECT max(seq) FROM ledger_lines)"
        await connection.execute(text(f"UPDATE ledger_lines SET amount = amount WHERE seq = {newest}"))
        await connection.rollback()
    assert await counted() > before


async def test_a_long_journal_is_looked_through_in_turns_of_bounded_length(database):
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(
            text(
                "INSERT INTO treasury_book_digests (book, part, bucket, rows, digest)"
                " SELECT 9, 'lines', n, 30, 0 FROM generate_series(0, 9) n"
            )
        )
        turns, first = [], 0
        while first < 10:
            last = await journal_check_store.last_bucket(connection, 9, first=first, rows_max=100)
            turns.append((first, last))
            first = last + 1
        assert turns == [(0, 2), (3, 5), (6, 8), (9, 9)]
        assert await journal_check_store.last_bucket(connection, 9, first=4, rows_max=1) == 4


async def test_runs_that_change_nothing_wait_for_blocks_statements_or_a_minute(treasury, settled, clock):
    reconciler = treasury.reconciler
    assert await reconciler.step() == 1
    clock.advance(timedelta(seconds=11))
    assert await reconciler.step() == 0
    treasury.bank.told = [Told("main", "EUR", 0)]
    assert await reconciler.step() == 1
    clock.advance(timedelta(seconds=9))
    await treasury.house.chain.mine()  # which takes a second
    assert await reconciler.step() == 1
    clock.advance(timedelta(seconds=59))
    assert await reconciler.step() == 0
    clock.advance(timedelta(seconds=2))
    assert await reconciler.step() == 1
