"""A PostgreSQL server of our own for whoever has none: made, started, watched and ended by us, in one folder.

It listens on 127.0.0.1 only and asks every caller for a SCRAM password; it writes checksums; it is our direct child and
shuts down when we die. Root may not run PostgreSQL, so as root it runs as an existing unprivileged user and keeps its
files in a new folder outside, which the given folder records. A database given by URL needs none of this.

Start it from the main thread: the kernel ends a child with the *thread* that started it.
"""

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import asyncpg

from base.children import free_port, start_child, stop_child
from base.entropy import Entropy, SystemEntropy
from base.errors import ConfigError
from base.files import write_atomically
from db.binaries import Account, Binaries, Source, find_binaries
from db.errors import ServerFailed, ServerInUse, translate

ADMIN, OWNER, APP = "postgres", "onebook_owner", "onebook_app"
"""Roles: the superuser; who owns databases and runs migrations; the running service's, which owns nothing."""

DATABASE = "onebook"

_ACCOUNTS = ("postgres", "nobody")
"""Existing unprivileged users that run the server for root, the first there is."""

_OUTSIDE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - a fresh private folder is made inside
"""Where root's new folder may stand: a lasting place first, since temporary folders are swept."""

_OUTSIDE_PREFIX = "onebook-postgres-"
_MARK = "onebook-owner.json"
"""File in the outside folder that names the folder it belongs to; without it `clean` removes nothing there."""

_START_SECONDS = 60
"""Longest wait for a server to accept connections, recovery after a crash included."""

_ATTEMPTS = 40
_PAUSE_SECONDS = 0.25
"""Between attempts, while an earlier server of this folder is still ending."""

_PASSING = (
    "pre-existing shared memory block",
    "could not bind",
    "Address already in use",
    'lock file "postmaster.pid" already exists',
)
"""Words in the log of a failed start that say another attempt can help."""

_MIB = 2**20


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return []


def _shared_buffers(memory: int) -> str:
    """An eighth of the `memory` there is (bytes), within 128 MiB and 8 GiB: indexes of a long history are hot all over.

    The system gives it page by page as it's used, so that a small book takes little.
    """
    return f"{min(max(memory // 8 // _MIB, 128), 8192)}MB"


def _memory() -> int:
    """Bytes that this machine has, or this container may use."""
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = "".join(_lines(Path("/sys/fs/cgroup/memory.max")))
    return min(has, int(allowed)) if allowed.isdigit() else has


_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "shared_buffers": _shared_buffers(_memory()),
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "cluster_name": "onebook",
}

_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"
"""The whole of pg_hba.conf: a password, from this machine. Kept beside the data, out of the server's own reach."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections. The addresses carry passwords: don't log them."""

    port: int
    pid: int
    version: str
    source: Source
    admin_url: str = field(repr=False)
    owner_url: str = field(repr=False)
    app_url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Record:
    """What the folder remembers of its server: file `server.json`, readable by its owner only.

    `outside` is the folder that root made elsewhere, None when all lies in the given one; `user` and `group` are the
    numeric ids that own the data; `port` is the last one used.
    """

    outside: str | None
    user: int
    group: int
    passwords: dict[str, str] = field(repr=False)
    port: int | None = None


