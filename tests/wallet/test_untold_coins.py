"""Ether that no transaction's value tells of, on real nodes: by inner calls, by SELFDESTRUCT, or simply there.

After each: what the book says, what is on chain, and what the user is shown.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from chain import addresses, coin_store, tables
from chain.coin_watch import REOPEN_FIRST, STATE_BLOCKS
from chain.local import NodeKind
from chain.networks import Traces
from chain.signing import OwnKey, Role
from chain.store import followed
from db.engine import tx
from ledger.accounts import user_account
from ledger.errors import RefusedByBook
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.support.chain import start_local_chain
from tests.support.contracts import create
from tests.wallet.coin_world import ETHER, CoinWorld, coin_world
from tests.wallet.conftest import BOB
from tests.wallet.scripted_chain import DerivedAddresses
from tests.wallet.token_world import token_world
from wallet.errors import DepositNotCreditable
from wallet.resources import DepositState

pytestmark = pytest.mark.slow

_S = DepositState
OTHER = "0x" + "77" * 20


async def made(tmp_path, database, clock, entropy, kind, traces):
    with start_local_chain(tmp_path, kind) as chain:
        world = await token_world(chain, database.engine(), clock, entropy)
        yield coin_world(world, traces)
        await world.follower.close()


@pytest.fixture(params=[(kind, traces) for kind in NodeKind for traces in (Traces.EVERY_BLOCK, Traces.ON_SURPLUS)])
async def either(request, tmp_path, database, clock, entropy):
    """Each kind of node, asked for every block's traces or only where something is too much."""
    async for world in made(tmp_path, database, clock, entropy, *request.param):
        yield world


@pytest.fixture
async def world(tmp_path, database, clock, entropy):
    """Anvil, asked for traces where something is too much."""
    async for found in made(tmp_path, database, clock, entropy, NodeKind.ANVIL, Traces.ON_SURPLUS):
        yield found


@pytest.fixture
async def liar(world):
    """A node that refuses to trace stands between the watch and the chain."""
    async with lying_node(world.chain.url) as node:
        node.lie(Kind.NO_TRACES, times=None)
        world.watch_anew(node.url)
        yield node


async def surplus_of(world: CoinWorld, amount: int) -> None:
    """A contract pays Alice, nobody traces it, and it's final."""
    world.call(world.payer(), "pay(address)", world.to, value=amount)
    await world.settle()
    (seen,) = await world.shown()
    assert (seen.state, seen.amount, seen.tx_hash) == (_S.SURPLUS, amount, seen.block_hash)
    assert (await world.alice(), await world.suspense(), world.held()) == (0, amount, amount)
    await world.require_agreement((world.to, seen.block_number, amount))


async def test_f21_inner_calls_and_selfdestruct_are_credited_by_their_traces(either):
    payer, mortal = either.payer(), create(either.chain, "Mortal")
    first = either.call(payer, "pay(address)", either.to, value=ETHER)
    deep = either.call(payer, "payDeep(address,uint256)", either.to, 2, value=2 * ETHER)
    either.chain.transfer("ETH", either.to, 5)
    either.chain.transfer("ETH", mortal, 3 * ETHER)
    ended = either.call(mortal, "end(address)", either.to)
    stillborn = create(either.chain, "Stillborn", "address", either.to, value=4 * ETHER)
    await either.settle()
    shown = await either.require_credited(ETHER, 2 * ETHER, 5, 3 * ETHER, 4 * ETHER)
    assert [one.place for one in shown] == ["trace:0", "trace:0.0.0", "value", "trace:0", "trace:0"]
    assert [one.sender for one in shown if one.place != "value"] == [payer, payer, mortal, stillborn]
    assert [shown[0].tx_hash, shown[1].tx_hash, shown[3].tx_hash] == [first, deep, ended]
    await either.settle()
    assert len(await either.require_credited(ETHER, 2 * ETHER, 5, 3 * ETHER, 4 * ETHER)) == len(shown)


async def test_f18_of_what_an_inner_call_paid_and_took_back_nothing_is_credited(either):
    payer = either.payer()
    either.call(payer, "payAndTakeBack(address,uint256)", either.to, 0, value=10)
    failed = either.call(payer, "payAndFail(address)", either.to, value=10, gas=200_000)
    assert either.chain.receipt(failed)["status"] == "0x0"
    await either.settle()
    await either.require_credited()
    either.call(payer, "payAndTakeBack(address,uint256)", either.to, 3, value=10)
    await either.settle()
    (kept,) = await either.require_credited(3)
    assert kept.place == "trace:1"


