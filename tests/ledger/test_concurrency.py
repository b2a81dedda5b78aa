"""Many at one book: processes, services, callers that hang up, rows and locks of others, neighbours that break.

What anybody is told must be what the core alone would have decided, in the order of the book.
"""

import asyncio
import contextlib
import random
import secrets
import time
from datetime import UTC, datetime
from functools import partial

import psutil
import pytest
from sqlalchemy import Column, Table, Text, select, text

from base.clock import ManualClock
from db.engine import create_engine, tx
from db.tables import metadata
from ledger.commands import (
    Charge,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    Post,
    Posting,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    alone,
)
from ledger.errors import BookBusy, BookCorrupt, InvalidCommand, OutcomeUnknown
from ledger.known import HOLDS_KEPT
from ledger.memory import MemoryLedger
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Advance, Insert
from ledger.waiting import STRETCH_MAX, Decided, Waiting, as_first
from tests.ledger import replay
from tests.ledger.chaos import Processes, unleash
from tests.ledger.crowd import Crowd, found_book
from tests.ledger.histories import ACCOUNTS, OPENING, START
from tests.ledger.test_faults import service, usd, whatever_comes
from tests.ledger.test_postgres import new_ledger
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS
FUNDING = alone(Post(id="funding", postings=(usd(10**6, BANK, A),)))


def post(name, amount=1, **more):
    return Post(id=name, postings=(usd(amount),), **more)


def posts(name, count):
    return [alone(post(f"{name} {n}")) for n in range(count)]


@pytest.fixture
async def ledger(database):
    ledger = await new_ledger(database.engine())
    await ledger.submit(OPENING, FUNDING)
    return ledger


@pytest.fixture
async def other(ledger, database):
    """A second service of the same book, as in another process."""
    return service(database.engine())


@contextlib.asynccontextmanager
async def book_locked(database):
    """Nobody can write while the block runs."""
    async with tx(database.engine()) as lock:
        await lock.execute(text("SELECT ledger_lock('main')"))
        yield


async def is_waiting_for_book(admin):
    async with tx(admin) as connection:
        query = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"
        return await connection.scalar(text(query))


# Processes


async def test_eight_processes_write_one_book_and_it_replays_to_what_each_was_told(database, tmp_path):
    """Two of them with clocks an hour apart; some callers hang up; each says again what others said."""
    seed = secrets.randbits(32)
    print("seed", seed)
    app = database.engine()
    await found_book(database.engine(owner=True), app)
    crowd = Crowd(seed, datetime.now(UTC))
    processes = Processes(database.app_url, crowd, tmp_path, time.monotonic() + 8, least_seconds=7)
    try:
        await unleash(processes, chance=random.Random(seed))
    finally:
        processes.stop()
    found = await replay.check(app, crowd, processes.records())
    print(found)
    assert found.batches["ahead"] > 0
    assert found.batches["locked"] > 10
    assert found.replays > 10
    assert found.conflicts > 2
    assert {"accepted", R.INSUFFICIENT_FUNDS, R.STALE_STATE, R.DUPLICATE_ROW, R.HOLD_CLOSED} <= set(found.refused)


async def test_what_another_process_wrote_is_not_decided_on_as_it_was(ledger, other):
    """Each knows the accounts as it left them; the other moves them on, also while a decision waits to be written."""
    told = {}
    for turn in range(30):
        mine, theirs = posts(f"mine {turn}", 3), posts(f"theirs {turn}", 2)
        answers = await asyncio.gather(ledger.submit(*mine), other.submit(*theirs))
        for [outcome] in (*answers[0], *answers[1]):
            told[outcome.seq] = outcome
    model = MemoryLedger(ManualClock(START))
    await model.submit(OPENING, FUNDING)
    for seq in sorted(told):
        assert (await model.submit(alone(post(told[seq].id))))[0] == (told[seq],)
    assert await ledger.accounts() == await model.accounts()
    assert ledger.batches["locked"] + other.batches["locked"] > 0


# Rows that ride along


async def make_table(database, name, rights="SELECT, INSERT, UPDATE"):
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text(f"CREATE TABLE {name} (book text, id text, state text, PRIMARY KEY (book, id))"))
        await connection.execute(text(f"GRANT {rights} ON {name} TO onebook_app"))
    columns = Column("book", Text, primary_key=True), Column("id", Text, primary_key=True), Column("state", Text)
    return Table(name, metadata, *columns)


