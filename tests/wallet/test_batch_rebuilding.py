"""Batches put back into a book that has forgotten them or some of their legs, from what the signer's journal tells."""

from dataclasses import replace

import pytest

from chain import addresses, rebuilding
from chain.evm.addresses import show_address
from chain.fees import Bid
from chain.payments import Payment
from chain.rebuilding import JournalAttempt, JournalPayment
from chain.signing import Batch as BatchOrder
from chain.signing import Claims, Leg, OwnKey, Role
from chain.transaction_states import Kind
from chain.transactions import find
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.owing import receivable_account
from ledger.requests import key_hash
from tests.wallet.conftest import ALICE, USDC, FixedRates, fund, key
from wallet.batch_rebuilding import BatchRebuilding
from wallet.batch_results import LegResult
from wallet.batch_store import load_legs
from wallet.errors import CannotRebuild, NotCancellable
from wallet.rebuilding import IN_A_BATCH, Fate, Rebuilding
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_store import change_withdrawals, load_withdrawal

pytestmark = pytest.mark.slow

VIA = "0x" + "70" * 20
TO = ["0x" + f"{n:02x}" * 20 for n in (0xA1, 0xA2, 0xA3)]
AMOUNTS = [5_000_000, 6_000_000, 7_000_000]
FEE = 250_000
GAS, WEI = 65_000, 65_000 * 20 * 10**9


def body(n: int) -> dict[str, str]:
    return {"asset": "USDC", "network": "local", "address": show_address(TO[n]), "amount": f"{AMOUNTS[n] // 10**6}.00"}


def leg(n: int, *, subject: str | None = None, owner: str = ALICE) -> Leg:
    asked = key(f"leg-{n}", body(n), owner)
    claims = Claims(
        account=user_account(owner, "USDC"),
        asset="USDC",
        amount=AMOUNTS[n],
        key_hash=key_hash(asked.id),
        content=asked.content,
        fee_highest=FEE,
        fee_price=f"{FEE}/{WEI}",
        fee_wei_max=WEI,
    )
    return Leg(subject or f"wdr_{n}", TO[n], AMOUNTS[n], claims)


@pytest.fixture
def withdrawals(house, clock):
    return Rebuilding(house.chain.engine, ledger=house.ledger, registry=house.registry, rates=FixedRates(), clock=clock)


@pytest.fixture
def batches(house, withdrawals, clock):
    return BatchRebuilding(
        house.chain.engine, ledger=house.ledger, registry=house.registry, withdrawals=withdrawals, clock=clock
    )


@pytest.fixture
async def signed(house, clock):
    """A batch of three of Alice's withdrawals, as the signer's journal has it."""
    async with tx(house.chain.engine) as connection:
        hot = await addresses.house(connection, key=OwnKey(Role.HOT, 0))
    assert hot is not None
    payment = Payment(
        network="local",
        kind=Kind.BATCH,
        book=house.ledger.book,
        subject="bat_1",
        sender=hot,
        contract=USDC,
        to=VIA,
        amount=sum(AMOUNTS),
        gas_limit=400_000,
        fee_wei_max=400_000 * 20 * 10**9,
        order=BatchOrder(tuple(leg(n) for n in range(3))),
    )
    attempt = JournalAttempt(
        attempt=1,
        kind="pay",
        gas_limit=400_000,
        bid=Bid(10**10, 10**9),
        raw=b"raw",
        tx_hash="0x" + "11" * 32,
        sequence=9,
        head=b"\x09" * 32,
        at=clock.now(),
    )
    return JournalPayment(payment=payment, nonce=4, attempts=(attempt,))


def with_leg(signed: JournalPayment, n: int, changed: Leg) -> JournalPayment:
    order = signed.payment.order
    assert isinstance(order, BatchOrder)
    legs = [*order.legs]
    legs[n] = changed
    return replace(signed, payment=replace(signed.payment, order=BatchOrder(tuple(legs))))


async def ask(house, n: int):
    """Alice's own request for the leg, in the book of the backup."""
    return await house.withdrawals.request(
        key=key(f"leg-{n}", body(n)), owner=ALICE, asset="USDC", network="local", to=TO[n], amount=AMOUNTS[n]
    )


async def rows(house) -> dict[int, tuple[str, str]]:
    """The legs that are there: by place, withdrawal and result."""
    async with tx(house.chain.engine) as connection:
        found = await load_legs(connection, house.ledger.book, "bat_1")
    return {one.position: (one.withdrawal.id, one.result) for one in found}


