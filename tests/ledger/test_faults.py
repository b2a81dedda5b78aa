"""The book's own failures: killed clients, killed or full servers, others' locks, repeats, amounts at the edge.

Faults are made from outside: processes are killed, a gate in front of the database withholds its answers, disks are
full. What is compared is what callers were told with what stands in the book.
"""

import asyncio
import contextlib
import hashlib
import random
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import Column, Table, Text, text

from api.catalogue import CATALOGUE
from base.clock import ManualClock
from db.engine import create_engine, tx
from db.errors import DatabaseUnavailable, DiskFull, PoolExhausted
from db.server import at_database
from db.tables import metadata
from ledger.audit import audit
from ledger.commands import Expire, Hold, Post, Posting, Settle, Void, alone
from ledger.errors import BookBusy, OutcomeUnknown
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Advance, Insert
from ledger.service import PostgresLedger
from tests.ledger import chaos, replay
from tests.ledger.chaos import Processes, unleash
from tests.ledger.crowd import Crowd, found_book
from tests.ledger.histories import ACCOUNTS, OPENING, START
from tests.ledger.spender import events
from tests.ledger.test_postgres import new_ledger
from tests.support.disk import fill, small_disk
from tests.support.gate import Gate
from tests.support.postgres import TEMPLATE
from tests.support.waiting import eventually
from wiring.checks import book_check

pytestmark = pytest.mark.slow

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS


SAME = hashlib.sha256(b"what the caller sent").digest()


def service(engine, *, now=START, **more):
    """One process's view of the book."""
    return PostgresLedger(engine, clock=ManualClock(now), **more)


async def whatever_comes(*calls):
    """What each gives, or raises."""
    return await asyncio.gather(*calls, return_exceptions=True)


def usd(amount, debit=A, credit=B):
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount)


def post(name, amount=1, **more):
    return Post(id=name, postings=(usd(amount),), **more)


@pytest.fixture
async def ledger(database):
    ledger = await new_ledger(database.engine())
    await ledger.submit(OPENING, alone(Post(id="funding", postings=(usd(1000, BANK, A),))))
    return ledger


@pytest.fixture
def seed():
    drawn = secrets.randbits(32)
    print("seed", drawn)
    return drawn


@pytest.fixture
async def things(database):
    """A table that riders may write."""
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("CREATE TABLE things (book text, id text, state text, PRIMARY KEY (book, id))"))
        await connection.execute(text("GRANT SELECT, INSERT, UPDATE ON things TO onebook_app"))
    columns = Column("book", Text, primary_key=True), Column("id", Text, primary_key=True), Column("state", Text)
    table = Table("things", metadata, *columns)
    yield table
    metadata.remove(table)


def insert(name):
    return Insert("things", {"book": "main", "id": name}, {"state": "new"})


# F60


async def test_f60_fifty_concurrent_requests_with_one_id_have_one_effect(ledger, database):
    """Through two services at once, as if the requests had come to two processes."""
    other = service(database.engine(), now=START + timedelta(hours=1))
    group = alone(post("once", 7))
    answers = await asyncio.gather(*((ledger, other)[n % 2].submit(group) for n in range(50)))
    firsts = [outcome for [(outcome,)] in answers if not outcome.replayed]
    assert len(firsts) == 1
    assert all(replace(outcome, replayed=False) == firsts[0] for [(outcome,)] in answers)
    assert (await ledger.account(B)).balance == 7


# F61


@contextlib.asynccontextmanager
async def gate_of(database) -> AsyncIterator[tuple[Gate, str]]:
    """A gate in front of the server, and the service's address by way of it."""
    gate = await Gate.open(int(database.app_url.rpartition(":")[2].partition("/")[0]))
    try:
        yield gate, gate.address(database.app_url)
    finally:
        await gate.close()


async def has_heard(record, least):
    return sum("heard" in event for event in events(record)) >= least