@pytest.fixture
async def tables(ledger, database):
    """Tables `left_things` and `right_things`, with a row `x` in state `new` in each."""
    made = [await make_table(database, name) for name in ("left_things", "right_things")]
    for table in made:
        await ledger.submit(alone(post(f"make {table.name}"), insert("x", table.name)))
    yield made
    for table in made:
        metadata.remove(table)


def insert(name, table="left_things"):
    return Insert(table, {"book": "main", "id": name}, {"state": "new"})


def use(name, table="left_things", row="x"):
    return alone(post(name), Advance(table, {"book": "main", "id": row}, {"state": "new"}, {"state": "used"}))


@pytest.mark.usefixtures("tables")
async def test_a_row_that_is_there_already_refuses_its_own_group_only(ledger, other):
    await other.submit(alone(post("theirs"), insert("y")))
    groups = [
        alone(post("fine 1"), insert("z")),
        Group((post("double"), post("with it")), (insert("y"),)),
        alone(post("same row"), insert("z")),
        alone(post("fine 2"), insert("w")),
    ]
    fine, double, same, last = await asyncio.gather(*(ledger.submit(group) for group in groups))
    assert (fine[0][0].accepted, last[0][0].accepted) == (True, True)
    assert [outcome.refusal.code for outcome in double[0]] == [R.DUPLICATE_ROW, R.GROUP_REFUSED]
    assert same[0][0].refusal.code is R.DUPLICATE_ROW
    assert (await ledger.account(B)).balance == 2 + 1 + 2


@pytest.mark.usefixtures("tables")
async def test_a_row_that_is_there_already_comes_before_what_else_is_wrong(database):
    """The order is the core's, also where nobody here knew the row: after the first one they're looked for."""
    fresh = service(database.engine())
    for turn in range(3):
        names = f"known {turn}", f"unknown {turn}"
        calls = [alone(post(names[0], 10**7), insert("x")), alone(post(names[1], 10**7), insert("y"))]
        [[known]], [[unknown]] = await asyncio.gather(*(fresh.submit(call) for call in calls))
        assert known.refusal.code is R.DUPLICATE_ROW
        assert unknown.refusal.code is R.INSUFFICIENT_FUNDS
    assert fresh.batches["locked"] == 1


async def test_rows_of_a_table_that_may_only_be_added_to_ride_along_under_the_lock_too(ledger, database):
    only = await make_table(database, "only_added", rights="SELECT, INSERT")
    try:
        await ledger.submit(alone(post("first"), insert("y", only.name)))
        behind = service(database.engine())
        calls = [alone(post(f"second {row}"), insert(row, only.name)) for row in ("y", "z")]
        [[again]], [[other]] = await asyncio.gather(*(behind.submit(call) for call in calls))
        assert (again.refusal.code, other.refusal, behind.batches["locked"]) == (R.DUPLICATE_ROW, None, 1)
    finally:
        metadata.remove(only)


async def test_a_group_waits_for_a_row_that_another_tx_has_locked(ledger, database, tables):
    async with tx(database.engine()) as holder:
        await holder.execute(select(tables[0]).with_for_update())
        waiting = asyncio.create_task(ledger.submit(use("use")))
        [(neighbour,)] = await ledger.submit(alone(post("neighbour")))
        assert neighbour.accepted
        assert not waiting.done()
    [(used,)] = await waiting
    assert used.accepted
    assert used.seq > neighbour.seq
    [(stale,)] = await ledger.submit(use("again"))
    assert stale.refusal.code is R.STALE_STATE


async def test_a_row_locked_elsewhere_does_not_hide_the_rows_of_other_tables(ledger, database, tables):
    """A row that looked absent would be refused as stale, and that refusal remembered."""
    left, right = tables
    async with tx(database.engine()) as holder:
        await holder.execute(select(left).with_for_update())
        both = asyncio.gather(ledger.submit(use("locked", left.name)), ledger.submit(use("free", right.name)))
        await eventually("the free one is written", lambda: ledger.outcomes("free"))
        assert not both.done()
    [[locked]], [[free]] = await both
    assert (locked.refusal, free.refusal) == (None, None)


@pytest.mark.usefixtures("tables")
async def test_of_two_groups_that_use_up_one_row_in_one_batch_the_second_is_stale(ledger):
    first, second = await ledger.submit(use("first"), use("second"))
    assert first[0].accepted
    assert second[0].refusal.code is R.STALE_STATE
    assert (await ledger.account(B)).balance == 3


