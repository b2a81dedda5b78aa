"""The signer as a process: keys in, one Unix socket out, nothing else. `python -m custody.signer --help` says how.

It prints `signer ready` when it listens, ends cleanly on SIGTERM, and ends with exit code 2 and one sentence when it
can't start. Who may talk to it is decided by the folder's and the socket's modes and by the peer's uid. Decisions are
the service's; here are only edges: arguments, passphrase, process hardening, socket, time limits.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from base.collector import calm_collector
from base.errors import ConfigError, OnebookError
from custody import wire
from custody.clocks import SystemClocks
from custody.enrolment import accept_successor
from custody.errors import FileUnsafe, PassphraseMissing, PolicyInvalid, SocketInUse
from custody.hardening import harden
from custody.intents import keys_named
from custody.journal import Journal
from custody.journal_file import checkpoint
from custody.launcher import READY
from custody.passphrases import CREDENTIAL, PASSPHRASE_ENV, Guard, told_passphrase
from custody.policy import Policy
from custody.policy_file import parse
from custody.policy_signatures import read_signatures, signatures_path
from custody.rolekeys import RoleKeys
from custody.service import SignerService
from custody.stores import open_store

EXIT_CANNOT_START: Final = 2

_CONNECTIONS_MAX: Final = 64
_IDLE_SECONDS: Final = 120.0
"""How long a connection may stay without a question."""
_GOODBYE_SECONDS: Final = 2.0
"""How long connections may take to end at SIGTERM."""
_TOGETHER_MAX: Final = 16
"""Questions that are answered together: enough to share the flushes, few enough that nobody waits for many."""
_UNWRITABLE: Final = {"failed": {"code": "journal_unwritable", "sentence": "the journal can't be written"}}
"""An answer too (disk full), and nothing is signed."""
_UNJUDGED: Final = {"failed": {"code": "internal_error", "sentence": "the question couldn't be judged; see its log"}}
_UCRED: Final = struct.Struct("3i")
"""struct ucred of SO_PEERCRED: pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    socket: Path
    keys: Path
    policy: Path
    journal: Path
    passphrase_fd: int | None
    allowed_uids: frozenset[int]
    pkcs11_module: Path | None = None
    pkcs11_token: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the signer until SIGTERM or SIGINT; returns the exit code."""
    arguments = _arguments(argv)
    _load_libraries()
    harden(_warn)
    try:
        passphrase = told_passphrase(arguments.passphrase_fd, _warn)
        if passphrase is None:
            raise PassphraseMissing(
                f"no passphrase: give --passphrase-fd, the credential {CREDENTIAL} or {PASSPHRASE_ENV}"
            )
        for path in (arguments.journal, arguments.policy, signatures_path(arguments.policy)):
            _refuse_open_to_others(path)
        journal = Journal.open(arguments.journal, SystemClocks())
    except (OnebookError, OSError) as problem:
        return _cannot_start(problem)
    try:
        with _opened_keys(arguments, journal, passphrase) as (keys, policy):
            del passphrase
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                service = SignerService(keys, policy, journal)
                calm_collector()
                runner.run(_serve(service, arguments))
    except (OnebookError, OSError) as problem:
        return _cannot_start(problem)
    finally:
        journal.close()
    return 0


def _load_libraries() -> None:
    """Import now what takes long, rather than in the middle of the first question."""
    import bip_utils as bip_utils
    import rlp as rlp  # type: ignore[import-untyped]


@contextlib.contextmanager
def _opened_keys(
    arguments: Arguments, journal: Journal, passphrase: bytes
) -> Iterator[tuple[dict[str, RoleKeys], Policy]]:
    """The policy, accepted if it's a successor, and the keys that the journal serves then.

    They're opened first: a journal forgets no key, so none that isn't there may be named in it.
    """
    policy = _read_policy(arguments.policy)
    marks = {**policy.keys, **journal.enrolment.fingerprints}
    with Guard(arguments.keys).attempt():
        store = open_store(
            arguments.keys, passphrase, module=arguments.pkcs11_module, token=arguments.pkcs11_token, warn=_warn
        )
        keys = {name: store.find(keys_named(name)[0], mark) for name, mark in marks.items()}
    try:
        accept_successor(policy, journal, read_signatures(arguments.policy))
        yield {name: keys[name] for name in journal.enrolment.fingerprints}, policy
    finally:
        store.close()


def _refuse_open_to_others(path: Path) -> None:
    """Raises FileUnsafe when others than the signer's user can read or change a file of its own."""
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise FileUnsafe(f"{path} is open to others than its owner: chmod 600 {path}")


