"""Holds between users, against the book in memory: promised, paid in parts with their fee, released, expired."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import NotFound, Rejected
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, Post, Posting, alone
from ledger.engine import KnownHold
from ledger.errors import RefusedByBook, RequestConflict, UnknownAsset
from ledger.expiry import HoldExpiry
from ledger.owing import receivable_account
from ledger.state import HeldPosting, HoldState
from tests.wallet.conftest import ALICE, BOB, fund, key
from wallet.errors import HoldPromised, SelfTransfer
from wallet.holds import DAYS_MAX, Holds, _shares
from wallet.transfers import Fees

CAROL = "usr_carol"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def holds(memory, people, clock, entropy):
    await fund(memory, user_account(ALICE, "USD"), 100_00, name="alice")
    return Holds(ledger=memory, directory=people, clock=clock, entropy=entropy, fees=Fees(10))


@pytest.fixture
def terms(clock):
    return {
        "sender": ALICE,
        "recipient": "@bob",
        "asset": "USD",
        "amount": 50_00,
        "expires_at": clock.now() + timedelta(days=1),
    }


async def _standing(memory):
    """What alice has and can spend, what bob has, and the house's fees, in cents."""
    alice, bob = [await memory.account(user_account(who, "USD")) for who in (ALICE, BOB)]
    fees = await memory.account(house_account("fees", "USD"))
    return alice.balance, alice.available, bob.balance, fees.balance


async def test_a_hold_sets_its_amount_and_fee_aside_and_pays_nobody(holds, memory, terms):
    made = await holds.create(key=key("a"), **terms, memo="bike")
    assert (made.sender, made.recipient, made.amount, made.fee, made.memo) == (ALICE, BOB, 50_00, 5, "bike")
    assert (made.state, made.settled, made.remaining, made.expires_at) == ("open", 0, 50_00, terms["expires_at"])
    assert await _standing(memory) == (100_00, 49_95, 0, 0)
    for party in (ALICE, BOB):
        assert await holds.get(party, made.id) == made


async def test_the_same_request_twice_is_one_hold_and_another_body_a_conflict(holds, memory, people, terms):
    first = await holds.create(key=key("a", 1), **terms)
    del people.handles["@bob"]
    again = await holds.create(key=key("a", 1), **terms)
    assert (again.id, again.replayed) == (first.id, True)
    with pytest.raises(RequestConflict) as conflict:
        await holds.create(key=key("a", 2), **terms | {"recipient": BOB})
    assert conflict.value.facts["first"] == first.id
    assert await _standing(memory) == (100_00, 49_95, 0, 0)


async def test_what_cannot_be_promised_is_refused(holds, clock, terms):
    wrong = [
        ({"recipient": "@alice"}, SelfTransfer, "self_transfer"),
        ({"recipient": "@nobody"}, NotFound, "not_found"),
        ({"asset": "DOGE"}, UnknownAsset, "unknown_asset"),
        ({"memo": "x" * 201}, Rejected, "memo_too_long"),
        ({"expires_at": clock.now() + timedelta(days=DAYS_MAX, microseconds=1)}, Rejected, "expires_too_late"),
        ({"expires_at": clock.now()}, RefusedByBook, "expires_in_past"),
        ({"amount": 99_91}, RefusedByBook, "insufficient_funds"),
        ({"amount": 2**256 - 1}, RefusedByBook, "amount_overflow"),
    ]
    for number, (change, kind, code) in enumerate(wrong):
        with pytest.raises(kind) as refused:
            await holds.create(key=key(f"w{number}"), **terms | change)
        assert refused.value.code == code


async def test_strangers_find_no_hold_whatever_they_try(holds, terms):
    made = await holds.create(key=key("a"), **terms)
    for who, name in ((CAROL, made.id), ("house", made.id), (ALICE, made.id[:-1]), (ALICE, "hld_none"), (ALICE, "")):
        with pytest.raises(NotFound):
            await holds.get(who, name)
        with pytest.raises(NotFound):
            await holds.settle(key=key("s", owner=who), owner=who, hold=name, amount=1)
        with pytest.raises(NotFound):
            await holds.void(key=key("v", owner=who), owner=who, hold=name)


