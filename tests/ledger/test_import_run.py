"""Files of entries and a book: each entry is booked once, whatever happens; what can't be booked is told."""

import asyncio
import io
import json
import random
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select

from base.clock import ManualClock
from base.errors import Unavailable
from db.engine import create_engine, tx
from ledger.audit import audit
from ledger.commands import CloseAccount, Freeze, FreezeScope, OpenAccount, SetCreditLine, Unfreeze, alone
from ledger.exporting import Export, Selection, export
from ledger.import_run import CHUNK, FAULTS_KEPT, Checked, Importer, Inquiry, Tally, check_file
from ledger.importing import Parser, check_header
from ledger.outcomes import LineKind
from ledger.repeats import Repeats
from ledger.rowfiles import FileFormat, Record, RowFile
from ledger.service import PostgresLedger
from ledger.tables import accounts, books, lines
from tests.ledger.histories import ACCOUNTS, OPENING, START, Writer
from tests.ledger.test_import_rows import ASSETS, HAND, HEADER, A, B, row, rows
from tests.ledger.test_postgres import new_ledger
from tests.support.gate import Gate
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CAPITAL, SUSPENSE, BANK = "house/capital/USD", "house/suspense/USD", "house/bank:main/USD"


class Import:
    """One import, and what became of it."""

    def __init__(self, ledger: PostgresLedger, content: str | bytes, form: FileFormat = FileFormat.CSV) -> None:
        self.tally = Tally()
        self.refused: list[tuple[str, str]] = []
        self.told = 0
        self._ledger = ledger
        self._content = content.encode() if isinstance(content, str) else content
        self._form = form

    async def check(self, engine, *, opens=True, by_hand=None) -> Checked:
        parser, bundles = self._parsed(by_hand)
        with Inquiry(engine, self._ledger.book, opens=opens) as inquiry:
            return await check_file(inquiry, bundles, parser, told=lambda more: None)

    async def run(self, *, opens=True, by_hand=None, unchecked_by=None, **more) -> "Import":
        """`unchecked_by`: the engine to ask, since no check did."""

        def tell(number):
            self.told += number

        def refuse(entry, refusal):
            self.refused.append((entry.id, refusal.code.value))

        _, bundles = self._parsed(by_hand)
        with ExitStack() as stack:
            inquiry = None
            if unchecked_by is not None:
                inquiry = stack.enter_context(Inquiry(unchecked_by, self._ledger.book, opens=opens))
            importer = Importer(self._ledger, opens=opens, refused=refuse, told=tell, inquiry=inquiry, **more)
            self.tally = importer.tally
            await importer.run(bundles)
        return self

    @property
    def counts(self):
        """Booked, known, refused."""
        return self.tally.booked, self.tally.known, self.tally.refused

    def _parsed(self, by_hand):
        file = RowFile(io.BytesIO(self._content), self._form, check_header=check_header)
        parser = Parser(ASSETS, now=START, by_hand=by_hand)
        return parser, parser.bundles(file)


def many(number):
    """That many entries: fifty users are paid in turn, and each pays on what they got."""
    found = []
    for n in range(number):
        payer, payee = (f"usr_{(n // 2 + step) % 50}/wallet/USD" for step in (0, n % 2))
        found.append(row(f"n{n}", "1.00", payer if n % 2 else CAPITAL, payee))
    return found


@pytest.fixture
async def ledger(database):
    return await new_ledger(database.engine())


async def balances(engine, book="main"):
    async with tx(engine) as connection:
        found = await connection.execute(
            select(accounts.c.name, accounts.c.credits_posted - accounts.c.debits_posted)
            .join(books, books.c.number == accounts.c.book)
            .where(books.c.book == book)
        )
        return {name: int(balance) for name, balance in found}


async def exported(engine, book="main", what=Export.ENTRIES, form=FileFormat.CSV, **selection):
    parts: list[bytes] = []
    await export(engine, book, what, Selection(**selection), form, write=parts.append, told=lambda done, total: None)
    return b"".join(parts)


