"""Withdrawals put back into a book that has forgotten them, from what the signer's journal tells of them."""

from dataclasses import replace
from typing import Any

import pytest

from chain import addresses
from chain.evm.addresses import show_address
from chain.fees import Bid
from chain.payments import Payment
from chain.rebuilding import JournalAttempt, JournalPayment
from chain.signing import Claims, OwnKey, Role
from chain.transaction_states import Kind
from custody.claims import claims_from
from db.engine import tx
from exchange.ratios import Ratio
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, SignerEvidence, alone
from ledger.errors import RefusedByBook, RequestConflict
from ledger.outcomes import require_accepted
from ledger.owing import receivable_account
from ledger.requests import key_hash
from tests.wallet.conftest import ALICE, BOB, USDC, FixedRates, fund, key
from wallet import withdrawal_entries as entries
from wallet.errors import CannotRebuild, NotCancellable
from wallet.rebuilding import Fate, Rebuilding
from wallet.withdrawal_states import WithdrawalState
from wiring.signing import _claims, claims_from_journal

pytestmark = pytest.mark.slow

TO = "0x00000000000000000000000000000000deadbeef"
BODY = {"asset": "USDC", "network": "local", "address": show_address(TO), "amount": "5.00"}
FIVE, FEE = 5_000_000, 3_250_650
GAS, WEI = 65_000, 65_000 * 20 * 10**9
KEY = key("rent", BODY)


@pytest.fixture
def rebuilding(house, clock):
    return Rebuilding(house.chain.engine, ledger=house.ledger, registry=house.registry, rates=FixedRates(), clock=clock)


@pytest.fixture
async def signed(house, clock):
    """Alice's request for 5 USDC, as the signer's journal has it."""
    claims = Claims(
        account=user_account(ALICE, "USDC"),
        asset="USDC",
        amount=FIVE,
        key_hash=key_hash(KEY.id),
        content=KEY.content,
        fee_highest=FEE,
        fee_price=f"{FEE}/{WEI}",
        fee_wei_max=WEI,
    )
    async with tx(house.chain.engine) as connection:
        hot = await addresses.house(connection, key=OwnKey(Role.HOT, 0))
    assert hot is not None
    payment = Payment(
        network="local",
        kind=Kind.WITHDRAWAL,
        book=house.ledger.book,
        subject="wdr_1",
        sender=hot,
        contract=USDC,
        to=TO,
        amount=FIVE,
        gas_limit=GAS,
        fee_wei_max=WEI,
        claims=claims,
    )
    attempt = JournalAttempt(
        attempt=1,
        kind="pay",
        gas_limit=GAS,
        bid=Bid(10**10, 10**9),
        raw=b"raw",
        tx_hash="0x" + "11" * 32,
        sequence=9,
        head=b"\x09" * 32,
        at=clock.now(),
    )
    return JournalPayment(payment=payment, nonce=4, attempts=(attempt,))


def claiming(signed: JournalPayment, **changes: Any) -> JournalPayment:
    assert signed.payment.claims is not None
    return replace(signed, payment=replace(signed.payment, claims=replace(signed.payment.claims, **changes)))


async def ask(house, name=KEY):
    return await house.withdrawals.request(key=name, owner=ALICE, asset="USDC", network="local", to=TO, amount=FIVE)


async def owed(house, owner=ALICE) -> int:
    return -int(await house.balance(receivable_account(owner, "USDC")))


async def test_f47_a_forgotten_withdrawal_is_held_again_and_its_repeat_finds_it(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    assert (await rebuilding.look(signed)).fate is Fate.REBUILD
    assert await rebuilding.rebuild(signed) is True
    again = await ask(house)
    assert (again.id, again.replayed, again.state) == ("wdr_1", True, WithdrawalState.NONCE_RESERVED)
    assert (again.address, again.amount, again.fee_highest, again.fee_wei_max) == (TO, FIVE, FEE, WEI)
    assert (await house.user(ALICE, "USDC")).available == 20_000_000 - FIVE - FEE
    with pytest.raises(RequestConflict) as other:
        await house.withdrawals.request(
            key=replace(KEY, content=bytes(32)), owner=ALICE, asset="USDC", network="local", to=TO, amount=1_000_000
        )
    assert other.value.facts["first"] == "wdr_1"
    with pytest.raises(NotCancellable):
        await house.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal="wdr_1")
    assert await rebuilding.rebuild(signed) is False, "again changes nothing"
    assert (await house.user(ALICE, "USDC")).available == 20_000_000 - FIVE - FEE
    (movement, _) = await house.ledger.history(owner=ALICE, subject="wdr_1")
    assert movement.evidence == SignerEvidence(9, "09" * 32)


