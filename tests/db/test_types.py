from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text

from base.errors import BrokenInvariant
from db.engine import tx
from db.errors import AmountOutOfRange, ConstraintBroken, NotAnAmount
from db.types import Amount, Balance, Digest, Instant

EDGES = [0, 1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 10**28, 10**28 + 1, 2**128 + 1, 2**255 + 1, 2**256 - 1]
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)

SAMPLE = Table(
    "sample",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("amount", Amount),
    Column("balance", Balance),
    Column("at", Instant),
    Column("digest", Digest),
)


@pytest.fixture
async def engine(database):
    engine = database.engine(owner=True)
    async with tx(engine) as connection:
        await connection.run_sync(SAMPLE.metadata.create_all)
    return engine


async def store(engine, **values):
    async with tx(engine) as connection:
        await connection.execute(insert(SAMPLE).values(**values))


async def stored(engine, column):
    async with tx(engine) as connection:
        return (await connection.execute(select(column).order_by(SAMPLE.c.id))).scalars().all()


@pytest.mark.slow
async def test_f65_amounts_at_every_edge_come_back_exact(engine):
    async with tx(engine) as connection:
        await connection.execute(insert(SAMPLE), [{"amount": amount} for amount in EDGES])
    read = await stored(engine, SAMPLE.c.amount)
    assert read == EDGES
    assert all(type(amount) is int for amount in read)


@pytest.mark.slow
async def test_f65_amounts_compare_and_add_exactly_in_sql(engine):
    for amount in EDGES:
        await store(engine, amount=amount, balance=-amount)
    async with tx(engine) as connection:
        found = (await connection.execute(select(SAMPLE.c.id).where(SAMPLE.c.amount == 2**256 - 1))).scalars().all()
        total = (await connection.execute(select(func.sum(SAMPLE.c.balance)))).scalar_one()
    assert len(found) == 1
    assert total == -sum(EDGES)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [-1, 2**256, 2**256 + 1, 10**100])
async def test_f65_one_beyond_the_bounds_is_refused(engine, amount):
    with pytest.raises(AmountOutOfRange):
        await store(engine, amount=amount)
    assert await stored(engine, SAMPLE.c.amount) == []


@pytest.mark.slow
@pytest.mark.parametrize("amount", [1.0, 1.5, Decimal(1), "1", True, b"1", float("nan")])
async def test_what_is_no_int_is_never_bound_as_an_amount(engine, amount):
    for column in ("amount", "balance"):
        with pytest.raises(NotAnAmount):
            await store(engine, **{column: amount})


@pytest.mark.slow
@pytest.mark.parametrize("balance", [-(2**257) + 1, -(2**256), -1, 0, 2**257 - 1])
async def test_balances_carry_their_sign_exactly(engine, balance):
    await store(engine, balance=balance)
    assert await stored(engine, SAMPLE.c.balance) == [balance]


@pytest.mark.slow
@pytest.mark.parametrize("balance", [-(2**257), 2**257])
async def test_balances_past_their_bound_are_refused(engine, balance):
    with pytest.raises(AmountOutOfRange):
        await store(engine, balance=balance)


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1.5", "1.0", "-1", "'NaN'", "'Infinity'", str(2**256)])
async def test_the_amount_domain_refuses_what_raw_sql_writes(engine, number):
    with pytest.raises(ConstraintBroken):
        async with tx(engine) as connection:
            await connection.execute(text(f"INSERT INTO sample (amount) VALUES ({number})"))


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1.5", "0.0", "'NaN'", "'-Infinity'", str(2**257), str(-(2**257))])
async def test_the_balance_domain_refuses_what_raw_sql_writes(engine, number):
    with pytest.raises(ConstraintBroken):
        async with tx(engine) as connection:
            await connection.execute(text(f"INSERT INTO sample (balance) VALUES ({number})"))


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1.5", "'NaN'"])
async def test_a_fraction_read_as_an_amount_is_a_broken_invariant(engine, number):
    with pytest.raises(BrokenInvariant):
        async with tx(engine) as connection:
            await connection.execute(select(text(f"CAST({number} AS numeric) AS x").columns(x=Amount).subquery()))


@pytest.mark.slow
async def test_amounts_pass_as_text_arrays(engine):
    async with tx(engine) as connection:
        statement = text("INSERT INTO sample (amount) SELECT unnest(CAST(:amounts AS text[])::numeric[])")
        await connection.execute(statement, {"amounts": [str(amount) for amount in EDGES]})
    assert await stored(engine, SAMPLE.c.amount) == EDGES


@pytest.mark.slow
async def test_instants_come_back_to_the_microsecond_in_utc(engine):
    await store(engine, at=NOW)
    [read] = await stored(engine, SAMPLE.c.at)
    assert read == NOW
    assert read.utcoffset() == timedelta(0)


@pytest.mark.slow
@pytest.mark.parametrize("at", [NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=2))), NOW.date()])
async def test_instants_elsewhere_than_utc_are_refused(engine, at):
    with pytest.raises(NotAnAmount):
        await store(engine, at=at)


@pytest.mark.slow
async def test_digests_have_32_bytes(engine):
    await store(engine, digest=bytes(range(32)))
    assert await stored(engine, SAMPLE.c.digest) == [bytes(range(32))]
    for wrong in (b"", bytes(31), bytes(33), "0" * 32):
        with pytest.raises(NotAnAmount):
            await store(engine, digest=wrong)


@pytest.mark.slow
async def test_null_stays_null(engine):
    await store(engine, amount=None, at=None)
    assert await stored(engine, SAMPLE.c.amount) == [None]
    assert await stored(engine, SAMPLE.c.at) == [None]