async def state_of(house, withdrawal: str) -> str:
    async with tx(house.chain.engine) as connection:
        found = await load_withdrawal(connection, house.ledger.book, withdrawal)
    assert found is not None
    return found.state


async def test_f47_legs_of_one_user_hold_what_there_is_and_the_rest_is_owed(house, batches, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 8_000_000, name="a")
    outlook = await batches.look(signed)
    assert (outlook.is_needed, outlook.is_known, outlook.batch.amount) == (True, False, sum(AMOUNTS))
    assert [one.outlook and one.outlook.fate for one in outlook.legs] == [Fate.REBUILD] * 3
    assert await batches.rebuild(signed) == (3, [])
    assert await rows(house) == {n: (f"wdr_{n}", LegResult.OPEN) for n in range(3)}
    total = sum(AMOUNTS) + 3 * FEE
    alice = await house.user(ALICE, "USDC")
    owed = -int(await house.balance(receivable_account(ALICE, "USDC")))
    assert (alice.available, alice.debits_pending, owed) == (0, total, total - 8_000_000)
    assert await house.balance(house_account("in-transit:local:out", "USDC")) == 0
    await house.assert_sums_to_zero()
    for n in range(3):
        again = await ask(house, n)
        assert (again.id, again.replayed, again.state) == (f"wdr_{n}", True, WithdrawalState.NONCE_RESERVED)
    assert await batches.rebuild(signed) == (0, []), "again changes nothing"
    assert not (await batches.look(signed)).is_needed
    assert (await house.user(ALICE, "USDC")).debits_pending == total


@pytest.mark.parametrize(
    ("claimed", "why"),
    [
        ({"amount": AMOUNTS[1] + 1}, "isn't what was signed"),
        ({"asset": "DAI"}, "paid USDC, but the journal claims DAI"),
        ({"account": house_account("fees", "USDC")}, "isn't what was signed"),
        (None, "doesn't say whose"),
    ],
)
async def test_f47_only_the_leg_whose_claims_do_not_fit_is_left_to_a_person(house, batches, signed, claimed, why):
    right = leg(1)
    assert right.claims is not None
    wrong = replace(right, claims=None if claimed is None else replace(right.claims, **claimed))
    told = with_leg(signed, 1, wrong)
    (found,) = [one for one in (await batches.look(told)).legs if one.outlook is None]
    assert (found.position, why in (found.why or "")) == (1, True)
    assert await batches.rebuild(told) == (2, [])
    assert (await rows(house)).keys() == {0, 2}
    after = await batches.look(told)
    assert (after.is_needed, [one.position for one in after.legs]) == (False, [1])


async def test_f47_a_leg_whose_key_was_used_again_keeps_both_withdrawals(house, batches, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="a")
    second = await ask(house, 0)
    assert second.id != "wdr_0"
    assert await batches.rebuild(signed) == (3, [])
    rebuilt = await house.withdrawals.get(ALICE, "wdr_0")
    assert (rebuilt.hold, (await ask(house, 0)).id) == ("wrk:recover:wdr_0:hold:1", second.id)


async def test_f47_legs_that_waited_move_on_once_and_are_cancelled_no_more(house, batches, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="a")
    waiting = await ask(house, 1)
    told = with_leg(signed, 1, leg(1, subject=waiting.id))
    fates = [one.outlook and one.outlook.fate for one in (await batches.look(told)).legs]
    assert fates == [Fate.REBUILD, Fate.MOVE_ON, Fate.REBUILD]
    assert await batches.rebuild(told) == (3, [])
    with pytest.raises(NotCancellable):
        await house.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=waiting.id)
    assert await state_of(house, waiting.id) == WithdrawalState.NONCE_RESERVED
    assert await batches.rebuild(told) == (0, [])