async def test_f61_killed_between_commit_and_answer_the_repeat_gets_the_stored_outcome(database, tmp_path, seed):
    app = database.engine()
    await found_book(database.engine(owner=True), app)
    crowd = Crowd(seed, datetime.now(UTC))
    book = service(app)
    async with gate_of(database) as (gate, url):
        processes = Processes(database.app_url, crowd, tmp_path, time.monotonic() + 60)
        try:
            processes.start(0, url=url)
            record = processes.record(0)

            async def unanswered():
                """Outcomes in the book that nobody has heard, nor will."""
                gate.let_through()
                await eventually("it has heard more", lambda: has_heard(record, 20))
                gate.withhold()
                await asyncio.sleep(0.1)  # what was let through arrives
                heard = {event["name"] for event in events(record) if "heard" in event}
                said = {name for event in events(record) for name in event.get("sent", ())}
                return await book.outcomes(*(name for name in said - heard if "/" not in name))

            committed = await eventually("something is committed that nobody was told", unanswered)
            processes.kill(0)
            await gate.cut()
            processes.until = time.monotonic() + 1
            processes.start(0)
            await processes.finish(seconds=30)
        finally:
            processes.stop()
    told = {event["name"]: event["heard"] for event in events(record) if "heard" in event}
    assert all(told[outcome.id][0]["replayed"] for outcome in committed if outcome.id in told)
    assert any(outcome.id in told for outcome in committed)
    found = await replay.check(app, crowd, processes.records())
    assert found.replays


async def test_f61_killed_at_any_moment_every_command_happened_once(database, tmp_path, seed):
    app = database.engine()
    await found_book(database.engine(owner=True), app)
    crowd = Crowd(seed, datetime.now(UTC))
    processes = Processes(database.app_url, crowd, tmp_path, time.monotonic() + 6)
    try:
        await unleash(processes, chance=random.Random(seed), clients=True)
    finally:
        processes.stop()
    found = await replay.check(app, crowd, processes.records())
    assert found.decided > 100
    assert found.replays


@pytest.fixture
async def slow_commit(database, things):
    """While the advisory lock 42 is taken, a tx that wrote a row of `things` waits in its COMMIT."""
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER wait AFTER INSERT OR UPDATE ON things DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION wait()"
            )
        )


async def is_waiting(admin, event):
    """What a session does that waits for such a lock (`advisory`, `transactionid`, ...); None if there is none."""
    async with tx(admin) as connection:
        waiting = text("SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event = :event")
        return await connection.scalar(waiting, {"event": event})


ADVANCE = Advance("things", {"book": "main", "id": "x"}, {"state": "new"}, {"state": "used"})


@pytest.mark.parametrize(("rider", "statement"), [(insert("y"), "ledger_write"), (ADVANCE, "COMMIT")])
@pytest.mark.usefixtures("slow_commit")
async def test_f61_a_commit_whose_answer_was_lost_is_sent_again(ledger, database, rider, statement):
    """Of equal requests in it one is the first; each had made a subject of its own, and only one of those exists."""
    admin = database.engine(admin=True)
    await ledger.submit(alone(post("make"), insert("x")))
    async with gate_of(database) as (gate, url):
        engine = create_engine(url, pool_size=2)
        behind = service(engine)
        await behind.submit(alone(post("warm")))
        async with tx(database.engine()) as lock:
            await lock.execute(text("SELECT pg_advisory_xact_lock(42)"))
            same = [alone(post("same", 5, subject=f"trf_{n}"), rider, content=SAME) for n in range(3)]
            calls = asyncio.gather(*(behind.submit(group) for group in same))
            under_way = await eventually("it is in its COMMIT", lambda: is_waiting(admin, "advisory"))
            assert statement in under_way  # ahead of the lock one statement is the whole tx
            gate.withhold()
        await eventually("it is committed", lambda: ledger.outcomes("same"))
        assert not calls.done()
        await gate.cut()
        gate.let_through()
        answers = await calls
        await behind.aclose()
        await engine.dispose()
    told = [(outcome.subject, outcome.replayed) for [[outcome]] in answers]
    assert told == [("trf_0", False), ("trf_0", True), ("trf_0", True)]
    assert (await ledger.account(B)).balance == 7


# F62


async def test_f62_the_server_ends_under_load_and_every_answer_is_in_the_book(tmp_path, seed):
    tmp_path.chmod(0o711)
    found = await chaos.run(tmp_path, seed=seed, seconds=8, clients=False)
    assert found.decided > 100


