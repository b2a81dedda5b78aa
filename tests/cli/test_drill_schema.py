"""A drill brings a dump of an older version to this one, as a start of the service does."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from base.progress import Progress
from cli.drill_sheet import Failed, Sheet
from cli.restore_drill import _Going
from db.engine import create_engine, tx
from db.migrate import _FOLDER, current, head, revisions
from db.server import Running, at_database, create_database, drop_database
from wiring.backups import FORMAT, DatabaseTold, Manifest

pytestmark = pytest.mark.slow


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes |= {"connection": connection, "applied": lambda **_: None}
    command.upgrade(config, revision)


@pytest.fixture
async def older(postgres: Running) -> AsyncIterator[tuple[Running, str]]:
    """A server whose database lacks the newest revision, and the one that it has."""
    name, before = "older_schema", revisions()[-2]
    await create_database(postgres.admin_url, name)
    there = replace(
        postgres,
        admin_url=at_database(postgres.admin_url, name),
        owner_url=at_database(postgres.owner_url, name),
    )
    engine = create_engine(there.owner_url)
    async with tx(engine) as connection:
        await connection.run_sync(upgrade_to, before)
    await engine.dispose()
    yield there, before
    await drop_database(postgres.admin_url, name)


def going(tmp_path: Path, schema: str) -> _Going:
    manifest = Manifest(
        format=FORMAT,
        onebook="0",
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        book="main",
        seq=0,
        seals=0,
        schema=schema,
        config="home/onebook.toml",
        keys=False,
        variables=(),
        database=DatabaseTold(server=15, pg_dump=15, roles=("onebook_app", "onebook_owner"), sizes={}),
        journal=None,
        files=(),
    )
    return _Going(tmp_path, tmp_path, manifest, Sheet(), Progress(), None)


async def test_an_older_schema_is_brought_to_this_version(older: tuple[Running, str], tmp_path: Path):
    there, before = older
    told = await going(tmp_path, before)._bring_to_this_version(there)
    assert told == f"{before}, brought to {head()} by 1 migrations, as `onebook up` does"
    assert await current(there.owner_url) == head()


async def test_another_schema_than_the_manifest_s_is_a_fault(older: tuple[Running, str], tmp_path: Path):
    there, before = older
    with pytest.raises(Failed, match=f"the dump has the schema {before}, the manifest says {head()}"):
        await going(tmp_path, head())._bring_to_this_version(there)
    assert await current(there.owner_url) == before
