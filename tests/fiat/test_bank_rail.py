"""The bank rail on a real database and the real ledger, with files of our own making."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.clock import SystemClock
from base.entropy import SeededEntropy
from fiat.bank.matching import Reason
from fiat.bank.records import BankAccount, LineState
from fiat.bank.service import BankRail
from fiat.errors import (
    BankMisconfigured,
    ForeignAccount,
    LineNotWaiting,
    MalformedFile,
    StatementDisagrees,
    UnknownLine,
)
from fiat.personal import Vault
from fiat.references import new_reference, show
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, CloseAccount, Freeze, FreezeScope, alone
from ledger.errors import RefusedByBook
from ledger.outcomes import require_accepted
from ledger.requests import request_key
from ledger.service import PostgresLedger
from tests.fiat.conftest import EUR
from tests.fiat.statements import DAY, IBAN, Entry, camt053
from tests.support.bank import OUR_IBAN
from tests.support.postgres import fresh_database
from wiring.rail_settings import RailsSettings

pytestmark = pytest.mark.slow

BANK = house_account("bank:house-bank", "EUR")
SUSPENSE = house_account("suspense", "EUR")
ADA, BOB = "usr_ada", "usr_bob"


async def balance(ledger, account):
    found = await ledger.account(account)
    return found.balance if found else 0


async def balances(ledger):
    accounts = await ledger.accounts(asset="EUR")
    assert sum(account.balance for account in accounts) == 0
    return {account.id: account.balance for account in accounts if account.balance}


async def take(rail, *entries, filename="day.xml", **more):
    return await rail.import_statement(camt053(*entries, **more), filename=filename)


def key(name, body=None):
    return request_key(owner="usr_treasurer", route="match", key=name, body=body or {})


async def test_a_line_with_a_reference_credits_its_user(rail, ledger, clock):
    reference = await rail.reference_for(ADA)
    receipt = await take(rail, Entry(1250, f"top-up {show(reference).lower()}", bank_reference="B-1"))
    assert (receipt.credited, receipt.suspended, receipt.replayed, receipt.warnings) == (1, 0, False, ())
    assert await balances(ledger) == {BANK: -1250, user_account(ADA, "EUR"): 1250}
    (top_up,) = await rail.top_ups(ADA)
    assert (top_up.owner, top_up.rail, top_up.asset, top_up.amount, top_up.state) == (ADA, "bank", "EUR", 1250, "final")
    line = await rail.line(top_up.source)
    assert (line.state, line.owner, line.top_up, line.reason) == (LineState.CREDITED, ADA, top_up.id, None)
    (movement,) = await ledger.history(owner=ADA)
    assert movement.subject == top_up.id
    assert movement.evidence == BankEvidence(account="house-bank", statement="STMT-1", line=1)


async def test_a_reference_is_issued_once_also_to_many_askers(rail):
    asked = await asyncio.gather(*(rail.reference_for(ADA) for _ in range(8)))
    assert len(set(asked)) == 1
    assert await rail.reference_for(BOB) != asked[0]


async def test_f73_what_matches_nothing_or_two_things_waits_in_suspense_with_a_reason(rail, ledger):
    ada, bob = await rail.reference_for(ADA), await rail.reference_for(BOB)
    cases = {
        Entry(100, "no reference at all"): Reason.NO_REFERENCE,
        Entry(200, f"{ada} {bob}"): Reason.SEVERAL_REFERENCES,
        Entry(300, ada[:-1] + ("7" if ada[-1] != "7" else "8")): Reason.MISSPELT_REFERENCE,
        Entry(400, new_reference(SeededEntropy(1))): Reason.UNKNOWN_REFERENCE,
        Entry(500, parts=((250, ada), (200, bob))): Reason.UNCLEAR_BATCH,
        Entry(600, ada, reversal=True): Reason.REVERSAL,
        Entry(700, ada, returned=True): Reason.RETURNED_PAYMENT,
        Entry(900, ada, side="DBIT"): Reason.DEBIT,
    }
    receipt = await take(rail, *cases)
    assert (receipt.credited, receipt.suspended) == (0, len(cases))
    assert await balances(ledger) == {BANK: -1900, SUSPENSE: 1900}
    kept = {line.amount: line.reason for line in await rail.lines(LineState.SUSPENDED)}
    assert kept == {entry.cents: reason for entry, reason in cases.items()}
    assert receipt.statements[0].reasons == dict.fromkeys(cases.values(), 1)
    assert await rail.top_ups(ADA) == []


async def test_f74_the_same_file_twice_books_nothing_more(rail, ledger):
    reference = await rail.reference_for(ADA)
    entries = [Entry(100, reference), Entry(100, reference), Entry(50, "x"), Entry(30, side="DBIT")]
    first = await take(rail, *entries)
    before = await balances(ledger)
    again = await take(rail, *entries, filename="renamed.xml")
    assert (first.credited, first.suspended, first.replayed) == (2, 2, False)
    assert (again.credited, again.suspended, again.replayed, again.statements[0].known) == (0, 0, True, 4)
    assert await balances(ledger) == before == {BANK: -220, SUSPENSE: 20, user_account(ADA, "EUR"): 200}


async def test_f74_overlapping_files_book_each_line_once(rail, ledger):
    reference = await rail.reference_for(ADA)
    entries = [Entry(n, reference, bank_reference=f"B-{n}" if n % 2 else "") for n in range(1, 7)]
    await take(rail, *entries[:4], name="STMT-1")
    second = await take(rail, *entries[2:], opening=1 + 2, name="STMT-2", sequence=2, filename="later.xml")
    assert (second.credited, second.statements[0].known, second.warnings) == (2, 2, ())
    assert await balance(ledger, user_account(ADA, "EUR")) == 21 == -await balance(ledger, BANK)


async def test_f74_the_same_statement_in_another_version_books_nothing_more(rail, ledger):
    reference = await rail.reference_for(ADA)
    await take(rail, Entry(100, reference), version="08")
    again = await take(rail, Entry(100, reference), version="02")
    assert (again.credited, again.statements[0].known, again.warnings) == (0, 1, ())
    assert await balance(ledger, BANK) == -100


@pytest.mark.parametrize(
    ("was", "becomes", "refusal"),
    [
        (b"</Document>", b"", MalformedFile),
        (b"<Cd>BOOK</Cd>", b"<Cd>HOOK</Cd>", MalformedFile),
        (b"<Cd>CLBD</Cd>", b"<Cd>CLAV</Cd>", StatementDisagrees),
        (b">1.00<", b">1.01<", StatementDisagrees),
        (IBAN.encode(), b"GB29NWBK60161331926819", ForeignAccount),
    ],
)
async def test_f74_a_broken_file_books_nothing_and_is_named(rail, ledger, was, becomes, refusal):
    content = camt053(Entry(100, await rail.reference_for(ADA)), Entry(300))
    with pytest.raises(refusal) as stop:
        await rail.import_statement(content.replace(was, becomes, 1), filename="broken.xml")
    assert stop.value.facts["file"] == "broken.xml"
    assert isinstance(stop.value.facts["line"], int)
    assert await balances(ledger) == {}
    assert await rail.lines() == []
    assert (await rail.import_statement(content, filename="whole.xml")).credited == 1


async def test_f74_one_broken_statement_refuses_the_whole_file(rail, ledger):
    content = camt053(Entry(100, await rail.reference_for(ADA)))
    statement = content[content.index(b"<Stmt>") : content.index(b"</BkToCstmrStmt>")]
    foreign = statement.replace(IBAN.encode(), b"GB29NWBK60161331926819")
    with pytest.raises(ForeignAccount):
        await rail.import_statement(content.replace(statement, statement + foreign), filename="two.xml")
    assert await balances(ledger) == {}


async def test_f74_a_known_statement_told_in_other_words_is_refused_and_credits_nobody_twice(rail, ledger):
    """Without references of the bank's a line is what it says, so a re-worded file would seem to hold new ones."""
    reference = await rail.reference_for(ADA)
    await take(rail, Entry(500, f"rent {reference}"), Entry(300, "lunch"), filename="a.xml")
    before = await balances(ledger)
    with pytest.raises(StatementDisagrees, match=r"b\.xml"):
        await take(rail, Entry(500, f"RENT/{reference}"), Entry(300, "lunch"), filename="b.xml")
    assert await balances(ledger) == before
    more = await take(rail, Entry(300, "lunch"), Entry(200, "more"), Entry(500, f"rent {reference}"), filename="c.xml")
    assert (more.credited, more.suspended) == (0, 1)