async def test_f47_what_the_restored_book_lacks_is_owed_and_nothing_is_spent_before(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 6_000_000, name="a")
    outlook = await rebuilding.look(signed)
    assert (outlook.total, outlook.shortage) == (FIVE + FEE, FIVE + FEE - 6_000_000)
    assert await rebuilding.rebuild(signed) is True
    alice = await house.user(ALICE, "USDC")
    assert (alice.available, alice.debits_pending, await owed(house)) == (0, FIVE + FEE, outlook.shortage)
    assert await house.balance(house_account("in-transit:local:out", "USDC")) == 0
    await house.assert_sums_to_zero()
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="b")
    with pytest.raises(RefusedByBook, match="receivable"):
        await ask(house, key("other", BODY))
    assert (await ask(house)).id == "wdr_1"


async def test_f47_whoever_has_nothing_left_owes_all_of_it(house, rebuilding, signed):
    assert await rebuilding.rebuild(signed) is True
    assert (await owed(house), (await house.user(ALICE, "USDC")).available) == (FIVE + FEE, 0)
    await house.assert_sums_to_zero()


async def test_f47_a_freeze_does_not_undo_what_was_signed(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 6_000_000, name="a")
    freeze = Freeze(id="test:freeze", scope=FreezeScope.OWNER, target=ALICE)
    require_accepted((await house.ledger.submit(alone(freeze)))[0])
    assert await rebuilding.rebuild(signed) is True
    assert (await house.user(ALICE, "USDC")).debits_pending == FIVE + FEE


async def test_f47_a_key_that_was_used_again_meanwhile_keeps_both_withdrawals(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 50_000_000, name="a")
    second = await ask(house)
    assert await rebuilding.rebuild(signed) is True
    rebuilt = await house.withdrawals.get(ALICE, "wdr_1")
    assert (rebuilt.hold, (await ask(house)).id) == ("wrk:recover:wdr_1:hold:1", second.id)
    held = (await house.user(ALICE, "USDC")).debits_pending
    assert held == FIVE + FEE + second.amount + second.fee_highest
    assert await owed(house) == 0


async def test_f47_of_an_older_journal_the_usual_request_and_today_s_fee_are_taken(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    older = claiming(signed, content=None, fee_highest=None, fee_price=None, fee_wei_max=None)
    assert await rebuilding.rebuild(older) is True
    again = await ask(house)
    assert (again.id, again.replayed, again.fee_highest > 0) == ("wdr_1", True, True)


async def test_f47_without_a_key_it_is_held_under_a_name_of_our_own(house, rebuilding, signed):
    assert await rebuilding.rebuild(claiming(signed, key_hash=None)) is True
    assert (await house.withdrawals.get(ALICE, "wdr_1")).hold == "wrk:recover:wdr_1:hold:1"


async def test_f47_one_that_was_waiting_moves_on_and_cannot_be_cancelled_any_more(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    waiting = await ask(house)
    theirs = replace(signed, payment=replace(signed.payment, subject=waiting.id))
    assert (await rebuilding.look(theirs)).fate is Fate.MOVE_ON
    assert await rebuilding.rebuild(theirs) is True
    assert (await rebuilding.look(theirs)).fate is Fate.KNOWN
    with pytest.raises(NotCancellable):
        await house.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=waiting.id)
    assert (await house.user(ALICE, "USDC")).debits_pending == waiting.amount + waiting.fee_highest


async def test_f47_one_that_was_cancelled_here_is_left_to_a_person(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    waiting = await ask(house)
    await house.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=waiting.id)
    with pytest.raises(CannotRebuild, match="is cancelled here and its hold was released, but it was signed"):
        await rebuilding.rebuild(replace(signed, payment=replace(signed.payment, subject=waiting.id)))


async def test_f47_what_was_promised_goes_to_the_journal_and_comes_back_from_it(house):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    asked = await ask(house)
    claims = entries.claims(asked, content=KEY.content)
    assert (claims.fee_highest, claims.fee_wei_max) == (asked.fee_highest, asked.fee_wei_max)
    assert claims_from_journal(claims_from(_claims(claims))) == claims
    endless = entries.claims(replace(asked, fee_price=Ratio(10**150, 3)), content=KEY.content)
    assert claims_from_journal(claims_from(_claims(endless))) == replace(claims, fee_price=None)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"amount": FIVE + 1}, "isn't what was signed"),
        ({"asset": "DAI"}, "paid USDC, but the journal claims DAI"),
        ({"account": user_account(BOB, "DAI")}, "paid USDC, but the journal claims"),
        ({"account": house_account("fees", "USDC")}, "isn't what was signed"),
    ],
)
async def test_f47_claims_that_do_not_fit_what_was_signed_are_left_to_a_person(house, rebuilding, signed, claims, why):
    with pytest.raises(CannotRebuild, match=why):
        await rebuilding.rebuild(claiming(signed, **claims))


async def test_f47_what_nobody_claims_or_no_deployment_names_is_left_to_a_person(house, rebuilding, signed):
    with pytest.raises(CannotRebuild, match="doesn't say whose"):
        await rebuilding.look(replace(signed, payment=replace(signed.payment, claims=None)))
    with pytest.raises(CannotRebuild, match="isn't configured: put it under"):
        await rebuilding.look(replace(signed, payment=replace(signed.payment, contract="0x" + "ee" * 20)))
