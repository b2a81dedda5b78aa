"""Positions through a block, beside what nodes told of it; and that no position of the past reads the whole journal."""

import random
import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.commands import ChainEvidence, Post, Posting, alone
from ledger.outcomes import require_accepted
from tests.treasury.test_positions import positions_in
from tests.treasury.test_reconciling_in_steps import cycle, settled  # noqa: F401 - the fixture
from tests.wallet.conftest import ALICE, BOB, USDC
from tests.wallet.scripted_chain import digest, paid
from treasury import position_store
from treasury.positions import Through
from treasury.sampling import held_at
from treasury.told_by_nodes import Compared

pytestmark = pytest.mark.slow


@pytest.fixture
def positions(treasury, database, clock):
    return positions_in(treasury, database.engine(), clock)


def row(told, asset, role):
    (found,) = [one for one in told.rows if (one.asset, one.role) == (asset, role)]
    return found


async def test_what_nodes_told_of_a_block_stands_beside_the_book(treasury, settled, positions):  # noqa: F811
    judged = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0].block_number
    now = await positions.read(through=Through("local", judged))
    assert (now.told.sampled, now.told.agrees, now.told.network) == (True, True, "local")
    assert row(now.told, "USDC", "deposit") == Compared("USDC", "deposit", 51_000_000, 51_000_000)
    assert row(now.told, "USDC", "hot") == Compared("USDC", "hot", 900_000_000, 900_000_000)

    # What is booked later of later blocks, and what nodes hold by then, changes nothing of what was.
    await treasury.house.chain.mine(paid(settled, 7, contract=USDC, tx_hash=digest("more")))
    treasury.node.held[USDC, settled] += 7
    later = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0].block_number
    await treasury.work()
    assert (await positions.read(through=Through("local", judged))).told == now.told
    grown = (await positions.read(through=Through("local", later))).told
    assert row(grown, "USDC", "deposit") == Compared("USDC", "deposit", 51_000_007, 51_000_007)
    assert (await positions.read()).told is None


async def test_a_difference_of_one_unit_is_shown_where_it_is(treasury, settled, positions):  # noqa: F811
    treasury.node.held[USDC, settled] -= 1
    judged = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0].block_number
    treasury.node.held[USDC, settled] += 1
    await cycle(treasury, treasury.reconciler, chain=True)
    told = (await positions.read(through=Through("local", judged))).told
    assert told.agrees is False
    assert {(one.asset, one.role): one.difference for one in told.rows if one.difference} == {("USDC", "deposit"): -1}


async def test_of_a_block_that_was_not_sampled_the_nearest_that_were_are_named(
    treasury,
    settled,  # noqa: F811
    positions,
    database,
):
    first = (await cycle(treasury, treasury.reconciler, chain=True)).networks[0].block_number
    await treasury.house.chain.mine_empty(3)  # nobody asks nodes about these
    await cycle(treasury, treasury.reconciler, chain=True)
    between = (await positions.read(through=Through("local", first + 1))).told
    assert (between.sampled, between.agrees, between.rows) == (False, None, ())
    assert (between.below, between.above is not None) == (first, True)
    assert (await positions.read(through=Through("local", between.above))).told.sampled
    before_it = await held_at(database.engine(), "local", between.above - 1)
    assert before_it is not None
    assert before_it.block_number == first  # nothing nearer was sampled
    before = (await positions.read(through=Through("local", 1))).told
    assert (before.sampled, before.below) == (False, None)
    assert before.above is not None
    assert before.above <= first


# Plans

ENTRIES = 20_000
PROBES = ("_AT", "_OF_BLOCKS")


@pytest.fixture
async def large(treasury, database, clock):
    """A book whose lines are many beside the house's accounts, its statistics as autovacuum keeps them."""
    ledger, chance = treasury.house.ledger, random.Random(3)
    users = [user_account(f"usr_{number}", "USDC") for number in range(400)] + [
        user_account(who, "USDC") for who in (ALICE, BOB)
    ]
    hot, bank = house_account("custody:local:hot", "USDC"), house_account("bank:main", "USDC")
    await ledger.ensure_open(*users, hot, bank)
    for start in range(0, ENTRIES, 1_000):
        clock.advance(timedelta(seconds=10))
        groups = []
        for number in range(start, start + 1_000):
            block = digest("block", number // 100)
            seen = ChainEvidence("local", number // 100, block, digest("tx", number), "value")
            posting = Posting(chance.choice((hot, bank)), chance.choice(users), "USDC", 1 + number)
            groups.append(alone(Post(id=f"e{number}", postings=(posting,), evidence=seen if number % 2 else None)))
        for outcomes in await ledger.submit(*groups):
            require_accepted(outcomes)
    async with database.engine(admin=True).connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE"))
    return ledger


async def test_positions_of_the_past_probe_indexes_and_never_read_the_journal(large, database):
    values = {"book": 1, "through": ENTRIES // 2, "network": "local", "block": 97}
    for name in PROBES:
        query = getattr(position_store, name)
        async with tx(database.engine()) as connection:
            asked = {key: value for key, value in values.items() if f":{key}" in query}
            plan = "\n".join(await connection.scalars(text(f"EXPLAIN {query}"), asked))
            whole = [table for table in re.findall(r"Seq Scan on (\w+)", plan) if table.startswith("ledger_lines")]
            assert [table for table in whole if not table.endswith("_1_1")] == [], f"{name}:\n{plan}"
            assert re.search(r"Index (Only )?Scan\w* .*ledger_lines", plan), f"{name}:\n{plan}"


async def test_positions_of_the_past_read_no_more_lines_in_a_longer_book(large, database):
    """What is really touched, not what is estimated: pages read by one question, against those of the journal."""
    query = position_store._AT
    touched = []
    for through in (ENTRIES // 10, ENTRIES - 10):
        async with tx(database.engine()) as connection:
            asked = text(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {query}")
            plan = "\n".join(await connection.scalars(asked, {"book": 1, "through": through}))
        done = plan.partition("Planning:")[0]
        touched.append(int(re.findall(r"Buffers: shared hit=(\d+)", done)[0]))  # the uppermost counts all below it
    async with tx(database.engine()) as connection:
        whole = await connection.scalar(
            text(
                "SELECT sum(pg_relation_size(c.oid) / 8192) FROM pg_class c"
                " WHERE relkind = 'r' AND relname LIKE 'ledger\\_lines%'"
            )
        )
    assert max(touched) < int(whole) / 2, (touched, whole)
