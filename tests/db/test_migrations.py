import importlib
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from db.engine import create_engine, tx
from db.errors import AccessRefused, AppendOnly
from db.migrate import current, head, migrate, pending
from db.server import OWNER, at_database, create_database, drop_database
from db.tables import metadata

PACKAGES = ("ledger", "identity", "chain", "fiat", "wallet", "treasury")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def empty_url(postgres):
    await create_database(postgres.admin_url, "empty")
    yield at_database(postgres.owner_url, "empty")
    await drop_database(postgres.admin_url, "empty")


@pytest.mark.slow
async def test_an_empty_database_is_upgraded_to_head(empty_url):
    lines: list[str] = []
    assert await current(empty_url) is None
    steps = await pending(empty_url)
    await migrate(empty_url, report=lines.append)
    assert await current(empty_url) == head() == steps[-1]
    assert await pending(empty_url) == []
    assert lines == [f"migration {step} ({n} of {len(steps)})" for n, step in enumerate(steps, 1)]


@pytest.mark.slow
async def test_migrating_again_changes_nothing(empty_url):
    await migrate(empty_url)
    lines: list[str] = []
    await migrate(empty_url, report=lines.append)
    assert lines == []


@pytest.mark.slow
async def test_the_migrated_schema_is_what_the_tables_declare(database):
    for package in PACKAGES:
        if (ROOT / package / "tables.py").exists():
            importlib.import_module(f"{package}.tables")
    async with tx(database.engine(owner=True)) as connection:
        asked = text("SELECT relname FROM pg_class WHERE relispartition")
        unlisted = {"alembic_version", *await connection.scalars(asked)}
        of_tests = {name for name, table in metadata.tables.items() if table.info.get("of") == "tests"}
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(
                    sync,
                    opts={
                        "compare_type": True,
                        "compare_server_default": False,
                        "include_object": lambda thing, name, *_: name not in unlisted | of_tests,
                    },
                ),
                metadata,
            )
        )
    assert differences == []


@pytest.mark.slow
async def test_the_tables_are_analysed_after_migrating(empty_url, postgres):
    await migrate(empty_url)
    engine = create_engine(at_database(postgres.admin_url, "empty"))
    async with tx(engine) as connection:
        asked = "SELECT reltuples FROM pg_class WHERE relname = 'alembic_version'"
        assert await connection.scalar(text(asked)) == 1
    await engine.dispose()


@pytest.mark.slow
async def test_a_single_role_database_migrates_without_the_service_role(postgres):
    await create_database(postgres.admin_url, "single")
    try:
        admin = create_engine(at_database(postgres.admin_url, "postgres"))
        async with tx(admin) as connection:
            await connection.execute(text("ALTER ROLE onebook_app RENAME TO somebody_else"))
        try:
            await migrate(at_database(postgres.owner_url, "single"))
            assert await pending(at_database(postgres.owner_url, "single")) == []
        finally:
            async with tx(admin) as connection:
                await connection.execute(text("ALTER ROLE somebody_else RENAME TO onebook_app"))
            await admin.dispose()
    finally:
        await drop_database(postgres.admin_url, "single")


@pytest.mark.slow
async def test_the_service_role_owns_nothing_and_creates_nothing(database):
    with pytest.raises(AccessRefused):
        async with tx(database.engine()) as connection:
            await connection.execute(text("CREATE TABLE mine (id int)"))
    async with tx(database.engine()) as connection:
        owners = await connection.scalars(text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        assert set(owners) == {OWNER}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["UPDATE kept SET id = 2", "DELETE FROM kept", "TRUNCATE kept"])
async def test_append_only_rows_are_never_changed(database, change):
    engine = database.engine(owner=True)
    async with tx(engine) as connection:
        await connection.execute(text("CREATE TABLE kept (id int)"))
        await connection.execute(text("INSERT INTO kept VALUES (1)"))
        await connection.run_sync(_append_only, "kept")
    with pytest.raises(AppendOnly):
        async with tx(engine) as connection:
            await connection.execute(text(change))


@pytest.mark.slow
@pytest.mark.parametrize("change", ["UPDATE kept SET id = 2", "DELETE FROM kept_1", "TRUNCATE kept_1", "TRUNCATE kept"])
async def test_append_only_reaches_every_partition(database, change):
    engine = database.engine(owner=True)
    async with tx(engine) as connection:
        await connection.execute(text("CREATE TABLE kept (id int) PARTITION BY LIST (id)"))
        await connection.execute(text("CREATE TABLE kept_1 PARTITION OF kept DEFAULT"))
        await connection.execute(text("INSERT INTO kept VALUES (1)"))
        await connection.run_sync(_append_only, "kept")
        await connection.run_sync(_append_only, "kept_1")
    with pytest.raises(AppendOnly):
        async with tx(engine) as connection:
            await connection.execute(text(change))


def _append_only(connection, table):
    from alembic.operations import Operations

    from db.migrations.ops import append_only

    with Operations.context(MigrationContext.configure(connection)):
        append_only(table)