async def test_f23_several_inner_transfers_of_one_transaction_count_each_once(either):
    payer = either.payer()
    either.call(
        payer, "payMany(address[],uint256[])", [either.to, OTHER, either.to, either.to], [100, 50, 0, 200], value=350
    )
    await either.settle()
    shown = await either.require_credited(100, 200)
    assert [one.place for one in shown] == ["trace:0", "trace:3"]
    assert either.held(OTHER) == 50


async def test_f21_traces_of_every_block_are_credited_before_they_are_final_and_taken_back_by_a_reorganisation(world):
    world.watch_anew(traces=Traces.EVERY_BLOCK)
    payer = world.payer()
    await world.settle()
    world.call(payer, "pay(address)", world.to, value=ETHER)
    await world.settle(blocks=1)
    (seen,) = await world.shown()
    assert (seen.state, await world.alice(), world.held()) == (_S.CREDITED, ETHER, ETHER)
    world.chain.reorg(2, longer=6)
    await world.settle(blocks=0)
    assert [(one.state, one.amount) for one in await world.shown()] == [(_S.REVERSED, ETHER)]
    assert (await world.alice(), world.held(), await world.suspense()) == (0, 0, 0)
    await world.require_agreement()
    world.call(payer, "pay(address)", world.to, value=2 * ETHER)
    await world.settle()
    assert (await world.alice(), world.held()) == (2 * ETHER, 2 * ETHER)
    await world.require_agreement()


async def test_f21_without_traces_a_surplus_waits_in_suspense_until_its_evidence_is_named_once(world, liar):
    await surplus_of(world, ETHER)
    assert liar.told[Kind.NO_TRACES] > 0
    (seen,) = await world.shown()
    await world.settle()
    world.watch_anew(liar.url)
    await world.settle()
    assert [one.id for one in await world.shown()] == [seen.id]
    await world.require_agreement((world.to, seen.block_number, ETHER))
    with pytest.raises(DepositNotCreditable, match="name the evidence"):
        await world.credit(seen, "unnamed", evidence=None)
    credited, replayed = await world.credit(seen)
    assert (credited.state, replayed) == (_S.FINAL, False)
    with pytest.raises((DepositNotCreditable, RefusedByBook)):
        await world.credit(seen, "again")
    await world.settle()
    await world.require_credited(ETHER)


async def test_f21_what_one_of_two_nodes_tells_alone_is_neither_a_surplus_nor_a_shortage(world):
    """Such a surplus would end as a shortage, and that would halt the address."""

    def more(told, owner, *_):
        return hex(int(told, 16) + ETHER) if owner.lower() == world.to else told

    async with lying_node(world.chain.url) as other:
        world.watch_anew(world.chain.url, other.url)
        await world.settle()
        for lie in (more, lambda told, *_: told):
            world.rpc.bends["eth_getBalance"] = lie
            await world.settle()
            assert (await world.shown(), await world.alice(), await world.suspense()) == ([], 0, 0)
    await world.require_agreement()


async def test_f21_of_two_workers_the_one_that_is_a_block_behind_finds_no_shortage(world):
    await world.settle()
    async with tx(world.world.engine) as connection:
        at = await followed(connection, "local")
        assert at is not None
        (behind, _) = (await coin_store.load_blocks(connection, "local", [at.final_height]))[at.final_height]
    before = world.held()
    world.chain.faucet(world.to, ETHER)
    await world.settle()
    async with tx(world.world.engine) as connection:
        looked = await coin_store.load_looked(connection, "local", world.watch.network.family, after="", limit=10)
    (mine,) = [one for one in looked if one.address == world.to]
    assert (mine.block_number > behind.number, mine.balance) == (True, before + ETHER)
    assert await world.watch._account(mine, behind, before) == 0
    await world.require_credited(ETHER)


async def test_f21_a_second_surplus_at_the_same_address_is_another(world, liar):
    await surplus_of(world, ETHER)
    world.call(world.payer(), "pay(address)", world.to, value=5)
    await world.settle()
    first, second = await world.shown()
    assert (first.amount, second.amount, second.state) == (ETHER, 5, _S.SURPLUS)
    await world.require_agreement((world.to, first.block_number, ETHER), (world.to, second.block_number, 5))
    await world.credit(second)
    assert (await world.alice(), await world.suspense(), world.held()) == (5, ETHER, ETHER + 5)


async def test_f21_a_trace_told_later_is_the_evidence_of_a_surplus_and_credits_it_once(world, liar):
    await surplus_of(world, ETHER)
    liar.be_honest()
    world.watch_anew(liar.url)  # the node was exchanged for one that traces
    await world.settle(blocks=0)
    (shown,) = await world.require_credited(ETHER)
    assert shown.place == f"surplus:{world.to}"
    world.watch_anew()
    await world.settle()
    await world.require_credited(ETHER)