async def test_f74_an_import_cut_off_in_the_middle_is_done_again(rail, ledger, monkeypatch):
    monkeypatch.setattr("fiat.bank.service.LINES_PER_SUBMIT", 1)
    reference = await rail.reference_for(ADA)
    entries = [Entry(100 + n, reference if n % 2 else "?") for n in range(60)]
    for part in (5, 20):
        task = asyncio.create_task(take(rail, *entries))
        while len(await rail.lines(limit=200)) < part:
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rail.closing_balances() == []
    receipt = await take(rail, *entries)
    assert (receipt.replayed, receipt.warnings) == (False, ())
    assert 20 <= receipt.statements[0].known < 60
    assert await balance(ledger, BANK) == -sum(entry.cents for entry in entries)
    assert len(await rail.top_ups(ADA)) == 30


async def test_two_imports_of_one_file_at_once_book_it_once(rail, ledger):
    reference = await rail.reference_for(ADA)
    content = camt053(*(Entry(n, reference) for n in range(1, 40)))
    receipts = await asyncio.gather(*(rail.import_statement(content, filename=f"{n}.xml") for n in range(4)))
    assert sum(receipt.credited for receipt in receipts) == 39
    assert await balance(ledger, BANK) == -sum(range(1, 40))


async def test_entries_over_nothing_are_noted(rail, ledger):
    receipt = await take(rail, Entry(0, "information only"), Entry(100))
    assert receipt.statements[0].noted == 1
    (noted,) = await rail.lines(LineState.NOTED)
    assert (noted.amount, noted.reason) == (0, Reason.ZERO_AMOUNT)
    assert await balances(ledger) == {BANK: -100, SUSPENSE: 100}