@pytest.mark.usefixtures("slow_commit")
async def test_f62_while_the_database_is_away_each_hears_what_is_known(ledger, database):
    admin = database.engine(admin=True)
    async with gate_of(database) as (gate, url):
        engine = create_engine(url, pool_size=2)
        behind = service(engine, retry_seconds=0.5)
        await behind.submit(alone(post("warm")))
        async with tx(database.engine()) as lock:
            await lock.execute(text("SELECT pg_advisory_xact_lock(42)"))
            sent = asyncio.create_task(behind.submit(alone(post("sent"), insert("y"))))
            await eventually("it is in its COMMIT", lambda: is_waiting(admin, "advisory"))
            decided = asyncio.create_task(behind.submit(alone(post("decided"))))
            gate.withhold()
        await eventually("it is committed", lambda: ledger.outcomes("sent"))
        await gate.close()
        with pytest.raises(OutcomeUnknown):
            await sent
        with pytest.raises(DatabaseUnavailable):
            await decided
        with pytest.raises(DatabaseUnavailable):
            await behind.submit(alone(post("later")))
        assert await book_check(behind)() is not None
        await engine.dispose()
    assert await ledger.outcomes("decided", "later") == []
    [(repeated,)] = await ledger.submit(alone(post("sent"), insert("y")))
    assert (repeated.accepted, repeated.replayed) == (True, True)


# F63


async def test_f63_a_deadlock_is_tried_again(ledger, database, things):
    admin = database.engine(admin=True)
    async with tx(database.engine()) as other:
        await other.execute(things.insert(), [{"book": "main", "id": "x", "state": "theirs"}])
        call = asyncio.create_task(ledger.submit(alone(post("ours"), insert("x"))))
        await eventually("it waits for their row", lambda: is_waiting(admin, "transactionid"))
        with contextlib.suppress(Exception):  # one of the two is told to give way
            await other.execute(text("SELECT ledger_lock('main')"))
        await other.rollback()
        [(outcome,)] = await call
    assert outcome.accepted
    assert (await ledger.account(B)).balance == 1


