"""Every question of the API goes over an index: the plans of what is really asked, in a book with some history.

`docs/plans.md` shows them; `pytest tests/ledger/test_plans.py -s` prints them anew.
"""

import random
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import event, text

from base.clock import ManualClock
from db.engine import driver_of, tx
from ledger.accounts import house_account, user_account
from ledger.commands import Group, Hold, OpenAccount, Post, Posting, alone
from ledger.engine import Ledger
from ledger.service import PostgresLedger
from ledger.statements import TimeKind
from tests.ledger.histories import ASSETS, START

pytestmark = pytest.mark.slow

ALICE, BANK = user_account("usr_0", "USD"), house_account("bank:main", "USD")
USERS = [f"usr_{number}" for number in range(3_000)]
COMMANDS = 12_000
MIDDLE, LATE = START + timedelta(seconds=COMMANDS // 2), START + timedelta(seconds=COMMANDS - 100)

LARGE = ("ledger_commands", "ledger_lines", "ledger_holds", "ledger_metadata", "ledger_backdated")
"""Tables that grow with every command: none of them is ever read as a whole."""

NEXT = "_1_1"
"""The partition that is there ahead of need: empty, so however it's read is the quickest way."""

QUESTIONS: dict[str, Callable[[Ledger], Awaitable[object]]] = {
    "balances of an owner": lambda book: book.accounts(owner="usr_0"),
    "an account": lambda book: book.account(ALICE),
    "open holds of an owner": lambda book: book.open_holds("usr_0"),
    "a hold": lambda book: book.hold("h10"),
    "due holds": lambda book: book.due_holds(),
    "history of an owner": lambda book: book.history(owner="usr_0"),
    "next page of an owner's history": lambda book: book.history(owner="usr_0", before=(COMMANDS // 2, 0)),
    "history of a busy account": lambda book: book.history(account=BANK),
    "history of an account in a span": lambda book: book.history(account=ALICE, since=MIDDLE, until=LATE),
    "history by effective time": lambda book: book.history(account=BANK, since=MIDDLE, by=TimeKind.EFFECTIVE),
    "history of a subject": lambda book: book.history(owner="usr_0", subject="trf_17"),
    "history by metadata": lambda book: book.history(metadata={"order": "17"}),
    "balance at an instant": lambda book: book.balance_at(BANK, MIDDLE),
    "balance by effective time": lambda book: book.balance_at(BANK, MIDDLE, by=TimeKind.EFFECTIVE),
    "statement": lambda book: book.statement(BANK, since=LATE, until=LATE + timedelta(seconds=60)),
    "statement by effective time": lambda book: book.statement(
        BANK, since=LATE, until=LATE + timedelta(seconds=60), by=TimeKind.EFFECTIVE
    ),
}


def write(number: int, chance: random.Random) -> Group:
    debit, credit = chance.sample(USERS, 2)
    posting = Posting(user_account(debit, "USD"), user_account(credit, "USD"), "USD", 1)
    if number % 10 == 0:
        return alone(Hold(id=f"h{number}", postings=(posting,), expires_at=START + timedelta(days=1, seconds=number)))
    if number % 3 == 0:
        posting = Posting(BANK, user_account(credit, "USD"), "USD", 1000)
    back = START + timedelta(seconds=number // 2) if number % 5 == 3 else None
    metadata = {"order": str(number)} if number % 7 == 3 else {}
    post = Post(id=f"c{number}", subject=f"trf_{number}", postings=(posting,), effective_at=back, metadata=metadata)
    return alone(post)


@pytest.fixture
async def book(database):
    """A book with history, its statistics up to date, as autovacuum keeps them."""
    clock = ManualClock(START)
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    named = [BANK, *(user_account(user, "USD") for user in USERS)]
    await ledger.submit(*(alone(OpenAccount(id=f"open:{name}", account=name)) for name in named))
    chance = random.Random(1)
    for start in range(0, COMMANDS, 500):
        clock.advance(timedelta(seconds=500))
        await ledger.submit(*(write(number, chance) for number in range(start, start + 500)))
    async with database.engine(admin=True).connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE"))
    return ledger


async def plans_of(ledger, ask):
    """The plans of all statements that a question sends, whichever way they go to the driver."""
    asked = []

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.append((statement, parameters))

    def note_raw(logged):
        asked.append((logged.query, logged.args))

    def listen(connection, record, proxy):
        connection.driver_connection.add_query_logger(note_raw)

    engine = ledger._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine.pool, "checkout", listen)
    await ask(ledger)
    event.remove(engine, "before_cursor_execute", note)
    event.remove(engine.pool, "checkout", listen)
    plans = []
    async with tx(ledger._engine) as connection:
        raw = await driver_of(connection)
        raw.remove_query_logger(note_raw)
        for statement, arguments in asked:
            if "ledger_" in statement:
                found = await raw.fetch(f"EXPLAIN (COSTS OFF) {statement}", *arguments)
                plans.append("\n".join(row[0] for row in found))
    return plans


async def test_no_question_reads_a_table_that_grows_as_a_whole(book):
    for name, ask in QUESTIONS.items():
        plans = await plans_of(book, ask)
        assert plans, name
        print(f"\n### {name}\n")
        for plan in plans:
            print(re.sub(r"ledger_(\w+?)_\d+_\d+", r"ledger_\1_…", plan), end="\n\n")
            scanned = re.findall(r"Seq Scan on (\w+)", plan)
            whole = [table for table in scanned if table.startswith(LARGE) and not table.endswith(NEXT)]
            assert not whole, f"{name} reads {whole} as a whole:\n{plan}"
            unbounded = re.findall(r"Index (?:Only )?Scan[^\n]*\n(?!\s*(?:Index Cond|Order By))[^\n]*", plan)
            assert not unbounded, f"{name} walks an index without a condition:\n{plan}"