async def test_a_pending_entry_is_booked_once_it_is_booked_at_the_bank(rail, ledger):
    reference = await rail.reference_for(ADA)
    pending = Entry(100, reference, bank_reference="B-1", status="PDNG")
    assert (await take(rail, pending)).statements[0].pending == 1
    assert await balances(ledger) == {}
    booked = Entry(100, reference, bank_reference="B-1")
    assert (await take(rail, booked, name="STMT-2", sequence=2)).credited == 1


async def test_a_batch_credits_each_payer(rail, ledger):
    ada, bob = await rail.reference_for(ADA), await rail.reference_for(BOB)
    receipt = await take(rail, Entry(1000, parts=((400, ada), (500, bob), (100, "?")), bank_reference="BATCH"))
    assert (receipt.credited, receipt.suspended) == (2, 1)
    assert await balances(ledger) == {
        BANK: -1000,
        SUSPENSE: 100,
        user_account(ADA, "EUR"): 400,
        user_account(BOB, "EUR"): 500,
    }


async def test_a_closed_users_money_waits_in_suspense(rail, ledger):
    reference = await rail.reference_for(ADA)
    account = user_account(ADA, "EUR")
    await ledger.ensure_open(account)
    (outcomes,) = await ledger.submit(alone(CloseAccount(id="close", account=account)))
    require_accepted(outcomes)
    for _ in range(2):
        receipt = await take(rail, Entry(100, reference), Entry(200, await rail.reference_for(BOB)))
    assert receipt.replayed
    (line,) = await rail.lines(LineState.SUSPENDED)
    assert (line.reason, line.owner) == (Reason.ACCOUNT_REFUSED, ADA)
    assert await balances(ledger) == {BANK: -300, SUSPENSE: 100, user_account(BOB, "EUR"): 200}


async def test_a_freeze_does_not_stop_what_the_bank_did(rail, ledger):
    reference = await rail.reference_for(ADA)
    await ledger.submit(alone(Freeze(id="freeze", scope=FreezeScope.OWNER, target=ADA)))
    assert (await take(rail, Entry(100, reference))).credited == 1


async def test_entries_of_tomorrow_are_booked_today(rail, ledger, clock):
    ahead = clock.now().date() + timedelta(days=3)
    receipt = await take(rail, Entry(100, await rail.reference_for(ADA), day=ahead), day=ahead)
    assert receipt.credited == 1


# Later matching


async def suspended_line(rail, cents=700):
    await take(rail, Entry(cents, "who is it"))
    (line,) = await rail.lines(LineState.SUSPENDED)
    return line


async def test_a_treasurer_matches_a_waiting_line_later(rail, ledger):
    line = await suspended_line(rail)
    top_up = await rail.match(line.id, owner=BOB, key=key("k1"))
    assert (top_up.owner, top_up.amount, top_up.source, top_up.replayed) == (BOB, 700, line.id, False)
    assert await balances(ledger) == {BANK: -700, user_account(BOB, "EUR"): 700}
    assert await rail.lines(LineState.SUSPENDED) == []
    matched = await rail.line(line.id)
    assert (matched.state, matched.owner, matched.top_up, matched.reason) == (
        LineState.MATCHED,
        BOB,
        top_up.id,
        Reason.NO_REFERENCE,
    )
    again = await rail.match(line.id, owner=BOB, key=key("k1"))
    assert (again.id, again.replayed) == (top_up.id, True)


