"""The supervisor: starts the processes of one installation in order, watches them, and ends them in reverse.

Every process is our direct child and dies with us, however we die. One that ends by itself is started again, a few
times; then all end. Only the database and the signer are started before the rest, since the rest needs them.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

import httpx
from pydantic import SecretStr

from base.children import listen, start_child, stop_child
from base.errors import ConfigError, Unavailable
from base.tls import trusted_roots
from custody.launcher import launch_signer
from db.server import PostgresServer
from wiring.running import Running, forget_running, own_start, read_running, write_running
from wiring.settings import CONFIG_VARIABLE, Settings

READY_SECONDS = 120.0
"""How long a process may take until it's ready."""

RESTARTS_MAX = 5
"""How often a process that ends by itself is started again, within RESTARTS_SECONDS."""

RESTARTS_SECONDS = 60.0
WATCH_SECONDS = 0.2

NOT_FOR_CHILDREN = frozenset({"ONEBOOK_SIGNER_PASSPHRASE", "ONEBOOK_DATABASE_OWNER_URL"})
"""Variables that the API and the worker never get: who owns the tables could rewrite history."""


class AlreadyRunning(ConfigError):
    """Another supervisor runs this installation; `facts` say where it answers."""

    default_code = "already_running"


@dataclass(slots=True)
class _Process:
    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    child: subprocess.Popen[bytes]
    restarts: list[float]


