"""Payments that are cancelled after a nonce was reserved, nonces that vanished, payments that would fail on chain."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from base.clock import SystemClock
from chain.errors import ReplacementUnderpriced
from chain.networks import GWEI
from chain.transaction_states import State, WaitingFor
from tests.chain.paying import STRANGER, KillAt, Killed, Paying

pytestmark = pytest.mark.slow

REVERTS = "0x60006000fd"
"""Code that takes nothing: PUSH 0, PUSH 0, REVERT."""


@dataclass(frozen=True)
class Later:
    """A clock that is ahead of the machine's."""

    seconds: float

    def now(self) -> datetime:
        return SystemClock().now() + timedelta(seconds=self.seconds)


async def ended(paying: Paying, *reserved) -> list[State]:
    await paying.settle()
    return [(await paying.transaction(one)).state for one in reserved]


class TestCancelling:
    async def test_f44_what_was_sent_is_outbid_by_what_pays_nothing(self, paying):
        paying.chain.set_automine(False)
        sent, behind = await paying.pay(7), await paying.pay(5)
        await paying.broadcaster.step()
        assert await paying.cancel(sent)
        await paying.broadcaster.step()
        pay, cancel = await paying.attempts(sent)
        assert (pay.kind, cancel.kind, cancel.nonce) == ("pay", "cancel", pay.nonce)
        assert cancel.bid.max_fee_per_gas * 100 >= pay.bid.max_fee_per_gas * 115
        assert cancel.bid.tip * 100 >= pay.bid.tip * 115
        assert cancel.gas_limit == 21_000
        told = paying.chain.rpc("eth_getTransactionByHash", cancel.tx_hash)
        assert (told["to"], told["value"], told["input"]) == (paying.hot.address, "0x0", "0x")
        assert await ended(paying, sent, behind) == [State.CANCELLED, State.FINAL]
        end = await paying.transaction(sent)
        assert end.mined is not None
        assert (end.mined.attempt, end.mined.gas_used) == (2, 21_000)
        assert paying.paid_to_stranger() == 5

    async def test_f44_what_was_never_signed_gives_its_nonce_to_the_next(self, paying):
        first, unwanted, third = [await paying.pay(amount) for amount in (1, 2, 4)]
        assert await paying.cancel(unwanted)
        await paying.broadcaster.step()
        given_back = await paying.transaction(unwanted)
        assert (given_back.state, given_back.nonce) == (State.GIVEN_BACK, None)
        assert await paying.attempts(unwanted) == []
        assert await ended(paying, first, third) == [State.FINAL] * 2
        assert [(await paying.transaction(one)).nonce for one in (first, third)] == [0, 1]
        assert paying.paid_to_stranger() == 5
        assert (await paying.pay(1)).nonce == 2

    async def test_f44_a_payment_that_is_mined_first_is_paid_all_the_same(self, paying):
        reserved = await paying.pay(7)
        await paying.broadcaster.step()  # mined at once, which nobody has seen yet
        assert await paying.cancel(reserved)
        await paying.broadcaster.step()
        assert [attempt.kind for attempt in await paying.attempts(reserved)] == ["pay", "cancel"]
        assert await ended(paying, reserved) == [State.FINAL]
        assert paying.paid_to_stranger() == 7
        assert not await paying.cancel(reserved)

    async def test_f44_what_was_signed_but_not_sent_never_leaves(self, paying):
        reserved = await paying.pay(7)
        with pytest.raises(Killed):
            await paying.another(KillAt("sending.before")).step()
        assert await paying.cancel(reserved)
        await paying.broadcaster.step()
        pay, _ = await paying.attempts(reserved)
        assert pay.sent_at is None
        assert paying.chain.rpc("eth_getTransactionByHash", pay.tx_hash) is None
        assert await ended(paying, reserved) == [State.CANCELLED]
        assert paying.paid_to_stranger() == 0

    @pytest.mark.parametrize("point", ["replacement.stored", "signing.after", "stored", "sending.after"])
    async def test_f44_killed_while_cancelling_it_is_cancelled_once(self, paying, point):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        await paying.cancel(reserved)
        with pytest.raises(Killed):
            await paying.another(KillAt(point)).step()
        await paying.broadcaster.step()
        assert len(await paying.attempts(reserved)) == 2
        assert await ended(paying, reserved) == [State.CANCELLED]
        assert paying.paid_to_stranger() == 0

    async def test_f44_a_cancel_that_races_signing_has_exactly_one_outcome(self, paying):
        recipients = [f"0x{number:040x}" for number in range(0xA0, 0xA8)]
        reserved = [await paying.pay(7, to=recipient) for recipient in recipients]

        async def cancel_all():
            return [await paying.cancel(one) for one in reserved[::-1]]

        for _ in range(3):
            await asyncio.gather(paying.another().step(), cancel_all())
        states = await ended(paying, *reserved)
        assert set(states) <= {State.FINAL, State.CANCELLED, State.GIVEN_BACK}
        for recipient, state in zip(recipients, states, strict=True):
            assert paying.chain.balance("USDC", recipient) == (7 if state is State.FINAL else 0), state
        used = int(paying.chain.rpc("eth_getTransactionCount", paying.hot.address, "latest"), 16)
        assert used == sum(state is not State.GIVEN_BACK for state in states)

    async def test_a_cancelling_attempt_is_outbid_by_another_one(self, paying):
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        await paying.cancel(reserved)
        await paying.broadcaster.step()
        paying.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        paying.chain.mine()
        await paying.another(replace_seconds=0).step()
        assert [attempt.kind for attempt in await paying.attempts(reserved)] == ["pay", "cancel", "cancel"]
        assert await ended(paying, reserved) == [State.CANCELLED]


