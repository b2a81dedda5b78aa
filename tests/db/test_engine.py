import asyncio
import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from base.errors import ConfigError, OnebookError, Rejected
from db.engine import asyncpg_url, create_engine, driver, retrying, tx
from db.errors import (
    AccessRefused,
    AppendOnly,
    ConstraintBroken,
    DatabaseUnavailable,
    DiskFull,
    PoolExhausted,
    QueryBroken,
    SerializationConflict,
    UniqueBroken,
    translate,
)
from db.server import at_database
from tests.support.disk import small_disk

STATES = {
    "08006": DatabaseUnavailable,
    "22012": QueryBroken,
    "23502": ConstraintBroken,
    "23503": ConstraintBroken,
    "23505": UniqueBroken,
    "23514": ConstraintBroken,
    "25P03": DatabaseUnavailable,
    "25P04": DatabaseUnavailable,
    "28P01": AccessRefused,
    "3D000": AccessRefused,
    "40001": SerializationConflict,
    "40003": DatabaseUnavailable,
    "40P01": SerializationConflict,
    "42501": AccessRefused,
    "42601": QueryBroken,
    "53100": DiskFull,
    "53200": DiskFull,
    "53300": PoolExhausted,
    "55P03": DatabaseUnavailable,
    "57014": DatabaseUnavailable,
    "57P01": DatabaseUnavailable,
    "57P02": DatabaseUnavailable,
    "57P03": DatabaseUnavailable,
    "58030": DatabaseUnavailable,
    "OB001": AppendOnly,
    "P0001": QueryBroken,
    "XX001": QueryBroken,
}


async def run(engine, statement):
    async with tx(engine) as connection:
        await connection.execute(text(statement))


@pytest.fixture
async def engine(database):
    engine = database.engine(owner=True)
    await run(engine, "CREATE TABLE shelf (id int PRIMARY KEY, n int NOT NULL CONSTRAINT ck_shelf_n CHECK (n >= 0))")
    await run(engine, "INSERT INTO shelf VALUES (1, 0), (2, 0)")
    return engine


@pytest.fixture
def disk(postgres) -> Iterator[Path]:
    with small_disk(postgres, mebibytes=4) as disk:
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize(("state", "kind"), STATES.items(), ids=STATES)
async def test_every_state_of_the_server_becomes_an_error_of_ours(database, state, kind):
    with pytest.raises(OnebookError) as caught:
        await run(database.engine(), f"DO $$ BEGIN RAISE 'told to' USING ERRCODE = '{state}'; END $$")
    assert type(caught.value) is kind
    assert caught.value.facts["sqlstate"] == state
    assert "told to" in caught.value.message


@pytest.mark.slow
async def test_a_broken_constraint_is_named(engine):
    with pytest.raises(ConstraintBroken) as caught:
        await run(engine, "INSERT INTO shelf VALUES (3, -1)")
    assert caught.value.facts["constraint"] == "ck_shelf_n"
    with pytest.raises(UniqueBroken) as caught:
        await run(engine, "INSERT INTO shelf VALUES (1, 1)")
    assert caught.value.facts["constraint"] == "shelf_pkey"


IBAN = "DE89370400440532013000"
PERSONAL_TABLE = "CREATE TABLE payee (iban text PRIMARY KEY, n integer NOT NULL CONSTRAINT ck_payee_n CHECK (n > 0))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO payee VALUES (:iban, 1)", "payee_pkey"),
        ("INSERT INTO payee VALUES (:iban || 'x', -1)", "ck_payee_n"),
        ("INSERT INTO payee (iban) VALUES (:iban || 'y')", None),
        ("INSERT INTO payee VALUES ('z', CAST(CAST(:iban AS text) AS integer))", None),
        ("INSERT INTO payee VALUES ('z', CAST(:iban AS integer))", None),
        ("INSERT INTO nowhere VALUES (:iban)", None),
    ],
)
async def test_no_value_of_a_refused_row_stands_in_an_error_or_where_it_came_from(database, statement, constraint):
    """Neither our error's text nor a log with its traceback shows whose account number it was."""
    engine = database.engine(owner=True)
    await run(engine, PERSONAL_TABLE)
    async with tx(engine) as connection:
        await connection.execute(text("INSERT INTO payee VALUES (:iban, 1)"), {"iban": IBAN})
    with pytest.raises(OnebookError) as caught:
        async with tx(engine) as connection:
            await connection.execute(text(statement), {"iban": IBAN})
    logged = "".join(traceback.format_exception(caught.value))
    assert IBAN not in f"{caught.value}{caught.value.message}{caught.value.facts}{logged}"
    assert caught.value.facts.get("constraint") == constraint
    with pytest.raises(DBAPIError) as raw:
        async with engine.begin() as connection:
            await connection.execute(text(statement), {"iban": IBAN})
    assert IBAN not in "".join(traceback.format_exception(raw.value))


