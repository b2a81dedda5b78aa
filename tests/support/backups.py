"""Real backups of a test's database: taken and put back with PostgreSQL's own programs, under the same name."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from db.binaries import candidates
from db.server import Running, at_database, create_database, drop_database


def program(server: Running, name: str) -> str:
    """PostgreSQL's own program, of those that the server itself is of."""
    return next(str(folder / name) for source, folder in candidates(server.source) if (folder / name).is_file())


def take_dump(server: Running, database: str, to: Path) -> Path:
    """A backup of the database with this name, as it is now."""
    url = at_database(server.admin_url, database)
    dumping = [program(server, "pg_dump"), "--format=custom", "--file", str(to), url]
    subprocess.run(dumping, check=True, capture_output=True, timeout=120)
    return to


async def put_back(server: Running, database: str, dump: Path) -> None:
    """The database is what it was when `dump` was taken."""
    admin = at_database(server.admin_url, "postgres")
    await drop_database(admin, database)
    await create_database(admin, database)
    url = at_database(server.admin_url, database)
    restoring = [program(server, "pg_restore"), "--exit-on-error", "--dbname", url, str(dump)]
    subprocess.run(restoring, check=True, capture_output=True, timeout=120)


def name_in(url: str) -> str:
    """The database that an address names."""
    return urlsplit(url).path.removeprefix("/")
