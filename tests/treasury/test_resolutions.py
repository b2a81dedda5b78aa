"""Withdrawals ended by hand, in scripted blocks: no payment is told to be of two, and no gas is paid twice."""

import asyncio

import pytest

from base.errors import NotFound
from chain.foreign_watch import ForeignWatch
from chain.networks import Registry
from chain.observations import Outgoing
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, alone
from tests.treasury.test_outflows import ScriptedAccounts
from tests.wallet.conftest import ALICE, USDC, fund, key
from tests.wallet.scripted_chain import digest, paid
from treasury.errors import NotAdjustable
from wallet.errors import ResolutionRefused
from wallet.resolutions import Outcome
from wallet.withdrawal_reviews import WithdrawalReviews
from wallet.withdrawal_states import WithdrawalState

pytestmark = pytest.mark.slow

TO = digest("recipient")[:42]
FIRST, SECOND, THIRD = digest("pays twice"), digest("pays nothing"), digest("pays nothing either")
GAS = 50_000 * 10**9


@pytest.fixture
def reviews(treasury, database, clock):
    house = treasury.house
    return WithdrawalReviews(
        database.engine(),
        ledger=house.ledger,
        registry=house.registry,
        outflows=treasury.outflows,
        nodes={},
        clock=clock,
    )


@pytest.fixture
async def three(treasury, database, clock):
    """Three withdrawals of 10 USDC to one recipient whose nonces 0 to 2 strangers used; the first one paid it twice."""
    house, chain = treasury.house, treasury.house.chain
    await fund(house.ledger, user_account(ALICE, "USDC"), 100_000_000, name="alice")
    asked = []
    for name in "abc":
        terms = {"asset": "USDC", "network": "local", "to": TO, "amount": 10_000_000}
        asked.append(await house.withdrawals.request(key=key(name, terms), owner=ALICE, **terms))
    for _ in range(3):
        await house.withdrawals.step()
    twice = [
        paid(TO, 10_000_000, contract=USDC, tx_hash=FIRST, place=place, sender=house.hot)
        for place in ("log:0", "log:1")
    ]
    sent = [
        Outgoing(hash, house.hot, nonce, USDC, True, 50_000, 10**9) for nonce, hash in enumerate((FIRST, SECOND, THIRD))
    ]
    await chain.mine(*twice, sent=tuple(sent))
    await chain.mine_empty(3)
    for withdrawal in asked:
        await chain.set_transaction(withdrawal.id, state="needs_review", refusal="its nonce was used up")
    await house.withdrawals.step()
    watch = ForeignWatch(chain.engine, network=chain.network, contracts=[USDC], nodes=ScriptedAccounts(), clock=clock)
    assert (await watch.step(), await treasury.outflows.step()) == (3, 5)
    return asked


async def resolve(reviews, withdrawal, outcome, tx_hash=None, name="r"):
    terms = [withdrawal.id, outcome, tx_hash]
    done, _ = await reviews.resolve(
        key=key(f"{name}-{withdrawal.id}", terms),
        treasurer="usr_t",
        withdrawal=withdrawal.id,
        outcome=outcome,
        reason="looked at",
        tx_hash=tx_hash,
    )
    return done.withdrawal


async def test_f34_each_payment_ends_one_withdrawal_and_gas_is_the_house_s_once(treasury, reviews, three):
    house, (one, two, last) = treasury.house, three
    found = await asyncio.gather(
        *(resolve(reviews, each, Outcome.PAID, FIRST) for each in (one, two)), return_exceptions=True
    )
    for problem in found:
        if isinstance(problem, BaseException):  # both had chosen the same payment
            assert isinstance(problem, ResolutionRefused), problem
            assert "used this evidence just now" in problem.message
    for each, outcome in zip((one, two), found, strict=True):
        if isinstance(outcome, BaseException):
            await resolve(reviews, each, Outcome.PAID, FIRST, name="again")
    with pytest.raises(ResolutionRefused, match="is the payment of wdr_"):
        await resolve(reviews, last, Outcome.PAID, FIRST)
    with pytest.raises(ResolutionRefused, match="is on record that paid USDC"):
        await resolve(reviews, last, Outcome.PAID, THIRD)
    assert (await resolve(reviews, last, Outcome.RETURNED, name="back")).state is WithdrawalState.CANCELLED
    ended = [await house.withdrawals.get(ALICE, each.id) for each in (one, two)]
    assert [each.state for each in ended] == [WithdrawalState.FINAL] * 2
    cost = 125_025  # 50,000 gas at 1 gwei at 2,500.50 USDC per ETH
    assert sorted((each.fee, each.fee_wei) for each in ended) == [(0, 0), (cost, GAS)]
    account = await house.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000 - 20_000_000 - cost, 0)
    assert await house.balance(house_account("fees", "USDC")) == cost
    assert await house.balance(house_account("custody:local:hot", "USDC")) == 20_000_000
    for purpose in ("suspense", "in-transit:local:out"):
        assert await house.balance(house_account(purpose, "USDC")) == 0
    assert await house.balance(house_account("network-fees", "ETH")) == -GAS
    assert await house.balance(house_account("suspense", "ETH")) == -2 * GAS  # of the two that nobody explained
    assert {(out.tx_hash, out.place) for out in await treasury.outflows.open_outflows()} == {
        (SECOND, "gas"),
        (THIRD, "gas"),
    }
    await house.assert_sums_to_zero()


