"""Databases that serve one test after the other: emptied, and only while nothing but rows differs from the template.

A test that changed tables, triggers, functions or rights, filled more than a few megabytes, or altered what the
migrations wrote leaves a database that is dropped instead.

Whoever cleans stays connected between the tests, in a thread with a loop of its own, since each test's loop ends with
it: a new connection has to learn every table first, which took most of the cleaning's time.
"""

import asyncio
import dataclasses
import threading
from functools import cache

import asyncpg

from db.server import at_database
from tests.support.waiting import eventually

GROWTH_MAX = 6 * 2**20
"""Bytes that a database may have grown by: emptying keeps them, and scans would walk through them."""

_SHAPE = """
SELECT md5(concat(
    (SELECT string_agg(concat_ws(' ', oid, relname, relkind, relowner, relacl, relnatts, relchecks),
        ',' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    (SELECT string_agg(concat_ws(' ', oid, tgenabled, tgfoid), ',' ORDER BY oid) FROM pg_trigger),
    (SELECT string_agg(concat_ws(' ', oid, proacl, md5(prosrc)), ',' ORDER BY oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace),
    (SELECT string_agg(concat_ws(' ', oid, conname, convalidated), ',' ORDER BY oid) FROM pg_constraint),
    (SELECT string_agg(concat_ws(' ', oid, nspname, nspacl), ',' ORDER BY oid) FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%'),
    (SELECT string_agg(concat_ws(' ', setconfig), ',') FROM pg_db_role_setting)))
"""
"""Everything of a database that isn't rows, as one hash; a clone has the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Template:
    """What a clone must be like again. `written`: the tables that the migrations filled, and a hash of their rows."""

    shape: str
    size: int
    tables: tuple[str, ...]
    written: dict[str, str]


_templates: dict[str, _Template] = {}
_spare: dict[str, list[str]] = {}
_cleaners: dict[str, asyncpg.Connection] = {}
"""By the database's address, as the superuser. Used in the cleaners' own loop only."""


async def remember_template(admin_url: str, name: str) -> None:
    """Look at the template of the server at `admin_url`; its clones can then be given back."""
    connection = await asyncpg.connect(at_database(admin_url, name))
    try:
        found = await connection.fetch(
            "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
        tables = tuple(row[0] for row in found)
        written = {table: await _rows(connection, table) for table in await _filled(connection, tables)}
        shape, size = await connection.fetchval(_SHAPE), await _size(connection)
    finally:
        await connection.close()
    _templates[admin_url], _spare[admin_url] = _Template(shape, size, tables, written), []


async def take_spare(admin_url: str) -> str | None:
    """The name of a database that is as the template was, if one is there."""
    spare = _spare.get(admin_url)
    return spare.pop() if spare else None


async def give_back(admin_url: str, name: str, *, untouched: bool = False) -> bool:
    """Empty the database for the next test; False if it isn't fit for that, and is to be dropped.

    `untouched`: nobody was connected to it since it was taken, so that there is nothing to look at.
    """
    template = _templates.get(admin_url)
    if template is None:
        return False
    if untouched:
        _spare[admin_url].append(name)
        return True
    cleaning = asyncio.run_coroutine_threadsafe(_clean(at_database(admin_url, name), template), _cleaning_loop())
    is_fit = await asyncio.wrap_future(cleaning)
    if is_fit:
        _spare[admin_url].append(name)
    return is_fit


async def leave(url: str) -> None:
    """Whoever cleaned the database at `url` (the superuser's address) after earlier tests disconnects."""
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_leave(url), _cleaning_loop()))


async def _leave(url: str) -> None:
    if cleaner := _cleaners.pop(url, None):
        await cleaner.close()


@cache
def _cleaning_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cleaning databases", daemon=True).start()
    return loop


async def _clean(url: str, template: _Template) -> bool:
    cleaner = _cleaners.pop(url, None)
    if cleaner is None or cleaner.is_closed():  # a test may have ended everybody's connections
        cleaner = await asyncpg.connect(url)
    is_fit = False
    try:
        await _end_others(cleaner)
        is_fit = await _emptied(cleaner, template)
    finally:
        if is_fit:
            _cleaners[url] = cleaner
        else:
            await cleaner.close()
    return is_fit


async def _emptied(connection: asyncpg.Connection, template: _Template) -> bool:
    if await connection.fetchval(_SHAPE) != template.shape:
        return False
    if await _size(connection) > template.size + GROWTH_MAX:
        return False
    filled = await _filled(connection, template.tables)
    if {table: await _rows(connection, table) for table in filled if table in template.written} != template.written:
        return False
    statements = [f"DELETE FROM {table}" for table in filled if table not in template.written]
    statements.append("SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence")
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # no trigger, no foreign key
        await connection.execute(";".join(statements))
    return True


async def _end_others(connection: asyncpg.Connection) -> None:
    """End whoever is still connected, and wait until they are gone."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await connection.execute(f"SELECT pg_terminate_backend(pid) {others}")

    async def all_are_gone() -> bool:
        return not await connection.fetchval(f"SELECT count(*) {others}")

    await eventually("nobody else is connected", all_are_gone)


async def _filled(connection: asyncpg.Connection, tables: tuple[str, ...]) -> list[str]:
    """Those of the tables that have rows."""
    asked = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
    return [row[0] for row in await connection.fetch(asked)]


async def _rows(connection: asyncpg.Connection, table: str) -> str:
    return str(await connection.fetchval(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"))


async def _size(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
