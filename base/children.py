"""Child processes that never outlive us: the kernel ends them when we die, however we die.

Linux only: uses prctl(PR_SET_PDEATHSIG). Start children from the main thread, since the kernel watches the *thread*
that forked, and hand a wrapper's real program, since a wrapper's own child would not be covered.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """A `preexec_fn` that asks the kernel to send `sig` to the child once its parent is gone."""
    parent = os.getpid()

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arm


def end_with_parent(sig: signal.Signals = signal.SIGTERM) -> None:
    """Let the kernel send this very process `sig` once its parent is gone: for one that `make` runs, say."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def start_child(
    command: Sequence[str | Path],
    *,
    log: Path | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    group: int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    pass_fds: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command` as a direct child, in its own process group, standard input closed, output appended to `log`.

    `user` and `group` are numeric ids to drop to. `death_signal` is what the child gets when we die. `pass_fds` are
    the only descriptors it inherits beside its standard ones.
    """
    if isinstance(log, Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            return start_child(
                command,
                log=stream,
                env=env,
                cwd=cwd,
                user=user,
                group=group,
                death_signal=death_signal,
                pass_fds=pass_fds,
            )
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        user=user,
        group=group,
        extra_groups=[] if user is not None else None,
        process_group=0,
        pass_fds=tuple(pass_fds),
        preexec_fn=die_with_parent(death_signal),
    )


def stop_child(child: subprocess.Popen[bytes], *, sig: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
    """Ask `child` to end, wait at most `seconds`, then kill it. Returns its exit status."""
    if child.poll() is None:
        child.send_signal(sig)
        try:
            return child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def listen(host: str, preferred: int) -> socket.socket:
    """A listening TCP socket on `preferred`, else on the next free port above it. A child can be handed it.

    Listening at once, where `free_port` only looks, leaves no moment in which another process takes the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(preferred, min(preferred + 100, 65536)):
        try:
            return socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise OSError(f"no free port on {host} from {preferred} to {preferred + 99}")


def free_port(preferred: int | None = None) -> int:
    """A TCP port on 127.0.0.1 that nobody listens on: `preferred`, else the next free one above it, else any."""
    candidates = range(preferred, preferred + 100) if preferred else range(1)
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port if preferred else 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no free port from {preferred} to {preferred + 99 if preferred else 0}")
