"""Which sender takes which payment. Pure."""

from datetime import UTC, datetime

import pytest

from chain.fees import Bid
from chain.payments import Attempt, OwnTransaction, Payment
from chain.queues import ASSIGNED_MAX, IN_FLIGHT_MAX, Purse, SenderQueues, assign, open_purses
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Kind, State, WaitingFor

TOKEN = "0x" + "c5" * 20
SENDERS = [OwnAddress(OwnKey(Role.HOT, index), f"0x{index:040x}") for index in range(3)]
AT = datetime(2026, 1, 1, tzinfo=UTC)


def purse(index: int, *, assigned: int = 0, token: int = 100, coin: int = 100) -> Purse:
    return Purse(SENDERS[index], assigned, {TOKEN: token, None: coin})


def own(index: int, nonce: int, state: State, *, contract: str | None = TOKEN, amount: int = 5) -> OwnTransaction:
    payment = Payment(
        network="local",
        kind=Kind.WITHDRAWAL,
        book="main",
        subject=f"wdr_{index}_{nonce}",
        sender=SENDERS[index],
        contract=contract,
        to="0x" + "de" * 20,
        amount=amount,
        gas_limit=10,
        fee_wei_max=30,
    )
    return OwnTransaction(f"txn_{index}_{nonce}", payment, nonce, state, None, None, None, AT, AT)


def attempt(transaction: OwnTransaction, fee: int) -> Attempt:
    return Attempt(transaction.id, 1, "pay", transaction.nonce or 0, 10, Bid(fee, 1), None, None, None, None)


@pytest.mark.parametrize(
    ("purses", "contract", "amount", "gas", "taken"),
    [
        ([purse(0, assigned=2), purse(1, assigned=1), purse(2, assigned=3)], TOKEN, 10, 10, 1),
        ([purse(0), purse(1)], TOKEN, 10, 10, 0),
        ([purse(0, token=9), purse(1, assigned=9)], TOKEN, 10, 10, 1),
        ([purse(0, coin=9), purse(1, assigned=9)], TOKEN, 10, 10, 1),
        ([purse(0, coin=19), purse(1, assigned=9, coin=20)], None, 10, 10, 1),
        ([purse(0, token=9), purse(1, token=9)], TOKEN, 10, 10, WaitingFor.FUNDS),
        ([purse(0, token=9), purse(1, coin=9)], TOKEN, 10, 10, WaitingFor.GAS),
        ([purse(0, assigned=ASSIGNED_MAX), purse(1, token=0)], TOKEN, 10, 10, None),
        ([], TOKEN, 10, 10, WaitingFor.FUNDS),
    ],
)
def test_the_sender_that_can_pay_and_has_fewest_under_way_pays(purses, contract, amount, gas, taken):
    found = assign(purses, contract=contract, amount=amount, gas_wei=gas)
    assert (found.own.key.index if isinstance(found, Purse) else found) == taken


def test_what_was_assigned_is_spent_for_the_next_one():
    purses = [purse(0, token=25, coin=35)]
    results = [assign(purses, contract=TOKEN, amount=10, gas_wei=10) for _ in range(3)]
    assert results == [purses[0], purses[0], WaitingFor.FUNDS]
    assert (purses[0].assigned, purses[0].free) == (2, {TOKEN: 5, None: 15})


def test_what_is_promised_is_not_free_and_what_is_mined_is_gone_already():
    reserved, sent, mined = own(0, 2, State.RESERVED), own(0, 1, State.BROADCAST), own(0, 0, State.MINED)
    elsewhere = own(1, 0, State.SIGNED, contract=None)
    attempts = {
        reserved.id: [],
        sent.id: [attempt(sent, 2)],
        mined.id: [attempt(mined, 2)],
        elsewhere.id: [attempt(elsewhere, 1)],
    }
    held: dict[tuple[str | None, str], int] = {}
    for one in SENDERS[:2]:
        held |= {(TOKEN, one.address): 50, (None, one.address): 100}
    first, second = open_purses(SENDERS[:2], held, [mined, sent, reserved, elsewhere], attempts)
    assert (first.assigned, first.free) == (2, {TOKEN: 40, None: 100 - 30 - 20})
    assert (second.assigned, second.free) == (1, {TOKEN: 50, None: 100 - 5 - 10})


def test_one_that_stalls_or_has_too_many_in_flight_holds_up_only_its_own():
    full = [own(0, nonce, State.BROADCAST) for nonce in range(IN_FLIGHT_MAX)]
    attempts = {one.id: [attempt(one, 1)] for one in full}
    queues = SenderQueues(full, attempts)
    assert not queues.may_sign(own(0, 99, State.RESERVED))
    stalled = own(1, 0, State.RESERVED)
    assert queues.may_sign(stalled)
    queues.block(stalled)
    assert [queues.may_sign(own(index, 9, State.RESERVED)) for index in (1, 2)] == [False, True]
    assert [queues.is_first(one) for one in full[:2]] == [True, False]
