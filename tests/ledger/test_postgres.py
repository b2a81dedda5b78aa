"""The PostgreSQL engine: the same outcomes as the core on every history, right under concurrency, closed to others."""

import asyncio
import itertools
import secrets
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Column, Table, Text, select, text

from base.clock import ManualClock, SystemClock
from db.engine import tx
from db.errors import AccessRefused
from db.tables import metadata
from ledger.accounts import user_account
from ledger.audit import audit
from ledger.commands import Post, Posting, alone
from ledger.errors import AssetRedefined, BookBusy, InvalidCommand, UnknownAsset
from ledger.memory import MemoryLedger
from ledger.money import Asset, AssetKind
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Advance, Insert
from ledger.service import PostgresLedger
from ledger.tables import commands, lines
from tests.ledger.histories import ACCOUNTS, ASSETS, OPENING, START, histories
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.slow

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS


def usd(debit, credit, amount):
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount)


def post(name, *postings, **more):
    return Post(id=name, postings=postings, **more)


async def new_ledger(engine, book="main", clock=None, **more):
    ledger = PostgresLedger(engine, clock=clock or ManualClock(START), book=book, **more)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    return ledger


@pytest.fixture
async def ledger(database):
    ledger = await new_ledger(database.engine())
    await ledger.submit(OPENING, alone(post("funding", usd(BANK, A, 1000), usd(BANK, FX, 50))))
    return ledger


def test_postgres_agrees_with_the_core_on_every_history(postgres):
    with asyncio.Runner() as runner:
        fixture = fresh_database(postgres)
        database = runner.run(fixture.__aenter__())
        engine, numbers = database.engine(), itertools.count()

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(histories(steps=8))
        def agree(history):
            runner.run(compare(engine, f"book{next(numbers)}", history))

        agree()
        runner.run(fixture.__aexit__(None, None, None))


async def compare(engine, book, history):
    clock = ManualClock(START)
    stored, model = await new_ledger(engine, book, clock), MemoryLedger(clock, book)
    for now, batch in [(START, [OPENING]), *history]:
        clock.instant = now
        assert await stored.submit(*batch) == await model.submit(*batch)
    assert await stored.accounts() == await model.accounts()
    assert await stored.history(limit=10_000) == await model.history(limit=10_000)
    page = await stored.history(owner="usr_a", limit=3)
    assert page == await model.history(owner="usr_a", limit=3)
    report = await audit(engine, book)
    assert report.clean, report.disagreements


async def test_f60_fifty_concurrent_requests_with_one_id_have_one_effect(ledger):
    group = alone(post("once", usd(A, B, 7)))
    answers = await asyncio.gather(*(ledger.submit(group) for _ in range(50)))
    firsts = [outcome for [(outcome,)] in answers if not outcome.replayed]
    assert len(firsts) == 1
    assert all(replace(outcome, replayed=False) == firsts[0] for [(outcome,)] in answers)
    assert (await ledger.account(B)).balance == 7


async def test_a_cancelled_caller_neither_loses_nor_doubles_its_command(ledger):
    caller = asyncio.create_task(ledger.submit(alone(post("cancelled", usd(A, B, 5)))))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    [(outcome,)] = await ledger.submit(alone(post("cancelled", usd(A, B, 5))))
    assert outcome.accepted
    assert (await ledger.account(B)).balance == 5


async def test_a_full_queue_refuses_and_writes_nothing(database):
    ledger = await new_ledger(database.engine(), queue_max=2)
    with pytest.raises(BookBusy):
        await ledger.submit(*(alone(post(f"x{n}", usd(A, B, 1))) for n in range(3)))
    assert await ledger.outcomes("x0", "x1", "x2") == []


async def test_a_command_that_nobody_can_mean_fails_alone(ledger):
    with pytest.raises(InvalidCommand):
        await ledger.submit(alone(post("nul", usd(A, B, 1), metadata={"memo": "a\0b"})))
    [(outcome,)] = await ledger.submit(alone(post("fine", usd(A, B, 1))))
    assert outcome.accepted


async def test_eight_processes_spend_one_account_and_the_journal_replays_to_their_answers(ledger, database, tmp_path):
    seed = secrets.randbits(32)
    print("seed", seed)
    script = [sys.executable, "-m", "tests.ledger.spender", database.app_url]
    children = [subprocess.Popen([*script, str(seed + n)], stdout=subprocess.PIPE) for n in range(8)]
    answers: dict[str, str] = {}
    for child in children:
        out, _ = await asyncio.to_thread(child.communicate, timeout=100)
        assert child.returncode == 0
        answers |= dict(line.split("=") for line in out.decode().split())
    assert len(answers) == 8 * 40
    engine = database.engine()
    assert (await audit(engine, "main")).clean
    async with tx(engine) as connection:
        query = select(commands.c.seq, commands.c.id, commands.c.refusal).order_by(commands.c.seq)
        rows = (await connection.execute(query)).all()
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    model = MemoryLedger(ManualClock(START))
    await model.submit(OPENING, alone(post("funding", usd(BANK, A, 1000), usd(BANK, FX, 50))))
    for row in rows:
        if row.id in answers:
            amount = int(row.id.rsplit("-", 1)[1])
            [(outcome,)] = await model.submit(alone(post(row.id, usd(A, B, amount))))
            assert answers[row.id] == (outcome.refusal.code if outcome.refusal else "accepted")
    assert await ledger.account(A) == await model.account(A)
    assert (await ledger.account(A)).balance >= 0
    assert "insufficient_funds" in answers.values()