async def is_clean(engine, book="main"):
    report = await audit(engine, book, processes=1)
    assert report.clean, report.disagreements
    return True


# Once


async def test_entries_are_booked_in_their_order(ledger, database):
    content = rows(row("in", "5.00", CAPITAL, A), row("on", "5.00", A, B), row("back", "5.00", B, CAPITAL))
    done = await Import(ledger, content).run()
    assert done.counts == (3, 0, 0)
    assert (done.told, done.tally.line) == (3, 4)
    assert await balances(database.engine()) == {CAPITAL: 0, A: 0, B: 0}
    assert await is_clean(database.engine())


async def test_a_file_taken_in_again_books_nothing_more(ledger, database):
    content = rows(*many(2 * CHUNK + 7))
    assert (await Import(ledger, content).run()).counts == (2 * CHUNK + 7, 0, 0)
    before = await balances(database.engine())
    assert (await Import(ledger, content).run()).counts == (0, 2 * CHUNK + 7, 0)
    again = await new_ledger(database.engine())
    assert (await Import(again, content).run()).counts == (0, 2 * CHUNK + 7, 0)
    assert await balances(database.engine()) == before


async def test_an_import_that_came_half_way_goes_on(ledger):
    assert (await Import(ledger, rows(*many(500))).run()).counts == (500, 0, 0)
    assert (await Import(ledger, rows(*many(700))).run()).counts == (200, 500, 0)


async def test_both_forms_make_the_same_entry(ledger):
    content = rows(row("one", "5.00", CAPITAL, A))
    same = json.dumps({"id": "one", "debit": CAPITAL, "credit": A, "asset": "USD", "amount": "5.00"}) + "\n"
    assert (await Import(ledger, content).run()).counts == (1, 0, 0)
    assert (await Import(ledger, same, FileFormat.JSONL).run()).counts == (0, 1, 0)


async def test_what_was_refused_is_tried_again_and_then_known(ledger):
    content = rows(row("spend", "5.00", A, B))
    for _ in range(3):
        again = await Import(ledger, content).run()
        assert (again.counts, again.refused) == ((0, 0, 1), [("spend", "insufficient_funds")])
    await Import(ledger, rows(row("fund", "5.00", CAPITAL, A))).run()
    assert (await Import(ledger, content).run()).counts == (1, 0, 0)
    assert (await Import(ledger, content).run()).counts == (0, 1, 0)
    account = await ledger.account(B)
    assert account is not None
    assert account.balance == 500


async def test_an_id_means_one_thing_only(ledger, database):
    await Import(ledger, rows(row("one", "5.00", CAPITAL, A))).run()
    for changed in (row("one", "5.01", CAPITAL, A), row("one", "5.00", CAPITAL, B)):
        again = await Import(ledger, rows(changed)).run()
        assert (again.counts, again.refused) == ((0, 0, 1), [("one", "id_conflict")])
    both = rows(row("one", "5.00", CAPITAL, A) + ",g", row("two", "5.00", CAPITAL, A) + ",g", header=f"{HEADER},group")
    assert (await Import(ledger, both).run()).counts == (0, 0, 2)
    assert (await balances(database.engine()))[A] == 500


async def test_a_group_is_booked_whole_or_not_at_all(ledger, database):
    header = f"{HEADER},group"
    grouped = row("in", "5.00", CAPITAL, A) + ",g", row("out", "6.00", A, B) + ",g"
    content = rows(*grouped, row("x", "1.00", CAPITAL, B) + ",", header=header)
    done = await Import(ledger, content).run()
    assert done.counts == (1, 0, 2)
    assert done.refused == [("in", "group_refused"), ("out", "insufficient_funds")]
    assert await balances(database.engine()) == {CAPITAL: -100, A: 0, B: 100}
    await Import(ledger, rows(row("more", "1.00", CAPITAL, A))).run()
    assert (await Import(ledger, content).run()).counts == (2, 1, 0)


