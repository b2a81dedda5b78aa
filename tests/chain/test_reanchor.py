"""F14: leaving a chain that is gone, on real nodes: what is refused, what stays on record, where the new one begins."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from base.entropy import SeededEntropy
from chain import addresses, reanchor, tables, token_store
from chain.errors import NotYetFollowed, WrongChain
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.payments import Payment
from chain.reanchor import HALTED_RESET, CannotReanchor, NothingReset, Reset
from chain.status import network_status
from chain.tokens import TokenState
from chain.transaction_states import Kind
from chain.transactions import find, reserve
from db.engine import tx
from tests.chain.support import BOOK, Following, NumberedAddresses, follow, network_of
from tests.support.chain import RunningChain, start_local_chain
from tests.support.waiting import until

pytestmark = pytest.mark.slow

ENTROPY = SeededEntropy(14)


@pytest.fixture
def second(tmp_path) -> Iterator[RunningChain]:
    """The chain that the nodes serve after the reset."""
    with start_local_chain(tmp_path / "second") as chain:
        yield chain


@pytest.fixture
async def again(following: Following, second: RunningChain) -> AsyncIterator[Following]:
    """The same database with the new chain in the configuration; the old one was followed before."""
    following.chain.mine(8)
    await following.catch_up()
    await following.follower.close()
    other = follow(second, following.engine, following.clock)
    yield other
    await other.follower.close()


def a_second_after(chain: RunningChain) -> None:
    """Until a chain that is started now can't begin with the same block."""
    born = int(chain.rpc("eth_getBlockByNumber", "0x0", False)["timestamp"], 16)
    until("a second has passed", lambda: time.time() >= born + 1)


async def look(following: Following, *nodes: Node) -> Reset:
    pool = Pool(following.network, nodes or [following.node])
    return await reanchor.look(following.engine, following.network, pool, book=BOOK)


async def leave(following: Following, **first_nonces: int) -> Reset:
    reset = await look(following)
    await reanchor.leave(following.engine, reset, first_nonces=first_nonces, now=following.clock.now())
    return reset


async def settled(following: Following) -> None:
    await reanchor.settled(following.engine, following.network, first_nonces={}, now=following.clock.now())


async def status(following: Following) -> Any:
    async with tx(following.engine) as connection:
        return await network_status(connection, following.network)


async def reserve_one(following: Following, subject: str) -> int | None:
    """A payment of ours, as a withdrawal reserves it."""
    hot = await following.enrol("0x" + "ab" * 20)
    payment = Payment(
        network="local",
        kind=Kind.WITHDRAWAL,
        book=BOOK,
        subject=subject,
        sender=hot,
        contract=None,
        to="0x" + "cd" * 20,
        amount=1,
        gas_limit=21_000,
        fee_wei_max=10**15,
        claims=None,
    )
    async with tx(following.engine) as connection:
        reserved = await reserve(connection, payment, clock=following.clock, entropy=ENTROPY)
    return reserved.nonce


async def ask_for(following: Following, subject: str) -> None:
    """The signer is asked for it."""
    async with tx(following.engine) as connection:
        own = await find(connection, book=BOOK, subject=subject)
        assert own is not None
        row = {
            "transaction_id": own.id,
            "attempt": 1,
            "network": "local",
            "kind": "pay",
            "nonce": own.nonce,
            "gas_limit": 21_000,
            "max_fee_per_gas": 1,
            "max_priority_fee_per_gas": 1,
            "created_at": following.clock.now(),
        }
        await connection.execute(insert(tables.attempts).values(row))


