"""The same money told by another file in other words, or in more detail, is found before it's booked a second time."""

import asyncio
from datetime import timedelta

import pytest

from fiat.bank.matching import Reason
from fiat.bank.records import LineState
from fiat.errors import StatementDisagrees
from ledger.accounts import house_account, user_account
from tests.fiat.statements import DAY, Entry, camt053
from tests.fiat.test_bank_rail import ADA, BANK, BOB, SUSPENSE, balances, take
from tests.fiat.test_formats import notification
from tests.fiat.test_payouts import ask, balance, fund
from tests.support.bank import OUR_IBAN

pytestmark = pytest.mark.slow

NEXT = DAY + timedelta(days=1)
AFTER = DAY + timedelta(days=2)


async def refused(rail, *entries, **more):
    with pytest.raises(StatementDisagrees) as stop:
        await take(rail, *entries, filename="again.xml", **more)
    assert stop.value.line
    return stop.value


async def test_a_statement_told_again_in_more_detail_under_another_name_books_nothing(rail, ledger):
    ada, bob = await rail.reference_for(ADA), await rail.reference_for(BOB)
    await take(rail, Entry(100, f"{ada} and more", bank_reference="B-1"), Entry(30, bob), name="A")
    before = await balances(ledger)
    detailed = Entry(100, parts=((60, ada), (40, ada)), bank_reference="B-1")
    for more in ({"name": "RE-ISSUED"}, {"name": "RE-ISSUED", "sequence": 2}):
        await refused(rail, detailed, Entry(30, bob), **more)
        assert await balances(ledger) == before
    assert len(await rail.lines()) == 2


async def test_days_told_again_within_a_longer_statement_book_nothing_either(rail, ledger):
    ada = await rail.reference_for(ADA)
    await take(rail, Entry(100, ada), name="MON")
    await take(rail, Entry(50, ada, day=NEXT), name="TUE", day=NEXT, sequence=2, opening=100)
    before = await balances(ledger)
    again = Entry(100, parts=((60, ada), (40, ada)))
    stop = await refused(
        rail, again, Entry(50, ada, day=NEXT), Entry(7, ada, day=AFTER), name="WEEK", day=AFTER, sequence=3
    )
    assert "later days" in stop.message
    assert await balances(ledger) == before
    rest = await take(rail, Entry(7, ada, day=AFTER), name="WED", day=AFTER, sequence=3, opening=150)
    assert (rest.credited, rest.warnings) == (1, ())


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_day_of_a_longer_statement_told_again_books_nothing_either(rail, ledger, place):
    ada = await rail.reference_for(ADA)
    days = [DAY, NEXT, AFTER]
    await take(rail, *(Entry(100 + n, ada, day=day) for n, day in enumerate(days)), name="WEEK", day=AFTER, sequence=9)
    before = await balances(ledger)
    parts = Entry(100 + place, parts=((50, ada), (50 + place, ada)), day=days[place])
    opening = sum(100 + n for n in range(place))
    await refused(rail, parts, name="DAY", day=days[place], sequence=place + 1, opening=opening)
    assert await balances(ledger) == before


async def test_a_day_without_change_told_again_in_other_words_books_nothing(rail, ledger):
    ada = await rail.reference_for(ADA)
    await take(rail, Entry(100, ada), Entry(100, "back", side="DBIT"), name="A")
    before = await balances(ledger)
    await refused(rail, Entry(100, f"x {ada}"), Entry(100, "out", side="DBIT"), name="B")
    assert await balances(ledger) == before


async def test_several_statements_of_one_day_and_a_missing_one_that_comes_late_are_taken(rail, ledger):
    ada = await rail.reference_for(ADA)
    await take(rail, Entry(100, ada), name="MORNING", sequence=1)
    evening = await take(rail, Entry(5, ada), name="EVENING", sequence=2, opening=100)
    assert (evening.credited, evening.warnings) == (1, ())
    third = await take(rail, Entry(9, ada, day=AFTER), name="WED", sequence=4, opening=125, day=AFTER)
    assert third.statements[0].gap == 20
    late = await take(rail, Entry(20, ada, day=NEXT), name="TUE", sequence=3, opening=105, day=NEXT)
    assert (late.credited, late.warnings) == (1, ())
    assert await balances(ledger) == {BANK: -134, user_account(ADA, "EUR"): 134}


async def test_the_days_of_a_missing_statement_are_taken_from_a_longer_one(rail, ledger):
    ada = await rail.reference_for(ADA)
    await take(rail, Entry(100, ada), name="MON", sequence=1)
    await take(rail, Entry(9, ada, day=AFTER), name="WED", sequence=3, opening=120, day=AFTER)
    entries = (Entry(100, ada), Entry(20, ada, day=NEXT), Entry(9, ada, day=AFTER))
    assert (await take(rail, *entries, name="WEEK", sequence=4, day=AFTER)).credited == 1
    assert await balances(ledger) == {BANK: -129, user_account(ADA, "EUR"): 129}


