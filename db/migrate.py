"""Brings a database to the schema of this version: Alembic, configured in code, all pending revisions in one tx."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine, tx

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6F6E65626F6F6B
"""Advisory lock key ("onebook" in ASCII) that keeps two migrations apart."""

_LONG_SECONDS = 3600
"""A migration may rewrite large tables."""


async def migrate(owner_url: str, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Apply every pending revision as the owning role, then ANALYZE the tables; `report` gets a line per revision.

    All or nothing. A second migration at the same time waits for the first. Without ANALYZE plpgsql would keep
    sequential-scan plans made for empty tables. Where no revision is pending only tables that never were are analysed.
    """
    engine = create_engine(owner_url, pool_size=1, statement_seconds=_LONG_SECONDS, application_name="onebook migrate")
    try:
        async with tx(engine) as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            upgraded = await connection.run_sync(_upgrade, report)
        await _analyze(engine, only_new=not upgraded)
    finally:
        await engine.dispose()


async def current(url: str) -> str | None:
    """The newest revision that the database has, None if it has none. Any role of ours may ask."""
    engine = create_engine(url, pool_size=1, application_name="onebook migrate")
    try:
        async with tx(engine) as connection:
            return await connection.run_sync(current_in)
    finally:
        await engine.dispose()


async def pending(url: str) -> list[str]:
    """The revisions that the database lacks, oldest first."""
    return _missing(await current(url))


def head() -> str:
    """The newest revision of this version of Onebook."""
    return str(_scripts().get_current_head())


@cache
def _scripts() -> ScriptDirectory:
    """The revisions. Reading them all takes longer than asking a database which one it has."""
    return ScriptDirectory(str(_FOLDER))


def revisions() -> list[str]:
    """All revisions of this version of Onebook, oldest first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


def _upgrade(connection: Connection, report: Callable[[str], None]) -> bool:
    """Whether anything was pending."""
    missing = _missing(current_in(connection))
    if not missing:
        return False

    def applied(*, step: object, **_: object) -> None:
        revision = str(getattr(step, "up_revision_id", ""))
        report(f"migration {revision} ({missing.index(revision) + 1} of {len(missing)})")

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["applied"] = applied
    command.upgrade(config, "head")
    return True


def current_in(connection: Connection) -> str | None:
    """The newest revision that the database has, as this tx sees it; None if it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def _missing(have: str | None) -> list[str]:
    newest_first = _scripts().iterate_revisions("head", have or "base")
    return [script.revision for script in newest_first][::-1]


async def _analyze(engine: AsyncEngine, *, only_new: bool) -> None:
    owned = text(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')"
        " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        " AND (c.reltuples = -1 OR NOT :only_new)"
    )
    async with tx(engine) as connection:
        for table in (await connection.scalars(owned, {"only_new": only_new})).all():
            await connection.execute(text(f"ANALYZE {table}"))