async def test_f21_a_node_that_traced_nonsense_for_a_while_is_asked_again_by_itself(world):
    world.rpc.bends["debug_traceBlockByHash"] = lambda *_: "nonsense"
    await surplus_of(world, ETHER)
    del world.rpc.bends["debug_traceBlockByHash"]
    await world.settle(blocks=0)
    assert [one.state for one in await world.shown()] == [_S.SURPLUS]
    world.world.common["clock"].advance(REOPEN_FIRST)
    await world.settle(blocks=0)
    await world.require_credited(ETHER)


async def test_f21_a_trace_told_after_a_surplus_was_credited_by_hand_credits_nothing_more(world, liar):
    await surplus_of(world, ETHER)
    await world.credit((await world.shown())[0])
    liar.be_honest()
    world.watch_anew(liar.url)
    await world.settle()
    await world.require_credited(ETHER)
    world.watch_anew(liar.url, traces=Traces.EVERY_BLOCK)
    await world.settle()
    await world.require_credited(ETHER)


async def test_f21_a_trace_that_tells_a_part_of_a_surplus_leaves_it_to_the_treasurer(world, liar):
    world.call(world.payer(), "pay(address)", world.to, value=3)
    world.chain.rpc("anvil_setBalance", world.to, hex(8))  # as a block's reward would come
    await world.settle()
    (seen,) = await world.shown()
    liar.be_honest()
    world.watch_anew(liar.url)
    await world.settle()
    assert [(one.state, one.amount) for one in await world.shown()] == [(_S.SURPLUS, 8)]
    assert (await world.alice(), await world.suspense(), world.held()) == (0, 8, 8)
    await world.require_agreement((world.to, seen.block_number, 8))
    await world.credit(seen)
    await world.require_credited(8)


async def test_f21_what_traces_do_not_tell_remains_as_a_surplus(world):
    await world.settle()
    world.call(world.payer(), "pay(address)", world.to, value=3)
    world.chain.rpc("anvil_setBalance", world.to, hex(8))
    await world.settle()
    shown = await world.shown()
    assert [(one.state, one.amount) for one in shown] == [(_S.FINAL, 3), (_S.SURPLUS, 5)]
    assert (await world.alice(), await world.suspense(), world.held()) == (3, 5, 8)
    await world.require_agreement((world.to, shown[1].block_number, 5))


@pytest.mark.parametrize("traces", [Traces.EVERY_BLOCK, Traces.ON_SURPLUS])
async def test_f21_a_trace_that_balances_do_not_bear_out_is_not_believed(world, traces):
    def boasting(answer, *_):
        for one in answer:
            for call in one["result"].get("calls", ()):
                call["value"] = hex(int(call["value"], 16) + 1)
        return answer

    world.watch_anew(traces=traces)
    world.rpc.bends["debug_traceBlockByHash"] = boasting
    await surplus_of(world, ETHER)
    world.watch_anew()
    await world.settle()
    await world.require_credited(ETHER)


async def test_f21_a_trace_of_what_nobody_was_paid_credits_nothing(world):
    def inventing(answer, *_):
        for one in answer:
            invented = {"type": "CALL", "from": OTHER, "to": world.to, "value": hex(ETHER)}
            one["result"]["calls"] = [invented]
        return answer

    world.watch_anew(traces=Traces.EVERY_BLOCK)
    world.rpc.bends["debug_traceBlockByHash"] = inventing
    world.chain.transfer("ETH", world.to, 7)
    world.chain.transfer("ETH", OTHER, 7)
    await world.settle()
    await world.require_credited(7)


async def test_f21_two_nodes_must_tell_the_balances_that_bear_a_trace_out(world):
    async with lying_node(world.chain.url) as second:
        world.watch_anew(world.chain.url, second.url)
        world.rpc.bends["eth_getBalance"] = lambda told, owner, _: hex(int(told, 16) + 9) if owner == world.to else told
        world.call(world.payer(), "pay(address)", world.to, value=ETHER)
        await world.settle()
        assert (await world.shown(), await world.alice(), await world.suspense()) == ([], 0, 0)
        world.rpc.bends.clear()
        await world.settle()
    await world.require_credited(ETHER)


async def test_f21_what_comes_to_the_house_waits_in_suspense_and_only_a_surplus_is_a_break(world, liar):
    (hot,) = await hot_addresses(world)
    world.call(world.payer(), "pay(address)", hot, value=ETHER)
    await world.settle()
    (inflow,) = await world.world.inflows.recent()
    assert (inflow.amount, inflow.address, inflow.role, await world.suspense()) == (ETHER, hot, "hot", ETHER)
    await world.require_agreement((hot, inflow.block_number, ETHER))
    await world.assign(inflow.id, ETHER)
    await world.require_agreement()
    liar.be_honest()
    world.watch_anew(liar.url)
    world.call(world.payer(), "pay(address)", hot, value=5)
    await world.settle()
    assert {one.amount for one in await world.world.inflows.recent()} == {5, ETHER}
    assert (await world.suspense(), world.held(hot)) == (5, ETHER + 5)
    await world.require_agreement()


