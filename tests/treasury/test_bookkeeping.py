"""Credit lines, reversals and periods on a real book: who is in whose way, and where the treasurer's hand ends."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from base.errors import Rejected
from ledger.accounts import house_account, user_account
from ledger.asking import decide
from ledger.commands import Freeze, FreezeScope, Group, Post, Posting, alone
from ledger.errors import EntryUnknown, RefusedByBook, RequestConflict, UnknownAsset
from ledger.outcomes import Outcome
from tests.wallet.conftest import ALICE, BOB, USDC, fund, key
from tests.wallet.scripted_chain import digest, paid
from treasury.credit_lines import CreditLines
from treasury.errors import NotAdjustable, PeriodUnfit, ReasonMissing
from treasury.notes import TEXT_LENGTH_MAX, note
from treasury.operations.period_names import Period
from treasury.periods import Periods
from treasury.reversals import Reversals

pytestmark = pytest.mark.slow

MINE, THEIRS, FEES = user_account(ALICE, "USD"), user_account(BOB, "USD"), house_account("fees", "USD")
MAKER = "key_treasurer"
NOT_RECONCILED = {"item": "not_reconciled", "detail": "no reconciliation was made since the period's end"}
BY_TWO: dict[str, Any] = {"confirmed_by": "key_other", "in_spite_of": (NOT_RECONCILED,)}


@pytest.fixture
async def reversals(house, clock, entropy) -> Reversals:
    """Alice has 100 USD and sends bob 50 with a fee of 1: the entry `sent`, about `trf_sent`."""
    await fund(house.ledger, MINE, 100_00, name="alice")
    await house.ledger.ensure_open(THEIRS, FEES)
    postings = (Posting(MINE, THEIRS, "USD", 50_00), Posting(MINE, FEES, "USD", 1_00))
    await decide(house.ledger, alone(Post(id="sent", subject="trf_sent", postings=postings)))
    return Reversals(ledger=house.ledger, clock=clock, entropy=entropy)


@pytest.fixture
def periods(house, database, clock, entropy) -> Periods:
    return Periods(database.engine(), ledger=house.ledger, clock=clock, entropy=entropy)


async def _balances(house) -> tuple[int, int, int]:
    return await house.balance(MINE), await house.balance(THEIRS), await house.balance(FEES)


async def test_all_of_an_entry_goes_back_with_its_fee_and_the_book_links_both(house, reversals):
    entry = await reversals.entry("trf_sent")
    assert (entry.id, entry.seq) == ("sent", (await reversals.entry("sent")).seq)
    made = await reversals.reverse(key=key("r"), treasurer=MAKER, entry=entry, reason=" paid twice ")
    assert (made.entry, made.reason, made.id[:4]) == ("sent", "paid twice", "rev_")
    assert [(line.debit, line.credit, line.amount) for line in made.lines] == [
        (THEIRS, MINE, 50_00),
        (FEES, MINE, 1_00),
    ]
    assert await _balances(house) == (100_00, 0, 0)
    back, *_ = await house.ledger.history(subject=made.id)
    assert (back.reverses, dict(back.metadata)) == (entry.seq, {"reason": "paid twice", "by": MAKER})
    sent = await house.ledger.history(subject="trf_sent")
    assert sorted((line.amount, line.reversed) for line in sent) == [(1_00, 1_00), (50_00, 50_00)]
    again = await reversals.reverse(key=key("r"), treasurer=MAKER, entry=entry, reason=" paid twice ")
    assert (again.id, again.replayed) == (made.id, True)
    await house.assert_sums_to_zero()


async def test_many_treasurers_at_once_take_back_an_entry_once(house, reversals):
    entry = await reversals.entry("sent")

    tries = [
        reversals.reverse(key=key(f"r{number}"), treasurer=MAKER, entry=entry, amounts=[(0, 20_00)], reason="r")
        for number in range(20)
    ]
    told = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer.code for answer in told if isinstance(answer, RefusedByBook)]
    assert (len(told) - len(refused), set(refused)) == (2, {"exceeds_remainder"})
    assert await _balances(house) == (89_00, 10_00, 1_00)


async def test_the_same_key_for_another_reversal_is_a_conflict_and_a_refusal_is_remembered(house, reversals):
    entry = await reversals.entry("sent")
    made = await reversals.reverse(key=key("r", 1), treasurer=MAKER, entry=entry, amounts=[(0, 1)], reason="r")
    with pytest.raises(RequestConflict) as conflict:
        await reversals.reverse(key=key("r", 2), treasurer=MAKER, entry=entry, amounts=[(0, 2)], reason="r")
    assert conflict.value.facts["first"] == made.id
    for _ in range(2):
        with pytest.raises(RefusedByBook) as refused:
            await reversals.reverse(key=key("s"), treasurer=MAKER, entry=entry, amounts=[(1, 1_01)], reason="r")
        assert (refused.value.code, refused.value.facts["remaining"], refused.value.facts["asset"]) == (
            "exceeds_remainder",
            1_00,
            "USD",
        )


async def test_a_freeze_stops_a_reversal(house, reversals):
    entry = await reversals.entry("sent")
    await decide(house.ledger, alone(Freeze(id="test:freeze", scope=FreezeScope.OWNER, target=BOB)))
    with pytest.raises(RefusedByBook) as refused:
        await reversals.reverse(key=key("r"), treasurer=MAKER, entry=entry, reason="r")
    assert refused.value.code == "frozen"
    assert await _balances(house) == (49_00, 50_00, 1_00)


async def test_what_the_chain_caused_follows_the_chain_alone(house, reversals):
    address = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(paid(address, 5_000_000, contract=USDC, tx_hash=digest("tx")))
    await house.chain.mine_empty(2)
    await house.deposits.step()
    (deposit,) = await house.deposits.list_for(ALICE)
    entry = await reversals.entry(deposit.id)
    with pytest.raises(NotAdjustable):
        await reversals.reverse(key=key("r"), treasurer=MAKER, entry=entry, reason="r")
    account = await house.user(ALICE, "USDC")
    assert account.balance == 5_000_000


async def test_entries_are_found_by_their_own_name_or_a_movements_if_it_is_the_only_one(house, reversals):
    with pytest.raises(EntryUnknown):
        await reversals.entry("trf_none")
    more = Post(id="more", subject="trf_sent", postings=(Posting(MINE, THEIRS, "USD", 1),))
    await decide(house.ledger, alone(more))
    with pytest.raises(Rejected) as several:
        await reversals.entry("trf_sent")
    assert (several.value.code, several.value.facts) == ("ambiguous_entry", {"entries": ["more", "sent"]})
    found: Outcome = await reversals.entry("more")
    assert found.id == "more"


async def test_a_credit_line_opens_the_account_and_keeps_who_and_why(house):
    lines = CreditLines(house.ledger)
    terms: dict[str, Any] = {"treasurer": MAKER, "account": MINE, "cap": 20_00, "reason": "known for years"}
    line = await lines.change(key=key("l"), **terms)
    assert (line.account, line.asset, line.cap, line.replayed) == (MINE, "USD", 20_00, False)
    assert (await lines.change(key=key("l"), **terms)).replayed
    account = await house.user(ALICE, "USD")
    assert (account.credit_line, account.available) == (20_00, 20_00)
    with pytest.raises(UnknownAsset):
        await lines.change(key=key("m"), **terms | {"account": user_account(ALICE, "DOGE")})
    await house.ledger.ensure_open(FEES)
    with pytest.raises(RefusedByBook) as refused:
        await lines.change(key=key("n"), **terms | {"account": FEES})
    assert refused.value.code == "not_limited"


async def test_spends_on_a_credit_line_and_its_lowering_at_once_never_leave_more_owed_than_it_allows(house):
    lines = CreditLines(house.ledger)
    await lines.change(key=key("l"), treasurer=MAKER, account=MINE, cap=10_00, reason="r")
    await house.ledger.ensure_open(THEIRS)

    one = Posting(MINE, THEIRS, "USD", 1_00)
    spends = [house.ledger.submit(alone(Post(id=f"spend {number}", postings=(one,)))) for number in range(20)]
    lower = [
        lines.change(key=key(f"to {cap}"), treasurer=MAKER, account=MINE, cap=cap, reason="r")
        for cap in (8_00, 6_00, 4_00, 2_00)
    ]
    told = await asyncio.gather(*spends, *lower, return_exceptions=True)
    raised = [answer for answer in told if isinstance(answer, BaseException)]
    assert {getattr(error, "code", repr(error)) for error in raised} <= {"credit_line_in_use"}
    account = await house.user(ALICE, "USD")
    assert 0 <= -account.balance <= account.credit_line


async def test_a_period_closes_once_for_good_and_keeps_who_and_why(periods, clock):
    until = clock.now()
    assert await periods.closed_until() is None
    clock.advance(timedelta(days=1))
    closed = await periods.close(key=key("p"), treasurer=MAKER, period=Period(until), reason="year's end", **BY_TWO)
    assert (closed.until, closed.closed_at, closed.replayed) == (until, clock.now(), False)
    assert (closed.closed_by, closed.confirmed_by) == (MAKER, "key_other")
    assert (
        await periods.close(key=key("p"), treasurer=MAKER, period=Period(until), reason="year's end", **BY_TWO)
    ).replayed
    assert await periods.closed_until() == until
    for other, code in ((until, "period_closed"), (clock.now() + timedelta(seconds=1), "effective_in_future")):
        with pytest.raises(RefusedByBook) as refused:
            await periods.close(key=key(code), treasurer=MAKER, period=Period(other), reason="r", **BY_TWO)
        assert refused.value.code == code


async def test_nobody_closes_a_period_alone_in_which_something_stands_open(periods, clock):
    until = clock.now()
    clock.advance(timedelta(days=1))
    for name, more in (
        ("alone", {}),
        ("other", BY_TWO | {"in_spite_of": ({"item": "open_breaks", "detail": "1: brk_1"},)}),
        ("one", {"in_spite_of": (NOT_RECONCILED,)}),
    ):
        with pytest.raises(PeriodUnfit) as refused:
            await periods.close(key=key(name), treasurer=MAKER, period=Period(until), reason="r", **more)
        assert refused.value.code == "period_open_items"
    assert await periods.closed_until() is None


async def test_what_is_dated_back_into_a_closed_period_takes_effect_when_it_ends(house, reversals, periods, clock):
    clock.advance(timedelta(days=10))
    until = clock.now() - timedelta(days=1)
    await periods.close(key=key("p"), treasurer=MAKER, period=Period(until), reason="r", **BY_TWO)
    posting = Posting(THEIRS, MINE, "USD", 1)
    (outcome,) = await decide(
        house.ledger, Group((Post(id="late", postings=(posting,), effective_at=until - timedelta(days=5)),))
    )
    assert outcome.effective_at == until


@pytest.mark.parametrize("reason", ["", " \n", "x" * (TEXT_LENGTH_MAX + 1)])
async def test_whatever_the_treasurer_does_needs_a_reason(house, reversals, periods, reason):
    entry = await reversals.entry("sent")
    done: dict[str, Any] = {"treasurer": MAKER, "reason": reason}
    for attempt in (
        reversals.reverse(key=key("r"), entry=entry, **done),
        CreditLines(house.ledger).change(key=key("l"), account=MINE, cap=1, **done),
        periods.close(key=key("p"), period=Period(entry.booked_at), **BY_TWO, **done),
    ):
        with pytest.raises(ReasonMissing):
            await attempt
    assert note(MAKER, " why ") == {"reason": "why", "by": MAKER}
