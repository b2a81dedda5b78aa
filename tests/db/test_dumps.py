"""Dumps by PostgreSQL's own programs: of one instant, with owners and rights, and no password among arguments."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from base.errors import ConfigError
from db.dumps import _connection, dump, dumper, exported, make_roles, restore, restorer
from db.errors import DumpFailed, NoServerBinaries
from db.server import Running, at_database, create_database, drop_database
from tests.support.postgres import Database

ODD = 'o"dd: role'


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://ann:p%40ss@db.example:5433/book", "postgresql://ann@db.example:5433/book", "p@ss"),
        ("postgres://ann@h/book?ssl=require", "postgresql://ann@h/book?sslmode=require", None),
        (
            "postgresql://a%40b:x@[::1]:5432/book?sslmode=disable",
            "postgresql://a%40b@[::1]:5432/book?sslmode=disable",
            "x",
        ),
        ("postgresql:///book?host=/run/pg&user=ann&password=pw", "postgresql:///book?host=%2Frun%2Fpg&user=ann", "pw"),
    ],
)
def test_a_password_goes_by_the_environment_alone(url: str, address: str, password: str | None):
    bare, environment = _connection(url)
    assert (bare, environment.get("PGPASSWORD")) == (address, password)


def test_another_database_s_address_is_refused():
    with pytest.raises(ConfigError, match="must be PostgreSQL"):
        _connection("mysql://ann@h/book")


def test_programs_older_than_the_server_are_not_taken():
    assert dumper(15).major >= 15
    with pytest.raises(NoServerBinaries, match=r"no pg_dump of PostgreSQL 99 or newer.*there is: \d"):
        dumper(99)
    with pytest.raises(NoServerBinaries, match="no server programs of PostgreSQL 99 or newer"):
        restorer(99)


@pytest.fixture
async def odd_role(postgres: Running) -> AsyncIterator[str]:
    """A role with everything in its name that needs quoting, which no installation knows."""
    await make_roles(postgres.admin_url, ["onebook_app", ODD])
    yield '"o""dd: role"'
    connection = await asyncpg.connect(postgres.admin_url)
    await connection.execute('DROP ROLE "o""dd: role"')
    await connection.close()


async def test_what_is_put_back_is_that_instant_with_its_owners_and_rights(
    postgres: Running, database: Database, odd_role: str, tmp_path: Path
):
    source = await asyncpg.connect(database.admin_url)
    await source.execute(
        f"CREATE TABLE odd (n int); ALTER TABLE odd OWNER TO {odd_role}; GRANT SELECT ON odd TO onebook_app"
    )
    await source.execute("INSERT INTO odd VALUES (1)")
    told = list[int]()
    async with exported(database.admin_url) as (_, snapshot, dumped):
        await source.execute("INSERT INTO odd VALUES (2)")
        major = await dump(database.admin_url, tmp_path / "dump", snapshot, dumped, told=told.append)
    assert {ODD, "onebook_owner", "onebook_app"} <= {*dumped.roles}
    assert (sum(told), major >= dumped.server) == (dumped.size, True)
    await make_roles(postgres.admin_url, dumped.roles)  # all are there: nothing happens
    name = f"{database.name}_again"
    url = at_database(postgres.admin_url, name)
    await create_database(postgres.admin_url, name)
    try:
        told.clear()
        await restore(restorer(major), url, tmp_path / "dump", sizes=dumped.sizes, told=told.append)
        assert sum(told) == dumped.size
        restored = await asyncpg.connect(url)
        assert [row["n"] for row in await restored.fetch("SELECT n FROM odd")] == [1]
        owner = await restored.fetchval("SELECT tableowner FROM pg_tables WHERE tablename = 'odd'")
        assert (owner, await restored.fetchval("SELECT has_table_privilege('onebook_app', 'odd', 'SELECT')")) == (
            *(ODD, True),
        )
        await restored.close()
        with pytest.raises(DumpFailed, match="already exists"):
            await restore(restorer(major), url, tmp_path / "dump", sizes=dumped.sizes, whole_or_not=True)
    finally:
        await drop_database(postgres.admin_url, name)
        await source.execute("DROP TABLE odd")
        await source.close()


async def test_a_dump_that_is_cut_off_is_not_put_back(postgres: Running, database: Database, tmp_path: Path):
    async with exported(database.owner_url) as (_, snapshot, dumped):
        major = await dump(database.owner_url, tmp_path / "dump", snapshot, dumped)
    content = (tmp_path / "dump").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    name = f"{database.name}_again"
    await create_database(postgres.admin_url, name)
    try:
        url = at_database(postgres.admin_url, name)
        with pytest.raises(DumpFailed, match="pg_restore"):
            await restore(restorer(major), url, tmp_path / "cut", sizes=dumped.sizes, whole_or_not=True)
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.close()
    finally:
        await drop_database(postgres.admin_url, name)
