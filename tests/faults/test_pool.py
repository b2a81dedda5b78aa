"""The pool of endpoints: who is asked, when, how often, and who isn't."""

import asyncio
import dataclasses
import random

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from base.errors import ConfigError
from chain.errors import NodeUnavailable, ReplacementUnderpriced, Reverted, WrongChain
from chain.evm import pool as pools
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.sending import Sent, Taking, together
from tests.chain.support import BentRpc, network_of
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.faults.support import Seconds
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def pool_of(chain, *liars, seconds=None, **options):
    network = network_of(chain)
    nodes = [Node(network, HttpRpc(liar.url, seconds=5)) for liar in liars]
    return Pool(network, nodes, now_seconds=seconds or Seconds(), chance=random.Random(1), **options)


@pytest.fixture
async def pair(anvil):
    async with lying_node(anvil.url) as first, lying_node(anvil.url) as second:
        yield first, second


def payment(chain, *, nonce=0, most=10**11, tip=10**9):
    transaction = {
        "type": 2, "chainId": chain.chain_id, "nonce": nonce, "to": chain.accounts[3], "value": 1, "gas": 21_000,
        "maxFeePerGas": most, "maxPriorityFeePerGas": tip,
    }  # fmt: skip
    return bytes(Account.from_key("0x" + "51" * 32).sign_transaction(transaction).raw_transaction)


async def test_f11_rests_grow_after_each_failure_with_jitter_up_to_a_bound(anvil):
    async with lying_node(anvil.url) as liar:
        seconds = Seconds()
        pool = pool_of(anvil, liar, seconds=seconds)
        liar.lie(Kind.DOWN, times=None)
        rests = []
        for _ in range(12):
            with pytest.raises(NodeUnavailable):
                await pool.head()
            until = pool.endpoints[0].rests_until_seconds
            rests.append(until - seconds.at)
            seconds.at = until
        assert liar.told[Kind.DOWN] == 12
        for failures, rest in enumerate(rests):
            longest = min(pools.REST_SECONDS_MAX, pools.REST_SECONDS * 2**failures)
            assert longest / 2 <= rest <= longest
        assert len({round(rest / pools.REST_SECONDS_MAX, 6) for rest in rests[-4:]}) == 4
        liar.be_honest()
        await pool.head()
        assert pool.endpoints[0].failures == 0


async def test_f11_retry_after_is_kept_to_the_second(anvil):
    async with lying_node(anvil.url) as liar:
        seconds = Seconds()
        pool = pool_of(anvil, liar, seconds=seconds)
        liar.lie(Kind.BUSY, retry_after_seconds=90)
        with pytest.raises(NodeUnavailable, match="429"):
            await pool.head()
        seconds.at += 89
        asked = liar.requests
        with pytest.raises(NodeUnavailable, match="rests"):
            await pool.head()
        assert liar.requests == asked
        seconds.at += 1
        assert (await pool.head()).number == anvil.height()


async def test_a_slow_endpoint_is_overtaken_by_a_second_one(anvil, pair):
    first, second = pair
    pool = pool_of(anvil, first, second)
    await pool.refs([1])
    never = asyncio.Event()
    first.lie(Kind.DELAY, method="eth_getBlockByNumber", until=never, seconds=60, times=None)
    async with asyncio.timeout(10):
        for _ in range(pools.OVERTAKEN_MAX):
            assert (await pool.refs([2]))[2].block_hash == anvil.block_hash(2)
    late = first.told[Kind.DELAY]
    assert late == pools.OVERTAKEN_MAX
    await pool.refs([3])
    assert first.told[Kind.DELAY] == late  # the second one leads now


