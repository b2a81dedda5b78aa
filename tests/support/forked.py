"""Real processes that have imported everything already: forked off one that did so once for the whole run of tests.

ended = run("cli.__main__:run", ["onebook", "export", "balances"], cwd=folder, env=environment)
with Forked("cli.__main__:run", ["onebook", "up"], cwd=folder, env=environment, stdout=PIPE) as process:
    process.send_signal(signal.SIGINT)

They have a pid, signals, descriptors, a terminal, an environment, a folder and an exit code of their own, like any
process; they begin where a new interpreter would be after its imports. What a new interpreter itself does (its hash
seed, what is imported for which command, Ctrl-C during an import, what it says while it takes itself apart) is seen
only in one that `subprocess` starts.

Below are both ends: the one in the tests, and the stem that they're forked off, which ends when the tests' end closes.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

PROJECT = Path(__file__).resolve().parents[2]

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL

LARGEST = 200_000
"""Bytes of a question: arguments and environment."""

MOST = 64
"""Descriptors that go with a question."""

HIGH = 500
"""Where a new process keeps what it was sent, above every number that a descriptor shall get."""

_PR_SET_PDEATHSIG = 1


# The tests' end


class Forked:
    """A process that runs `entry` ("module:function") with `arguments` as sys.argv. What `subprocess.Popen` has.

    `terminal`: a session of its own whose terminal is its standard input.
    """

    def __init__(
        self,
        entry: str,
        arguments: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | IO[Any] = DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
        pass_fds: Sequence[int] = (),
        terminal: bool = False,
    ) -> None:
        self.args = [str(part) for part in arguments]
        self.returncode: int | None = None
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        with contextlib.ExitStack() as stack:
            given: list[int] = []
            for number, wanted in enumerate((stdin, stdout, stderr)):
                if wanted == PIPE:
                    reading, writing = os.pipe()
                    ours, theirs = (writing, reading) if number == 0 else (reading, writing)
                    stack.callback(os.close, theirs)
                    mode = ("w" if number == 0 else "r") + ("" if text else "b")
                    stream = os.fdopen(ours, mode, encoding="utf-8" if text else None)
                    setattr(self, ("stdin", "stdout", "stderr")[number], stream)
                elif wanted == DEVNULL:
                    theirs = os.open(os.devnull, os.O_RDWR)
                    stack.callback(os.close, theirs)
                elif wanted == STDOUT:
                    theirs = given[1]
                else:
                    theirs = number if wanted is None else wanted if isinstance(wanted, int) else wanted.fileno()
                given.append(theirs)
            self._link, theirs_link = socket.socketpair()
            stack.callback(theirs_link.close)
            question = {
                "entry": entry,
                "arguments": self.args,
                "cwd": str(cwd),
                "env": dict(env),
                "numbers": [0, 1, 2, *pass_fds],
                "terminal": terminal,
            }
            sent = [theirs_link.fileno(), *given, *pass_fds]
            socket.send_fds(_stem(), [json.dumps(question).encode()], sent)
        self.pid: int = struct.unpack("i", self._hear(None))[0]

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait(timeout=20)
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = struct.unpack("i", self._hear(timeout))[0]
            self._link.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write `input`, read all that it says, and wait for its end."""
        heard: dict[str, Any] = {}

        def read(name: str, stream: IO[Any]) -> None:
            heard[name] = stream.read()
            stream.close()

        streams = {"stdout": self.stdout, "stderr": self.stderr}
        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in streams.items()
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(input or ("" if "b" not in self.stdin.mode else b""))
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(timeout)
        return heard.get("stdout"), heard.get("stderr")

    def _hear(self, timeout: float | None) -> bytes:
        self._link.settimeout(timeout)
        try:
            told = self._link.recv(4)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        if len(told) != 4:
            raise RuntimeError("the process that commands are forked off has ended")
        return told


