"""What one batch's groups must not do to each other: a locked row, a broken command, a fault in the middle."""

import asyncio

import pytest
from sqlalchemy import text

from db.engine import tx
from ledger.commands import Post, Posting, alone
from ledger.riders import Advance, Insert
from tests.ledger.histories import ACCOUNTS, OPENING
from tests.ledger.test_postgres import new_ledger

pytestmark = pytest.mark.slow

A, B, _, FX, BANK, *_ = ACCOUNTS


def post(name, amount=1, **more):
    return Post(id=name, postings=(Posting(debit=A, credit=B, asset="USD", amount=amount),), **more)


@pytest.fixture
async def ledger(database):
    ledger = await new_ledger(database.engine())
    funding = Post(id="funding", postings=(Posting(debit=BANK, credit=A, asset="USD", amount=1000),))
    await ledger.submit(OPENING, alone(funding))
    return ledger


async def test_a_row_locked_elsewhere_leaves_the_batchs_other_tables_read(ledger, database):
    """A busy row of one table must not make the rows of another look absent, which a refusal would remember."""
    top_up = {"book": "main", "id": "top_1"}
    quote = {"book": "main", "id": "quo_1"}
    await ledger.submit(
        alone(post("top-up"), Insert("fiat_top_ups", top_up, TOP_UP)),
        alone(post("quote"), Insert("wallet_quotes", quote, QUOTE)),
    )
    async with tx(database.engine()) as other:
        await other.execute(text("SELECT 1 FROM fiat_top_ups WHERE id = 'top_1' FOR UPDATE"))
        both = asyncio.create_task(
            ledger.submit(
                alone(post("locked"), Advance("fiat_top_ups", top_up, {"source": "a"}, {"source": "b"})),
                alone(post("free"), Advance("wallet_quotes", quote, {"state": "open"}, {"state": "used"})),
            )
        )
        await asyncio.sleep(0.05)
        assert not both.done()
    (locked,), (free,) = await both
    assert locked.accepted
    assert free.refusal is None