async def test_f47_one_that_had_a_nonce_of_its_own_and_was_never_signed_goes_with_its_batch(house, batches, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="a")
    waiting = await ask(house, 1)
    for _ in range(3):
        await house.withdrawals.step()
    assert await state_of(house, waiting.id) == WithdrawalState.NONCE_RESERVED
    told = with_leg(signed, 1, leg(1, subject=waiting.id))
    async with tx(house.chain.engine) as connection:
        now = house.chain.clock.now()
        assert await rebuilding.give_back_elsewhere(connection, "local", {waiting.id: "bat_1"}, now=now) == 1
    assert await batches.rebuild(told) == (3, [])
    for _ in range(3):
        await house.withdrawals.step()
    assert await state_of(house, waiting.id) == WithdrawalState.NONCE_RESERVED
    async with tx(house.chain.engine) as connection:
        assert await find(connection, book=house.ledger.book, subject=waiting.id) is None, "it isn't paid alone as well"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ("cancelled", "is cancelled here and its hold was released"),
        ("reverted", "is reverted here already, but bat_1 was signed for it as well"),
        ("another recipient", "stands here with another recipient or amount"),
        ("signed alone", "is paid alone here"),
        ("in another batch", "is paid by bat_0 here"),
    ],
)
async def test_f47_a_leg_that_something_else_ended_or_pays_here_is_left_to_a_person(house, batches, signed, found, why):
    await fund(house.ledger, user_account(ALICE, "USDC"), 90_000_000, name="a")
    waiting = await ask(house, 1)
    told = with_leg(signed, 1, leg(1, subject=waiting.id))
    match found:
        case "cancelled":
            await house.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=waiting.id)
        case "reverted":
            async with tx(house.chain.engine) as connection:
                change = {"state": WithdrawalState.REVERTED, "cancellable": False}
                await change_withdrawals(
                    connection, house.ledger.book, [waiting.id], expect=waiting.state, change=change
                )
        case "another recipient":
            told = with_leg(signed, 1, replace(leg(1, subject=waiting.id), to=TO[2]))
        case "signed alone":
            for _ in range(3):
                await house.withdrawals.step()
            await house.chain.set_transaction(waiting.id, state="signed")
        case _:
            order = BatchOrder((leg(1, subject=waiting.id),))
            before = replace(signed, payment=replace(signed.payment, subject="bat_0", order=order))
            assert await batches.rebuild(before) == (1, [])
    state = await state_of(house, waiting.id)
    (left,) = [one for one in (await batches.look(told)).legs if one.outlook is None]
    assert (left.position, why in (left.why or "")) == (1, True), left.why
    assert await batches.rebuild(told) == (2, [])
    assert (await rows(house)).keys() == {0, 2}
    assert await state_of(house, waiting.id) == state


async def test_f47_a_batch_of_a_token_that_is_not_configured_is_left_as_a_whole(house, batches, signed):
    strange = replace(signed, payment=replace(signed.payment, contract="0x" + "ee" * 20))
    with pytest.raises(CannotRebuild, match="isn't configured: put it under"):
        await batches.look(strange)


async def test_f47_what_a_batch_by_hand_may_have_paid_is_neither_paid_nor_released(house, batches, withdrawals, signed):
    """Until the batch can be rebuilt after all: then it goes along with it."""
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="a")
    held, reserved = await ask(house, 0), await ask(house, 1)
    for _ in range(3):
        await house.withdrawals.step()
    other = await house.withdrawals.request(
        key=key("o", body(2)), owner=ALICE, asset="USDC", network="local", to=TO[2], amount=AMOUNTS[2]
    )
    async with tx(house.chain.engine) as connection:
        places = {held.id: "bat_1", reserved.id: "bat_1"}
        now = house.chain.clock.now()
        assert await rebuilding.give_back_elsewhere(connection, "local", places, now=now) == 2
    assert await withdrawals.leave_to_a_person([held.id, reserved.id, other.id, "wdr_unknown"]) == 3
    assert await withdrawals.leave_to_a_person([held.id, reserved.id, other.id]) == 0
    pending = (await house.user(ALICE, "USDC")).debits_pending
    for _ in range(4):
        await house.withdrawals.step()
    for one in (held, reserved, other):
        found = await house.withdrawals.get(ALICE, one.id)
        assert (found.state, found.reason, found.cancellable) == (WithdrawalState.NEEDS_REVIEW, IN_A_BATCH, False)
        with pytest.raises(NotCancellable):
            await house.withdrawals.cancel(key=key(f"c{one.id}"), owner=ALICE, withdrawal=one.id)
    assert (await house.user(ALICE, "USDC")).debits_pending == pending

    told = with_leg(with_leg(signed, 0, leg(0, subject=held.id)), 1, leg(1, subject=reserved.id))
    assert await batches.rebuild(told) == (3, [])
    for one in (held, reserved):
        found = await house.withdrawals.get(ALICE, one.id)
        assert (found.state, found.reason) == (WithdrawalState.NONCE_RESERVED, None)