async def test_what_a_statement_tells_otherwise_than_the_notification_before_it_is_booked_once(rail, ledger):
    """Another reference, the parts of what was one, and one of what was two; what else is new is booked."""
    ada, bob = await rail.reference_for(ADA), await rail.reference_for(BOB)
    told = (
        Entry(100, ada, bank_reference="N-1"),
        Entry(30, bob, bank_reference="N-2"),
        Entry(8, bob, bank_reference="N-3", day=NEXT),
        Entry(20, ada, bank_reference="N-4", day=NEXT),
        Entry(5, ada, bank_reference="N-5", day=NEXT),
    )
    await rail.import_statement(notification(*told), filename="054.xml")
    booked = await balances(ledger)
    stated = (
        Entry(100, parts=((60, ada), (40, ada)), bank_reference="S-1"),
        Entry(30, bob, bank_reference="S-2"),
        Entry(3, "bank's fee", side="DBIT"),
        Entry(77, bob, bank_reference="S-3"),
        Entry(8, bob, bank_reference="N-3", day=NEXT),
        Entry(25, "collected", bank_reference="S-4", day=NEXT),
    )
    receipt = await take(rail, *stated, day=NEXT)
    (told_of,) = receipt.statements
    assert (receipt.credited, told_of.known, told_of.noted, receipt.warnings) == (1, 1, 4, ())
    assert told_of.reasons == {Reason.TOLD_BEFORE: 4, Reason.DEBIT: 1}
    booked[user_account(BOB, "EUR")] += 77
    assert await balances(ledger) == {**booked, BANK: booked[BANK] - 74, SUSPENSE: -3}
    (closing,) = await rail.closing_balances()
    assert closing.balance == -(await balances(ledger))[BANK]
    more = await take(rail, *stated, day=NEXT, name="AGAIN", sequence=1)
    assert (more.credited, more.suspended, more.statements[0].known) == (0, 0, 7)


async def test_where_nobody_can_tell_which_money_was_notified_nothing_is_booked(rail, ledger):
    ada, bob = await rail.reference_for(ADA), await rail.reference_for(BOB)
    await rail.import_statement(notification(Entry(100, ada, bank_reference="N-1")), filename="054.xml")
    before = await balances(ledger)
    stop = await refused(rail, Entry(60, ada), Entry(40, ada), Entry(25, bob), Entry(7, bob, day=NEXT), day=NEXT)
    assert "nobody can tell" in stop.message
    assert await balances(ledger) == before


async def test_an_import_of_what_was_notified_otherwise_is_cut_off_and_done_again(rail, ledger, monkeypatch):
    monkeypatch.setattr("fiat.bank.service.LINES_PER_SUBMIT", 1)
    ada = await rail.reference_for(ADA)
    await rail.import_statement(notification(Entry(820, ada, bank_reference="N-1")), filename="054.xml")
    parts = Entry(820, parts=tuple((40 + n, ada) for n in range(2)) * 10 + ((10, ada),), bank_reference="S-1")
    entries = (parts, *(Entry(900 + n, ada) for n in range(10)))
    task = asyncio.create_task(take(rail, *entries))
    while len(await rail.lines(LineState.NOTED, limit=200)) < 3:
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    receipt = await take(rail, *entries)
    assert receipt.warnings == ()
    assert len(await rail.lines(LineState.NOTED, limit=200)) == 21
    expected = 820 + sum(900 + n for n in range(10))
    assert await balances(ledger) == {BANK: -expected, user_account(ADA, "EUR"): expected}


async def test_a_statement_of_the_morning_that_comes_after_the_evenings_is_taken(rail, ledger):
    ada = await rail.reference_for(ADA)
    noon, later = Entry(50, ada, bank_reference="B-1"), Entry(100, ada, bank_reference="B-2")
    await rail.import_statement(notification(later), filename="054.xml")
    await refused(rail, noon, name="MORNING", sequence=1)
    await take(rail, later, name="EVENING", sequence=2, opening=50)
    assert (await take(rail, noon, name="MORNING", sequence=1)).credited == 1
    assert await balances(ledger) == {BANK: -150, user_account(ADA, "EUR"): 150}


async def test_a_notification_of_days_that_a_statement_has_told_books_nothing_new(rail, ledger):
    ada = await rail.reference_for(ADA)
    await take(rail, Entry(100, parts=((60, ada), (40, ada)), bank_reference="S-1"))
    before = await balances(ledger)
    late = notification(Entry(100, ada, bank_reference="N-1"), Entry(7, ada, bank_reference="N-2", day=NEXT))
    receipt = await rail.import_statement(late, filename="late.xml")
    assert (receipt.credited, receipt.statements[0].ahead) == (1, 1)
    assert (await balances(ledger))[BANK] == before[BANK] - 7


async def test_a_payout_has_one_effect_though_its_day_was_notified_otherwise(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    one, other = await ask(desk, 10_00, "one"), await ask(desk, 20_00, "other")
    await steps.step()
    debits = [
        Entry(payout.amount, side="DBIT", end_to_end_id=payout.end_to_end_id, bank_reference=name, day=NEXT)
        for payout, name in ((one, "N-1"), (one, "S-1"), (other, "S-2"))
    ]
    await rail.import_statement(notification(debits[0], iban=OUR_IBAN), filename="054.xml")
    content = camt053(*debits[1:], opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2, day=NEXT)
    receipt = await rail.import_statement(content, filename="053.xml")
    assert (receipt.statements[0].paid, receipt.statements[0].reasons) == (1, {Reason.TOLD_BEFORE: 1})
    assert await balance(ledger, house_account("suspense", "EUR")) == 0
    assert (await ledger.account(house_account("in-transit:bank:out", "EUR"))).balance == 0