async def test_a_line_is_matched_to_one_user_only(rail, ledger):
    line = await suspended_line(rail)
    tried = await asyncio.gather(
        *(rail.match(line.id, owner=f"usr_{n}", key=key(f"k{n}")) for n in range(6)), return_exceptions=True
    )
    assert sum(not isinstance(one, Exception) for one in tried) == 1
    assert all(isinstance(one, LineNotWaiting) for one in tried if isinstance(one, Exception))
    assert await balance(ledger, SUSPENSE) == 0
    with pytest.raises(LineNotWaiting):
        await rail.match(line.id, owner=ADA, key=key("late"))


async def test_a_key_used_for_another_match_is_refused(rail):
    await take(rail, Entry(1, "a"), Entry(2, "b"))
    one, other = await rail.lines(LineState.SUSPENDED)
    await rail.match(one.id, owner=ADA, key=key("k", {"line": one.id}))
    with pytest.raises(RefusedByBook) as stop:
        await rail.match(other.id, owner=ADA, key=key("k", {"line": other.id}))
    assert stop.value.code == "id_conflict"


async def test_money_that_left_and_lines_unknown_cannot_be_matched(rail):
    await take(rail, Entry(100, side="DBIT"), opening=100)
    (line,) = await rail.lines()
    with pytest.raises(LineNotWaiting):
        await rail.match(line.id, owner=ADA, key=key("k"))
    with pytest.raises(UnknownLine):
        await rail.match("lin_nothing", owner=ADA, key=key("k"))


# Balances


async def test_the_latest_statement_gives_the_closing_balance(rail):
    assert await rail.closing_balances() == []
    await take(rail, Entry(100), name="B", day=date(2025, 12, 2), sequence=2, opening=50)
    await take(rail, Entry(50), name="A", day=DAY, sequence=1)
    (closing,) = await rail.closing_balances()
    assert (closing.account, closing.balance, closing.as_of, closing.statement) == (
        "house-bank",
        150,
        date(2025, 12, 2),
        "B",
    )


async def test_a_missing_statement_is_reported_as_a_gap(rail):
    await take(rail, Entry(100), name="A", sequence=1)
    third = date(2025, 12, 3)
    receipt = await take(rail, Entry(5, day=third), name="C", sequence=3, opening=170, day=third)
    assert receipt.statements[0].gap == 70
    assert "0.70 EUR" in receipt.warnings[0]
    assert "statement C of bank:house-bank" in receipt.warnings[0]
    assert (await take(rail, Entry(5, day=third), name="C", sequence=3, opening=170, day=third)).warnings


async def test_statements_that_do_not_meet_are_told_until_the_missing_one_comes_in_whatever_order(rail):
    days = [date(2025, 12, day) for day in (1, 2, 3)]
    await take(rail, Entry(100, day=days[0]), name="A", sequence=1, day=days[0])
    await take(rail, Entry(5, day=days[2]), name="C", sequence=3, opening=170, day=days[2])
    (closing,) = await rail.closing_balances()
    (gap,) = closing.discontinuities
    assert (gap.before, gap.statement, gap.closed, gap.opens, gap.again) == ("A", "C", 100, 170, False)
    await take(rail, Entry(70, day=days[1]), name="B", sequence=2, opening=100, day=days[1])
    (closing,) = await rail.closing_balances()
    assert (closing.balance, closing.discontinuities, closing.coming) == (175, (), None)


async def test_a_statement_that_tells_lines_again_overlaps(rail):
    days = [date(2025, 12, day) for day in (1, 2)]
    first = Entry(100, day=days[0])
    await take(rail, first, name="A", sequence=1, day=days[0])
    await take(rail, first, Entry(5, day=days[1]), name="B", sequence=2, opening=0, day=days[1])
    (closing,) = await rail.closing_balances()
    assert [(one.statement, one.opens, one.again) for one in closing.discontinuities] == [("B", 0, True)]


async def test_an_account_that_was_not_empty_at_first_is_reported(rail):
    assert (await take(rail, Entry(100), opening=1000)).statements[0].gap == 1000


async def test_accounts_at_two_banks_are_kept_apart(rail, ledger):
    entry = Entry(100, bank_reference="B-1")
    assert (await take(rail, entry)).suspended == 1
    assert (await take(rail, entry, iban=OUR_IBAN)).suspended == 1
    assert await balances(ledger) == {BANK: -100, house_account("bank:mock", "EUR"): -100, SUSPENSE: 200}
    assert [closing.account for closing in await rail.closing_balances()] == ["house-bank", "mock"]