@pytest.mark.slow
async def test_no_value_stands_in_an_error_of_the_driver_itself(database):
    engine = database.engine(owner=True)
    with pytest.raises(OnebookError) as caught:
        async with driver(engine) as connection:
            await connection.execute("SELECT $1::integer", IBAN)
    assert IBAN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.slow
async def test_an_error_in_the_block_rolls_back_and_keeps_its_type(engine):
    class Refusal(Rejected):
        pass

    async def write_then_raise(kind):
        async with tx(engine) as connection:
            await connection.execute(text("UPDATE shelf SET n = 7"))
            raise kind("stop")

    for kind in (Refusal, ValueError, FileNotFoundError):
        with pytest.raises(kind) as caught:
            await write_then_raise(kind)
        assert type(caught.value) is kind
    async with tx(engine) as connection:
        assert await connection.scalar(text("SELECT sum(n) FROM shelf")) == 0


@pytest.mark.slow
async def test_a_connection_says_who_it_is_and_reads_committed_in_utc(database):
    settings = ("application_name", "transaction_isolation", "timezone", "lock_timeout", "statement_timeout")
    async with tx(database.engine()) as connection:
        shown = [await connection.scalar(text(f"SHOW {name}")) for name in settings]
    assert shown == ["onebook", "read committed", "UTC", "10s", "30s"]


@pytest.mark.slow
async def test_waits_are_bounded(database, engine):
    impatient = create_engine(database.owner_url, statement_seconds=0.2, lock_seconds=0.1)
    try:
        with pytest.raises(DatabaseUnavailable) as slow:
            await run(impatient, "SELECT pg_sleep(30)")
        assert slow.value.facts["sqlstate"] == "57014"
        async with tx(engine) as connection:
            await connection.execute(text("UPDATE shelf SET n = 1 WHERE id = 1"))
            with pytest.raises(DatabaseUnavailable) as locked:
                await run(impatient, "UPDATE shelf SET n = 2 WHERE id = 1")
        assert locked.value.facts["sqlstate"] == "55P03"
    finally:
        await impatient.dispose()


@pytest.mark.slow
async def test_f67_an_exhausted_pool_is_unavailable_and_comes_back(database):
    narrow = create_engine(database.app_url, pool_size=1, pool_seconds=0.1)
    try:
        async with tx(narrow):
            with pytest.raises(PoolExhausted):
                await run(narrow, "SELECT 1")
        await run(narrow, "SELECT 1")
    finally:
        await narrow.dispose()


@pytest.mark.slow
async def test_f67_a_full_disk_is_unavailable_and_loses_nothing(database, disk):
    admin = database.engine(admin=True)
    async with admin.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(f"CREATE TABLESPACE small LOCATION '{disk}'"))
    try:
        await run(admin, "CREATE TABLE boxes TABLESPACE small AS SELECT 1 AS n")
        with pytest.raises(DiskFull):
            await run(admin, "INSERT INTO boxes SELECT generate_series(1, 1000000)")
        async with tx(admin) as connection:
            assert list(await connection.scalars(text("SELECT n FROM boxes"))) == [1]
        await run(admin, "DROP TABLE boxes")
    finally:
        async with admin.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("DROP TABLESPACE small"))


@pytest.mark.slow
async def test_a_lost_connection_is_unavailable_and_the_next_tx_works(database):
    engine = database.engine()
    admin = create_engine(database.admin_url)

    async def lose_the_connection():
        async with tx(engine) as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            await run(admin, f"SELECT pg_terminate_backend({pid}, 5000)")
            await connection.execute(text("SELECT 1"))

    try:
        with pytest.raises(DatabaseUnavailable):
            await lose_the_connection()
        await run(engine, "SELECT 1")
    finally:
        await admin.dispose()


@pytest.mark.slow
async def test_a_connection_that_was_ended_while_it_rested_is_replaced(database):
    engine, admin = database.engine(), database.engine(admin=True)
    for _ in range(20):
        async with tx(engine) as one, tx(engine) as other:
            pids = [await connection.scalar(text("SELECT pg_backend_pid()")) for connection in (one, other)]
        async with tx(admin) as connection:
            await connection.execute(
                text("SELECT pg_terminate_backend(pid, 5000) FROM unnest(CAST(:p AS int[])) pid"), {"p": pids}
            )
        async with tx(engine) as connection:
            assert await connection.scalar(text("SELECT pg_backend_pid()")) not in pids


@pytest.mark.slow
async def test_only_a_connection_that_rested_long_is_asked_whether_it_lives(database, monkeypatch):
    engine, asked = database.engine(pool_size=1), list[str]()
    async with driver(engine) as connection:
        connection.add_query_logger(lambda record: asked.append(record.query))
    await run(engine, "SELECT 1")
    assert asked
    assert ";" not in asked
    monkeypatch.setattr("db.engine.REST_SECONDS", 0)
    await run(engine, "SELECT 1")
    assert asked.count(";") == 1