async def test_a_group_waits_for_a_row_that_another_tx_has_locked(ledger, database, things):
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("CREATE TABLE things (book text, id text, state text, PRIMARY KEY (book, id))"))
        await connection.execute(text("GRANT SELECT, INSERT, UPDATE ON things TO onebook_app"))
    key = {"book": "main", "id": "x"}
    insert = Insert("things", key, {"state": "new"})
    [(made,)] = await ledger.submit(alone(post("make", usd(A, B, 1)), insert))
    assert made.accepted
    async with tx(database.engine()) as other:
        await other.execute(select(things).with_for_update())
        use = alone(post("use", usd(A, B, 1)), Advance("things", key, {"state": "new"}, {"state": "used"}))
        waiting = asyncio.create_task(ledger.submit(use))
        [(neighbour,)] = await ledger.submit(alone(post("neighbour", usd(A, B, 1))))
        assert neighbour.accepted
        assert not waiting.done()
    [(used,)] = await waiting
    assert used.accepted
    assert used.seq > neighbour.seq
    again = Advance("things", key, {"state": "new"}, {"state": "used"})
    [(stale,)] = await ledger.submit(alone(post("again", usd(A, B, 1)), again))
    assert stale.refusal.code is R.STALE_STATE
    [(double,)] = await ledger.submit(alone(post("double", usd(A, B, 1)), insert))
    assert double.refusal.code is R.DUPLICATE_ROW


@pytest.fixture
def things():
    """A table that riders may write, known for one test."""
    columns = Column("book", Text, primary_key=True), Column("id", Text, primary_key=True), Column("state", Text)
    table = Table("things", metadata, *columns)
    yield table
    metadata.remove(table)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_accounts SET credits_posted = credits_posted + 1",
        "INSERT INTO ledger_books (book, seq, booked_at, accounts) VALUES ('x', 0, now(), 0)",
        "DELETE FROM ledger_lines",
        "UPDATE ledger_lines SET amount = amount + 1",
        "TRUNCATE ledger_commands CASCADE",
        "CREATE TABLE public.mine (x int)",
        "ALTER TABLE ledger_lines DISABLE TRIGGER ALL",
    ],
)
async def test_the_services_role_cannot_write_the_book(ledger, database, statement):
    with pytest.raises(AccessRefused):
        async with tx(database.engine()) as connection:
            await connection.execute(text(statement))


@pytest.mark.parametrize("table", ["ledger_commands", "ledger_lines", "ledger_assets"])
async def test_even_the_owner_cannot_change_history(ledger, database, table):
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        with pytest.raises(Exception, match="never changed"):
            async with tx(database.engine(owner=True)) as connection:
                await connection.execute(text(statement))


async def test_an_assets_scale_is_fixed_at_creation(ledger):
    with pytest.raises(AssetRedefined):
        await ledger.register_asset(Asset("USD", AssetKind.FIAT, 3))
    assert (await ledger.asset("USD")).scale == 2
    with pytest.raises(UnknownAsset, match="known assets: ETH, USD"):
        await ledger.asset("XYZ")


async def test_accounts_are_opened_once(ledger):
    name = user_account("usr_c", "USD")
    await ledger.ensure_open(name, name)
    await ledger.ensure_open(name)
    other = PostgresLedger(ledger._engine, clock=SystemClock())
    await other.ensure_open(name)
    assert (await ledger.account(name)).balance == 0


@pytest.mark.parametrize("amount", [2**53 + 1, 2**63, 10**28 + 1, 2**128 + 1, 2**256 - 1])
async def test_f65_large_amounts_are_stored_exactly(ledger, amount):
    await ledger.submit(alone(post("huge", Posting(debit=HOT, credit=A_ETH, asset="ETH", amount=amount))))
    assert (await ledger.account(A_ETH)).balance == amount
    assert (await ledger.account(HOT)).balance == -amount
    async with tx(ledger._engine) as connection:
        stored = await connection.scalar(select(lines.c.amount).order_by(lines.c.seq.desc()).limit(1))
    assert stored == amount


async def test_f65_one_beyond_the_largest_amount_is_refused(ledger):
    posting = Posting(debit=HOT, credit=A_ETH, asset="ETH", amount=2**256)
    [(outcome,)] = await ledger.submit(alone(post("beyond", posting)))
    assert outcome.refusal.code is R.INVALID_AMOUNT
    largest = Posting(debit=HOT, credit=A_ETH, asset="ETH", amount=2**256 - 1)
    one = Posting(debit=HOT, credit=A_ETH, asset="ETH", amount=1)
    outcomes = await ledger.submit(alone(post("most", largest)), alone(post("more", one)))
    assert outcomes[1][0].refusal.code is R.AMOUNT_OVERFLOW
