"""Ranges of logs against the record: providers' limits, liars, and who is right."""

import pytest
from sqlalchemy import delete, update

from chain import tables
from chain.errors import LogsLimited, NodeMisbehaved, NodeUnavailable, RateLimited, from_node
from chain.evm.crosscheck import Fault, cross_check
from db.engine import tx
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.faults.support import stage

WORDS = [
    (-32602, "range 1000000 exceeds limit of 10000"),
    (-32005, "query returned more than 10000 results. Try with this block range [0x1, 0x2]."),
    (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
    (-32600, "You can make eth_getLogs requests with up to a 500 block range."),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32602, "eth_getLogs is limited to 0 - 50 blocks range"),
    (-32600, "block range is too wide"),
    (-32701, "exceed maximum block range: 50000"),
    (-32602, "query exceeds max block range 100000"),
    (-32602, "query exceeds max results 20000, retry with the range 1-2"),
    (-32602, "block range greater than 100 max"),
    (-32005, "Requested range exceeds maximum RPC range limit"),
    (-32000, "query block range exceeds server limit, narrow your filter: 1000"),
    (-32000, "query returns too many logs, narrow your filter: 20000"),
    (35, "ranges over 10000 blocks are not supported on freetier"),
    (-32000, "block range is bigger than maxBlockRange"),
    (-32000, "block range is larger than max block range, block range = 5120, max block range = 5000"),
]


@pytest.mark.parametrize(("code", "words"), WORDS)
def test_f09_a_provider_s_words_for_too_much_are_known(code, words):
    assert type(from_node("eth_getLogs", code, words)) is LogsLimited


@pytest.mark.parametrize("words", ["too many requests", "Your app has exceeded its compute units per second capacity"])
def test_f11_too_often_is_not_too_much(words):
    assert type(from_node("eth_getLogs", 429, words)) is RateLimited


@pytest.fixture
async def paid(anvil, database, clock):
    """Three transfers over twelve blocks, two of them in one block, taken in: (liar, stage, lowest, highest)."""
    async with lying_node(anvil.url) as liar:
        at = stage(anvil, database.engine(), clock, liar)
        own = await at.following.issue()
        lowest = anvil.height()
        anvil.transfer("USDC", own.address, 1)
        anvil.mine(9)
        anvil.set_automine(False)
        hashes = [anvil.transfer("USDC", own.address, n, gas=100_000, seconds=None, sender=n) for n in (1, 2)]
        anvil.mine()
        anvil.set_automine(True)
        assert len({anvil.receipt(one)["blockNumber"] for one in hashes}) == 1
        await at.arrive()
        assert len(await at.recorded()) == 3
        yield liar, at, lowest, anvil.height()
        await at.following.follower.close()


async def checked(at, lowest, highest):
    return await cross_check(at.following.engine, at.following.network, at.pool, lowest=lowest, highest=highest)


@pytest.mark.slow
class TestRanges:
    async def test_what_was_recorded_agrees_with_an_honest_range(self, paid):
        liar, at, lowest, highest = paid
        assert await checked(at, lowest, highest) == []
        assert liar.asked["eth_getLogs"] == 1

    @pytest.mark.parametrize(("code", "words"), WORDS[:4])
    async def test_f09_a_range_is_halved_until_the_node_takes_it(self, paid, code, words):
        liar, at, lowest, highest = paid
        liar.lie(Kind.LOGS_LIMIT, limit=3, words=words, code=code, times=None)
        assert await checked(at, lowest, highest) == []
        assert liar.told[Kind.LOGS_LIMIT] >= 3
        assert liar.asked["eth_getLogs"] <= 2 * (highest - lowest + 1)

    async def test_f09_one_block_with_too_many_results_is_read_by_its_hash(self, paid):
        liar, at, lowest, highest = paid
        liar.lie(Kind.LOGS_LIMIT, limit=1, by_results=True, times=None)
        whole = liar.asked["eth_getBlockByHash"]
        assert await checked(at, lowest, highest) == []
        assert liar.told[Kind.LOGS_LIMIT] >= 4
        assert liar.asked["eth_getBlockByHash"] == whole + 1

    async def test_f06_a_node_behind_the_range_is_not_believed_its_empty_list(self, paid):
        liar, at, lowest, highest = paid
        liar.lie(Kind.OLD_HEAD, depth=2, times=None)
        with pytest.raises(NodeUnavailable, match="hasn't come"):
            await checked(at, lowest, highest)

    async def test_f08_a_range_without_one_log_is_told_and_the_record_stands(self, paid):
        liar, at, lowest, highest = paid
        liar.lie(Kind.OMIT_LOG, method="eth_getLogs")
        (found,) = await checked(at, lowest, highest)
        assert (found.fault, found.number) == (Fault.RANGE_WRONG, highest)
        assert liar.told[Kind.OMIT_LOG] == 1

    async def test_a_chain_that_went_another_way_meanwhile_is_not_compared(self, paid):
        _, at, lowest, highest = paid
        at.chain.reorg(1, longer=1)
        with pytest.raises(NodeMisbehaved, match="another block than ours"):
            await checked(at, lowest, highest)

    async def test_a_transfer_missing_or_altered_in_the_record_is_named(self, paid, database):
        _, at, lowest, highest = paid
        table = tables.observations
        async with tx(database.engine(owner=True)) as connection:
            await connection.execute(delete(table).where(table.c.block_number < highest))
            await connection.execute(update(table).where(table.c.amount == 2).values(amount=3))
        found = [(one.fault, one.transfer[-1]) for one in await checked(at, lowest, highest)]
        assert found == [(Fault.UNRECORDED, 1), (Fault.UNRECORDED, 2), (Fault.INVENTED, 3)]