class TestGaps:
    async def test_f38_the_lowest_nonce_that_vanished_is_sent_again_before_the_others(self, paying):
        paying.chain.set_automine(False)
        reserved = [await paying.pay(amount) for amount in (1, 2, 4)]
        await paying.broadcaster.step()
        hashes = [(await paying.attempts(one))[0].tx_hash for one in reserved]
        for lost in (hashes[0], hashes[2]):
            paying.chain.rpc("anvil_dropTransaction", lost)
        usual = {"resend_seconds": 30}
        await paying.another(**usual).step()
        assert paying.chain.rpc("eth_getTransactionByHash", hashes[0]) is None, "it isn't looked for all the time"
        await paying.another(**usual, clock=Later(6)).step()
        assert paying.chain.rpc("eth_getTransactionByHash", hashes[0]) is not None
        assert paying.chain.rpc("eth_getTransactionByHash", hashes[2]) is None, "nothing waits for the highest"
        await paying.another(**usual, clock=Later(40)).step()
        assert await ended(paying, *reserved) == [State.FINAL] * 3
        assert [len(await paying.attempts(one)) for one in reserved] == [1, 1, 1]
        assert paying.paid_to_stranger() == 7

    async def test_f38_a_gap_that_somebody_cancels_is_filled_and_those_behind_it_are_paid(self, paying):
        paying.chain.set_automine(False)
        lost, behind = await paying.pay(1), await paying.pay(2)
        await paying.broadcaster.step()
        (attempt,) = await paying.attempts(lost)
        paying.chain.rpc("anvil_dropTransaction", attempt.tx_hash)
        await paying.cancel(lost)
        await paying.broadcaster.step()
        assert await ended(paying, lost, behind) == [State.CANCELLED, State.FINAL]
        assert paying.paid_to_stranger() == 2

    async def test_f38_what_was_signed_and_never_sent_is_sent_before_what_comes_after_it(self, paying):
        first = await paying.pay(1)
        with pytest.raises(Killed):
            await paying.another(KillAt("sending.before")).step()
        second = await paying.pay(2)
        await paying.broadcaster.step()
        assert await ended(paying, first, second) == [State.FINAL] * 2
        assert paying.paid_to_stranger() == 3


class TestTrials:
    async def test_a_recipient_that_refuses_the_coin_costs_no_gas_and_holds_up_nobody(self, paying):
        refuses = "0x00000000000000000000000000000000000000ab"
        paying.chain.rpc("anvil_setCode", refuses, REVERTS)
        first, would_fail, last = (
            await paying.pay(1),
            await paying.pay(10, asset="ETH", to=refuses),
            await paying.pay(2),
        )
        for _ in range(2):
            await paying.broadcaster.step()
        given_back = await paying.transaction(would_fail)
        assert (given_back.state, given_back.nonce) == (State.GIVEN_BACK, None)
        assert given_back.refusal is not None
        assert given_back.refusal.startswith("the recipient can't be paid: ")
        assert await ended(paying, first, last) == [State.FINAL] * 2
        assert [(await paying.transaction(one)).nonce for one in (first, last)] == [0, 1]
        assert await paying.attempts(would_fail) == []

    async def test_a_paused_token_is_told_from_a_recipient_that_is_listed(self, paying):
        paying.chain.as_token_owner("USDC", "blacklist(address)", STRANGER)
        listed = await paying.pay(1)
        await paying.broadcaster.step()
        assert ((await paying.transaction(listed)).refusal or "").startswith("the recipient can't be paid: ")
        paying.chain.as_token_owner("USDC", "pause()")
        paused = await paying.pay(1, to="0x00000000000000000000000000000000000000ac")
        await paying.broadcaster.step()
        assert ((await paying.transaction(paused)).refusal or "").startswith("the token pays nobody now: ")


class TestUnderpriced:
    async def test_f35_what_a_node_finds_underpriced_is_outbid_at_once_and_stored_before_it_is_sent(self, paying):
        refusals = iter([True])

        def refuses_once(answer, *_):
            if next(refusals, False):
                raise ReplacementUnderpriced("replacement transaction underpriced")
            return answer

        paying.following.rpc.bends["eth_sendRawTransaction"] = refuses_once
        paying.chain.set_automine(False)
        reserved = await paying.pay(7)
        await paying.broadcaster.step()
        first, second = await paying.attempts(reserved)
        assert second.bid.max_fee_per_gas * 100 >= first.bid.max_fee_per_gas * 115
        assert second.bid.tip * 100 >= first.bid.tip * 115
        there = await paying.transaction(reserved)
        assert (there.state, there.waiting_for) == (State.BROADCAST, None)
        paying.following.rpc.bends.clear()
        assert await ended(paying, reserved) == [State.FINAL]
        assert paying.paid_to_stranger() == 7

    async def test_f35_at_the_cap_what_is_underpriced_waits_for_the_fee_and_is_not_sent_dearer(self, paying):
        def refuses(*_):
            raise ReplacementUnderpriced("replacement transaction underpriced")

        paying.following.rpc.bends["eth_sendRawTransaction"] = refuses
        reserved = await paying.pay(7, fee_wei_max=100_000 * 4 * GWEI)
        for _ in range(12):
            await paying.broadcaster.step()
        waiting = await paying.transaction(reserved)
        attempts = await paying.attempts(reserved)
        assert waiting.waiting_for is WaitingFor.FEE
        assert all(attempt.gas_limit * attempt.bid.max_fee_per_gas <= 100_000 * 4 * GWEI for attempt in attempts)
        assert 2 < len(attempts) < 12, "until the cap is reached"
        await paying.broadcaster.step()
        assert len(await paying.attempts(reserved)) == len(attempts)