@pytest.fixture
async def conflicts(database, things):
    """Writing the row `bad` of `things` always fails to serialize; writing `late` does so twice."""
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("CREATE SEQUENCE tries"))
        await connection.execute(text("GRANT USAGE ON SEQUENCE tries TO onebook_app"))
        await connection.execute(
            text(
                "CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF NEW.id = 'bad' OR NEW.id = 'late' AND nextval('tries') <= 2"
                " THEN RAISE 'concurrent update' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text("CREATE TRIGGER collide BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION collide()")
        )


@pytest.mark.usefixtures("conflicts")
async def test_f63_a_serialization_failure_is_tried_again_but_not_for_ever(ledger):
    calls = [alone(post("stuck"), insert("bad")), alone(post("late"), insert("late")), alone(post("free"))]
    stuck, late, free = await whatever_comes(*(ledger.submit(call) for call in calls))
    assert isinstance(stuck, BookBusy)
    assert CATALOGUE[stuck.code].status in (429, 503)  # what a client may send again by itself
    assert [outcome.accepted for [(outcome,)] in (late, free)] == [True, True]
    assert await ledger.outcomes("stuck") == []
    assert (await ledger.account(B)).balance == 2


@pytest.mark.parametrize(("lock_seconds", "riders"), [(0.2, (insert("y"),)), (10, (ADVANCE, insert("y")))])
async def test_f63_who_waits_for_a_row_that_is_being_added_stops_nobody_else(
    ledger, database, things, lock_seconds, riders
):
    """Ahead of the lock, and under it, where the whole book would wait."""
    await ledger.submit(alone(post("make"), insert("x")))
    engine = create_engine(database.app_url, lock_seconds=lock_seconds)
    hasty = service(engine)
    async with tx(database.engine()) as other:
        await other.execute(things.insert(), [{"book": "main", "id": "y", "state": "theirs"}])
        calls = [alone(post("stuck"), *riders), alone(post("free")), alone(post("too"), insert("z"))]
        began = time.monotonic()
        stuck, free, too = await whatever_comes(*(hasty.submit(call) for call in calls))
        assert time.monotonic() - began < 9
    assert isinstance(stuck, BookBusy)
    assert [outcome.accepted for [(outcome,)] in (free, too)] == [True, True]
    [(refused,)] = await hasty.submit(alone(post("stuck"), *riders))
    assert refused.refusal.code is R.DUPLICATE_ROW
    await engine.dispose()


async def test_f63_an_idle_tx_that_holds_the_books_lock_is_ended_and_meanwhile_the_book_is_busy(ledger, database):
    engine, idle = create_engine(database.app_url, lock_seconds=0.2), create_engine(database.app_url, idle_seconds=2)
    hasty = service(engine, retry_seconds=0.5)
    with contextlib.suppress(DatabaseUnavailable):
        async with tx(idle) as connection:
            await connection.execute(text("SELECT ledger_lock('main')"))
            with pytest.raises(BookBusy):
                await hasty.submit(alone(post("meanwhile")))
            assert await book_check(hasty)() is not None

            async def is_free():
                with contextlib.suppress(BookBusy):
                    return await hasty.submit(alone(post("then")))

            await eventually("the server has ended it", is_free)
    assert await book_check(hasty)() is None
    assert await ledger.outcomes("meanwhile") == []
    await engine.dispose()
    await idle.dispose()


# F64


@pytest.mark.parametrize("rival", [Void, Expire])
async def test_f64_settle_races_void_and_expiry_with_one_outcome(ledger, database, rival):
    """Two services, the clock of one of them beyond the holds' expiry: each is right by its own clock."""
    ends = START + timedelta(minutes=5)
    late = service(database.engine(), now=ends if rival is Expire else START)
    holds = [f"h{n}" for n in range(40)]
    await ledger.submit(*(alone(Hold(id=hold, postings=(usd(5),), expires_at=ends)) for hold in holds))

    async def race(hold):
        settle = ledger.submit(alone(Settle(id=f"settle {hold}", hold=hold)))
        other = late.submit(alone(rival(id=f"other {hold}", hold=hold)))
        [(settled,)], [(ended,)] = await asyncio.gather(settle, other)
        assert settled.accepted != ended.accepted
        refused = ended if settled.accepted else settled
        assert refused.refusal.code in (R.HOLD_CLOSED, R.HOLD_EXPIRED)
        return settled.accepted

    settled = await asyncio.gather(*(race(hold) for hold in holds))
    account = await ledger.account(A)
    assert (account.balance, account.debits_pending) == (1000 - 5 * sum(settled), 0)
    assert (await audit(database.engine(), "main")).clean


# F65


LARGE = [2**53 + 1, 2**63, 10**28 + 1, 2**128 + 1, 2**256 - 1]


def eth(amount):
    return Posting(debit=HOT, credit=A_ETH, asset="ETH", amount=amount)


@pytest.mark.parametrize("amount", LARGE)
async def test_f65_large_amounts_are_booked_held_and_read_exactly(ledger, database, amount):
    await ledger.submit(alone(Post(id="huge", postings=(eth(amount),))))
    assert (await ledger.account(A_ETH)).balance == amount
    assert (await ledger.account(HOT)).balance == -amount
    back = Posting(debit=A_ETH, credit=HOT, asset="ETH", amount=amount)
    fresh = service(database.engine())  # which has to read what it holds
    held, settled = await fresh.submit(
        alone(Hold(id="held", postings=(back,))), alone(Settle(id="part", hold="held", amounts=((0, amount - 1),)))
    )
    assert (held[0].accepted, settled[0].accepted) == (True, True)
    account = await fresh.account(A_ETH)
    assert (account.balance, account.debits_pending, account.available) == (1, 1, 0)
    [line, _] = (await fresh.history(account=A_ETH, limit=10))[::-1][:2]
    assert line.amount == amount
    assert (await audit(database.engine(), "main")).clean


async def test_f65_one_beyond_the_largest_amount_is_refused(ledger):
    [(outcome,)] = await ledger.submit(alone(Post(id="beyond", postings=(eth(2**256),))))
    assert outcome.refusal.code is R.INVALID_AMOUNT
    outcomes = await ledger.submit(
        alone(Post(id="most", postings=(eth(2**256 - 1),))), alone(Post(id="more", postings=(eth(1),)))
    )
    assert outcomes[1][0].refusal.code is R.AMOUNT_OVERFLOW
    assert (await ledger.account(A_ETH)).balance == 2**256 - 1


# F67


async def test_f67_a_book_without_connections_is_unavailable_and_comes_back(ledger, database):
    engine = create_engine(database.app_url, pool_size=2, pool_seconds=0.1)
    narrow = service(engine, retry_seconds=0.5)
    async with tx(engine), tx(engine):
        with pytest.raises(PoolExhausted) as caught:
            await narrow.submit(alone(post("x")))
        assert CATALOGUE[caught.value.code].status == 503
        assert await book_check(narrow)() == "the book can't be written (database_busy)"
    assert await ledger.outcomes("x") == []
    [(outcome,)] = await narrow.submit(alone(post("x")))
    assert (outcome.accepted, outcome.replayed) == (True, False)
    assert await book_check(narrow)() is None
    await engine.dispose()


async def test_f67_one_connection_is_enough(ledger, database):
    engine = create_engine(database.app_url, pool_size=1, pool_seconds=0.1)
    narrow = service(engine)
    answers = await asyncio.gather(*(narrow.submit(alone(post(f"x{n}"))) for n in range(20)))
    assert all(outcome.accepted for [(outcome,)] in answers)
    await engine.dispose()


async def test_f67_a_server_without_a_connection_left_is_unavailable_and_comes_back(ledger, database):
    admin = database.engine(admin=True)
    engine = create_engine(database.app_url, pool_size=2)
    fresh = service(engine, retry_seconds=0.5)
    async with tx(admin) as connection:
        await connection.execute(text(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT 1'))
    with pytest.raises(PoolExhausted) as caught:
        await fresh.submit(alone(post("x")))
    assert caught.value.facts["sqlstate"] == "53300"
    async with tx(admin) as connection:
        await connection.execute(text(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT -1'))
    [(outcome,)] = await fresh.submit(alone(post("x")))
    assert (outcome.accepted, outcome.replayed) == (True, False)
    await engine.dispose()


@pytest.fixture
async def on_small_disk(postgres) -> AsyncIterator[tuple[str, Path]]:
    """The service's address of a database of its own whose files lie on a small disk, and that disk."""
    admin, name = create_engine(postgres.admin_url), "on_small_disk"

    async def command(statement):
        async with admin.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(statement))

    with small_disk(postgres, mebibytes=48) as disk:
        await command(f"CREATE TABLESPACE small LOCATION '{disk}'")
        await command(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER onebook_owner TABLESPACE small")
        await command(f"GRANT CONNECT ON DATABASE {name} TO onebook_app")
        try:
            yield at_database(postgres.app_url, name), disk
        finally:
            await command(f"DROP DATABASE {name} WITH (FORCE)")
            await command("DROP TABLESPACE small")
            await admin.dispose()


async def test_f67_a_full_disk_is_a_clear_503_and_nothing_is_half_written(on_small_disk):
    url, disk = on_small_disk
    engine = create_engine(url)
    ledger = await new_ledger(engine, retry_seconds=0.5)
    await ledger.submit(OPENING, alone(Post(id="funding", postings=(usd(10**9, BANK, A),))))
    filler = fill(disk)

    def bulk(number):
        return [alone(post(f"{number} {n}")) for n in range(200)]

    written = 0

    async def write_on():
        nonlocal written
        while written < 100:
            await ledger.submit(*bulk(written))
            written += 1

    with pytest.raises(DiskFull) as caught:
        await write_on()
    assert CATALOGUE[caught.value.code].status == 503
    assert await book_check(ledger)() == "the book can't be written (database_full)"
    assert (await ledger.account(B)).balance == 200 * written
    assert await ledger.outcomes(*(group.commands[0].id for group in bulk(written))) == []
    filler.unlink()
    answers = await ledger.submit(*bulk(written))
    assert all(outcome.accepted and not outcome.replayed for (outcome,) in answers)
    assert await book_check(ledger)() is None
    assert (await ledger.account(B)).balance == 200 * (written + 1)
    assert (await audit(engine, "main")).clean
    await engine.dispose()
