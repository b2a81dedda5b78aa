"""How a withdrawal under review may be ended, by what the chain shows: one row per wrong try."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chain.transaction_states import State
from exchange.ratios import Ratio
from wallet.errors import ResolutionRefused
from wallet.resolutions import InBatch, OnChainFindings, SeenPayment, UsedUp, check_returnable, paid_by
from wallet.resources import Withdrawal
from wallet.withdrawal_states import WithdrawalState

ASKED_AT = datetime(2026, 1, 2, tzinfo=UTC)
OURS, THEIRS, OTHER = "0x" + "aa" * 32, "0x" + "bb" * 32, "0x" + "cc" * 32

WITHDRAWAL = Withdrawal(
    id="wdr_1",
    owner="usr_alice",
    state=WithdrawalState.NEEDS_REVIEW,
    cancellable=False,
    waiting_for=None,
    reason="",
    asset="USDC",
    network="local",
    address="0x" + "dd" * 20,
    amount=500,
    chain_amount=500,
    fee_highest=9,
    fee=None,
    fee_price=Ratio(1, 1),
    gas_limit=1,
    fee_wei_max=1,
    hold="req:1",
    tx_hash=None,
    block_number=None,
    block_hash=None,
    fee_wei=None,
    created_at=ASKED_AT,
    updated_at=ASKED_AT,
)

PAYMENT = SeenPayment(
    tx_hash=THEIRS,
    place="log:0",
    block_number=7,
    block_hash="0xb7",
    sender="0x" + "01" * 20,
    chain_amount=500,
    seen_at=ASKED_AT + timedelta(minutes=1),
    is_final=True,
    subject=None,
    claimed_by=None,
    fee_wei=3,
    booked=True,
    gas_booked=True,
)


def chain(
    *payments: SeenPayment, state: State | None = State.NEEDS_REVIEW, used_up: str | None = THEIRS, **more
) -> OnChainFindings:
    """By default the nonce was used up by a transaction of others."""
    used = UsedUp(used_up, 7, "0xb7", used_up == OURS) if used_up != "" else None
    return OnChainFindings(state, "0x" + "01" * 20, 4, (OURS,), used, payments, **more)


IN_BATCH = InBatch("bat_1", 0, has_row=True, is_booked=True, is_coin=False)

NOT_FINAL = "nonce 4 of 0x0101010101010101010101010101010101010101 isn't used up by a final transaction"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (chain(PAYMENT, state=None), "no transaction of ours is on record"),
        (chain(PAYMENT, state=State.BROADCAST), "its transaction is broadcast: the worker is still at it"),
        (chain(PAYMENT, used_up=""), NOT_FINAL),
        (chain(), f"no transaction {THEIRS} is on record that paid USDC"),
        (chain(replace(PAYMENT, tx_hash=OTHER)), f"no transaction {THEIRS} is on record that paid USDC"),
        (chain(replace(PAYMENT, chain_amount=499)), "paid the recipient 499 units, and 500 were asked for"),
        (chain(replace(PAYMENT, subject="wdr_2")), "is the payment of wdr_2"),
        (chain(replace(PAYMENT, subject="wdr_1")), "is this withdrawal's own"),
        (chain(replace(PAYMENT, claimed_by="wdr_3")), "is the payment of wdr_3 already"),
        (chain(replace(PAYMENT, is_final=False)), "isn't final"),
        (chain(replace(PAYMENT, seen_at=ASKED_AT - timedelta(seconds=1))), "was seen before"),
        (chain(replace(PAYMENT, booked=False)), "isn't booked yet"),
        (chain(replace(PAYMENT, gas_booked=False)), "isn't booked yet"),
        (chain(PAYMENT, state=State.REVERTED), "its transaction is reverted: the worker is still at it"),
        (chain(PAYMENT, state=State.FINAL, leg=replace(IN_BATCH, is_booked=False)), "moved isn't booked yet"),
        (chain(PAYMENT, state=State.MINED, leg=IN_BATCH), "its transaction is mined: the worker is still at it"),
        (
            chain(PAYMENT, state=State.FINAL, used_up=OURS, leg=replace(IN_BATCH, is_coin=True)),
            "bat_1 carried its amount",
        ),
    ],
)
def test_a_wrong_try_at_paid_is_refused_and_says_why(found, why):
    with pytest.raises(ResolutionRefused, match=why):
        paid_by(WITHDRAWAL, found, THEIRS)


def test_paid_is_what_was_paid_once_more_often_than_claimed():
    first, second = replace(PAYMENT, claimed_by="wdr_3"), replace(PAYMENT, place="log:1")
    assert paid_by(WITHDRAWAL, chain(first, second), THEIRS) == second
    by_another = replace(PAYMENT, fee_wei=0, gas_booked=False)  # another paid the gas
    assert paid_by(WITHDRAWAL, chain(by_another), THEIRS) == by_another


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (chain(state=None), "no transaction of ours is on record"),
        (chain(state=State.SIGNED), "its transaction is signed: the worker is still at it"),
        (chain(used_up=""), NOT_FINAL),
        (chain(PAYMENT), "say `paid` and name it"),
        (chain(replace(PAYMENT, tx_hash=OTHER, is_final=False)), "say `paid` and name it"),
        (chain(replace(PAYMENT, chain_amount=1)), "paid the recipient 1 units"),
        (chain(replace(PAYMENT, tx_hash=OURS, subject="wdr_1", chain_amount=1), used_up=OURS), "must not have been"),
    ],
)
def test_a_wrong_try_at_returned_is_refused_and_says_why(found, why):
    with pytest.raises(ResolutionRefused, match=why):
        check_returnable(WITHDRAWAL, found)


@pytest.mark.parametrize(
    "found",
    [
        chain(),
        chain(used_up=None),
        chain(used_up=OURS, state=State.FINAL),
        chain(replace(PAYMENT, claimed_by="wdr_3")),
        chain(replace(PAYMENT, tx_hash=OTHER, subject="wdr_2")),
        chain(replace(PAYMENT, tx_hash=OTHER, chain_amount=1)),
        chain(replace(PAYMENT, tx_hash=OTHER, seen_at=ASKED_AT - timedelta(seconds=1))),
        chain(state=State.REVERTED, used_up=OURS, leg=IN_BATCH),
        chain(replace(PAYMENT, tx_hash=OURS, subject="bat_1"), state=State.FINAL, used_up=OURS, leg=IN_BATCH),
    ],
)
def test_returned_is_what_nothing_of_ours_can_pay_any_more(found):
    assert check_returnable(WITHDRAWAL, found) == found.used_up