async def test_an_entry_of_many_rows_is_one_command(ledger, database):
    content = rows(
        *[row("wide", "0.01", CAPITAL, f"usr_{n}/wallet/USD") for n in range(3_000)], row("x", "1.00", CAPITAL, A)
    )
    assert (await Import(ledger, content).run()).counts == (2, 0, 0)
    assert (await balances(database.engine()))[CAPITAL] == -3_100


async def test_amounts_at_the_edge_are_booked_exactly(ledger, database):
    most = f"{2**256 - 1}"
    out, into = "house/capital/ETH", "usr_a/wallet/ETH"
    edge = row("edge", f"{most[:-18]}.{most[-18:]}", out, into, "ETH")
    beyond = row("beyond", "0.000000000000000001", out, into, "ETH")
    done = await Import(ledger, rows(edge, beyond)).run()
    assert (done.counts, [name for name, _ in done.refused]) == ((1, 0, 1), ["beyond"])
    assert await balances(database.engine()) == {out: 1 - 2**256, into: 2**256 - 1}
    assert most[:-18] + "." + most[-18:] in (await exported(database.engine())).decode()


async def test_books_keep_their_entries_apart(ledger, database):
    other = await new_ledger(database.engine(), book="other")
    content = rows(row("one", "5.00", CAPITAL, A))
    assert (await Import(ledger, content).run()).counts == (1, 0, 0)
    assert (await Import(other, content).run()).counts == (1, 0, 0)
    await Import(other, rows(row("two", "1.00", CAPITAL, A))).run()
    engine = database.engine()
    assert [(await balances(engine, name))[A] for name in ("main", "other")] == [500, 600]
    assert [(await exported(engine, name)).count(b"\n") for name in ("main", "other")] == [2, 3]
    assert await is_clean(engine, "other")


# What the book says


async def test_a_check_names_what_only_the_book_knows_and_writes_nothing(ledger, database):
    engine = database.engine()
    await Import(ledger, rows(row("own", "5.00", CAPITAL, A))).run()
    closing = OpenAccount(id="o", account="usr_c/wallet/USD"), CloseAccount(id="c", account="usr_c/wallet/USD")
    await ledger.submit(alone(closing[0]), alone(closing[1]))
    before = await ledger.last_seq()
    content = rows(
        row("imp:own:1", "5.00", CAPITAL, A),
        row("x", "1.00", CAPITAL, "usr_unknown/wallet/USD"),
        row("y", "1.00", CAPITAL, "usr_c/wallet/USD"),
        row("z", "1.00", CAPITAL, "usr_unknown/wallet/USD"),
        row("x", "1.00", CAPITAL, A),
    )
    checked = await Import(ledger, content).check(engine, opens=False)
    assert [(fault.line, fault.code) for fault in checked.first_faults] == [
        (2, "already_in_book"),
        (3, "unknown_account"),
        (4, "account_closed"),
        (6, "repeated_id"),
    ]
    assert (checked.rows, checked.faults, await ledger.last_seq()) == (5, 4, before)
    checked = await Import(ledger, content).check(engine, opens=True)
    assert {fault.code for fault in checked.first_faults} == {"already_in_book", "repeated_id"}


