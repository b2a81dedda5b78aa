"""What is believed of traces and balances of the native coin, and how the record of it follows the chain."""

import pytest
from sqlalchemy import select

from chain import coin_store, coins, store, tables
from chain.coins import Stretch
from chain.errors import MethodUnsupported, NodeMisbehaved, NodeRefused, RateLimited
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.traces import moves
from chain.networks import Network
from chain.observations import BlockRef, Observation
from db.engine import tx
from tests.wallet.scripted_chain import ScriptedChain, digest

A, B, C = ("0x" + letter * 40 for letter in "abc")
TX = "0x" + "11" * 32


def frame(kind="CALL", sender=C, to=A, value=1, calls=(), **more):
    """A frame of geth's callTracer."""
    told = {"type": kind, "from": sender, "to": to, **more} | ({"calls": list(calls)} if calls else {})
    return told | ({} if value is None else {"value": hex(value)})


def found_in(*calls, **root):
    return [(one.place, one.recipient, one.amount) for one in moves([(TX, frame(calls=calls, **root))])]


def test_f21_an_inner_transfer_stands_at_the_way_to_its_call_and_the_root_at_none():
    inner = frame(to=B, value=0, calls=[frame(value=2), frame("STATICCALL", value=None), frame(value=3)])
    assert found_in(frame(to=B, value=7), inner) == [("trace:0", B, 7), ("trace:1.0", A, 2), ("trace:1.2", A, 3)]


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        *[("CALL", True), ("CREATE", True), ("CREATE2", True), ("SELFDESTRUCT", True)],
        *[("DELEGATECALL", False), ("CALLCODE", False), ("STATICCALL", False)],
    ],
)
def test_f21_only_what_moves_value_counts(kind, counted):
    assert bool(found_in(frame(kind))) is counted


def test_f18_what_is_below_an_error_was_taken_back():
    reverted = frame(error="execution reverted", calls=[frame(value=2, calls=[frame(value=3)])])
    assert found_in(reverted, frame(value=4)) == [("trace:1", A, 4)]
    assert found_in(frame(), error="out of gas") == []


def test_f23_nothing_and_what_pays_itself_are_no_transfers():
    assert found_in(frame(value=0), frame(value=None), frame(sender=A, to=A), frame("SELFDESTRUCT", A, A, 5)) == []


def test_f21_a_trace_of_a_thousand_levels_is_read():
    deepest = frame(value=9)
    for _ in range(1024):
        deepest = frame(value=0, calls=[deepest])
    (found,) = moves([(TX, deepest)])
    assert (found.place.count("."), found.amount) == (1023, 9)


@pytest.mark.parametrize("told", [None, [TX], [(TX, None)], [(TX, frame(calls=[{"type": "CALL", "value": "0x1"}]))]])
def test_f21_what_is_no_trace_is_told_as_such(told):
    with pytest.raises(NodeMisbehaved):
        moves(told)


def paid(to, amount, place="trace:0", sender=C):
    return Observation(TX, place, None, sender, to, amount)


@pytest.mark.parametrize(
    ("rise", "believed"), [(5, True), (6, True), (4, False), (0, False), (-1, False), (None, False)]
)
def test_f21_traces_are_believed_as_far_as_the_balance_rose(rise, believed):
    told = [paid(A, 2), paid(A, 3, "trace:1"), paid(B, 1, "trace:2")]
    assert coins.believed(told, {A: rise}) == (told[:2] if believed else [])


def test_f21_what_is_told_to_have_left_lessens_nothing_that_must_have_come():
    told = [paid(A, 5), paid(C, 5, "trace:1", sender=A)]
    assert coins.believed(told, {A: 0}) == []
    assert coins.believed(told[1:], {A: -5}) == told[1:]
    assert coins.believed(told[1:], {A: -4}) == []
    both = [paid(A, 5, sender=B)]
    assert coins.believed(both, {A: 5, B: -5}) == both
    assert coins.believed(both, {A: 5, B: 0}) == []


def test_a_stretch_is_cut_to_where_something_came():
    whole = Stretch(10, 0, 20, 8)
    assert whole.cut(15, 8) == [Stretch(10, 0, 15, 8)]
    assert whole.cut(15, 0) == [Stretch(15, 0, 20, 8)]
    assert whole.cut(15, 3) == [Stretch(10, 0, 15, 3), Stretch(15, 3, 20, 8)]
    assert [part.single for part in whole.cut(11, 1)] == [True, False]
    assert coins.latest([Stretch(3, 0, 4, 1), Stretch(1, 0, 2, 1)], limit=1) == [Stretch(3, 0, 4, 1)]


