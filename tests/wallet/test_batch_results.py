"""What a receipt's logs say of each leg: a payment is the contract's event and the token's log, together."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from chain.evm.blocks import Block, Log, MinedTransaction
from chain.evm.transfers import TRANSFER_TOPIC, observations
from chain.observations import BlockRef
from chain.orders import leg_id
from chain.payout import LEG_TOPIC
from chain.signing import Leg
from wallet.batch_results import LegResult, judge, seen

HOT, VIA, TOKEN, A, B, C = ("0x" + letter * 40 for letter in "1234ab")
LEGS = (Leg("wdr_1", A, 5), Leg("wdr_2", B, 6), Leg("wdr_3", C, 7))
PAID, FAILED, UNCLEAR = LegResult.PAID, LegResult.FAILED, LegResult.UNCLEAR


def word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def moved(to, amount, *, token=TOKEN, sender=HOT):
    """The token's own log of a payment."""
    return Log(token, (TRANSFER_TOPIC, word(sender), word(to)), amount.to_bytes(32, "big"))


def told(leg, paid=True, *, via=VIA):
    """The contract's event of a leg."""
    payload = bytes.fromhex(word(leg.to)[2:]) + leg.amount.to_bytes(32, "big") + int(paid).to_bytes(32, "big")
    return Log(via, (LEG_TOPIC, "0x" + leg_id(leg.subject).hex()), payload)


def other(contract=TOKEN):
    """A log of something else."""
    return Log(contract, ("0x" + "77" * 32,), b"")


def transaction(*logs, value=0):
    return MinedTransaction("0x" + "99" * 32, HOT, VIA, None, 3, value, True, 100_000, 10, tuple(logs))


def results(*logs, legs=LEGS, contract: str | None = TOKEN, value=0):
    return [(one.result, one.place) for one in judge(legs, transaction(*logs, value=value), via=VIA, contract=contract)]


def all_of(leg):
    return (moved(leg.to, leg.amount), told(leg))


GOOD = (*all_of(LEGS[0]), *all_of(LEGS[1]), *all_of(LEGS[2]))


def test_event_and_log_together_say_that_a_leg_is_paid():
    assert results(*GOOD) == [(PAID, "log:0"), (PAID, "log:2"), (PAID, "log:4")]


def test_f45_a_leg_that_failed_says_nothing_of_the_others():
    logs = (*all_of(LEGS[0]), told(LEGS[1], paid=False), *all_of(LEGS[2]))
    assert results(*logs) == [(PAID, "log:0"), (FAILED, "log:2"), (PAID, "log:3")]


def test_other_logs_in_between_decide_nothing():
    logs = (other(), moved(LEGS[0].to, 5, token="0x" + "5" * 40), *all_of(LEGS[0]), other(), *GOOD[2:], other(VIA))
    assert [result for result, _ in results(*logs)] == [PAID] * 3


@pytest.mark.parametrize(
    "first",
    [
        (told(LEGS[0]),),  # said to be paid, the token tells of nothing
        (moved(A, 4), told(LEGS[0])),  # of less
        (moved(B, 5), told(LEGS[0])),  # of somebody else
        (moved(A, 5), moved(A, 5), told(LEGS[0])),  # twice
        (moved(A, 5, sender=C), told(LEGS[0])),  # of somebody else's money
        (moved(A, 5, token=B), told(LEGS[0])),  # of another token's
        (moved(A, 5), told(LEGS[0], paid=False)),  # said not to be paid, the token says it was
        (moved(C, 1), told(LEGS[0], paid=False)),
    ],
)
def test_a_leg_whose_event_and_logs_differ_is_for_a_person_and_the_others_aren_t(first):
    found = [result for result, _ in results(*first, *GOOD[2:])]
    assert found == [UNCLEAR, PAID, PAID]


@pytest.mark.parametrize(
    "logs",
    [
        (),
        GOOD[:4],  # an event too few
        (*GOOD, told(Leg("wdr_4", A, 1))),  # one too many
        (*GOOD[2:4], *GOOD[:2], *GOOD[4:]),  # in another order
        (GOOD[0], told(replace(LEGS[0], amount=9)), *GOOD[2:]),  # another amount
        (GOOD[0], told(replace(LEGS[0], to=B)), *GOOD[2:]),
        (GOOD[0], told(LEGS[0], via=C), *GOOD[2:]),  # another contract's
        (*GOOD, moved(A, 5)),  # paid outside of any leg
        (GOOD[0], msgspec.structs.replace(GOOD[1], payload=b"\1"), *GOOD[2:]),  # no event of ours
    ],
)
def test_events_that_aren_t_those_of_the_legs_decide_none(logs):
    assert {result for result, _ in results(*logs)} == {UNCLEAR}


def test_of_the_coin_the_event_decides_if_the_transaction_carried_the_sum():
    logs = (told(LEGS[0]), told(LEGS[1], paid=False), told(LEGS[2]))
    expected = [(PAID, "log:0"), (FAILED, "log:1"), (PAID, "log:2")]
    assert results(*logs, contract=None, value=18) == expected
    assert {result for result, _ in results(*logs, contract=None, value=17)} == {UNCLEAR}


def test_what_of_the_coin_wasn_t_paid_is_seen_to_come_back_from_our_own_contract_only():
    paid_out = transaction(told(LEGS[0]), told(LEGS[1], paid=False), value=11)
    block = Block(BlockRef(1, "0x01", "0x00"), datetime(2026, 1, 1, tzinfo=UTC), 7, True, (paid_out,))

    def seen(own, payouts):
        return [(one.place, one.sender, one.recipient, one.amount) for one in observations(block, own, payouts)]

    out, back = ("value", HOT, VIA, 11), ("log:1", VIA, HOT, 6)
    assert seen({HOT}, {VIA}) == [out, back]
    assert seen({HOT}, {C}) == seen({HOT}, ()) == [out]
    assert seen({A}, {VIA}) == []  # a stranger's batch


def shown(position, *logs, contract: str | None = TOKEN):
    return seen(LEGS, position, transaction(*logs), via=VIA, contract=contract)


def test_a_person_is_shown_what_the_token_tells_while_that_leg_was_paid_and_no_other():
    logs = (moved(A, 5), told(LEGS[0], paid=False), moved(A, 6), told(LEGS[1]), *GOOD[4:])
    assert shown(0, *logs).paid(A, 5) == ["log:0"]
    assert (shown(1, *logs).paid(B), shown(1, *logs).paid(A)) == ([], ["log:2"])
    assert (shown(2, *logs).paid(C, 7), shown(2, *logs).paid(C, 8)) == (["log:4"], [])


def test_where_the_events_are_not_the_legs_a_person_is_shown_all_that_the_token_tells():
    logs = (GOOD[0], told(replace(LEGS[0], amount=9)), *GOOD[2:], moved(A, 5))
    for position in range(3):
        assert shown(position, *logs).paid(A, 5) == ["log:0", "log:6"]
    assert shown(1, *GOOD, moved(A, 5)).paid(A) == ["log:0", "log:6"], "paid outside of any leg"
    assert shown(0, GOOD[0], msgspec.structs.replace(GOOD[1], payload=b"\1")).paid(A) == ["log:0"]


def test_of_the_coin_a_person_is_shown_the_event_that_names_the_leg():
    logs = (told(LEGS[2]), told(LEGS[0], paid=False))
    assert [shown(n, *logs, contract=None).paid(leg.to) for n, leg in enumerate(LEGS)] == [[], [], ["log:0"]]
    assert shown(2, *logs, contract=None).paid(C, 8) == []