# Neighbours


POISON = {
    "no text that PostgreSQL can store": alone(Post(id="p", postings=(usd(1, "usr_\0/wallet/USD"),))),
    "no text at all": alone(Post(id="p", postings=(usd(1, "usr_\ud800/wallet/USD"),))),
    "no such table": alone(post("p"), Insert("no_such_table", {"id": "x"}, {})),
    "no such value": alone(post("p"), Insert("left_things", {"book": "main", "id": "y"}, {"state": object()})),
    "no such instant": alone(post("p", effective_at=datetime(2025, 1, 1))),  # noqa: DTZ001
    "an account's name in a frozen place": alone(Freeze(id="p", scope=FreezeScope.OWNER, target="\0")),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
@pytest.mark.usefixtures("tables")
async def test_a_command_that_cannot_be_written_fails_alone(ledger, poison):
    before = (await ledger.account(B)).balance
    calls = [*posts("before", 3), poison, *posts("after", 3), use("use")]
    answers = await whatever_comes(*(ledger.submit(call) for call in calls))
    broken = answers.pop(3)
    assert isinstance(broken, Exception)
    assert not isinstance(broken, BookBusy | OutcomeUnknown)
    assert all(outcome.accepted and not outcome.replayed for [[outcome]] in answers)
    assert (await ledger.account(B)).balance == before + 7
    assert await ledger.outcomes("p") == []


async def test_what_a_caller_says_twice_is_a_repeat_also_where_each_group_is_written_apart(ledger):
    twice = alone(post("twice"))
    broken, told = await whatever_comes(ledger.submit(POISON["no such table"]), ledger.submit(twice, twice))
    assert isinstance(broken, Exception)
    assert [outcome.replayed for [outcome] in told] == [False, True]
    assert ledger.batches["apart"] == 1


async def test_of_what_was_said_twice_and_lost_in_a_commit_the_second_is_a_repeat():
    book, twice = MemoryLedger(ManualClock(START)), alone(post("twice"))
    first, repeat = await book.submit(twice, twice)
    waiting = Waiting((twice, twice), asyncio.get_running_loop().create_future(), 2)
    Decided(waiting, [first, repeat]).note_lost()
    assert as_first(Decided(waiting, [repeat, repeat])) == [first, repeat]


@pytest.mark.parametrize("first_asks", ["nothing", "to reverse the first of it"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_group_repeated_to_another_process_is_a_repeat_whatever_names_its_commands(
    ledger, other, first_asks, together
):
    """The other process takes what it hasn't seen for new: a command that something names must not become the only
    one of its group that it knows."""
    within = Group(commands=(post("x1"), Reverse(id="x2", entry="x1"), post("x3")))
    plain = Group(commands=(post("y1"), post("y2")))
    first = await ledger.submit(within, plain)
    assert all(outcome.accepted for outcomes in first for outcome in outcomes)
    back = alone(Reverse(id="back", entry="y1"))
    if first_asks != "nothing":
        asked = [back, within, plain] if together else [back]
        ((undone,), *_) = await other.submit(*asked)
        assert undone.accepted
    again = await other.submit(within, plain)
    assert [[outcome.replayed for outcome in outcomes] for outcomes in again] == [[True] * 3, [True] * 2]
    assert [[outcome.seq for outcome in outcomes] for outcomes in again] == [
        [outcome.seq for outcome in outcomes] for outcomes in first
    ]


async def test_a_content_that_is_no_hash_does_not_spoil_its_neighbours(ledger):
    with pytest.raises(InvalidCommand):
        await ledger.submit(alone(post("short"), content=b"short"), alone(post("fine")))
    assert await ledger.outcomes("short", "fine") == []


# Callers


async def test_a_cancelled_caller_neither_loses_nor_doubles_its_command(ledger, database):
    """Hung up before it was looked at, while it waits to be written, and in its commit."""
    admin = database.engine(admin=True)
    early = asyncio.create_task(ledger.submit(alone(post("early", 5))))
    await asyncio.sleep(0)
    early.cancel()
    async with book_locked(database):
        late = asyncio.create_task(ledger.submit(alone(post("late", 5))))
        neighbour = asyncio.create_task(ledger.submit(alone(post("neighbour", 5))))
        await eventually("it is being written", lambda: is_waiting_for_book(admin))
        late.cancel()
        for caller in (early, late):
            with pytest.raises(asyncio.CancelledError):
                await caller
    for name in ("early", "late"):
        [(outcome,)] = await ledger.submit(alone(post(name, 5)))
        assert (outcome.accepted, outcome.replayed) == (True, True)
    [(outcome,)] = await neighbour
    assert (outcome.accepted, outcome.replayed) == (True, False)
    assert (await ledger.account(B)).balance == 15


async def test_closing_writes_what_waits_and_takes_no_more(ledger):
    waiting = [asyncio.create_task(ledger.submit(group)) for group in posts("x", 500)]
    await asyncio.sleep(0)
    await ledger.aclose()
    assert all(task.done() for task in waiting)
    assert all(task.result()[0][0].accepted for task in waiting)
    with pytest.raises(BookBusy):
        await ledger.submit(alone(post("too late")))
    assert (await ledger.account(B)).balance == 500


async def test_closing_a_stuck_book_answers_everybody(ledger, database):
    """What can't be written in time: those whose fate is open hear so, the others that nothing was written."""
    admin = database.engine(admin=True)
    async with book_locked(database):
        sent = asyncio.create_task(ledger.submit(alone(post("sent"))))
        await eventually("it is being written", lambda: is_waiting_for_book(admin))
        decided = [asyncio.create_task(ledger.submit(group)) for group in posts("decided", 1500)]
        await eventually("some are decided", lambda: decided_at_least(ledger, 500))
        began = time.monotonic()
        await ledger.aclose(seconds=0.2)
        assert time.monotonic() - began < 5
        with pytest.raises(OutcomeUnknown):
            await sent
        answers = await whatever_comes(*decided)
        assert {type(answer) for answer in answers} == {BookBusy}
    again = service(database.engine())
    [[first]], *_ = [await again.submit(group) for group in (alone(post("sent")), *posts("decided", 3))]
    assert first.accepted
    assert (await again.account(B)).balance == 4


async def decided_at_least(ledger, count):
    return sum(ledger.decided.values()) >= count


async def test_a_full_queue_refuses_at_once_and_writes_nothing(database):
    ledger = await new_ledger(database.engine(), queue_max=300)
    await ledger.submit(OPENING, FUNDING)
    admin = database.engine(admin=True)
    async with book_locked(database):
        waiting = [asyncio.create_task(ledger.submit(alone(post("first"))))]
        await eventually("it is being written", lambda: is_waiting_for_book(admin))
        before = psutil.Process().memory_info().rss
        refused = 0
        for burst in range(200):
            group = Group(tuple(post(f"{burst} {n}") for n in range(100)))  # counted by commands, not by groups
            task = asyncio.create_task(ledger.submit(group))
            await asyncio.sleep(0)
            if task.done():
                assert isinstance(task.exception(), BookBusy)
                refused += 1
            else:
                waiting.append(task)
        assert refused > 150
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
    answers = [await task for task in waiting]
    assert all(outcome.accepted for [outcomes] in answers for outcome in outcomes)
    assert (await ledger.account(B)).balance == sum(len(outcomes) for [outcomes] in answers)


async def test_a_bulk_does_not_keep_single_callers_waiting(ledger):
    """A single caller behind ten bulks of a thousand waits for no more batches than those that came before it."""
    bulks = [asyncio.create_task(ledger.submit(*posts(f"bulk {n}", 100))) for n in range(2)]
    await asyncio.gather(*bulks)
    batches = ledger.batches.total()
    many = asyncio.create_task(ledger.submit(*posts("many", 1000)))
    await asyncio.sleep(0)
    waited: list[int] = []
    while not many.done():
        [(outcome,)] = await ledger.submit(alone(post(f"single {len(waited)}")))
        waited.append(ledger.batches.total() - batches)
        batches = ledger.batches.total()
        assert outcome.accepted
    assert max(waited) <= 2 * 1000 // STRETCH_MAX
    steady: list[float] = []
    noise = [asyncio.create_task(shout(ledger, n, until=time.monotonic() + 2)) for n in range(4)]
    while not all(task.done() for task in noise):
        began = time.monotonic()
        await ledger.submit(alone(post(f"calm {len(steady)}")))
        steady.append(time.monotonic() - began)
    await asyncio.gather(*noise)
    print(f"{len(steady)} single callers beside four bulk ones, the slowest waited {max(steady):.2f} s")
    assert max(steady) < 2
    assert len(steady) > 3


async def shout(ledger, number, *, until):
    count = 0
    while time.monotonic() < until:
        count += 1
        back = Posting(debit=B, credit=A, asset="USD", amount=1)
        await ledger.submit(
            *(alone(Post(id=f"{number}.{count}.{n}", postings=(usd(1) if n % 2 else back,))) for n in range(1000))
        )


# What the process remembers


async def test_what_is_not_yet_written_is_not_forgotten(ledger, database):
    """A limit is used up; while that waits to be written, more limits pass by than are kept; it stays used up."""
    admin = database.engine(admin=True)
    async with book_locked(database):
        first = asyncio.create_task(ledger.submit(alone(post("first", charges=(Charge("day", 3, 3),)))))
        await eventually("it is being written", lambda: is_waiting_for_book(admin))
        decided = ledger.decided.total()
        passing = []
        for n in range(3):
            charges = tuple(Charge(f"passing {n} {other}", 1, 1) for other in range(HOLDS_KEPT + 500))
            passing.append(asyncio.create_task(ledger.submit(alone(post(f"passing {n}", charges=charges)))))
            await eventually("it is decided", partial(decided_at_least, ledger, decided + n + 1))
        again = asyncio.create_task(ledger.submit(alone(post("again", charges=(Charge("day", 1, 3),)))))
        await eventually("it is decided", partial(decided_at_least, ledger, decided + 4))
    [[used]], [[over]] = await asyncio.gather(first, again)
    assert used.accepted
    assert over.refusal.code is R.LIMIT_EXCEEDED
    await asyncio.gather(*passing)
    assert ledger.batches["locked"] == 0, "the database had to tell it"


async def test_of_several_changes_in_one_batch_the_last_one_stays(ledger, other):
    """Of an account's flags, of a freeze, of a limit's counter; another service reads what was written."""
    await ledger.submit(
        *(alone(SetCreditLine(id=f"line {cap}", account=A, cap=cap)) for cap in (5, 50, 20)),
        alone(Freeze(id="f1", scope=FreezeScope.OWNER, target="usr_b")),
        alone(Unfreeze(id="f2", scope=FreezeScope.OWNER, target="usr_b")),
        alone(Freeze(id="f3", scope=FreezeScope.ASSET, target="ETH")),
        *(alone(post(f"limited {n}", charges=(Charge("day", 1, 3),))) for n in range(3)),
    )
    batches = ledger.batches.total()
    assert batches <= 3, "the batch was taken apart"
    assert (await other.account(A)).credit_line == 20
    assert await other.freezes() == [(FreezeScope.ASSET, "ETH")]
    (limited,), (fine,) = await other.submit(
        alone(post("limited", charges=(Charge("day", 1, 3),))), alone(post("fine"))
    )
    assert limited.refusal.code is R.LIMIT_EXCEEDED
    assert fine.accepted


CHANGES = ["credits_posted = credits_posted + 7", "credits_posted = debits_posted"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("bad", [alone(post("bad")), alone(Hold(id="bad", postings=(usd(1),)))], ids=["post", "hold"])
async def test_an_account_changed_behind_the_engines_back_is_noticed_and_left_alone(ledger, database, bad, change):
    """Also where the change would have made a decision impossible to write."""
    await ledger.submit(alone(post("seen")))
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text(f"UPDATE ledger_accounts SET {change} WHERE name = :name"), {"name": A})
        altered = await connection.scalar(text("SELECT credits_posted FROM ledger_accounts WHERE name = :n"), {"n": A})
    for attempt in range(2):
        elsewhere = alone(Post(id=f"elsewhere {attempt}", postings=(usd(3, BANK, FX),)))
        calls = whatever_comes(*(ledger.submit(call) for call in (bad, elsewhere)))
        error, [[good]] = await calls
        assert isinstance(error, BookCorrupt)
        assert A in error.message
        assert good.accepted
    account = await ledger.account(A)
    assert (account.credits_posted, account.debits_posted, account.debits_pending) == (altered, 1, 0)
    assert await ledger.outcomes("bad") == []


async def test_a_hold_changed_behind_the_engines_back_is_noticed(ledger, database):
    await ledger.submit(alone(Hold(id="hold", postings=(usd(5),))))
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("UPDATE ledger_holds SET state = 'voided', remaining = 0"))
    with pytest.raises(BookCorrupt):
        await ledger.submit(alone(Settle(id="settle", hold="hold")))
    assert (await ledger.account(B)).balance == 0


# Connections


async def test_a_lost_reader_does_not_break_off_what_is_being_written(ledger, database):
    """Nor does anybody who asks meanwhile get the writer's connection."""
    engine = create_engine(database.app_url, pool_size=3)
    mine = service(engine)
    admin = database.engine(admin=True)
    async with book_locked(database):
        first = asyncio.create_task(mine.submit(alone(post("first"))))
        await eventually("it is being written", lambda: is_waiting_for_book(admin))
        async with tx(admin) as connection:
            ended = await connection.scalar(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND state = 'idle' AND query LIKE '%ledger_find%'"
                )
            )
        assert ended
        unknown = Post(id="second", postings=(usd(1, BANK, B),))  # an account that the reader must look for
        second = asyncio.create_task(mine.submit(alone(unknown)))
        for _ in range(20):
            assert (await mine.account(B)).balance == 0
    [(one,)], [(two,)] = await asyncio.gather(first, second)
    assert (one.accepted, two.accepted) == (True, True)
    assert mine.batches == {"ahead": 1, "locked": 1}
    assert (await mine.account(B)).balance == 2
    await mine.aclose()
    await engine.dispose()


@pytest.mark.parametrize("call", ["SELECT ledger_lock('main')"])
async def test_the_book_is_written_under_read_committed_only(ledger, database, call):
    """Under any other isolation, what is read behind the lock would be older than the lock."""
    engine = database.engine()
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        with pytest.raises(Exception, match="READ COMMITTED only"):
            await connection.execute(text(call))


# Partitions


async def test_partitions_are_made_while_two_services_write_across_their_end(ledger, other, database):
    """The book is put near the end of the last partition there is while both are writing."""
    size = 8_388_608
    await asyncio.gather(ledger.submit(*posts("a", 10)), other.submit(*posts("b", 10)))
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("UPDATE ledger_books SET seq = :seq"), {"seq": 2 * size - 300})

    async def write(service, name):
        for n in range(10):
            answers = await service.submit(*posts(f"{name} {n}", 40))
            assert all(outcome.accepted for (outcome,) in answers)

    await asyncio.gather(write(ledger, "mine"), write(other, "theirs"))
    async with tx(database.engine()) as connection:
        seqs = await connection.execute(
            text("SELECT seq FROM ledger_commands WHERE seq > :n ORDER BY seq"), {"n": size}
        )
        found = list(seqs.scalars())
        places = await connection.execute(text("SELECT DISTINCT tableoid::regclass::text FROM ledger_lines"))
        parts = sorted(places.scalars())
    assert found == list(range(2 * size - 299, 2 * size - 299 + 800))
    assert parts == ["ledger_lines_1_0", "ledger_lines_1_1", "ledger_lines_1_2"]
    assert (await ledger.account(B)).balance == 820