class Answers:
    """An `Rpc` that gives what is written for a method: a value, or a refusal."""

    def __init__(self, **answers):
        genesis = {"number": "0x0", "hash": digest(0), "parentHash": digest(-1)}
        self.answers = {"eth_chainId": "0x1", "eth_getBlockByNumber": genesis} | answers
        self.asked = []

    async def call(self, method, *params):
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, NodeRefused):
            raise answer
        return answer

    async def batch(self, calls):
        self.asked += [method for method, _ in calls]
        unsupported = MethodUnsupported("no such method")
        return [self.answers.get(method, unsupported) for method, _ in calls]


TOLD = [{"txHash": TX, "result": frame()}]


def pool_of(*rpcs):
    urls = tuple(f"http://{place}" for place in range(len(rpcs)))
    network = Network(name="test", chain_id=1, rpc_urls=urls, native_asset="ETH", spendable_depth=1, final_depth=1)
    return Pool(network, [Node(network, rpc) for rpc in rpcs])


async def test_f21_whoever_traces_is_asked_and_who_does_not_is_not_asked_again():
    mute, tracing = Answers(eth_getBlockByHash={"transactions": [TX]}), Answers(debug_traceBlockByHash=TOLD)
    pool = pool_of(mute, tracing)
    for _ in range(2):
        assert await pool.trace(digest(1)) == [(TX, frame())]
    assert mute.asked.count("debug_traceBlockByHash") == mute.asked.count("debug_traceTransaction") == 1
    assert await pool_of(mute).trace(digest(1)) is None


async def test_f21_a_node_that_traces_single_transactions_is_asked_for_each_of_the_block():
    rpc = Answers(eth_getBlockByHash={"transactions": [TX]}, debug_traceTransaction=frame())
    assert await pool_of(rpc).trace(digest(1)) == [(TX, frame())]


async def test_f21_a_refusal_to_trace_one_block_says_nothing_of_the_next():
    rpc = Answers(debug_traceBlockByHash=NodeRefused("historical state unavailable"))
    pool = pool_of(rpc)
    assert await pool.trace(digest(1)) is None
    rpc.answers["debug_traceBlockByHash"] = RateLimited("too many requests")
    with pytest.raises(RateLimited):
        await pool_of(rpc).trace(digest(1))
    rpc.answers["debug_traceBlockByHash"] = TOLD
    assert await pool.trace(digest(1)) == [(TX, frame())]
    rpc.answers["debug_traceBlockByHash"] = [{"error": "tracing failed"}]
    with pytest.raises(NodeMisbehaved):
        await pool_of(rpc).trace(digest(1))


@pytest.mark.parametrize(
    ("told", "witnessed"),
    [
        (["0x5", "0x5"], 5),
        (["0x5", "0x6"], None),
        (["0x5", NodeRefused("header not found")], None),
        (["0x6", "0x5", "0x5"], 5),
        (["0x5"], 5),
        ([NodeRefused("header not found")], None),
    ],
)
async def test_f21_of_several_nodes_two_must_tell_the_same_balance(told, witnessed):
    pool = pool_of(*(Answers(eth_getBalance=answer) for answer in told))
    assert await pool.coins_witnessed([(A, digest(1))]) == [witnessed]


@pytest.fixture
async def chain(database, clock):
    network = Network(
        name="local", chain_id=1, rpc_urls=("http://unused",), native_asset="ETH", spendable_depth=2, final_depth=4
    )
    made = ScriptedChain(database.engine(), network, clock)
    await made.begin()
    return made


async def live(chain):
    async with tx(chain.engine) as connection:
        rows = await connection.execute(tables.observations.select().order_by(tables.observations.c.late))
        return [(row.place, row.orphaned, row.revision, row.late) for row in rows]


async def add(chain, number, *found):
    block = BlockRef(number, chain.hashes[number], chain.hashes[number - 1])
    async with tx(chain.engine) as connection:
        return await coin_store.add_traces(connection, "local", block, found, told=True, now=chain.clock.now())


async def test_f21_what_a_trace_told_of_a_block_goes_and_comes_back_with_it(chain):
    await chain.mine_empty(2)
    assert await add(chain, 2, paid(A, 5), paid(A, 6, "trace:1")) == 2
    assert await add(chain, 2, paid(A, 5)) == 0
    assert await live(chain) == [("trace:0", False, 1, 1), ("trace:1", False, 1, 2)]
    gone = BlockRef(2, chain.hashes[2], chain.hashes[1])
    await chain.reorg(1)
    assert await live(chain) == [("trace:0", True, 1, 1), ("trace:1", True, 1, 2)]
    chain.branch = 0
    assert await chain.mine() == gone.block_hash
    assert await live(chain) == [("trace:0", False, 2, 1), ("trace:1", False, 2, 2)]