@pytest.mark.slow
async def test_nobody_at_the_address_is_unavailable(unused_tcp_port):
    engine = create_engine(f"postgresql://onebook_app:x@127.0.0.1:{unused_tcp_port}/onebook")
    with pytest.raises(DatabaseUnavailable):
        await run(engine, "SELECT 1")


async def test_no_socket_and_no_such_host_are_unavailable(tmp_path):
    for url in (f"postgresql://a:b@/c?host={tmp_path}", "postgresql://a:b@no-such-host.invalid/c"):
        with pytest.raises(DatabaseUnavailable):
            await run(create_engine(url), "SELECT 1")


@pytest.mark.slow
async def test_wrong_password_role_or_database_is_a_refusal_of_access(postgres):
    host = postgres.app_url.partition("@")[2]
    wrong = [f"postgresql://onebook_app:wrong@{host}", f"postgresql://stranger:x@{host}"]
    for url in [*wrong, at_database(postgres.app_url, "absent")]:
        engine = create_engine(url)
        with pytest.raises(AccessRefused):
            await run(engine, "SELECT 1")


@pytest.mark.slow
async def test_f63_a_serialization_failure_is_tried_again(engine):
    attempts = []

    async def count_up():
        attempts.append(1)
        async with tx(engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            n = await connection.scalar(text("SELECT n FROM shelf WHERE id = 1"))
            if len(attempts) == 1:
                await run(engine, "UPDATE shelf SET n = n + 1 WHERE id = 1")
            await connection.execute(text("UPDATE shelf SET n = :n WHERE id = 1"), {"n": n + 1})

    await retrying(count_up)
    async with tx(engine) as connection:
        assert await connection.scalar(text("SELECT n FROM shelf WHERE id = 1")) == 2
    assert len(attempts) == 2


@pytest.mark.slow
async def test_f63_a_deadlock_is_tried_again(engine):
    both_hold = asyncio.Barrier(2)
    attempts = []

    async def add(first, second):
        attempts.append(first)
        async with tx(engine) as connection:
            await connection.execute(text(f"UPDATE shelf SET n = n + 1 WHERE id = {first}"))
            if len(attempts) <= 2:
                await both_hold.wait()
            await connection.execute(text(f"UPDATE shelf SET n = n + 1 WHERE id = {second}"))

    await asyncio.gather(retrying(lambda: add(1, 2)), retrying(lambda: add(2, 1)))
    async with tx(engine) as connection:
        assert list(await connection.scalars(text("SELECT n FROM shelf"))) == [2, 2]
    assert len(attempts) == 3


async def test_f63_retries_are_bounded_and_end_in_a_retryable_error():
    attempts = []

    async def never():
        attempts.append(1)
        raise SerializationConflict("again")

    with pytest.raises(SerializationConflict):
        await retrying(never, attempts=3)
    assert len(attempts) == 3


async def test_other_errors_are_not_tried_again():
    attempts = []

    async def wrong():
        attempts.append(1)
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        await retrying(wrong)
    assert len(attempts) == 1


async def test_a_connection_whose_end_was_told_but_has_not_come_is_lost(database):
    async with _without_ends(database.app_url) as (url, told):
        engine = create_engine(url, pool_size=1)

        async def end_and_ask():
            async with tx(database.engine(admin=True)) as admin, driver(engine) as connection:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                await admin.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                await asyncio.wait_for(told.wait(), 20)
                await connection.fetch("SELECT 1")

        with pytest.raises(DatabaseUnavailable):
            await end_and_ask()
        await engine.dispose()


@contextlib.asynccontextmanager
async def _without_ends(url):
    """The database by way of a relay that passes on what is said, but no end: its address, and whether all was said."""
    parts, told = urlsplit(url), asyncio.Event()

    async def relay(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", parts.port)

        async def ask():
            while heard := await reader.read(65536):
                back.write(heard)

        asking = asyncio.create_task(ask())
        while heard := await there.read(65536):
            writer.write(heard)
        await writer.drain()
        told.set()
        await asking
        writer.close()
        back.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")).geturl(), told
    finally:
        server.close()


def test_errors_of_others_are_left_alone():
    assert translate(ValueError("x")) is None
    assert translate(FileNotFoundError("x")) is None
    assert type(translate(FileNotFoundError("x"), connecting=True)) is DatabaseUnavailable
    assert type(translate(OSError(28, "No space left on device"))) is DiskFull


def test_plain_addresses_are_taken_and_others_refused():
    url = asyncpg_url("postgresql://a:p%40ss@h:5/db?sslmode=require")
    assert (url.drivername, url.password, dict(url.query)) == ("postgresql+asyncpg", "p@ss", {"ssl": "require"})
    for wrong in ("sqlite:///x", "not an address", "mysql://a@b/c"):
        with pytest.raises(ConfigError):
            asyncpg_url(wrong)


def test_a_password_never_shows_in_a_refused_address():
    with pytest.raises(ConfigError) as caught:
        asyncpg_url("mysql://user:secret@host/name")
    assert "secret" not in str(caught.value)