async def test_lists_go_page_by_page(rail, clock):
    reference = await rail.reference_for(ADA)
    for day in range(1, 6):
        clock.advance(timedelta(seconds=1))
        on = date(2025, 12, day)
        entries = Entry(day, reference, day=on), Entry(10 * day, day=on)
        await take(rail, *entries, name=f"S{day}", day=on, sequence=day)
    newest, older = await rail.top_ups(ADA, limit=2)
    assert (newest.amount, older.amount) == (5, 4)
    assert [one.amount for one in await rail.top_ups(ADA, before=older.id)] == [3, 2, 1]
    everything = await rail.lines()
    assert len(everything) == 10
    assert await rail.lines(after=everything[3].id) == everything[4:]
    assert len(await rail.lines(LineState.SUSPENDED, limit=3)) == 3


async def test_a_bank_account_in_an_unknown_asset_is_a_configuration_error(database, ledger, clock, entropy, vault):
    accounts = [BankAccount(name="francs", iban=IBAN, asset="CHF")]
    rail = BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=accounts, vault=vault)
    with pytest.raises(BankMisconfigured, match="francs"):
        await take(rail, Entry(1))


def test_two_bank_accounts_cannot_share_a_name(database, ledger, clock, entropy, vault):
    account = BankAccount(name="main", iban=IBAN, asset="EUR")
    with pytest.raises(BankMisconfigured):
        BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=[account, account], vault=vault)


@pytest.mark.parametrize("name", sorted(RailsSettings.model_fields.keys() - {"fee_bearer"}))
def test_a_bank_account_cannot_be_called_as_a_provider(name, database, ledger, clock, entropy, vault):
    account = BankAccount(name=name, iban=IBAN, asset="EUR")
    with pytest.raises(BankMisconfigured, match=name):
        BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=[account], vault=vault)


# Any statements at all


lines = st.builds(
    Entry,
    cents=st.integers(0, 5),
    side=st.sampled_from(["CRDT", "CRDT", "DBIT"]),
    text=st.sampled_from(["ADA", "BOB", "ADA BOB", "?", ""]),
    bank_reference=st.sampled_from(["", "", "X", "Y"]),
    status=st.sampled_from(["BOOK", "BOOK", "BOOK", "PDNG"]),
)


def test_after_any_days_in_overlapping_files_the_book_holds_what_the_bank_says(postgres):
    """A month of days; each file holds a run of days, and the runs overlap and repeat."""
    with asyncio.Runner() as runner:
        fixture = fresh_database(postgres)
        database = runner.run(fixture.__aenter__())
        engine = database.engine()
        books = iter(range(10**6))

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.lists(lines, max_size=4), min_size=1, max_size=5), st.data())
        def holds(days, draw):
            runner.run(_import_runs(engine, f"book{next(books)}", days, draw))

        try:
            holds()
        finally:
            runner.run(fixture.__aexit__(None, None, None))


async def _import_runs(engine, book, days, draw):
    clock = SystemClock()
    ledger = PostgresLedger(engine, clock=clock, book=book)
    await ledger.create_book()
    await ledger.register_asset(EUR)
    rail = BankRail(
        engine,
        ledger,
        clock=clock,
        entropy=SeededEntropy(1),
        accounts=[BankAccount(name="house-bank", iban=IBAN, asset="EUR")],
        vault=Vault({b"\1\2\3\4": bytes(32)}),
    )
    names = {"ADA": await rail.reference_for(ADA), "BOB": await rail.reference_for(BOB)}
    dated = [[_named(entry, names, DAY + timedelta(days=n)) for entry in day] for n, day in enumerate(days)]
    done = 0
    while done < len(days):
        start = draw.draw(st.integers(0, done))
        done = draw.draw(st.integers(max(done, start + 1), len(days)))
        if start == done:
            continue
        booked = [entry for day in dated[:start] for entry in day if entry.status == "BOOK"]
        receipt = await take(
            rail,
            *(entry for day in dated[start:done] for entry in day),
            opening=sum(entry.signed for entry in booked),
            name=f"S{start}-{done}",
            day=DAY + timedelta(days=done - 1),
            sequence=done,
        )
        assert receipt.warnings == ()
        (closing,) = await rail.closing_balances()
        assert closing.balance == -await balance(ledger, BANK)
    await balances(ledger)
    for owner in (ADA, BOB):
        credited = sum(top_up.amount for top_up in await rail.top_ups(owner))
        assert credited == await balance(ledger, user_account(owner, "EUR"))


def _named(entry, names, day):
    return replace(entry, text=" ".join(names.get(word, word) for word in str(entry.text).split()), day=day)