async def test_f21_what_an_own_address_had_before_is_a_surplus_but_not_what_it_pays_and_its_gas(world):
    own = world.chain.accounts[5].lower()  # as an operator's who funded it before he began
    had = world.held(own)
    await enrol(world, own)
    await world.settle()
    (inflow,) = await world.world.inflows.recent()
    assert (inflow.address, inflow.amount, inflow.place, await world.suspense()) == (own, had, f"surplus:{own}", had)
    await world.require_agreement((own, inflow.block_number, had))
    await world.assign(inflow.id, had)
    await world.require_agreement()
    world.chain.transfer("ETH", OTHER, 10, sender=5)
    world.chain.transfer("ETH", world.payer(), 0, sender=5)
    await world.settle()
    world.call(world.payer(), "pay(address)", own, value=3)
    await world.settle()
    found = {(one.amount, one.place) for one in await world.world.inflows.recent()}
    assert found == {(3, "trace:0"), (had, f"surplus:{own}")}
    assert (await world.suspense(), await world.shown()) == (3, [])
    assert world.held(own) < had - 10


async def test_f21_what_came_before_an_address_was_its_owner_s_is_no_deposit_of_his(world):
    source, clock = DerivedAddresses(), world.world.common["clock"]
    later = source.address(OwnKey(Role.DEPOSIT, 1))
    world.call(world.payer(), "pay(address)", later, value=ETHER)
    clock.instant = datetime.now(UTC) + timedelta(minutes=1)
    async with tx(world.world.engine) as connection:
        assert (await addresses.issue(connection, source, book="main", owner=BOB, clock=clock)).address == later
    await world.settle()
    (seen,) = await world.world.deposits.list_for(BOB)
    assert (seen.state, seen.amount, await world.suspense()) == (_S.SURPLUS, ETHER, ETHER)
    assert await world.world.balance(user_account(BOB, "ETH")) == 0
    await world.require_agreement((later, seen.block_number, ETHER))


async def test_f15_what_came_while_the_watch_was_down_is_found_in_its_blocks(world):
    payer = world.payer()
    await world.settle()
    for amount in (1, 2, 3):
        world.call(payer, "pay(address)", world.to, value=amount)
        world.chain.mine(STATE_BLOCKS // 2 + amount)
        await world.world.follow()
    await world.settle()
    await world.require_credited(1, 2, 3)


async def test_two_watches_at_once_account_for_the_same_coins_once(world, liar):
    world.call(world.payer(), "pay(address)", world.to, value=ETHER)
    world.chain.mine(4)
    await world.world.follow()
    first = world.watch
    world.watch_anew(liar.url)
    await asyncio.gather(first.step(), world.watch.step())
    await world.settle()
    (seen,) = await world.shown()
    assert (seen.amount, await world.suspense()) == (ETHER, ETHER)
    await world.require_agreement((world.to, seen.block_number, ETHER))


async def test_addresses_are_looked_at_in_turn_as_many_at_each_final_block_as_configured(world):
    world.watch_anew(traces=Traces.NEVER, balances_per_block=1)
    world.call(world.payer(), "pay(address)", world.to, value=ETHER)
    world.chain.mine(4)
    await world.world.follow()
    looked = []
    for _ in range(4):
        await world.watch.step()
        looked.append(world.rpc.asked.count("eth_getBalance"))
        world.chain.mine(1)
        await world.world.follow()
    # the house's address each time, and one deposit address, whose excess is asked for once more before it's believed;
    # the end of a round is seen by its being empty
    assert looked == [3, 4, 6, 7]
    assert not [method for method in world.rpc.asked if method.startswith("debug_")]
    await world.settle()
    assert [one.state for one in await world.shown()] == [_S.SURPLUS]


async def enrol(world: CoinWorld, address: str) -> None:
    class Given:
        can_derive = True

        def address(self, key: OwnKey) -> str:
            return address

    async with tx(world.world.engine) as connection:
        await addresses.enrol(connection, Given(), key=OwnKey(Role.GAS, 0), clock=world.world.common["clock"])


async def hot_addresses(world: CoinWorld) -> list[str]:
    async with tx(world.world.engine) as connection:
        own = tables.addresses.c
        return list((await connection.execute(select(own.address).where(own.role == "hot"))).scalars())