async def test_a_transaction_is_handed_to_every_endpoint_once_whatever_happens(anvil, pair):
    first, second = pair
    sender = Account.from_key("0x" + "51" * 32).address
    anvil.faucet(sender, 10**18)
    pool = pool_of(anvil, first, second)
    await pool.head()
    for nonce, kind in enumerate((Kind.DROP, Kind.DOWN, Kind.MALFORMED)):
        first.lie(kind, method="eth_sendRawTransaction")
        handed = await pool.hand_in(payment(anvil, nonce=nonce))
        taken = {one.node.split()[0]: one.taking for one in handed}
        assert taken["1"] is Taking.SILENT
        assert taken["2"] is not Taking.REFUSED  # behind both is one node, which may know it by now, or have mined it
        assert together(handed) == Sent(out=True)
        assert (first.asked["eth_sendRawTransaction"], second.asked["eth_sendRawTransaction"]) == (nonce + 1, nonce + 1)
        for endpoint in pool.endpoints:
            endpoint.rests_until_seconds = 0
    await eventually(
        "all were mined", lambda: _true(int(anvil.rpc("eth_getTransactionCount", sender, "latest"), 16) == 3)
    )


async def test_one_that_is_silent_beside_another_is_not_waited_for_long_and_rests(anvil, pair):
    first, _ = pair
    anvil.faucet(Account.from_key("0x" + "51" * 32).address, 10**18)
    pool = pool_of(anvil, *pair)
    await pool.head()
    late = asyncio.Event()
    first.lie(Kind.DELAY, method="eth_sendRawTransaction", until=late, seconds=60)
    async with asyncio.timeout(pools.HEDGE_SECONDS_MAX + 5):
        handed = await pool.hand_in(payment(anvil))
    late.set()
    taken = {one.node.split()[0]: one.taking for one in handed}
    assert taken["1"] is Taking.SILENT
    assert taken["2"] is not Taking.REFUSED  # behind both is one node, which may know it by now, or have mined it
    assert pool.endpoints[0].rests_until_seconds > 0
    assert len(await pool.hand_in(payment(anvil, nonce=1))) == 1, "who rests isn't asked"


async def test_what_no_endpoint_takes_is_refused_and_who_knows_it_is_not_sent_it_again(anvil, pair):
    first, second = pair
    pool = pool_of(anvil, first, second)
    await pool.head()
    sent = together(await pool.hand_in(payment(anvil)))  # its sender owns nothing
    assert (sent.out, sent.waiting_for) == (False, "gas")
    anvil.set_automine(False)
    anvil.faucet(Account.from_key("0x" + "51" * 32).address, 10**18, seconds=None)
    anvil.mine()
    raw = payment(anvil)
    tx_hash = "0x" + keccak(raw).hex()
    assert {one.taking for one in await pool.hand_in(raw)} <= {Taking.TAKEN, Taking.KNOWN}
    counts = first.asked["eth_sendRawTransaction"], second.asked["eth_sendRawTransaction"]
    assert {one.taking for one in await pool.hand_in(raw, unless=tx_hash)} == {Taking.KNOWN}
    assert (first.asked["eth_sendRawTransaction"], second.asked["eth_sendRawTransaction"]) == counts


async def _true(so):
    return so


async def test_one_that_lags_is_not_asked_for_what_it_has_not(anvil, pair):
    async with lying_node(anvil.url) as third:
        pool = pool_of(anvil, *pair, third)
        anvil.mine(6)
        pair[0].lie(Kind.OLD_HEAD, depth=5, times=None)
        assert (await pool.head()).number == anvil.height()
        pair[0].asked.clear()
        assert (await pool.refs([anvil.height()]))[anvil.height()] is not None
        await pool.next_nonce(anvil.accounts[1])
        assert pair[0].asked["eth_getBlockByNumber"] == 0
        assert pair[0].asked["eth_getTransactionCount"] == 0


async def test_two_of_three_are_enough_whatever_the_third_tells_and_one_is_not(anvil, forked):
    liars = lying_node(anvil.url), lying_node(anvil.url, fork=forked.url), lying_node(anvil.url, fork=forked.url)
    async with liars[0] as one, liars[1] as two, liars[2] as three:
        pool = pool_of(anvil, one, two, three)
        anvil.mine(3)
        heights = range(anvil.height() - 2, anvil.height() + 1)
        three.lie(Kind.DROP, times=None)
        await pool.head()
        refs = list((await pool.refs(heights)).values())
        assert await pool.witnessed(refs) == refs
        three.be_honest()
        three.lie(Kind.FORK, times=None)
        pool.endpoints[2].rests_until_seconds = 0
        assert await pool.witnessed(refs) == refs
        assert three.told[Kind.FORK]
        two.lie(Kind.FORK, times=None)
        assert await pool.witnessed(refs) == []
        for liar in (two, three):
            liar.be_honest()
            liar.lie(Kind.DROP, times=None)
        with pytest.raises(NodeUnavailable):
            await pool.witnessed(refs)