async def write_off(treasury, outflow, name="loss", **other):
    terms = {
        "source": "capital", "target": "suspense", "asset": outflow.asset, "amount": outflow.amount, "reason": "stolen",
        "evidence": outflow.id, **other,
    }  # fmt: skip
    return await treasury.adjustments.move(key=key(name, terms), treasurer="usr_t", **terms)


async def test_what_was_written_off_pays_nobody_s_withdrawal(treasury, reviews, three):
    house = treasury.house
    for outflow in [one for one in await treasury.outflows.open_outflows() if one.tx_hash == FIRST]:
        if outflow.place != "log:1":
            await write_off(treasury, outflow, outflow.place)
    await resolve(reviews, three[0], Outcome.PAID, FIRST)
    with pytest.raises(ResolutionRefused, match="somebody has said already what it was"):
        await resolve(reviews, three[1], Outcome.PAID, FIRST)
    assert await house.balance(house_account("suspense", "USDC")) == 0
    assert await house.balance(house_account("suspense", "ETH")) == -2 * GAS
    (ended,) = [one for one in [await house.withdrawals.get(ALICE, three[0].id)] if one.fee is not None]
    assert (ended.fee, ended.fee_wei) == (0, 0)  # the gas was the house's loss
    await house.assert_sums_to_zero()


async def test_what_paid_a_withdrawal_is_not_written_off_and_nothing_is_in_part_or_twice(treasury, reviews, three):
    token = [one for one in await treasury.outflows.open_outflows() if one.asset == "USDC"]
    await resolve(reviews, three[0], Outcome.PAID, FIRST)
    used, left = sorted(token, key=lambda one: one.place)
    with pytest.raises(NotAdjustable, match="accounted for already: wdr_"):
        await write_off(treasury, used)
    for other in ({"amount": left.amount - 1}, {"target": "fees"}):
        with pytest.raises(NotAdjustable, match="crediting suspense with all of it"):
            await write_off(treasury, left, "part", **other)
    with pytest.raises(NotFound):
        await write_off(treasury, left, "none", evidence="out_" + "0" * 26)
    found = await asyncio.gather(*(write_off(treasury, left, name) for name in "xyz"), return_exceptions=True)
    assert [isinstance(one, NotAdjustable) for one in found].count(True) == 2
    with pytest.raises(NotAdjustable, match="accounted for already: adj_"):
        await write_off(treasury, left, "again")
    assert await treasury.house.balance(house_account("suspense", "USDC")) == 0


async def test_the_treasurer_sees_them_all_though_one_s_network_is_configured_no_more(treasury, three, database, clock):
    without = WithdrawalReviews(
        database.engine(),
        ledger=treasury.house.ledger,
        registry=Registry([], []),
        nodes={},
        outflows=treasury.outflows,
        clock=clock,
    )
    found = await without.recent(WithdrawalState.NEEDS_REVIEW)
    assert {one.withdrawal.id: one.found for one in found} == dict.fromkeys((one.id for one in three), None)


async def test_two_treasurers_at_once_end_it_once(treasury, reviews, three):
    found = await asyncio.gather(
        *(resolve(reviews, three[0], Outcome.PAID, FIRST, name=name) for name in "xyz"), return_exceptions=True
    )
    assert len([one for one in found if isinstance(one, ResolutionRefused)]) == len(found) - 1
    assert (await treasury.house.user(ALICE, "USDC")).debits_pending == 2 * (10_000_000 + 3_250_650)


async def test_what_may_be_its_payment_is_not_returned_beside_it(treasury, reviews, three):
    with pytest.raises(ResolutionRefused, match=f"transaction {FIRST} paid the recipient this very amount"):
        await resolve(reviews, three[2], Outcome.RETURNED)


async def test_evidence_ends_it_though_its_owner_is_frozen_but_not_on_a_halted_network(treasury, reviews, three):
    house = treasury.house
    await house.ledger.submit(alone(Freeze(id="test:freeze", scope=FreezeScope.OWNER, target=ALICE)))
    assert (await resolve(reviews, three[0], Outcome.PAID, FIRST)).state is WithdrawalState.FINAL
    await house.chain.reorg(1, halted="reorg_below_final")
    with pytest.raises(ResolutionRefused, match="network local is halted: reorg_below_final"):
        await resolve(reviews, three[2], Outcome.RETURNED)
    assert {one.id for one in await reviews.under_review()} == {one.id for one in three[1:]}