def _arguments(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m custody.signer",
        description="Signs what its policy allows, and nothing else.",
        epilog=f"The passphrase comes from --passphrase-fd, else the systemd credential {CREDENTIAL}, else the "
        f"environment variable {PASSPHRASE_ENV}; never from an argument.",
    )
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen at, in a folder of mode 0700")
    parser.add_argument("--keys", type=Path, required=True, help="folder of the key files")
    parser.add_argument("--policy", type=Path, required=True, help="policy file (TOML)")
    parser.add_argument("--journal", type=Path, required=True, help="the signer's journal")
    parser.add_argument("--passphrase-fd", type=int, help="file descriptor to read the passphrase from")
    parser.add_argument("--allow-uid", type=int, action="append", default=[], help="another user who may ask")
    parser.add_argument(
        "--pkcs11-module", type=Path, help="library of a token that holds keys; the passphrase is its PIN"
    )
    parser.add_argument("--pkcs11-token", help="label of that token")
    told = parser.parse_args(argv)
    if (told.pkcs11_module is None) != (told.pkcs11_token is None):
        parser.error("--pkcs11-module and --pkcs11-token go together")
    allowed = frozenset((os.geteuid(), 0, *told.allow_uid))
    return Arguments(
        socket=told.socket,
        keys=told.keys,
        policy=told.policy,
        journal=told.journal,
        passphrase_fd=told.passphrase_fd,
        allowed_uids=allowed,
        pkcs11_module=told.pkcs11_module,
        pkcs11_token=told.pkcs11_token,
    )