async def test_a_block_is_replaced_where_more_have_another_in_its_place_than_have_it(anvil, forked):
    liars = lying_node(anvil.url), lying_node(anvil.url, fork=forked.url), lying_node(anvil.url, fork=forked.url)
    async with liars[0] as one, liars[1] as two, liars[2] as three:
        anvil.mine(3)
        pair, pool = pool_of(anvil, one, two), pool_of(anvil, one, two, three)
        height = anvil.height() - 2
        ref = (await pool.refs([height]))[height]
        assert ref is not None
        assert not await pool.replaced(ref)
        two.lie(Kind.FORK, times=None)
        assert not await pool.replaced(ref), "one of three has another"
        assert not await pair.replaced(ref), "one of two has another, one has it"
        three.lie(Kind.FORK, times=None)
        assert await pool.replaced(ref)
        one.lie(Kind.DROP, times=None)
        assert await pool.replaced(ref)


def test_the_same_address_twice_is_refused(anvil):
    with pytest.raises(ConfigError, match="no second witness"):
        dataclasses.replace(network_of(anvil), rpc_urls=(anvil.url, anvil.url))


async def test_the_strict_liar_refuses_replacements_as_geth_does(anvil):
    anvil.set_automine(False)
    anvil.faucet(Account.from_key("0x" + "51" * 32).address, 10**18, seconds=None)
    anvil.mine()
    async with lying_node(anvil.url) as liar:
        pool = pool_of(anvil, liar)
        liar.lie(Kind.REPLACEMENT, times=None)
        await pool.send(payment(anvil))
        for most, tip in ((105, 110), (110, 105), (110, 100)):
            with pytest.raises(ReplacementUnderpriced):
                await pool.send(payment(anvil, most=10**9 * most, tip=10**7 * tip))
        await pool.send(payment(anvil, most=11 * 10**10, tip=11 * 10**8))
        assert liar.told[Kind.REPLACEMENT] == 3


async def test_f13_an_endpoint_of_another_chain_is_passed_by_and_never_believed(anvil, pair):
    first, second = pair
    pool = pool_of(anvil, first, second)
    first.lie(Kind.CHAIN_ID, times=None)
    assert (await pool.market()).base_fee > 0
    assert (first.told[Kind.CHAIN_ID], second.requests) == (1, 2)
    second.lie(Kind.CHAIN_ID, times=None)
    pool = pool_of(anvil, first, second)
    with pytest.raises(WrongChain):
        await pool.market()


async def test_what_a_token_is_and_holds_is_told_by_two(anvil):
    network, usdc, owner = network_of(anvil), anvil.token("USDC").lower(), anvil.accounts[1].lower()
    rpcs = [BentRpc(HttpRpc(anvil.url)) for _ in range(3)]
    pair, three = (Pool(network, [Node(network, rpc) for rpc in rpcs[:count]]) for count in (2, 3))
    block = anvil.block_hash(anvil.height())
    asked = [(usdc, owner, block)]
    true_states, true_balances = await pair.tokens.states([usdc], block=block), await pair.tokens.balances(asked)
    assert true_states[usdc].decimals == 6
    assert true_balances == [anvil.balance("USDC", owner)]
    rpcs[0].bends["eth_getCode"] = lambda answer, *_: answer + "00"
    rpcs[0].bends["eth_call"] = lambda answer, *_: "0x" + "07".rjust(64, "0")
    with pytest.raises(NodeUnavailable, match="no two nodes tell the same of token"):
        await pair.tokens.states([usdc], block=block)
    with pytest.raises(NodeUnavailable, match="different balances"):
        await pair.tokens.balances(asked)
    assert await three.tokens.states([usdc], block=block) == true_states
    assert await three.tokens.balances(asked) == true_balances
    pruned = Reverted("missing trie node")
    rpcs[0].bends["eth_call"] = lambda answer, *_: pruned
    assert await pair.tokens.balances(asked) == true_balances, "one that doesn't know any more contradicts nobody"