async def test_who_owes_something_is_refused_and_is_accepted_plainly_once_it_is_paid(ledger):
    """BANK is below zero until A has paid it back; the other account was never opened."""

    def commands(run):
        names = ("usr_never/wallet/USD", BANK)
        entry = Post(id=f"{run} p", postings=(usd(1, B, A),), owing_nothing=names)
        return (
            entry,
            Hold(id=f"{run} h", postings=(usd(1, B, A),), owing_nothing=names),
            Settle(id=f"{run} s", hold="held", owing_nothing=names),
        )

    await ledger.submit(alone(post("share", 10)), alone(Hold(id="held", postings=(usd(5, B, A),))))
    for command in commands("owing"):
        [[refused]] = await ledger.submit(alone(command))
        assert (refused.refusal.code, refused.refusal.facts) == (R.RECEIVABLE_OPEN, {"asset": "USD", "owed": 10**6})
    await ledger.submit(alone(Post(id="paid", postings=(usd(10**6 - 10, A, BANK), usd(10, RECEIVABLE, BANK)))))
    plain = ledger.decided["plain"]
    for command in commands("paid"):
        [[outcome]] = await ledger.submit(alone(command))
        assert outcome.accepted
    assert ledger.decided["plain"] == plain + 3


async def test_accounts_that_are_there_are_not_opened_again_by_the_next_process(ledger, other):
    await ledger.ensure_open(A, B)
    await other.ensure_open(A, B)
    assert other.batches.total() == 0