@pytest.mark.parametrize("payer", [ALICE, BOB])
async def test_both_may_pay_a_part_and_then_the_rest(holds, memory, terms, payer):
    made = await holds.create(key=key("a"), **terms)
    part = await holds.settle(key=key("p", owner=payer), owner=payer, hold=made.id, amount=20_00)
    assert (part.settled, part.fee, part.released, part.asset, part.hold) == (20_00, 2, 0, "USD", made.id)
    standing = await holds.get(payer, made.id)
    assert (standing.settled, standing.remaining, standing.state) == (20_00, 30_00, "open")
    rest = await holds.settle(key=key("r", owner=payer), owner=payer, hold=made.id)
    assert (rest.settled, rest.fee, rest.released) == (30_00, 3, 0)
    ended = await holds.get(payer, made.id)
    assert (ended.settled, ended.remaining, ended.state) == (50_00, 0, "settled")
    assert await _standing(memory) == (49_95, 49_95, 50_00, 5)


async def test_a_repeated_payment_is_made_once_whatever_became_of_the_hold(holds, memory, terms):
    made = await holds.create(key=key("a"), **terms)
    first = await holds.settle(key=key("p", 1), owner=ALICE, hold=made.id, amount=20_00)
    await holds.settle(key=key("r", owner=BOB), owner=BOB, hold=made.id, amount=1_00, close=True)
    again = await holds.settle(key=key("p", 1), owner=ALICE, hold=made.id, amount=20_00)
    assert (again.settled, again.fee, again.booked_at, again.replayed) == (20_00, 2, first.booked_at, True)
    with pytest.raises(RequestConflict) as conflict:
        await holds.settle(key=key("p", 2), owner=ALICE, hold=made.id, amount=21_00)
    assert conflict.value.facts["first"] == made.id
    assert (await _standing(memory))[2] == 21_00


async def test_the_recipient_releases_the_rest_with_the_last_part_or_all_of_it(holds, memory, terms):
    made = await holds.create(key=key("a"), **terms)
    step = await holds.settle(key=key("p", owner=BOB), owner=BOB, hold=made.id, amount=20_00, close=True)
    assert (step.settled, step.fee, step.released) == (20_00, 2, 30_00)
    ended = await holds.get(ALICE, made.id)
    assert (ended.state, ended.settled, ended.remaining) == ("settled", 20_00, 0)
    other = await holds.create(key=key("b"), **terms)
    void = await holds.void(key=key("v", owner=BOB), owner=BOB, hold=other.id)
    assert (void.settled, void.fee, void.released) == (0, 0, 50_00)
    ended = await holds.get(ALICE, other.id)
    assert (ended.state, ended.settled, ended.remaining) == ("voided", 0, 0)
    assert await _standing(memory) == (79_98, 79_98, 20_00, 2)
    again = await holds.void(key=key("v", owner=BOB), owner=BOB, hold=other.id)
    assert (again.released, again.replayed) == (50_00, True)


async def test_the_sender_can_take_nothing_back_neither_by_a_void_nor_by_closing(holds, memory, terms):
    made = await holds.create(key=key("a"), **terms)
    with pytest.raises(HoldPromised):
        await holds.void(key=key("v"), owner=ALICE, hold=made.id)
    with pytest.raises(HoldPromised):
        await holds.settle(key=key("c"), owner=ALICE, hold=made.id, amount=1, close=True)
    assert await _standing(memory) == (100_00, 49_95, 0, 0)
    for _ in range(2):  # closing releases nothing where all is paid, and stays what it was when it's repeated
        step = await holds.settle(key=key("all"), owner=ALICE, hold=made.id, amount=50_00, close=True)
        assert (step.settled, step.released) == (50_00, 0)
    assert await _standing(memory) == (49_95, 49_95, 50_00, 5)


async def test_more_than_remains_is_refused_with_the_numbers_and_the_holds_own_name(holds, terms):
    made = await holds.create(key=key("a"), **terms)
    await holds.settle(key=key("p"), owner=ALICE, hold=made.id, amount=20_00)
    with pytest.raises(RefusedByBook) as refused:
        await holds.settle(key=key("q"), owner=ALICE, hold=made.id, amount=30_01)
    assert refused.value.code == "exceeds_remainder"
    facts = refused.value.facts
    assert (facts["required"], facts["remaining"], facts["asset"], facts["hold"]) == (30_01, 30_00, "USD", made.id)


