"""The book as a file: what is chosen, how it's written, and that it shows one instant of the book."""

import asyncio
import io
import json
import random
from datetime import timedelta

import pytest

from base.clock import ManualClock
from base.errors import Unavailable
from db.engine import create_engine, tx
from ledger import exporting
from ledger.accounts import split_account_id
from ledger.commands import Post, Posting, alone
from ledger.errors import BookCorrupt, InvalidCommand
from ledger.exporting import Export, Selection, check_selection, export
from ledger.money import parse_amount
from ledger.outcomes import LineKind
from ledger.rowfiles import Fault, FileFormat, Record, RowFile
from tests.ledger.histories import ACCOUNTS, OPENING, START, Writer
from tests.ledger.test_import_rows import ASSETS
from tests.ledger.test_import_run import exported
from tests.ledger.test_postgres import new_ledger
from tests.support.gate import Gate

pytestmark = pytest.mark.slow

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS
SECOND = timedelta(seconds=1)


@pytest.fixture
async def book(database):
    """A ledger with a random history, and its clock's instants."""
    clock = ManualClock(START)
    ledger = await new_ledger(database.engine(), clock=clock)
    await ledger.submit(OPENING)
    writer = Writer(random.Random(7))
    writer.book.submit(OPENING, START)
    for _ in range(150):
        writer.let_time_pass()
        clock.instant = writer.now
        await ledger.submit(*(group for group, _ in writer.step(3)))
    return ledger


@pytest.fixture
def engine(database):
    return database.engine()


@pytest.fixture
def short(monkeypatch):
    """Stretches so short that every export has many."""
    monkeypatch.setattr(exporting, "STRETCH", 7)


def cells(content, form=FileFormat.CSV):
    found = list(RowFile(io.BytesIO(content), form))
    assert not [fault for fault in found if isinstance(fault, Fault)]
    return [record.cells for record in found if isinstance(record, Record)]


def units(text, asset):
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * parse_amount(text, ASSETS[asset], least=0)


# What is written


@pytest.mark.parametrize("what", Export)
async def test_the_same_book_gives_the_same_bytes_however_it_is_cut(book, engine, what, monkeypatch):
    whole = await exported(engine, what=what)
    assert await exported(engine, what=what) == whole
    for stretch in (1, 13):
        monkeypatch.setattr(exporting, "STRETCH", stretch)
        assert await exported(engine, what=what) == whole


@pytest.mark.parametrize("what", Export)
async def test_the_two_forms_say_the_same(book, engine, what):
    plain = cells(await exported(engine, what=what))
    lines = cells(await exported(engine, what=what, form=FileFormat.JSONL), FileFormat.JSONL)
    assert len(plain) > 5
    for one, other in zip(plain, lines, strict=True):
        assert one == {key: as_text(cell) for key, cell in other.items()}