def _cannot_start(problem: Exception) -> int:
    sentence = problem.message if isinstance(problem, OnebookError) else str(problem)
    print(f"signer: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the process's own edge
    return EXIT_CANNOT_START


def _warn(sentence: str) -> None:
    print(f"signer: warning: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the process's own edge


def _read_policy(path: Path) -> Policy:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (PolicyInvalid, UnicodeDecodeError) as problem:
        raise PolicyInvalid(f"{path}: {problem}") from problem


# --- the socket ------------------------------------------------------------------------------------------------------


async def _serve(service: SignerService, arguments: Arguments) -> None:
    shared = len(arguments.allowed_uids - {os.geteuid(), 0}) > 0
    listener = _listen(arguments.socket, shared=shared)
    place = os.stat(arguments.socket)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    desk = Desk(service, arguments.allowed_uids)
    server = await asyncio.start_unix_server(desk.meet, sock=listener)
    print(READY, flush=True)  # noqa: T201 - what the starter waits for
    try:
        await stop.wait()
    finally:
        server.close()
        await desk.dismiss()
        with contextlib.suppress(FileNotFoundError):
            if os.stat(arguments.socket).st_ino == place.st_ino:  # not somebody else's by now
                arguments.socket.unlink()


def _listen(path: Path, *, shared: bool) -> socket.socket:
    """A listening socket at `path`; a dead one left there is replaced. Raises SocketInUse, ConfigError.

    `shared`: users other than ours are allowed, so that the folder needn't be closed and the peer's uid decides.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    if mode & (0o022 if shared else 0o077):
        raise ConfigError(f"{path.parent} is open to others (mode {mode:04o}): chmod {'go-w' if shared else '700'} it")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        with wire.socket_address(path) as address:
            listener.bind(address)
        path.chmod(0o666 if shared else 0o600)
        listener.listen(_CONNECTIONS_MAX)
    except OSError as problem:
        listener.close()
        raise ConfigError(f"can't listen at {path}: {problem}") from problem
    return listener


def _remove_dead(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise SocketInUse(f"{path} exists and isn't a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            with wire.socket_address(path) as address:
                probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
            return
    raise SocketInUse(f"another process listens at {path}")


class Desk:
    """Meets those who connect: checks who they are, bounds their time, passes their questions on.

    A connection has one question at a time, so none can starve another; those that wait at the same time are answered
    together, since the journal's flush costs most.
    """

    def __init__(self, service: SignerService, allowed_uids: frozenset[int]) -> None:
        self._service = service
        self._allowed_uids = allowed_uids
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._silent: dict[asyncio.StreamWriter, None] = {}
        """Those that have no question here now, the longest silent first."""
        self._waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends, dawdles or sends something that isn't a question."""
        if not self._welcome(writer) or not self._has_room():
            writer.close()
            return
        self._open[writer] = asyncio.current_task()
        try:
            while await self._one_question(reader, writer):
                pass
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass  # too slow, or gone: nothing is owed to it
        finally:
            self._open.pop(writer, None)
            self._silent.pop(writer, None)
            writer.close()

    def _has_room(self) -> bool:
        """Whether another connection fits: for it the one that was silent longest ends, so that nobody can hold all."""
        if len(self._open) < _CONNECTIONS_MAX:
            return True
        silent = next(iter(self._silent), None)
        if silent is None:
            return False
        del self._silent[silent], self._open[silent]
        silent.close()
        return True

    async def dismiss(self) -> None:
        """Close every connection and let its task end; answers on their way have a moment left."""
        tasks = [task for task in self._open.values() if task is not None]
        for writer in self._open:
            writer.close()
        if tasks:
            await asyncio.wait(tasks, timeout=_GOODBYE_SECONDS)

    async def _one_question(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next frame; False when the connection should end after it."""
        self._silent[writer] = None
        try:
            body = await wire.read_body(reader, first_byte_seconds=_IDLE_SECONDS)
            self._silent.pop(writer, None)
        except wire.FrameTooLarge as problem:
            await wire.write_frame(writer, self._too_large(problem))
            return False
        await wire.write_frame(writer, await self._together(body))
        return True

    async def _together(self, body: bytes) -> bytes:
        """The answer's frame, decided with all questions that have come by now.

        That takes two turns of the loop: one to see what the sockets have, one in which the readers bring it here.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(loop.call_soon, self._answer_waiting)
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append((body, answer))
        return await answer

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting[:_TOGETHER_MAX], self._waiting[_TOGETHER_MAX:]
        for (_, future), frame in zip(waiting, self._frames([body for body, _ in waiting]), strict=True):
            if not future.cancelled():
                future.set_result(frame)
        if self._waiting:  # in the turn after the one in which these answers leave: their askers work while we do
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        path = self._service.take_checkpoint()
        if path is not None:
            asyncio.get_running_loop().run_in_executor(None, _checkpoint, path)

    def _frames(self, bodies: Sequence[bytes]) -> list[bytes]:
        try:
            return [wire.encode(answer) for answer in self._service.answer_all(bodies)]
        except sqlite3.Error as problem:
            _warn(f"the journal can't be written: {problem}")
            return [wire.encode(_UNWRITABLE)] * len(bodies)
        except Exception as problem:  # a mistake of ours must not keep the others waiting, and signs nothing
            if len(bodies) > 1:
                return [self._frames([body])[0] for body in bodies]
            _warn(f"a question couldn't be judged: {type(problem).__name__}: {problem}")
            return [wire.encode(_UNJUDGED)]

    def _too_large(self, problem: wire.FrameTooLarge) -> bytes:
        try:
            return wire.encode(self._service.refuse_frame(problem))
        except sqlite3.Error as unwritable:
            _warn(f"the journal can't be written: {unwritable}")
            return wire.encode(_UNWRITABLE)

    def _welcome(self, writer: asyncio.StreamWriter) -> bool:
        peer: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in self._allowed_uids:
            _warn(f"uid {uid} tried to connect and isn't allowed")
        return uid in self._allowed_uids


def _checkpoint(path: Path) -> None:
    try:
        checkpoint(path)
    except sqlite3.Error as problem:
        _warn(f"the journal's log stays long for now: {problem}")


def _run() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _run()