async def test_what_has_ended_is_paid_and_released_no_more(holds, terms):
    made = await holds.create(key=key("a"), **terms)
    await holds.settle(key=key("p"), owner=ALICE, hold=made.id)
    for number, step in enumerate((holds.settle, holds.void)):
        with pytest.raises(RefusedByBook) as refused:
            await step(key=key(f"n{number}", owner=BOB), owner=BOB, hold=made.id)
        assert refused.value.code == "hold_closed"


async def test_an_expired_hold_is_paid_no_more_and_comes_back_by_the_workers_step(holds, memory, clock, terms):
    made = await holds.create(key=key("a"), **terms)
    await holds.settle(key=key("p"), owner=ALICE, hold=made.id, amount=20_00)
    clock.advance(timedelta(days=1))
    for number, step in enumerate((holds.settle, holds.void)):
        with pytest.raises(RefusedByBook) as refused:
            await step(key=key(f"l{number}", owner=BOB), owner=BOB, hold=made.id)
        assert refused.value.code == "hold_expired"
    assert await _standing(memory) == (79_98, 49_95, 20_00, 2)
    assert await HoldExpiry(memory).step() == 1
    ended = await holds.get(ALICE, made.id)
    assert (ended.state, ended.settled, ended.remaining) == ("expired", 20_00, 0)
    assert await _standing(memory) == (79_98, 79_98, 20_00, 2)


@pytest.mark.parametrize("frozen", [(FreezeScope.OWNER, ALICE), (FreezeScope.OWNER, BOB), (FreezeScope.ASSET, "USD")])
async def test_a_freeze_stops_payments_out_of_a_hold_but_not_a_repeats_answer(holds, memory, terms, frozen):
    made = await holds.create(key=key("a"), **terms)
    await holds.settle(key=key("p"), owner=ALICE, hold=made.id, amount=1_00)
    await memory.submit(alone(Freeze(id="test:freeze", scope=frozen[0], target=frozen[1])))
    with pytest.raises(RefusedByBook) as refused:
        await holds.settle(key=key("q", owner=BOB), owner=BOB, hold=made.id, amount=1_00)
    assert (refused.value.code, refused.value.facts) == ("frozen", {"scope": frozen[0], "target": frozen[1]})
    assert (await holds.settle(key=key("p"), owner=ALICE, hold=made.id, amount=1_00)).replayed
    assert (await _standing(memory))[2] == 1_00


async def test_who_owes_the_house_pays_nothing_out_of_a_hold_and_only_they_learn_how_much(holds, memory, terms):
    made = await holds.create(key=key("a"), **terms)
    debt = (receivable_account(ALICE, "USDC"), house_account("capital", "USDC"))
    await memory.ensure_open(*debt)
    await memory.submit(alone(Post(id="test:owe", postings=(Posting(*debt, "USDC", 3_000_000),))))
    for payer, facts in ((ALICE, {"asset": "USDC", "owed": 3_000_000}), (BOB, {})):
        for _ in range(2):
            with pytest.raises(RefusedByBook) as refused:
                await holds.settle(key=key("q", owner=payer), owner=payer, hold=made.id)
            assert (refused.value.code, refused.value.facts) == ("receivable_open", facts)
    with pytest.raises(RefusedByBook, match="receivable_open"):
        await holds.create(key=key("b"), **terms | {"amount": 1})
    await holds.void(key=key("v", owner=BOB), owner=BOB, hold=made.id)
    assert await _standing(memory) == (100_00, 100_00, 0, 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 10**4), st.lists(st.integers(1, 10**6), max_size=30))
def test_however_a_hold_is_paid_in_parts_its_fee_is_never_dodged_nor_exceeded(amount, fee, parts):
    main, charge = HeldPosting("a", "b", "USD", amount, amount), HeldPosting("a", "f", "USD", fee, fee)
    fees = (charge,) if fee else ()
    known = KnownHold("h", None, AT, None, (main, *fees), HoldState.OPEN)
    paid = taken = 0
    for part in [*parts, amount]:
        part = min(part, amount - paid)
        if not part:
            break
        shares = dict(_shares(known, part) or ())
        paid, taken = paid + shares[0], taken + shares.get(1, 0)
        assert taken == fee * paid // amount
        left = (HeldPosting("a", "b", "USD", amount, amount - paid), HeldPosting("a", "f", "USD", fee, fee - taken))
        known = KnownHold("h", None, AT, None, left if fee else left[:1], HoldState.OPEN)
    assert (paid, taken) == (amount, fee)