class PostgresServer:
    """The server of one folder. `start` it, or use it as a context manager; the same folder gives the same database.

    `prefer` ("system" or "embedded") allows one source of programs only; an existing database stays with its major
    version. `settings` go to the server as they are, e.g. `{"fsync": "off"}` for a database to throw away. `outside` is
    where root's new folder may stand; a lasting place unless it's given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        prefer: str | None = None,
        settings: Mapping[str, str] | None = None,
        entropy: Entropy | None = None,
        outside: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._prefer = Source(prefer) if prefer else None
        self._settings = {**_SETTINGS, **(settings or {})}
        self._entropy = entropy or SystemEntropy()
        self._outside = _OUTSIDE if outside is None else (outside,)
        self._lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._running: Running | None = None

    def start(self) -> Running:
        """Start the server, or start it again after it was killed; does nothing if it runs.

        Makes its files, roles and the database `onebook` where they are missing. Raises `ServerInUse` if another
        process runs it, `NoServerBinaries`, `ServerFailed` with the end of the log, `ConfigError` if the folder is
        another user's.
        """
        if self._running and self._child and self._child.poll() is None:
            return self._running
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError("a database server must be started from the main thread, or it would end with its thread")
        self._take_lock()
        try:
            self._running = self._start()
        except BaseException:
            self.stop()
            raise
        return self._running

    def stop(self) -> None:
        """End the server in order (connections are closed, everything is written) and give the folder free."""
        if self._child is not None:
            stop_child(self._child, sig=signal.SIGINT, seconds=30)
            self._child = None
        self._running = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Running:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def _take_lock(self) -> None:
        if self._lock is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self.folder)

    def _start(self) -> Running:
        record = _read(self.folder) or _settle(self.folder, self._entropy, self._outside)
        home = _home(self.folder, record)
        account = _account(self.folder, record)
        version = home / "data" / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        binaries = find_binaries(account, home, prefer=self._prefer, major=major)
        if major is None:
            self._make_cluster(binaries, home, account, record.passwords[ADMIN])
        self._child, port = self._launch(binaries, home, account, record.port)
        if port != record.port:
            _write(self.folder, replace(record, port=port))
        urls = {role: _url(role, record.passwords[role], port, DATABASE) for role in (ADMIN, OWNER, APP)}
        _finish(_make_roles(urls[ADMIN], record.passwords))
        return Running(port, self._child.pid, binaries.version, binaries.source, urls[ADMIN], urls[OWNER], urls[APP])

    def _make_cluster(self, binaries: Binaries, home: Path, account: Account, password: str) -> None:
        """Run initdb beside the final place, then rename, so that a cluster is whole or absent."""
        draft, secret = home / "data.draft", home / "password.draft"
        shutil.rmtree(draft, ignore_errors=True)
        secret.unlink(missing_ok=True)
        try:
            draft.mkdir(mode=0o700)
            secret.touch(mode=0o600)
            secret.write_text(password)
            if account.switch:
                os.chown(draft, account.user, account.group)
                os.chown(secret, account.user, account.group)
            options = ["--username", ADMIN, "--auth", "scram-sha-256", "--data-checksums", "--encoding", "UTF8"]
            options += ["--no-locale", "--no-instructions", *(["--no-sync"] if self._throwaway else [])]
            command: list[str | Path] = [binaries.folder / "initdb", "-D", draft, "--pwfile", secret, *options]
            child = self._spawn(command, home, account, death_signal=signal.SIGTERM)
            if child.wait(timeout=_START_SECONDS):
                raise ServerFailed(f"initdb failed; its last words in {self.log}:\n{self._tail()}")
            draft.rename(home / "data")
        finally:
            secret.unlink(missing_ok=True)

    def _launch(
        self, binaries: Binaries, home: Path, account: Account, wanted: int | None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start `postgres` and wait until it accepts connections; again, while what stands in its way is passing."""
        access = home / "pg_hba.conf"
        write_atomically(access, _ACCESS.encode())
        access.chmod(0o644)
        _end_orphan(home / "data")
        for _ in range(_ATTEMPTS):
            port = _port(wanted)
            settings = {**self._settings, "hba_file": str(access), "port": str(port)}
            flags = [part for name, text in settings.items() for part in ("-c", f"{name}={text}")]
            before = self.log.stat().st_size if self.log.exists() else 0
            command: list[str | Path] = [binaries.folder / "postgres", "-D", home / "data", *flags]
            child = self._spawn(command, home, account, death_signal=signal.SIGINT)
            if self._wait_ready(child, home / "data" / "postmaster.pid"):
                return child, port
            stop_child(child, sig=signal.SIGQUIT)
            if not any(words in self._tail(before) for words in _PASSING):
                break
            time.sleep(_PAUSE_SECONDS)
        raise ServerFailed(f"PostgreSQL doesn't start; its last words in {self.log}:\n{self._tail(before)}")

    def _spawn(
        self, command: Sequence[str | Path], home: Path, account: Account, *, death_signal: signal.Signals
    ) -> subprocess.Popen[bytes]:
        return start_child(
            command,
            log=self.log,
            env={"LC_ALL": "C", "PATH": os.defpath},
            cwd=home,
            user=account.user if account.switch else None,
            group=account.group if account.switch else None,
            death_signal=death_signal,
        )

    def _wait_ready(self, child: subprocess.Popen[bytes], pidfile: Path) -> bool:
        """Whether the server said in its pid file that it accepts connections, before it ended or time ran out."""
        deadline = time.monotonic() + _START_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            lines = _lines(pidfile)
            if len(lines) >= 8 and lines[0] == str(child.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    @property
    def _throwaway(self) -> bool:
        return self._settings.get("fsync") == "off"

    def _tail(self, start: int = 0) -> str:
        """The end of the log, at most 4,000 characters, from byte `start` on."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode(errors="replace")[-4000:]
        return ""


def clean(folder: Path) -> None:
    """Remove the server's files, those of the recorded outside folder too. Raises `ServerInUse` while it runs.

    Removes only what `PostgresServer` made; other files in `folder` stay.
    """
    folder = folder.absolute()
    if not any((folder / name).exists() for name in ("server.json", "lock")):
        return
    lock = _lock(folder)
    try:
        record = _read(folder)
        if record:
            _remove_home(folder, record)
        shutil.rmtree(folder / "data.draft", ignore_errors=True)
        for name in ("password.draft", "pg_hba.conf", "server.json", "postgres.log", "lock"):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    finally:
        os.close(lock)


async def create_database(admin_url: str, name: str, *, template: str | None = None) -> None:
    """Make the database `name`, owned by the owning role and open to the service's role; a copy of `template` if given.

    Does nothing if it exists. Nobody may be connected to `template`.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            source = f" TEMPLATE {_quoted(template)} STRATEGY FILE_COPY" if template else ""
            await connection.execute(f"CREATE DATABASE {_quoted(name)} OWNER {OWNER}{source}")
        await connection.execute(f"REVOKE ALL ON DATABASE {_quoted(name)} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {_quoted(name)} TO {APP}")
    finally:
        await connection.close()


async def drop_database(admin_url: str, name: str) -> None:
    """Remove the database `name` with all it holds, ending its connections; does nothing if there is none."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")
    finally:
        await connection.close()


def at_database(url: str, name: str) -> str:
    """`url` with another database on the same server."""
    return urlsplit(url)._replace(path=f"/{quote(name, safe='')}").geturl()


async def _make_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """The two roles with their passwords, and the database; whatever of it is there already stays."""
    admin = at_database(admin_url, "postgres")
    try:
        connection = await asyncpg.connect(admin)
        try:
            for role in (OWNER, APP):
                if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{scram_verifier(passwords[role])}'")
        finally:
            await connection.close()
        await create_database(admin, DATABASE)
    except Exception as error:
        raise (translate(error, connecting=True) or error) from error


def scram_verifier(password: str, *, rounds: int = 4096) -> str:
    """The SCRAM-SHA-256 verifier that PostgreSQL stores (RFC 5803), so that no statement carries the password."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"


def _finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end, whether or not this thread is inside an event loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _lock(folder: Path) -> int:
    """The folder's lock, held until the descriptor is closed or we die. Raises `ServerInUse`."""
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino  # not removed by `clean` meanwhile
    except BlockingIOError:
        taken = False
    if not taken:
        holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise ServerInUse(f"the database in {folder} is run by process {holder} already", pid=holder)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _read(folder: Path) -> _Record | None:
    path = folder / "server.json"
    try:
        return _Record(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, PermissionError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def _write(folder: Path, record: _Record) -> None:
    write_atomically(folder / "server.json", json.dumps(asdict(record), indent=1).encode())


def _settle(folder: Path, entropy: Entropy, parents: Sequence[Path]) -> _Record:
    """Decide, for a new folder, who runs the server, where its files lie and what its passwords are."""
    passwords = {role: base64.urlsafe_b64encode(entropy.draw(24)).decode() for role in (ADMIN, OWNER, APP)}
    if (folder / "data").exists():
        raise ConfigError(f"{folder / 'data'} exists, but {folder / 'server.json'}, which knows its passwords, doesn't")
    if os.geteuid() != 0:
        record = _Record(None, os.geteuid(), os.getegid(), passwords)
    else:
        user = _unprivileged()
        outside = Path(tempfile.mkdtemp(prefix=_OUTSIDE_PREFIX, dir=_outside_parent(parents)))
        outside.chmod(0o711)
        write_atomically(outside / _MARK, json.dumps({"folder": str(folder)}).encode())
        record = _Record(str(outside), user.pw_uid, user.pw_gid, passwords)
    _write(folder, record)
    return record


def _unprivileged() -> pwd.struct_passwd:
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigError("root can't run PostgreSQL, and there is no user `postgres` or `nobody` to run it")


def _outside_parent(parents: Sequence[Path]) -> Path:
    """A folder that every user can pass through, all its parents too."""
    for parent in parents:
        if parent.is_dir() and all(place.stat().st_mode & 0o001 for place in (parent, *parent.parents)):
            return parent
    raise ConfigError("no folder that other users can reach; give ONEBOOK_DATABASE_URL or don't run as root")


def _home(folder: Path, record: _Record) -> Path:
    """The folder that holds the server's files. Raises `ConfigError` if it's gone, or another folder's."""
    if record.outside is None:
        return folder
    home = Path(record.outside)
    if not home.is_dir():
        raise ConfigError(f"the database's files in {home} are gone; restore them, or remove {folder} to begin anew")
    other = _owner(home)
    if other != folder:
        if _same_home(other, home):
            raise ConfigError(f"{folder} is a copy of {other}, which keeps the database; remove {folder} to begin anew")
        write_atomically(home / _MARK, json.dumps({"folder": str(folder)}).encode())  # it was moved
    return home


def _owner(home: Path) -> Path:
    """The folder whose server's files are in `home`. Raises `ConfigError` if we didn't make `home`."""
    try:
        if home.name.startswith(_OUTSIDE_PREFIX):
            return Path(json.loads((home / _MARK).read_bytes())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{home} is recorded as a database's folder, but wasn't made as one; it is left alone")


def _same_home(folder: Path, home: Path) -> bool:
    record = _read(folder)
    return record is not None and record.outside == str(home)


def _remove_home(folder: Path, record: _Record) -> None:
    """Remove the server's files, but not those that another folder, of which this one is a copy, still uses."""
    if record.outside is None:
        _end_orphan(folder / "data")
        shutil.rmtree(folder / "data", ignore_errors=True)
    elif (home := Path(record.outside)).is_dir():
        other = _owner(home)
        if other == folder or not _same_home(other, home):
            _end_orphan(home / "data")
            shutil.rmtree(home)


def _account(folder: Path, record: _Record) -> Account:
    me = os.geteuid()
    if me not in (0, record.user):
        raise ConfigError(f"the database in {folder} belongs to the user with id {record.user}; run as that user")
    return Account(record.user, record.group, switch=me != record.user)


def _url(role: str, password: str, port: int, database: str) -> str:
    """An address without TLS: it stays on this machine, and trying TLS would look into the caller's home folder."""
    return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port}/{database}?sslmode=disable"


def _port(wanted: int | None) -> int:
    """The last port if it's free, so that clients find the server again, else any."""
    if wanted:
        with contextlib.suppress(OSError):
            if free_port(wanted) == wanted:
                return wanted
    return free_port()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _end_orphan(data: Path) -> None:
    """End what an earlier, killed launcher left running in `data` (we hold its lock, so nobody else owns it).

    Then remove a pid file that no process stands behind: its number may meanwhile be another program's, and PostgreSQL
    would refuse to start.
    """
    pidfile = data / "postmaster.pid"
    lines = _lines(pidfile)
    deadline = time.monotonic() + _ATTEMPTS * _PAUSE_SECONDS
    if lines and lines[0].isdigit() and int(lines[0]) in _processes_in(data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(lines[0]), signal.SIGINT)
    while _processes_in(data) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not _processes_in(data):
        pidfile.unlink(missing_ok=True)


def _processes_in(data: Path) -> set[int]:
    """Process ids of PostgreSQL's processes in `data`: they make it their working folder."""
    found, place = set(), data.resolve()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                is_postgres = Path(entry.path, "comm").read_text().strip() == "postgres"
                if is_postgres and Path(entry.path, "cwd").readlink() == place:
                    found.add(int(entry.name))
    return found