class TestRefusals:
    async def test_f14_a_chain_that_is_still_there_is_not_left(self, following):
        with pytest.raises(NotYetFollowed, match="nothing to re-anchor"):
            await look(following)
        following.chain.mine(8)
        await following.catch_up()
        with pytest.raises(NothingReset, match=r"was not reset: block 0x\w+ at height 1,"):
            await look(following)
        following.chain.reorg(5)  # all of it above the first block: the follower's own affair
        with pytest.raises(NothingReset):
            await look(following)

    async def test_f14_a_chain_that_only_looks_the_same_at_its_genesis_block_is_left(self, following):
        following.chain.mine(8)
        await following.catch_up()
        following.rpc.bends["eth_getBlockByNumber"] = lambda answer, which, *_: (
            answer if which == "0x0" or answer is None else {**answer, "hash": "0x" + "77" * 32}
        )
        assert not (await look(following)).begun

    async def test_f14_a_configuration_that_still_names_the_lost_chain_is_refused(self, again, following, second):
        stale = Node(following.network, HttpRpc(second.url))
        with pytest.raises(WrongChain, match="started anew"):
            await look(following, stale)

    async def test_f14_a_chain_id_that_was_signed_for_is_refused(self, following, tmp_path):
        """Its journal's nonces would be wrong there, and old signatures good."""
        following.chain.mine(8)
        await following.catch_up()
        await reserve_one(following, "wdr_1")
        await following.follower.close()
        a_second_after(following.chain)
        with start_local_chain(tmp_path / "same-id", chain_id=following.chain.chain_id) as same_id:
            other = follow(same_id, following.engine, following.clock)
            assert not (await look(other)).begun, "nobody was asked for a signature yet"
            await ask_for(following, "wdr_1")
            with pytest.raises(CannotReanchor, match="with a fresh id"):
                await look(other)

    async def test_f14_an_id_signed_for_before_an_earlier_reset_is_refused_too(self, again, following, tmp_path):
        await reserve_one(following, "wdr_1")
        await ask_for(following, "wdr_1")
        await leave(again)
        await settled(again)
        await again.catch_up()
        await again.follower.close()
        a_second_after(following.chain)
        with start_local_chain(tmp_path / "third", chain_id=following.chain.chain_id) as third:
            last = follow(third, following.engine, following.clock)
            with pytest.raises(CannotReanchor, match="with a fresh id"):
                await look(last)

    async def test_f14_nodes_that_serve_two_chains_are_refused(self, again, second, tmp_path):
        a_second_after(second)
        with start_local_chain(tmp_path / "other", chain_id=second.chain_id) as other:
            stranger = Node(network_of(other), HttpRpc(other.url))
            assert other.genesis_hash != second.genesis_hash
            with pytest.raises(CannotReanchor, match="serve different chains"):
                await look(again, again.node, stranger)

    async def test_f14_another_book_s_addresses_stop_it(self, again):
        async with tx(again.engine) as connection:
            source = NumberedAddresses()
            await addresses.issue(connection, source, book="second", owner="usr_b", clock=again.clock)
        with pytest.raises(CannotReanchor, match="book second has deposit addresses"):
            await look(again)

    async def test_f14_what_was_looked_at_must_not_have_moved(self, again):
        reset = await look(again)
        async with tx(again.engine) as connection:
            await connection.execute(update(tables.networks).values(height=3))
        with pytest.raises(CannotReanchor, match="look again"):
            await reanchor.leave(again.engine, reset, first_nonces={}, now=again.clock.now())


class TestLeaving:
    async def test_f14_what_was_seen_stays_orphaned_and_the_new_chain_is_read_from_its_beginning(
        self, following, second
    ):
        own = await following.issue()
        following.chain.transfer("USDC", own.address, 9)
        following.chain.mine(6)
        await following.catch_up()
        await following.follower.close()
        again = follow(second, following.engine, following.clock)
        with pytest.raises(WrongChain, match="onebook chain reanchor local"):
            await again.follower.step()
        await leave(again)
        assert await again.observed() == []
        assert [row.amount for row in await again.observed(orphaned=True)] == [9]
        assert not await again.rows(tables.blocks)
        second.transfer("USDC", own.address, 4)
        await again.catch_up()
        assert [row.amount for row in await again.observed()] == [4]
        at = await status(again)
        assert (at.chain_id, at.genesis_hash) == (second.chain_id, second.genesis_hash)
        assert (at.height, at.final_height) == (second.height(), second.height() - 3)
        assert at.halted == HALTED_RESET
        assert (await look(again)).begun, "left, and not settled yet"
        await settled(again)
        assert (await status(again)).halted is None
        with pytest.raises(NothingReset):
            await look(again)
        await again.follower.close()

    async def test_f14_who_is_configured_for_another_chain_doesn_t_lead_the_one_on_record(self, following):
        following.chain.mine(8)
        await following.catch_up()
        await following.follower.close()
        async with tx(following.engine) as connection:  # it began with the same block as this one: only its id tells
            await connection.execute(update(tables.networks).values(chain_id=following.chain.chain_id + 1))
        before = await following.rows(tables.networks, orphaned=None)
        again = follow(following.chain, following.engine, following.clock, name="second")
        with pytest.raises(WrongChain, match="onebook chain reanchor local"):
            await again.follower.step()
        assert await following.rows(tables.networks, orphaned=None) == before
        await again.follower.close()

    async def test_f14_nonces_begin_where_the_new_chain_says_and_the_old_ones_stay_on_record(self, again, following):
        assert [await reserve_one(following, f"wdr_{number}") for number in (1, 2)] == [0, 1]
        reset = await leave(again, **{"0x" + "ab" * 20: 5})
        async with tx(again.engine) as connection:
            aside = f"local@{following.chain.chain_id}/{reset.lost.epoch}"
            query = select(tables.transactions.c.network, func.count()).group_by(tables.transactions.c.network)
            assert [tuple(row) for row in await connection.execute(query)] == [(aside, 2)]
            assert (await find(connection, book=BOOK, subject="wdr_1")) is not None
        await settled(again)
        assert await reserve_one(again, "wdr_3") == 5

    async def test_f14_a_payment_reserved_in_the_instant_of_leaving_is_never_signed(self, again):
        await leave(again)
        await reserve_one(again, "wdr_late")
        await settled(again)
        assert await again.rows(tables.transactions, orphaned=None) == []

    async def test_f14_a_token_is_accepted_anew(self, again, following):
        state = TokenState(code_hash="0x01", decimals=6)
        async with tx(again.engine) as connection:
            given = {"height": 8, "block_hash": "0x02", "by": None, "now": again.clock.now()}
            await token_store.accept(connection, "local", "0x" + "11" * 20, state, **given)
        await leave(again)
        async with tx(again.engine) as connection:
            doubt = await token_store.doubt(connection, "local", "0x" + "11" * 20)
        assert doubt == "its contract wasn't looked at yet"