async def test_f21_a_block_that_has_left_the_chain_gets_no_traces(chain):
    await chain.mine_empty(2)
    old = BlockRef(2, chain.hashes[2], chain.hashes[1])
    await chain.reorg(1)
    await chain.mine()
    async with tx(chain.engine) as connection:
        added = await coin_store.add_traces(connection, "local", old, [paid(A, 5)], told=True, now=chain.clock.now())
        at = await store.followed(connection, "local")
    assert (added, await live(chain)) == (0, [])
    assert at is not None
    assert at.block_hash != old.block_hash


def block_at(chain, number):
    return BlockRef(number, chain.hashes[number], chain.hashes[number - 1])


def untold(block, address, excess):
    if not excess:
        return None
    return coins.surplus(block, address, excess) if excess > 0 else coins.shortage(block, address, -excess)


async def account(chain, before, number, balance, *, excess=0, block=None):
    block = block or block_at(chain, number)
    async with tx(chain.engine) as connection:
        await coin_store.lock(connection, "local")
        return await coin_store.account_for(
            connection,
            "local",
            before,
            block,
            balance=balance,
            untold=untold(block, before.address, excess),
            now=chain.clock.now(),
        )


async def looked_at(chain):
    async with tx(chain.engine) as connection:
        return (await coin_store.load_looked_at(connection, "local", [A]))[A]


async def test_f21_what_another_worker_has_looked_at_since_is_not_accounted_for_again(chain):
    await chain.mine_empty(3)
    never = await looked_at(chain)
    assert (never.block_number, never.balance) == (-1, 0)
    assert await account(chain, never, 2, 5, excess=5)
    assert not await account(chain, never, 1, 5, excess=5)  # who read the balance earlier, and writes later
    assert not await account(chain, never, 3, 5, excess=5)
    assert [place for place, *_ in await live(chain)] == [f"surplus:{A}"]
    assert (await looked_at(chain)).block_number == 2
    assert await account(chain, await looked_at(chain), 3, 5)


async def test_f21_what_was_looked_at_in_a_block_that_left_the_chain_is_looked_at_anew(chain):
    await chain.mine_empty(3)
    assert await account(chain, await looked_at(chain), 3, 5, excess=5)
    known, gone = await looked_at(chain), block_at(chain, 3)
    await chain.reorg(1)
    assert not await account(chain, await looked_at(chain), 3, 5, block=gone)
    assert not await account(chain, known, 2, 7)
    assert (await looked_at(chain)).block_number == -1
    assert await account(chain, await looked_at(chain), 2, 5, excess=5)
    assert [(place, orphaned) for place, orphaned, *_ in await live(chain)] == [
        (f"surplus:{A}", True),
        (f"surplus:{A}", False),
    ]


def left(amount, place="trace:0"):
    return Observation(TX, place, None, A, C, amount)


async def leaving(chain):
    """What lessens A, by place, and what is recorded to have moved there in all."""
    seen = tables.observations.c
    async with tx(chain.engine) as connection:
        asked = select(seen.place).where(seen.sender == A, ~seen.orphaned, coin_store.leaves()).order_by(seen.late)
        places = list((await connection.execute(asked)).scalars())
        (moved,) = await coin_store.moved(connection, "local", [(A, -1, chain.height)])
    return places, moved


async def test_f48_a_trace_told_after_a_shortage_takes_nothing_more(chain):
    await chain.mine_empty(4)
    assert await account(chain, await looked_at(chain), 1, 10, excess=10)
    assert await add(chain, 2, left(1)) == 1
    assert await account(chain, await looked_at(chain), 3, 5, excess=-4)
    assert await leaving(chain) == (["trace:0", f"shortage:{A}"], 5)
    assert await add(chain, 3, left(4, "trace:1")) == 1  # what was missing, told later
    assert await leaving(chain) == (["trace:0", f"shortage:{A}"], 5)
    assert await add(chain, 4, left(2, "trace:2")) == 1  # after what the shortage tells of
    assert await leaving(chain) == (["trace:0", f"shortage:{A}", "trace:2"], 3)
    await chain.reorg(2)
    chain.branch = 0
    await chain.mine()
    assert await leaving(chain) == (["trace:0", f"shortage:{A}"], 5)