class Supervisor:
    """One installation's processes. Use as a context manager: leaving it ends them all."""

    def __init__(self, settings: Settings, *, config: Path, passphrase: bytes, say: Callable[[str], None]) -> None:
        self.settings = settings
        self._config = config
        self._passphrase = passphrase
        self._say = say
        self._lock: IO[bytes] | None = None
        self._database: PostgresServer | None = None
        self._processes: dict[str, _Process] = {}
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._metrics: socket.socket | None = None
        self.api_url = ""
        self.metrics_url = ""

    def __enter__(self) -> Self:
        self._take_lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Starting

    def start_database(self) -> None:
        """Start a PostgreSQL of our own, unless one is configured by address."""
        if self.settings.database_url is not None:
            return
        self._database = PostgresServer(self.settings.home / "postgres")
        running = self._database.start()
        self._say(f"PostgreSQL {running.version} ({running.source}) on 127.0.0.1:{running.port}")
        self.settings = self.settings.model_copy(
            update={
                "database_url": SecretStr(running.app_url),
                "database_owner_url": SecretStr(running.owner_url),
            }
        )

    def start_signer(self) -> None:
        """Start the signer; the passphrase goes to it through a pipe, and nowhere else."""
        settings = self.settings
        socket = settings.path(settings.signer_socket)
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        def launch() -> subprocess.Popen[bytes]:
            signer = launch_signer(
                socket=socket,
                keys=settings.path(settings.keys),
                policy=settings.path(settings.policy),
                journal=settings.path(settings.journal),
                passphrase=self._passphrase,
                log=self._log("signer"),
                pkcs11=settings.pkcs11,
            )
            signer.await_ready()
            return signer.child

        self._add("signer", launch)
        self._say(f"signer on {socket.name}, its own process")

    def start_worker(self) -> None:
        """Start the worker, which serves its metrics on their port, or the next free one."""
        wanted = self.settings.metrics
        if not wanted.port:
            self._add("worker", lambda: self._python("worker", "worker.run"))
            self._say("worker")
            return
        self._metrics = listen(wanted.host, wanted.port)
        fd, port = self._metrics.fileno(), self._metrics.getsockname()[1]
        self.metrics_url = f"http://{wanted.host}:{port}/metrics"
        self._add("worker", lambda: self._python("worker", "worker.run", "--metrics-fd", str(fd), pass_fds=(fd,)))
        self._say(f"worker, with metrics of the whole on {self.metrics_url}")

    def start_api(self) -> None:
        """Start the API on its port, or the next free one, and wait until it's ready.

        The socket is ours and stays open while the API is started again: callers wait then, instead of being refused.
        """
        self._listener = listen(self.settings.api_host, self.settings.api_port)
        fd, port = self._listener.fileno(), self._listener.getsockname()[1]
        self.settings = self.settings.model_copy(update={"api_port": port})
        self.api_url = f"http://{self.settings.api_host}:{port}"
        self._add("api", lambda: self._python("api", "api.serve", "--fd", str(fd), pass_fds=(fd,)))
        self._await("api", lambda: _answers(f"{self.api_url}/health/ready"))
        self._say(f"API on {self.api_url}")
        if _halted(f"{self.api_url}/health/ready"):
            self._say("nothing moves yet: the database was put back from a backup. Now run `onebook recover`")

    def record(self) -> None:
        """Write what runs where, for the command line."""
        settings = self.settings
        write_running(
            settings.home,
            Running(
                pid=os.getpid(),
                started=own_start(),
                api_url=self.api_url,
                database_url=_secret(settings.database_url),
                owner_url=_secret(settings.database_owner_url or settings.database_url),
                children={name: process.child.pid for name, process in self._processes.items()},
                metrics_url=self.metrics_url,
            ),
        )

    # Running

    def watch(self) -> None:
        """Stay until SIGINT or SIGTERM, starting again what ends by itself. Raises Unavailable if it keeps ending."""
        with _stop_on_signals(self._stop):
            while not self._stop.wait(WATCH_SECONDS):
                for process in self._processes.values():
                    if process.child.poll() is not None:
                        self._restart(process)

    def stop(self) -> None:
        """End every process, the last started first, then the database."""
        for listener in (self._listener, self._metrics):
            if listener is not None:
                listener.close()
        self._listener = self._metrics = None
        for process in reversed(self._processes.values()):
            stop_child(process.child)
        self._processes.clear()
        if self._database is not None:
            self._database.stop()
        if self._lock is not None:
            forget_running(self.settings.home)
            self._lock.close()
            self._lock = None

    def pid_of(self, name: str) -> int:
        """The process id of a child."""
        return self._processes[name].child.pid

    def _restart(self, process: _Process) -> None:
        now = time.monotonic()
        process.restarts = [at for at in process.restarts if now - at < RESTARTS_SECONDS]
        if len(process.restarts) >= RESTARTS_MAX:
            raise Unavailable(f"the {process.name} keeps ending; its last words are in {self._log(process.name)}")
        process.restarts.append(now)
        self._say(f"the {process.name} ended with status {process.child.returncode}; starting it again")
        process.child = process.launch()
        self.record()

    def _add(self, name: str, launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._processes[name] = _Process(name, launch, launch(), [])

    def _await(self, name: str, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        child = self._processes[name].child
        while not is_ready():
            if child.poll() is not None:
                raise Unavailable(f"the {name} ended with status {child.returncode}: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise Unavailable(f"the {name} isn't ready after {READY_SECONDS:.0f} s; see {self._log(name)}")
            self._stop.wait(0.02)

    def _python(
        self, name: str, module: str, *arguments: str, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments]
        return start_child(command, log=self._log(name), env=self._environment(), pass_fds=pass_fds)

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        return {
            **{key: value for key, value in os.environ.items() if key not in NOT_FOR_CHILDREN},
            CONFIG_VARIABLE: str(self._config),
            "ONEBOOK_DATABASE_URL": _secret(settings.database_url),
            "ONEBOOK_API_PORT": str(settings.api_port),
            "PYTHONUNBUFFERED": "1",
        }

    def _log(self, name: str) -> Path:
        return self.settings.path(self.settings.logs) / f"{name}.log"

    def _last_words(self, name: str) -> str:
        with suppress(OSError):
            lines = self._log(name).read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it left no log"

    def _take_lock(self) -> None:
        folder = self.settings.home / "run"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            running = read_running(self.settings.home)
            where = running.api_url if running else "it is still starting"
            raise AlreadyRunning(f"this installation runs already: {where}", api_url=where) from None
        self._lock = lock


class _stop_on_signals:  # noqa: N801 - reads as a phrase at its only use
    """SIGINT and SIGTERM set the event instead of ending us, so that the children are ended in order."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __enter__(self) -> None:
        self._before = {s: signal.signal(s, self._set) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._event.set()


def _answers(url: str) -> bool:
    """Whether all is well there, or nothing but that somebody has to run `onebook recover`."""
    try:
        return httpx.get(url, timeout=2, verify=trusted_roots()).status_code == httpx.codes.OK or _halted(url)
    except httpx.HTTPError:
        return False


def _halted(url: str) -> bool:
    """Whether a database that must be recovered is all that isn't well."""
    try:
        checks = httpx.get(url, timeout=2, verify=trusted_roots()).json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return [name for name, fault in checks.items() if fault != "ok"] == ["recovery"]


def _secret(value: SecretStr | None) -> str:
    return "" if value is None else value.get_secret_value()