def run(
    entry: str,
    arguments: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    input: Any = None,
    text: bool = True,
    timeout: float = 100,
    stderr: int = PIPE,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with captured output, for `entry` in a forked process."""
    asked = DEVNULL if input is None else PIPE
    with Forked(
        entry, arguments, cwd=cwd, env=env, stdin=asked, stdout=PIPE, stderr=stderr, text=text, pass_fds=pass_fds
    ) as process:
        told, said = process.communicate(input, timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), told, said)


_starting = threading.Lock()
_stems: dict[int, socket.socket] = {}
"""Our end of the stem, by our pid: a process that was forked off us has none yet."""


def _stem() -> socket.socket:
    with _starting:
        if os.getpid() not in _stems:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                stem = subprocess.Popen(
                    [sys.executable, "-c", f"from tests.support.forked import grow; grow({theirs.fileno()})"],
                    cwd=PROJECT,
                    env={**os.environ, "PYTHONPATH": str(PROJECT)},
                    stdin=DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            _stems[os.getpid()] = ours
            atexit.register(_fell, os.getpid(), ours, stem)
        return _stems[os.getpid()]


def _fell(pid: int, ours: socket.socket, stem: "subprocess.Popen[bytes]") -> None:
    if pid == os.getpid():
        ours.close()
        stem.wait(timeout=20)


# The stem


@dataclass(frozen=True, slots=True)
class _Question:
    told: dict[str, Any]
    link: int
    given: list[int]


_LATE = (
    *(
        "cli.__main__",
        "cli.install",
        "cli.supervisor",
        "cli.journal_audit",
        "cli.entries_import",
        "wiring.assemble",
        "wiring.steps",
    ),
    *("api.serve", "worker.run", "custody.signer", "tests.support.killable_worker", "chain.evm.comfort", "eth_account"),
    *("alembic.command", "bip_utils", "httpx", "psutil", "rlp"),
)
"""What commands import only when they use it."""


def grow(descriptor: int) -> None:
    """Import everything; then fork a process for each question at the socket `descriptor`, until that closes."""
    from cli.main import COMMANDS

    for name in (*(command.place.partition(":")[0] for command in COMMANDS.values()), *_LATE):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1, "what has threads can't be forked"
    _end_as(_answer_until_forked(socket.socket(fileno=descriptor)))


def _end_as(begin: Callable[[], Any]) -> NoReturn:
    """Do it, and end as an interpreter ends, but that nothing is taken apart: all that was imported would have to be
    copied for that, page by page, which takes longer than most commands."""
    status = _outcome(begin)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _outcome(begin: Callable[[], Any]) -> int:
    """The exit status that `python -m` has with such a main; negative: the signal that it ends by."""
    try:
        sys.exit(begin())
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        return -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    return 1


def _answer_until_forked(asked: socket.socket) -> Callable[[], object]:
    """Returns in each forked process, with what it shall do there; never in the stem."""
    selector = selectors.DefaultSelector()
    selector.register(asked, selectors.EVENT_READ)
    children: dict[int, tuple[int, int]] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is not asked:
                watched = int(key.fd)
                selector.unregister(watched)
                pid, link = children.pop(watched)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError):
                    os.write(link, struct.pack("i", os.waitstatus_to_exitcode(status)))
                os.close(link)
                os.close(watched)
                continue
            told, given, _, _ = socket.recv_fds(asked, LARGEST, MOST)
            if not told:
                _end(pid for pid, _ in children.values())
            question = _Question(json.loads(told), given[0], given[1:])
            pid = os.fork()
            if pid == 0:
                selector.close()  # now, not when it's collected: its number will be another's by then
                asked.close()
                return _become(question)
            os.write(question.link, struct.pack("i", pid))
            for received in question.given:
                os.close(received)
            watched = os.pidfd_open(pid)
            children[watched] = (pid, question.link)
            selector.register(watched, selectors.EVENT_READ)


def _end(pids: Any) -> NoReturn:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _become(question: _Question) -> Callable[[], object]:
    """Turn this forked process into what was asked for; what it shall do."""
    told = question.told
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, HIGH) for descriptor in question.given]
    os.closerange(0, HIGH)
    for descriptor, number in zip(high, told["numbers"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if told["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    else:
        os.setpgid(0, 0)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.argv[:] = told["arguments"]
    for name, number, mode, buffering, errors in (
        ("stdin", 0, "r", -1, "strict"),
        ("stdout", 1, "w", -1, "strict"),
        ("stderr", 2, "w", 1, "backslashreplace"),
    ):
        stream = os.fdopen(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    module, _, function = told["entry"].partition(":")
    entry: Callable[[], object] = getattr(importlib.import_module(module), function)
    return entry
