"""Own transactions end to end: a real signer, a real node, the follower's blocks as evidence; killed at any instant."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import BrokenInvariant
from chain import tables
from chain.address_pool import RESERVED_AT_ONCE, AddressPool
from chain.errors import NodeUnavailable, PaymentRefused, SignerUnavailable, WrongChain
from chain.estimates import NetworkFees
from chain.evm.node import Node
from chain.evm.rpc import HttpRpc
from chain.local_blocks import set_next_base_fee
from chain.networks import GWEI, Deployment, Encoding
from chain.queues import IN_FLIGHT_MAX
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Kind, State, WaitingFor
from chain.transactions import find, reserve
from custody.approvals import freeze_statement, lift_statement, sign_statement
from custody.policy_starter import Limits, NetworkStart, starter_policy
from db.engine import tx
from db.errors import UniqueBroken
from tests.chain.paying import STRANGER, KillAt, Killed, start_paying
from tests.chain.support import BOOK, follow
from tests.custody.samples import PEOPLE, people_text
from tests.faults.lies import Kind as Lies
from tests.faults.lying_node import lying_node
from tests.support.chain import start_local_chain
from tests.support.signer import generous_policy, start_signer
from wiring.signing import SignerReservations, XpubAddresses

pytestmark = pytest.mark.slow

CHECKPOINTS = (
    "signing.before",
    "signing.after",
    "stored",
    "sending.before",
    "sending.after",
    "mined.seen",
    "final.seen",
)


class TestToTheEnd:
    @pytest.mark.parametrize("kind", ["anvil", "hardhat"])
    async def test_a_payment_becomes_final_with_its_exact_fee(self, kind, tmp_path, database):
        with start_local_chain(tmp_path, kind) as chain:
            policy = generous_policy(chain.chain_id, chain.token("USDC").lower())
            signer = start_signer(tmp_path / "signer", policy)
            following = follow(chain, database.engine(), SystemClock())
            paying = await start_paying(chain, signer, following)
            before = chain.balance("ETH", paying.hot.address)
            reserved = await paying.pay(2_500_000)
            await paying.broadcaster.step()
            assert (await paying.transaction(reserved)).state is State.BROADCAST
            await following.catch_up()
            await paying.broadcaster.step()
            assert (await paying.transaction(reserved)).state is State.MINED
            await paying.settle()
            end = await paying.transaction(reserved)
            assert end.state is State.FINAL
            assert end.mined is not None
            assert end.mined.fee_wei == before - chain.balance("ETH", paying.hot.address)
            assert end.mined.fee_wei == end.mined.gas_used * end.mined.effective_gas_price
            assert paying.paid_to_stranger() == 2_500_000
            async with tx(following.engine) as connection:
                assert await find(connection, book=BOOK, subject=end.payment.subject) == end
            await following.follower.close()
            signer.stop()

    async def test_f80_frozen_what_is_in_flight_is_watched_to_its_end_and_nothing_else_leaves(
        self, anvil, following, tmp_path
    ):
        policy = generous_policy(anvil.chain_id, anvil.token("USDC").lower())
        policy = policy.replace("version = 1\n", f"version = 1\n{people_text()}\n")
        signer = start_signer(tmp_path / "signer", policy)
        paying = await start_paying(anvil, signer, following)
        client = signer.client()
        try:
            sent = await paying.pay(2_500_000)
            await paying.broadcaster.step()
            assert (await paying.transaction(sent)).state is State.BROADCAST
            everything: dict[str, Any] = {"chain_id": None, "asset": None, "serial": (await client.status()).serial}
            by = sign_statement("ada", PEOPLE["ada"], freeze_statement(**everything))
            await client.freeze(**everything, by=by)
            waiting = await paying.pay(7)
            await paying.broadcaster.step()
            await paying.settle()
            assert (await paying.transaction(sent)).state is State.FINAL, "followed to its final evidence"
            held = await paying.transaction(waiting)
            assert (held.state, held.waiting_for) == (State.RESERVED, WaitingFor.SIGNER)
            everything |= {"serial": (await client.status()).serial}
            both = [sign_statement(name, PEOPLE[name], lift_statement(**everything)) for name in ("ben", "cleo")]
            await client.lift(**everything, by=both)
            await paying.broadcaster.step()
            await paying.settle()
            assert (await paying.transaction(waiting)).state is State.FINAL, "and goes on by itself"
        finally:
            await client.close()
            signer.stop()

    async def test_f47_a_journal_behind_what_this_database_has_seen_gives_no_address_indexes(self, paying):
        client = paying.signer.client()
        source = XpubAddresses(paying.signer.xpubs)
        pool = AddressPool(
            paying.following.engine,
            source=source,
            fingerprints=source.fingerprints,
            keys=None,
            reserver=SignerReservations(client),
            clock=paying.following.clock,
        )
        await paying.pay(1)
        await paying.broadcaster.step()
        assert await pool.step() == RESERVED_AT_ONCE
        async with tx(paying.following.engine) as connection:
            await connection.execute(update(tables.attempts).values(signer_sequence=10**6))
            await connection.execute(update(tables.address_counters).values(next_index=RESERVED_AT_ONCE))
        with pytest.raises(SignerUnavailable, match="behind"):
            await pool.step()
        await client.close()

    async def test_the_native_coin_is_paid_in_the_order_of_nonces(self, paying):
        paid = [await paying.pay(10**15 + n, asset="ETH") for n in range(5)]
        assert [reserved.nonce for reserved in paid] == list(range(5))
        await paying.broadcaster.step()
        await paying.settle()
        assert [(await paying.transaction(one)).state for one in paid] == [State.FINAL] * 5
        assert paying.paid_to_stranger("ETH") == sum(10**15 + n for n in range(5))

    async def test_a_payment_keeps_the_generation_of_its_keys(self, paying):
        sender = OwnAddress(OwnKey(Role.GAS, 0, 2), "0x" + "22" * 20)
        to = OwnAddress(OwnKey(Role.DEPOSIT, 3, 4), "0x" + "34" * 20)
        reserved = await paying.pay(1, asset="ETH", kind=Kind.GAS_TOPUP, sender=sender, to=to, subject="gas_1")
        kept = (await paying.transaction(reserved)).payment
        assert (kept.sender, kept.to) == (sender, to)

    async def test_an_own_recipient_is_derived_by_the_signer(self, paying):
        key = OwnKey(Role.DEPOSIT, 3)
        to = OwnAddress(key, XpubAddresses(paying.signer.xpubs).address(key))
        gas = OwnAddress(OwnKey(Role.GAS, 0), XpubAddresses(paying.signer.xpubs).address(OwnKey(Role.GAS, 0)))
        paying.chain.faucet(gas.address, 10**18)
        async with tx(paying.following.engine) as connection:
            await connection.execute(
                tables.addresses.insert().values(
                    family="evm",
                    address=gas.address,
                    role="gas",
                    generation=1,
                    key_index=0,
                    issued_at=paying.following.clock.now(),
                )
            )
        reserved = await paying.pay(
            10**16, asset="ETH", kind=Kind.GAS_TOPUP, sender=gas, to=to, subject="gas_1", gas_limit=21_000
        )
        await paying.broadcaster.step()
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL
        assert paying.chain.balance("ETH", to.address) == 10**16

    async def test_f40_a_reverted_payment_ends_reverted_at_final(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay()
        await paying.broadcaster.step()
        (attempt,) = await paying.attempts(reserved)
        paying.chain.rpc("anvil_dropTransaction", attempt.tx_hash)
        paying.chain.set_automine(True)
        paying.chain.as_token_owner("USDC", "blacklist(address)", STRANGER)  # after it was tried and signed
        await paying.broadcaster.step()
        paying.chain.mine()
        await paying.following.catch_up()
        await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.MINED
        await paying.settle()
        end = await paying.transaction(reserved)
        assert end.state is State.REVERTED
        assert end.mined is not None
        assert end.mined.fee_wei > 0


class TestKilled:
    @pytest.mark.parametrize("name", CHECKPOINTS)
    async def test_f29_f30_f31_killed_anywhere_one_payment_with_the_same_bytes(self, paying, name):
        reserved = await paying.pay(7)
        killed = paying.another(KillAt(name))
        seen: set[str] = set()
        for _ in range(6):
            try:
                await killed.step()
            except Killed:
                seen.add(name)
                break
            paying.chain.mine(4)
            await paying.following.catch_up()
        assert seen == {name}
        before = await paying.attempts(reserved)
        again = paying.another()
        for _ in range(3):
            await again.step()
            paying.chain.mine(4)
            await paying.following.catch_up()
        await again.step()
        end = await paying.transaction(reserved)
        assert end.state is State.FINAL
        assert paying.paid_to_stranger() == 7
        after = await paying.attempts(reserved)
        assert len(after) == 1
        assert before[0].bid == after[0].bid
        assert before[0].raw in (None, after[0].raw)

    async def test_f30_the_signer_gives_the_same_bytes_when_asked_again(self, paying):
        reserved = await paying.pay()
        with pytest.raises(Killed):
            await paying.another(KillAt("signing.after")).step()
        assert [attempt.raw for attempt in await paying.attempts(reserved)] == [None]
        with pytest.raises(Killed):
            await paying.another(KillAt("signing.after")).step()
        await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.BROADCAST
        assert len(await paying.attempts(reserved)) == 1


class TestNode:
    async def test_f32_no_answer_though_accepted_stays_broadcast(self, paying):
        def accepted_without_a_word(*_):
            raise NodeUnavailable("timed out")

        reserved = await paying.pay(7)
        paying.following.rpc.bends["eth_sendRawTransaction"] = accepted_without_a_word
        await paying.broadcaster.step()
        doubt = await paying.transaction(reserved)
        assert (doubt.state, doubt.waiting_for) == (State.BROADCAST, WaitingFor.NODE)
        paying.following.rpc.bends.clear()
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL
        assert paying.paid_to_stranger() == 7
        assert paying.following.rpc.asked.count("eth_sendRawTransaction") == 1

    async def test_f33_already_known_is_success(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        with pytest.raises(Killed):
            await paying.another(KillAt("sending.after")).step()
        assert (await paying.transaction(reserved)).state is State.SIGNED
        await paying.broadcaster.step()
        known = await paying.transaction(reserved)
        assert (known.state, known.waiting_for) == (State.BROADCAST, None)
        await paying.settle()
        assert paying.paid_to_stranger() == 7

    async def test_f34_nonce_too_low_for_a_mined_attempt_settles_by_its_hash(self, paying):
        reserved = await paying.pay(7)
        with pytest.raises(Killed):
            await paying.another(KillAt("sending.after")).step()
        paying.chain.mine()
        await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.BROADCAST
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL

    async def test_f34_a_nonce_used_up_by_a_stranger_needs_review_once_final(self, anvil, signer, database):
        # anvil gives an impersonated transaction a hash that isn't its own, so here nothing is recomputed
        following = follow(anvil, database.engine(), SystemClock(), encoding=Encoding.UNKNOWN)
        paying = await start_paying(anvil, signer, following)
        paying.chain.rpc("anvil_impersonateAccount", paying.hot.address)
        reserved = await paying.pay(7)
        foreign = {"from": paying.hot.address, "to": STRANGER, "value": "0x1"}
        paying.chain.receipt(paying.chain.rpc("eth_sendTransaction", foreign))
        await paying.following.catch_up()
        await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.BROADCAST
        await paying.settle()
        end = await paying.transaction(reserved)
        assert end.state is State.NEEDS_REVIEW
        assert paying.paid_to_stranger() == 0
        await following.follower.close()

    async def test_f37_dropped_by_the_node_it_is_sent_again(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        (attempt,) = await paying.attempts(reserved)
        paying.chain.rpc("anvil_dropTransaction", attempt.tx_hash)
        paying.chain.mine()
        assert paying.paid_to_stranger() == 0
        await paying.broadcaster.step()
        paying.chain.mine()
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL
        assert [one.tx_hash for one in await paying.attempts(reserved)] == [attempt.tx_hash]
        assert paying.paid_to_stranger() == 7

    async def test_f41_mined_then_reorganised_out_it_is_broadcast_again(self, paying):
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        paying.chain.mine()
        await paying.following.catch_up()
        await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.MINED
        paying.chain.reorg(2, longer=1)
        await paying.following.catch_up()
        await paying.broadcaster.step()
        back = await paying.transaction(reserved)
        assert (back.state, back.mined) == (State.BROADCAST, None)
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL
        assert paying.paid_to_stranger() == 7

    async def test_an_unreachable_node_is_waited_for(self, paying):
        def unreachable(*_):
            raise NodeUnavailable("no route")

        reserved = await paying.pay(7)
        paying.following.rpc.bends["eth_chainId"] = unreachable
        with pytest.raises(NodeUnavailable):
            await paying.broadcaster.step()
        waiting = await paying.transaction(reserved)
        assert (waiting.state, waiting.waiting_for) == (State.RESERVED, WaitingFor.NODE)
        paying.following.rpc.bends.clear()
        await paying.broadcaster.step()
        going = await paying.transaction(reserved)
        assert (going.state, going.waiting_for) == (State.BROADCAST, None)

    async def test_f13_nothing_is_signed_for_another_chain(self, paying):
        reserved = await paying.pay(7)
        paying.following.rpc.bends["eth_chainId"] = lambda *_: "0x1"
        with pytest.raises(WrongChain):
            await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.RESERVED
        assert await paying.attempts(reserved) == []

    async def test_nothing_is_signed_while_the_network_is_halted(self, paying):
        reserved = await paying.pay(7)
        async with tx(paying.following.engine) as connection:
            await connection.execute(update(tables.networks).values(halted="reorg_below_final", halted_at=func.now()))
        assert not await paying.broadcaster.step()
        assert (await paying.transaction(reserved)).state is State.RESERVED


class TestReplacing:
    @pytest.mark.parametrize("kind", ["anvil", "hardhat"])
    async def test_f35_an_attempt_that_the_market_left_behind_is_outbid(self, kind, tmp_path, database):
        with start_local_chain(tmp_path, kind) as chain:
            signer = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
            following = follow(chain, database.engine(), SystemClock())
            paying = await start_paying(chain, signer, following)
            chain.set_automine(False)
            reserved = await paying.pay(7)
            await paying.broadcaster.step()
            chain.rpc("hardhat_setNextBlockBaseFeePerGas", hex(50 * GWEI))
            chain.mine()
            await following.catch_up()
            with pytest.raises(Killed):
                await paying.another(KillAt("replacement.stored"), replace_seconds=0).step()
            await paying.another(replace_seconds=0).step()
            first, second = await paying.attempts(reserved)
            assert second.bid.max_fee_per_gas * 100 >= first.bid.max_fee_per_gas * 115
            assert second.bid.tip * 100 >= first.bid.tip * 115
            await paying.settle()
            end = await paying.transaction(reserved)
            assert end.mined is not None
            assert (end.state, end.mined.attempt, end.mined.tx_hash) == (State.FINAL, 2, second.tx_hash)
            assert paying.paid_to_stranger() == 7
            await following.follower.close()
            signer.stop()

    async def test_f35_a_node_as_strict_as_geth_takes_every_replacement_of_ours(self, paying):
        """Both fees at least a tenth higher, each time, be it a payment or what cancels one."""
        chain = paying.chain
        chain.set_automine(False)
        async with lying_node(chain.url) as liar:
            liar.lie(Lies.REPLACEMENT, times=None)
            strict = {"nodes": [Node(paying.following.network, HttpRpc(liar.url))], "replace_seconds": 0}
            reserved = await paying.pay(7)
            await paying.another(**strict).step()
            for gwei in (5, 20, 60):
                chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))
                chain.mine()
                await paying.another(**strict).step()
            await paying.cancel(reserved)
            await paying.another(**strict).step()
            attempts = await paying.attempts(reserved)
            assert [attempt.kind for attempt in attempts][-2:] == ["pay", "cancel"]
            assert len(attempts) >= 3
            assert liar.asked["eth_sendRawTransaction"] == len(attempts)
            assert liar.told[Lies.REPLACEMENT] == 0, "it refused none"
        for before, after in itertools.pairwise(attempts):
            assert after.bid.max_fee_per_gas * 10 >= before.bid.max_fee_per_gas * 11
            assert after.bid.tip * 10 >= before.bid.tip * 11

    async def test_f36_an_earlier_attempt_mined_after_its_replacement_settles_once(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        paying.chain.mine()
        await paying.another(replace_seconds=0).step()
        first, second = await paying.attempts(reserved)
        assert first.raw is not None
        paying.chain.rpc("anvil_dropTransaction", second.tx_hash)
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        paying.chain.mine()
        paying.chain.rpc("eth_sendRawTransaction", "0x" + first.raw.hex())
        await paying.settle()
        end = await paying.transaction(reserved)
        assert end.mined is not None
        assert (end.state, end.mined.attempt, end.mined.tx_hash) == (State.FINAL, 1, first.tx_hash)
        assert paying.paid_to_stranger() == 7

    async def test_a_replacement_that_is_not_signed_leaves_the_attempt_before_it_at_work(
        self, anvil, tmp_path, following
    ):
        """The signer allows less gas than the house would pay; the node then drops the only signed attempt."""
        policy = generous_policy(anvil.chain_id, anvil.token("USDC").lower())
        policy = policy.replace(f'fee_wei_max = "{10**18}"', f'fee_wei_max = "{100_000 * 5 * GWEI}"')
        signer = start_signer(tmp_path / "frugal", policy)
        paying = await start_paying(anvil, signer, following)
        anvil.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        anvil.mine()
        await paying.another(replace_seconds=0).step()
        first, second = await paying.attempts(reserved)
        assert second.raw is None
        anvil.rpc("anvil_dropTransaction", first.tx_hash)
        anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        anvil.mine()
        await paying.settle()
        end = await paying.transaction(reserved)
        assert end.mined is not None
        assert (end.state, end.mined.attempt) == (State.FINAL, 1)
        assert paying.paid_to_stranger() == 7
        signer.stop()

    async def test_at_the_cap_no_more_attempts_are_made(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7, fee_wei_max=100_000 * 5 * GWEI)
        await paying.broadcaster.step()
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        paying.chain.mine()
        for _ in range(8):
            await paying.another(replace_seconds=0).step()
        waiting = await paying.transaction(reserved)
        assert (waiting.state, waiting.waiting_for) == (State.BROADCAST, WaitingFor.FEE)
        assert len(await paying.attempts(reserved)) == 1
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        paying.chain.mine()
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL


class TestWaiting:
    async def test_f39_gas_above_the_cap_waits_and_resumes_by_itself_on_hardhat(self, tmp_path, database):
        with start_local_chain(tmp_path, "hardhat") as chain:
            signer = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
            following = follow(chain, database.engine(), SystemClock())
            paying = await start_paying(chain, signer, following)
            reserved = await paying.pay(7)
            chain.rpc("hardhat_setNextBlockBaseFeePerGas", hex(900 * GWEI))
            chain.mine()
            await following.catch_up()
            await paying.broadcaster.step()
            waiting = await paying.transaction(reserved)
            assert (waiting.state, waiting.waiting_for) == (State.RESERVED, WaitingFor.FEE)
            assert "gas costs more than" in (waiting.refusal or "")
            chain.rpc("hardhat_setNextBlockBaseFeePerGas", hex(GWEI))
            chain.mine()
            await following.catch_up()
            await paying.broadcaster.step()
            chain.mine(4)
            await following.catch_up()
            await paying.broadcaster.step()
            assert (await paying.transaction(reserved)).state is State.FINAL
            assert paying.paid_to_stranger() == 7
            await following.follower.close()
            signer.stop()

    async def test_f39_gas_above_the_cap_waits_and_resumes_by_itself(self, paying):
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(900 * GWEI))
        paying.chain.mine()
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        waiting = await paying.transaction(reserved)
        assert (waiting.state, waiting.waiting_for) == (State.RESERVED, WaitingFor.FEE)
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        paying.chain.mine()
        await paying.following.catch_up()
        await paying.broadcaster.step()
        await paying.settle()
        assert (await paying.transaction(reserved)).state is State.FINAL

    async def test_f42_a_sender_short_of_tokens_or_gas_waits_without_paying_in_part(self, paying):
        short = await paying.pay(100_000_001)
        behind = await paying.pay(1)
        await paying.broadcaster.step()
        assert (await paying.transaction(short)).waiting_for is WaitingFor.FUNDS
        assert (await paying.transaction(behind)).state is State.RESERVED
        paying.chain.transfer("USDC", paying.hot.address, 2)
        paying.chain.rpc("anvil_setBalance", paying.hot.address, "0x1")
        await paying.broadcaster.step()
        assert (await paying.transaction(short)).waiting_for is WaitingFor.GAS
        paying.chain.rpc("anvil_setBalance", paying.hot.address, hex(10**18))
        await paying.broadcaster.step()
        await paying.settle()
        assert (await paying.transaction(short)).state is State.FINAL
        assert (await paying.transaction(behind)).state is State.FINAL
        assert paying.paid_to_stranger() == 100_000_002

    async def test_f53_a_signer_that_is_down_is_waited_for(self, paying):
        reserved = await paying.pay(7)
        paying.signer.stop()
        await paying.broadcaster.step()
        waiting = await paying.transaction(reserved)
        assert (waiting.state, waiting.waiting_for) == (State.RESERVED, WaitingFor.SIGNER)
        paying.signer.restart()
        await paying.another().step()
        assert (await paying.transaction(reserved)).state is State.BROADCAST

    async def test_at_most_sixteen_of_a_sender_are_in_flight(self, paying):
        paying.chain.set_automine(False)
        paid = [await paying.pay(1) for _ in range(IN_FLIGHT_MAX + 2)]
        await paying.broadcaster.step()
        states = [(await paying.transaction(one)).state for one in paid]
        assert states == [State.BROADCAST] * IN_FLIGHT_MAX + [State.RESERVED] * 2
        await paying.settle()
        await paying.broadcaster.step()
        await paying.settle()
        assert paying.paid_to_stranger() == IN_FLIGHT_MAX + 2


class TestRefused:
    async def test_f76_the_next_payment_takes_the_refused_one_s_nonce(self, anvil, following, tmp_path):
        token = anvil.token("USDC").lower()
        narrow = Limits(per_transfer=50, per_day=1_000)
        policy = starter_policy(
            NetworkStart(
                chain_id=anvil.chain_id, tokens={token: narrow}, native=narrow, top_ups=narrow, fee_wei_max=10**18
            )
        )
        signer = start_signer(tmp_path / "narrow", policy)
        paying = await start_paying(anvil, signer, following)
        first, refused, third, fourth = [await paying.pay(amount) for amount in (10, 51, 20, 30)]
        for _ in range(3):
            await paying.broadcaster.step()
        no = await paying.transaction(refused)
        assert (no.state, no.nonce) == (State.REFUSED, None)
        assert no.refusal is not None
        assert "limit of 50" in no.refusal
        await paying.settle()
        nonces = [(await paying.transaction(one)).nonce for one in (first, third, fourth)]
        assert nonces == [0, 1, 2]
        assert paying.paid_to_stranger() == 60
        assert (await paying.pay(5)).nonce == 3
        signer.stop()

    async def test_a_conflict_with_the_signer_s_journal_stalls_and_frees_nothing(self, paying):
        await paying.pay(1)
        await paying.broadcaster.step()
        async with tx(paying.following.engine) as connection:  # as a database restored too far back would have it
            await connection.execute(update(tables.nonces).values(next_nonce=5))
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        stalled = await paying.transaction(reserved)
        assert (stalled.state, stalled.waiting_for, stalled.nonce) == (State.RESERVED, WaitingFor.SIGNER, 5)


class TestReserving:
    async def test_f43_the_same_subject_is_reserved_once(self, paying):
        payment = paying.payment(subject="wdr_same")
        first, second = await paying.reserve(payment), await paying.reserve(payment)
        assert (second.id, second.nonce, second.replayed) == (first.id, first.nonce, True)
        with pytest.raises(BrokenInvariant, match="other terms"):
            await paying.reserve(paying.payment(2, subject="wdr_same"))

    async def test_f46_concurrent_reservations_get_one_nonce_each(self, paying):
        reserved = await asyncio.gather(*(paying.pay(1) for _ in range(8)))
        assert sorted(one.nonce for one in reserved) == list(range(8))
        payment = paying.payment(subject="wdr_same")
        same = await asyncio.gather(*(paying.reserve(payment) for _ in range(4)))
        assert len({one.id for one in same}) == 1

    async def test_f46_the_database_itself_keeps_nonce_and_subject_single(self, paying):
        first = await paying.pay(1, subject="wdr_1x")
        async with tx(paying.following.engine) as connection:
            row = (await connection.execute(select(tables.transactions))).mappings().one()
        assert row["id"] == first.id
        for change in ({"id": "txn_x", "subject": "wdr_other"}, {"id": "txn_x", "nonce": 9}):
            with pytest.raises(UniqueBroken):
                async with tx(paying.following.engine) as connection:
                    await connection.execute(tables.transactions.insert().values({**row, **change}))

    async def test_f46_two_broadcasters_at_once_pay_once(self, paying):
        reserved = [await paying.pay(1) for _ in range(3)]
        await asyncio.gather(*(paying.another().step() for _ in range(3)))
        await paying.settle()
        assert [(await paying.transaction(one)).state for one in reserved] == [State.FINAL] * 3
        assert paying.paid_to_stranger() == 3

    async def test_a_rolled_back_reservation_leaves_its_nonce_to_the_next(self, paying):
        async def fail_after_reserving():
            async with tx(paying.following.engine) as connection:
                await reserve(connection, paying.payment(), clock=SystemClock(), entropy=SystemEntropy())
                raise Killed

        with pytest.raises(Killed):
            await fail_after_reserving()
        assert (await paying.pay()).nonce == 0


class TestEstimates:
    async def test_an_estimate_covers_what_the_payment_then_costs(self, paying):
        fees = NetworkFees({"local": paying.following.node}, clock=SystemClock())
        usdc = Deployment(asset="USDC", network="local", contract=paying.chain.token("USDC").lower(), decimals=6)
        cost = await fees.estimate(usdc, sender=paying.hot.address, to=STRANGER, amount=5)
        assert cost is not None
        reserved = await paying.pay(5, gas_limit=cost.gas_limit, fee_wei_max=cost.highest_wei)
        await paying.broadcaster.step()
        await paying.settle()
        end = await paying.transaction(reserved)
        assert end.state is State.FINAL
        assert end.mined is not None
        assert end.mined.fee_wei <= cost.expected_wei <= cost.highest_wei

    async def test_what_would_be_refused_on_chain_is_refused_before_it_costs_gas(self, paying):
        fees = NetworkFees({"local": paying.following.node}, clock=SystemClock())
        eth = Deployment(asset="ETH", network="local", contract=None, decimals=18)
        usdc = Deployment(asset="USDC", network="local", contract=paying.chain.token("USDC").lower(), decimals=6)
        paying.chain.rpc("anvil_setCode", STRANGER, "0x60006000fd")  # always reverts
        with pytest.raises(PaymentRefused):
            await fees.estimate(eth, sender=paying.hot.address, to=STRANGER, amount=5)
        with pytest.raises(PaymentRefused):
            await fees.estimate(usdc, sender=paying.hot.address, to="0x" + "00" * 20, amount=5)
        assert await fees.estimate(usdc, sender=paying.hot.address, to=STRANGER, amount=10**30) is not None

    async def test_a_sender_without_funds_still_gets_an_estimate(self, paying):
        fees = NetworkFees({"local": paying.following.node}, clock=SystemClock())
        eth = Deployment(asset="ETH", network="local", contract=None, decimals=18)
        assert await fees.estimate(eth, sender=STRANGER, to=paying.hot.address, amount=10**24) is not None

    async def test_a_market_read_within_the_last_second_serves_other_estimates(self, paying, clock):
        fees = NetworkFees({"local": paying.following.node}, clock=clock)
        eth = Deployment(asset="ETH", network="local", contract=None, decimals=18)
        told = {"sender": paying.hot.address, "to": STRANGER, "amount": 1}
        before = await fees.estimate(eth, **told)
        set_next_base_fee(paying.chain.url, 40 * GWEI)
        paying.chain.mine()
        assert await fees.estimate(eth, **told) == before
        clock.advance(timedelta(seconds=1))
        after = await fees.estimate(eth, **told)
        assert before is not None
        assert after is not None
        assert after.bid.max_fee_per_gas > 40 * GWEI > before.bid.max_fee_per_gas
