"""What one batch's groups must not do to each other: a locked row, a broken command, a fault in the middle."""

import asyncio

import pytest
from sqlalchemy import Column, Table, Text, select, text

from db.engine import tx
from db.errors import DatabaseUnavailable
from db.tables import metadata
from ledger.commands import Post, Posting, alone
from ledger.riders import Advance, Insert
from tests.ledger.histories import ACCOUNTS, OPENING
from tests.ledger.test_postgres import new_ledger

pytestmark = pytest.mark.slow

A, B, _eth, _fx, BANK, _receivable, _hot = ACCOUNTS
ROW = {"book": "main", "id": "x"}


def post(name, amount=1, **more):
    return Post(id=name, postings=(Posting(debit=A, credit=B, asset="USD", amount=amount),), **more)


def use(name, table):
    return alone(post(name), Advance(table, ROW, {"state": "new"}, {"state": "used"}))


@pytest.fixture
async def ledger(database):
    ledger = await new_ledger(database.engine())
    funding = Post(id="funding", postings=(Posting(debit=BANK, credit=A, asset="USD", amount=1000),))
    await ledger.submit(OPENING, alone(funding))
    return ledger


@pytest.fixture
async def two_tables(ledger, database):
    """Tables `left` and `right`, a row in state `new` in each."""
    tables = []
    for name in ("left_things", "right_things"):
        async with tx(database.engine(owner=True)) as connection:
            await connection.execute(
                text(f"CREATE TABLE {name} (book text, id text, state text, PRIMARY KEY (book, id))")
            )
            await connection.execute(text(f"GRANT SELECT, INSERT, UPDATE ON {name} TO onebook_app"))
        columns = Column("book", Text, primary_key=True), Column("id", Text, primary_key=True), Column("state", Text)
        tables.append(Table(name, metadata, *columns))
        await ledger.submit(alone(post(f"make {name}"), Insert(name, ROW, {"state": "new"})))
    yield tables
    for table in tables:
        metadata.remove(table)


async def test_a_row_locked_elsewhere_does_not_hide_the_rows_of_other_tables(ledger, database, two_tables):
    """A row that looked absent would be refused as stale, and that refusal remembered."""
    left, right = two_tables
    async with tx(database.engine()) as other:
        await other.execute(select(left).with_for_update())
        both = asyncio.gather(ledger.submit(use("locked", left.name)), ledger.submit(use("free", right.name)))
        for _ in range(100):
            if await ledger.outcomes("free"):
                break
        assert not both.done()
    [[locked]], [[free]] = await both
    assert (locked.refusal, free.refusal) == (None, None)


async def test_of_two_groups_that_use_up_one_row_in_one_batch_the_second_is_stale(ledger, two_tables):
    first, second = await ledger.submit(use("first", "left_things"), use("second", "left_things"))
    assert first[0].accepted
    assert second[0].refusal.code == "stale_state"
    assert (await ledger.account(B)).balance == 3


async def test_of_equal_requests_in_a_batch_whose_commit_was_lost_one_is_the_first(ledger):
    """Each caller made a subject of its own; only the booked one exists, so the others must learn that they repeat."""
    write, losses = ledger._batcher._write, iter((True,))

    async def losing(writer, working, batch):
        written = await write(writer, working, batch)
        if next(losses, False):
            raise DatabaseUnavailable("the connection was lost during COMMIT")
        return written

    ledger._batcher._write = losing
    same = [alone(post("same", subject=f"trf_{n}"), content=b"same") for n in range(3)]
    answers = await asyncio.gather(*(ledger.submit(group) for group in same))
    assert [(outcome.subject, outcome.replayed) for [[outcome]] in answers] == [
        ("trf_0", False),
        ("trf_0", True),
        ("trf_0", True),
    ]
    assert (await ledger.account(B)).balance == 1


async def test_a_command_that_cannot_be_written_fails_alone(ledger):
    half = "\ud800"
    broken = asyncio.create_task(ledger.submit(alone(post("broken", metadata={"memo": half}))))
    [(outcome,)] = await ledger.submit(alone(post("fine")))
    with pytest.raises(Exception, match=r"."):
        await broken
    assert outcome.accepted
    assert (await ledger.account(B)).balance == 1
