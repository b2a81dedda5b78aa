"""The yardsticks write the same rows as the engine, the loader a book that the audit finds clean; quick mode runs."""

import json
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from base.progress import Progress
from bench import loader
from bench.callers import drive
from bench.mix import Mix, user_accounts
from bench.stage import BOOK, Place, found
from bench.yardsticks import call, orm
from db.engine import tx
from ledger.audit import audit
from ledger.canonical import command_row, instant_text, leaf_hash, line_row
from ledger.service import PostgresLedger
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.slow

ROWS = """
SELECT c.seq, c.id, c.kind, c.subject, c.content, c.refusal, c.detail, c.booked_at, c.leaf FROM ledger_commands c
 WHERE seq > :after ORDER BY seq
"""
LINES = """
SELECT l.seq, l.kind, d.name, c.name, l.amount::text, l.debit_balance::text, l.credit_balance::text, l.hold::text,
       l.hold_posting::text
  FROM ledger_lines l JOIN ledger_accounts d ON d.account = l.debit JOIN ledger_accounts c ON c.account = l.credit
 WHERE seq > :after ORDER BY l.seq, l.line
"""
TOTALS = """
SELECT kind, refusal, count(*) FROM ledger_commands WHERE seq > :after GROUP BY kind, refusal ORDER BY kind, refusal
"""
BALANCES = """
SELECT name, debits_posted, credits_posted, debits_pending, credits_pending FROM ledger_accounts ORDER BY name
"""
HOLDS = """
SELECT i.key, h.posting, h.state, h.amount, h.remaining FROM ledger_holds h JOIN ledger_ids i ON i.seq = h.hold
 ORDER BY i.key, h.posting
"""


@pytest.fixture
def accounts(clock):
    return user_accounts(40, seed=3, clock=clock)


@pytest.fixture
async def place(database, accounts, clock, postgres):
    engine = database.engine()
    ledger = PostgresLedger(engine, clock=clock, book=BOOK)
    await found(ledger, accounts, Progress())
    return Place(database.name, postgres.pid, database.app_url, database.admin_url, engine, ledger)


def history(accounts, clock):
    mix = Mix(accounts, seed=3, run="same", clock=clock)
    return [*mix.prime()[:300], *mix.groups(700)]


async def asked(place, query, after=0):
    async with tx(place.engine) as connection:
        return [tuple(row) for row in await connection.execute(text(query), {"after": after})]


async def last_seq(place):
    ((seq,),) = await asked(place, "SELECT max(seq) FROM ledger_commands WHERE seq > :after")
    return seq


async def submit_all(submit, groups):
    """One after the other, so that every engine gets the same history in the same order."""
    await drive(submit, iter(groups), callers=1, seconds=60)


async def leaves_agree(place, after):
    booked: dict[int, str] = {}
    for seq, *line in await asked(place, LINES, after):
        booked[seq] = booked.get(seq, "") + line_row(*(part for part in line if part is not None))
    rows = await asked(place, ROWS, after)
    for seq, name, kind, subject, content, refusal, detail, booked_at, leaf in rows:
        row = command_row(
            book=BOOK,
            seq=seq,
            command_id=name,
            kind=kind,
            subject=subject,
            content=content,
            booked_at=instant_text(booked_at),
            refusal=refusal,
            detail=detail,
        )
        assert leaf_hash(row + booked.get(seq, "")) == leaf, name
    return len(rows)


@asynccontextmanager
async def engine_itself(place):
    class Itself:
        async def submit(self, groups):
            return await place.ledger.submit(*groups)

    yield Itself()


async def test_yardsticks_write_the_rows_of_the_engine(place, database, postgres, accounts, clock):
    """The same history by each of them comes to the same decisions, balances, holds and sound leaves."""
    groups = history(accounts, clock)
    seen = []
    for opened in (engine_itself, call.opened, orm.opened):
        async with fresh_database(postgres) as fresh:
            engine = fresh.engine()
            ledger = PostgresLedger(engine, clock=clock, book=BOOK)
            here = Place(fresh.name, postgres.pid, fresh.app_url, fresh.admin_url, engine, ledger)
            await found(ledger, accounts, Progress())
            after = await last_seq(here)
            async with opened(here) as yardstick:
                await submit_all(yardstick.submit, groups)
            assert await leaves_agree(here, after) > 900
            seen.append([await asked(here, query, after) for query in (TOTALS, BALANCES, HOLDS)])
    assert seen[0] == seen[1]
    assert seen[0] == seen[2]


async def test_repeated_stretch_is_a_sound_book(place, accounts, clock):
    mix = Mix(accounts, seed=3, run="stretch", clock=clock)
    await loader.fill(place, mix, 12_000, Progress())
    report = await audit(place.engine, BOOK)
    assert report.clean, report.disagreements[:3]
    assert report.commands == pytest.approx(12_000, rel=0.3)


def test_quick_run_prints_one_document():
    command = [sys.executable, "-m", "cli", "bench", "ledger", "--quick", "--seconds", "0.2", "--json"]
    done = subprocess.run(
        [*command, "--only", "batcher16", "--only", "batcher64_over_*"], capture_output=True, timeout=110
    )
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    names = {figure["name"] for figure in document["figures"]}
    assert {"batcher16_entries_per_s", "batcher64_over_orm64", "batcher64_over_copy"} <= names
    assert document["settings"]["postgresql"]["fsync"] == "on"