async def test_a_check_keeps_the_first_faults_and_counts_all(ledger, database):
    header = f"{HEADER},group"
    twice = [row(f"n{n}", "1.00", CAPITAL, A) + f",g{n}" for n in range(300)] * 2
    checked = await Import(ledger, rows(*twice, header=header)).check(database.engine())
    assert (checked.rows, checked.entries, checked.faults) == (600, 600, 600)
    assert [fault.line for fault in checked.first_faults] == [302 + n // 2 for n in range(FAULTS_KEPT)]
    bad = await Import(ledger, rows(*[row(f"n{n}", "x") for n in range(300)])).check(database.engine())
    assert (bad.faults, len(bad.first_faults)) == (300, FAULTS_KEPT)


async def test_an_unchecked_import_stops_before_the_first_wrong_row(ledger, database):
    engine = database.engine()
    await ledger.ensure_open(CAPITAL, A)
    good = [row(f"n{n}", "1.00", CAPITAL, A) for n in range(CHUNK + 10)]
    for number, (wrong, code) in enumerate(((row("w", "0"), "invalid_amount"), (row("w"), "unknown_account"))):
        content = rows(*good, wrong, row("behind", "1.00", CAPITAL, A))
        done = await Import(ledger, content).run(opens=False, unchecked_by=engine)
        assert done.tally.fault is not None
        assert (done.tally.fault.code, done.tally.fault.line) == (code, CHUNK + 12)
        assert done.counts == ((0, CHUNK + 10, 0) if number else (CHUNK + 10, 0, 0))
        assert done.tally.line == CHUNK + 11
    own = rows(*good[:3], row("imp:n0:1", "1.00", CAPITAL, A))
    stopped = (await Import(ledger, own).run(unchecked_by=engine)).tally.fault
    assert stopped is not None
    assert stopped.code == "already_in_book"
    assert (await balances(engine))[A] == (CHUNK + 10) * 100


async def test_an_unchecked_import_tells_of_entries_that_stood_twice(ledger, database):
    content = rows(*(row(name, "1.00", CAPITAL, A) for name in ("one", "two", "one")))
    done = await Import(ledger, content).run(unchecked_by=database.engine())
    assert (done.tally.booked, done.tally.repeated) == (2, 1)
    assert [(fault.line, fault.code) for fault in done.tally.first_repeated] == [(4, "repeated_id")]


async def test_a_freeze_stops_what_is_booked_by_hand_and_not_evidence(ledger):
    await Import(ledger, rows(row("fund", "9.00", CAPITAL, A))).run()
    await ledger.submit(alone(Freeze(id="f", scope=FreezeScope.OWNER, target="usr_a")))
    by_hand = await Import(ledger, rows(row("pay", "1.00", A, CAPITAL))).run(by_hand=HAND)
    assert by_hand.refused == [("pay", "frozen")]
    header = f"{HEADER},evidence.account,evidence.statement,evidence.line"
    moved = await Import(ledger, rows(row("fee", "1.00", A, BANK) + ",main,S,1", header=header)).run()
    assert moved.counts == (1, 0, 0)
    await ledger.submit(alone(Unfreeze(id="u", scope=FreezeScope.OWNER, target="usr_a")))
    assert (await Import(ledger, rows(row("pay", "1.00", A, CAPITAL))).run(by_hand=HAND)).counts == (1, 0, 0)


async def test_by_hand_no_more_leaves_suspense_than_is_there(ledger):
    await Import(ledger, rows(row("in", "5.00", CAPITAL, SUSPENSE))).run(by_hand=HAND)
    too_much = await Import(ledger, rows(row("out", "5.01", SUSPENSE, A))).run(by_hand=HAND)
    assert too_much.refused == [("out", "insufficient_funds")]
    assert (await Import(ledger, rows(row("all", "5.00", SUSPENSE, A))).run(by_hand=HAND)).counts == (1, 0, 0)


# Faults


async def test_a_database_that_goes_away_in_between_costs_nothing(ledger, database):
    engine = database.engine()
    gate = await Gate.open(int(database.app_url.rpartition(":")[2].partition("/")[0]))
    through = create_engine(gate.address(database.app_url), pool_size=3)
    far = PostgresLedger(through, clock=ManualClock(START), retry_seconds=0.2)
    content = rows(*many(8 * CHUNK))
    done = Import(far, content)
    running = asyncio.create_task(done.run(retry_seconds=30))
    try:
        for share in (1, 3, 5):
            await eventually("some are booked", partial(has_booked, engine, share * CHUNK))
            gate.withhold()
            await gate.cut()
            gate.let_through()
        await running
    finally:
        running.cancel()
        await far.aclose()
        await through.dispose()
        await gate.close()
    assert done.tally.booked + done.tally.known == 8 * CHUNK
    assert (await Import(ledger, content).run()).counts == (0, 8 * CHUNK, 0)
    assert await booked(engine) == 8 * CHUNK
    assert await is_clean(engine)


async def test_a_database_that_stays_away_ends_the_import_and_it_can_be_run_again(ledger, database):
    engine = database.engine()
    gate = await Gate.open(int(database.app_url.rpartition(":")[2].partition("/")[0]))
    through = create_engine(gate.address(database.app_url), pool_size=3)
    far = PostgresLedger(through, clock=ManualClock(START), retry_seconds=0.2)
    content = rows(*many(8 * CHUNK))
    running = asyncio.create_task(Import(far, content).run(retry_seconds=0.5))
    try:
        await eventually("some are booked", lambda: has_booked(engine, CHUNK))
        await gate.close()
        with pytest.raises(Unavailable):
            await running
    finally:
        await far.aclose()
        await through.dispose()
    known = await booked(engine)
    assert (await Import(ledger, content).run()).counts == (8 * CHUNK - known, known, 0)
    assert await is_clean(engine)


async def booked(engine):
    async with tx(engine) as connection:
        return len(list(await connection.scalars(select(lines.c.seq).where(lines.c.kind == LineKind.POSTED))))


async def has_booked(engine, least):
    return await booked(engine) >= least


# There and back


@pytest.mark.parametrize("form", FileFormat)
async def test_a_random_book_goes_into_a_new_one_with_equal_balances(database, form, seed):
    """Holds and credit lines aren't entries: what is posted comes across, and the lines are given before."""
    clock, engine = ManualClock(START), database.engine()
    old = await new_ledger(engine, "old", clock)
    await old.submit(OPENING)
    writer = Writer(random.Random(seed))
    writer.book.submit(OPENING, START)
    for _ in range(250):
        writer.let_time_pass()
        clock.instant = writer.now
        await old.submit(*(group for group, _ in writer.step(3)))
    content = await exported(engine, "old", form=form)
    later = writer.now + timedelta(days=1)  # the old book's clock went back at times
    new = await new_ledger(engine, "new", ManualClock(later))
    await new.submit(OPENING, *(alone(SetCreditLine(id=f"l:{n}", account=n, cap=2**100)) for n in ACCOUNTS[:4]))
    parser = Parser(ASSETS, now=later, by_hand=None)
    bundles = list(parser.bundles(RowFile(io.BytesIO(content), form, check_header=check_header)))
    importer = Importer(new, opens=True, refused=lambda *told: pytest.fail(str(told)), told=lambda more: None)
    tally = await importer.run(bundles)
    assert tally.fault is None
    assert (tally.rows, tally.booked, tally.refused) == (parser.rows, parser.entries, 0)
    before, after = await balances(engine, "old"), await balances(engine, "new")
    assert {name: found for name, found in before.items() if found} == {n: found for n, found in after.items() if found}
    assert sum(1 for found in before.values() if found) > 3
    assert await is_clean(engine, "new")
    again = await exported(engine, "new", form=form)
    assert cells_of(again, form) == cells_of(content, form)


def cells_of(content, form):
    """An export's rows, entries by the ids that they had in the book they first came from."""
    found = [dict(record.cells) for record in RowFile(io.BytesIO(content), form) if isinstance(record, Record)]
    return [cells | {"id": str(cells["id"]).removeprefix("imp:").removesuffix(":1")} for cells in found]


@pytest.fixture
def seed():
    drawn = random.SystemRandom().randrange(2**32)
    print("seed", drawn)
    return drawn


# Repeats


def test_repeats_are_found_among_more_names_than_memory_holds():
    number = 300_000
    with Repeats() as repeats:
        for line in range(number):
            repeats.add(line % 2, str(line // 2), line)
        assert list(repeats.found()) == []
        again = random.Random(1).sample(range(number), 50)
        for place, line in enumerate(again):
            repeats.add(line % 2, str(line // 2), number + place)
        assert sorted(repeats.found()) == sorted((line % 2, number + place, line) for place, line in enumerate(again))


def test_a_name_noted_often_is_found_each_further_time():
    with Repeats() as repeats:
        for line in (3, 5, 9):
            repeats.add(1, "x", line)
        assert sorted(repeats.found()) == [(1, 5, 3), (1, 9, 5)]