def as_text(cell):
    """What CSV says for a cell of JSON."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else str(cell)


async def test_balances_are_those_of_the_book(book, engine):
    found = {row["account"]: row for row in cells(await exported(engine, what=Export.BALANCES))}
    known = {account.id: account for account in await book.accounts()}
    assert found.keys() == known.keys()
    for name, row in found.items():
        account = known[name]
        told = [units(row[column], row["asset"]) for column in ("balance", "held", "available", "incoming")]
        assert told == [account.balance, account.debits_pending, account.available, account.credits_pending]


async def test_accounts_are_told_with_flags_and_counters(book, engine):
    for row in cells(await exported(engine, what=Export.ACCOUNTS)):
        account = await book.account(row["account"])
        assert (row["owner"], row["purpose"], row["asset"]) == split_account_id(account.id)
        for flag in ("limited", "frozen", "closed"):
            assert row[flag] == ("true" if getattr(account, flag) else "false")
        for counter in ("credit_line", "debits_posted", "credits_posted", "debits_pending", "credits_pending"):
            assert units(row[counter], account.asset) == getattr(account, counter)


async def test_balances_at_an_instant_are_those_that_stood_then(book, engine, short):
    for seconds in (-1, 0, 3, 20, 40, 10_000):
        at = START + seconds * SECOND
        found = cells(await exported(engine, what=Export.BALANCES, at=at))
        assert found
        for row in found:
            assert units(row["balance"], row["asset"]) == await book.balance_at(row["account"], at)


async def test_history_tells_every_line(book, engine):
    found = cells(await exported(engine, what=Export.HISTORY))
    places = [(int(row["seq"]), int(row["line"])) for row in found]
    assert places == sorted(set(places))
    assert {row["kind"] for row in found} == {"posted", "held", "released"}
    movements = await book.history(account=A, kinds=tuple(LineKind), limit=10_000)
    touching = [(int(row["seq"]), int(row["line"])) for row in found if A in (row["debit"], row["credit"])]
    assert touching == sorted((movement.seq, movement.line) for movement in movements)


async def test_entries_are_the_posted_lines(book, engine):
    history = [row for row in cells(await exported(engine, what=Export.HISTORY)) if row["kind"] == "posted"]
    entries = cells(await exported(engine))
    common = ("id", "debit", "credit", "asset", "amount", "effective_at")
    assert [[row[key] for key in common] for row in entries] == [[row[key] for key in common] for row in history]


# What is chosen


async def test_of_entries_that_touch_what_is_chosen_all_postings_are_told(book, engine, short):
    entries = cells(await exported(engine))
    for selection, touches in (
        ({"account": A}, lambda row: A in (row["debit"], row["credit"])),
        ({"owner": "usr_b"}, lambda row: B in (row["debit"], row["credit"])),
        ({"asset": "ETH"}, lambda row: row["asset"] == "ETH"),
        ({"owner": "usr_a", "asset": "ETH"}, lambda row: A_ETH in (row["debit"], row["credit"])),
    ):
        chosen = {row["id"] for row in entries if touches(row)}
        found = cells(await exported(engine, **selection))
        assert found == [row for row in entries if row["id"] in chosen]
        assert 0 < len(found) < len(entries)


async def test_a_span_is_open_at_its_end(book, engine):
    history = cells(await exported(engine, what=Export.HISTORY))
    instants = sorted({row["booked_at"] for row in history})
    early, late = START + 10 * SECOND, START + 30 * SECOND
    found = cells(await exported(engine, what=Export.HISTORY, since=early, until=late))
    shown = [moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (early, late)]
    assert found == [row for row in history if shown[0] <= row["booked_at"] < shown[1]]
    assert 0 < len(found) < len(history)
    assert instants[0] < shown[0]


async def test_accounts_and_balances_may_be_of_an_owner_or_an_asset(book, engine, short):
    for what in (Export.ACCOUNTS, Export.BALANCES):
        everything = cells(await exported(engine, what=what))
        for selection, belongs in (
            ({"owner": "usr_a"}, lambda name: name.startswith("usr_a/")),
            ({"asset": "ETH"}, lambda name: name.endswith("/ETH")),
            ({"account": A}, lambda name: name == A),
        ):
            found = cells(await exported(engine, what=what, **selection))
            assert found == [row for row in everything if belongs(row["account"])]
            assert found


@pytest.mark.parametrize(
    ("what", "selection"),
    [
        (Export.ENTRIES, {"at": START}),
        (Export.BALANCES, {"since": START}),
        (Export.ACCOUNTS, {"until": START}),
    ],
)
def test_a_condition_that_means_nothing_is_refused(what, selection):
    with pytest.raises(InvalidCommand):
        check_selection(what, Selection(**selection))


@pytest.mark.parametrize("selection", [{"asset": "XYZ"}, {"owner": "usr_x"}, {"account": "usr_a/wallet/EUR"}])
async def test_what_is_not_there_is_said(book, engine, selection):
    with pytest.raises(InvalidCommand):
        await exported(engine, **selection)


async def test_an_empty_book_is_a_header_and_no_book_is_an_error(database, engine):
    await new_ledger(engine)
    assert (await exported(engine)).count(b"\n") == 1
    assert await exported(engine, form=FileFormat.JSONL) == b""
    with pytest.raises(BookCorrupt):
        await exported(engine, "nobodys")


async def test_texts_that_spreadsheets_run_are_guarded(engine):
    ledger = await new_ledger(engine)
    await ledger.ensure_open(A, BANK)
    evil = '=HYPERLINK("http://x","y")'
    post = Post(id=evil, subject="@SUM(1)\r\n,x", postings=(Posting(debit=BANK, credit=A, asset="USD", amount=1),))
    await ledger.submit(alone(post))
    content = await exported(engine)
    assert b"\"'=HYPERLINK(" in content
    (row,) = cells(content)
    assert (row["id"], row["subject"]) == (evil, "@SUM(1)\r\n,x")


# One instant


async def test_an_export_shows_one_instant_while_the_book_goes_on(book, engine, short):
    """Else what was moved from an account already told to one not yet told would be told twice."""
    stop = asyncio.Event()

    async def move():
        for number in range(10_000):
            if stop.is_set():
                return number
            debit, credit = random.sample((BANK, RECEIVABLE, *(f"house/n{n}/USD" for n in range(60))), 2)
            post = Post(id=f"m{number}", postings=(Posting(debit=debit, credit=credit, asset="USD", amount=5),))
            await book.submit(alone(post))
        raise AssertionError("the exports took too long")

    await book.ensure_open(*(f"house/n{n}/USD" for n in range(60)))
    moving = asyncio.create_task(move())
    try:
        for _ in range(10):
            sums = {"USD": 0, "ETH": 0}
            for row in cells(await exported(engine, what=Export.BALANCES)):
                sums[row["asset"]] += units(row["balance"], row["asset"])
            assert sums == {"USD": 0, "ETH": 0}
    finally:
        stop.set()
        moved = await moving
    assert moved > 10


# Faults


async def test_who_reads_the_file_may_fail_and_the_error_is_theirs(book, engine, short):
    class Full(Exception):
        pass

    def write(part):
        if len(part) > 200:
            raise Full

    with pytest.raises(Full):
        await export(
            engine, "main", Export.HISTORY, Selection(), FileFormat.CSV, write=write, told=lambda done, total: None
        )
    async with tx(engine):
        pass
    assert await exported(engine)


async def test_a_database_that_goes_away_is_said(book, database, short):
    gate = await Gate.open(int(database.app_url.rpartition(":")[2].partition("/")[0]))
    through = create_engine(gate.address(database.app_url), pool_size=1)
    began = asyncio.Event()

    def told(done, total):
        if done:
            began.set()
            gate.withhold()

    running = asyncio.create_task(
        export(through, "main", Export.HISTORY, Selection(), FileFormat.CSV, write=lambda part: None, told=told)
    )
    try:
        await asyncio.wait_for(began.wait(), 20)
        await gate.cut()
        with pytest.raises(Unavailable):
            await running
    finally:
        await through.dispose()
        await gate.close()
