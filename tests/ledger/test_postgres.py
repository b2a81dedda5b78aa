"""The PostgreSQL engine: the same outcomes as the core on every history, right under concurrency, closed to others."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from base.clock import ManualClock, SystemClock
from db.engine import tx
from db.errors import AccessRefused
from ledger.accounts import user_account
from ledger.audit import audit
from ledger.commands import Group, Hold, Post, Posting, SetCreditLine, Void, alone
from ledger.errors import AssetRedefined, InvalidCommand, UnknownAsset
from ledger.memory import MemoryLedger
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
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


async def test_a_command_that_nobody_can_mean_fails_alone(ledger):
    with pytest.raises(InvalidCommand):
        await ledger.submit(alone(post("nul", usd(A, B, 1), metadata={"memo": "a\0b"})))
    [(outcome,)] = await ledger.submit(alone(post("fine", usd(A, B, 1))))
    assert outcome.accepted


@pytest.mark.parametrize(
    ("draw", "give_back"),
    [
        (post("draw", usd(B, A, 8)), post("back", usd(A, B, 8))),
        (Hold(id="draw", postings=(usd(B, A, 8),)), Void(id="back", hold="draw")),
    ],
    ids=["posted", "held"],
)
async def test_a_credit_line_is_raised_and_drawn_on_in_one_batch_and_lowered_in_another(ledger, draw, give_back):
    raised, lowered = (SetCreditLine(id=f"to {cap}", account=B, cap=cap) for cap in (10, 0))
    for commands in ((raised, draw), (give_back, lowered)):
        [outcomes] = await ledger.submit(Group(commands))
        assert [outcome.refusal for outcome in outcomes] == [None, None]
    account = await ledger.account(B)
    assert (account.credit_line, account.available) == (0, 0)
    assert ledger.batches["apart"] == 0
    assert (await audit(ledger._engine, "main")).disagreements == []


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
