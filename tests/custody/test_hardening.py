"""What a process does to itself before it holds secrets, seen from the kernel's side."""

import ctypes
import os
import resource
import signal
import subprocess
import sys

from tests.support.signer import PROJECT

HARDENED = """
import os, resource, sys
from custody import hardening
said = []
hardening.harden(said.append)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(resource.getrlimit(resource.RLIMIT_CORE), int(status["VmLck"].split()[0]), len(said), oct(os.umask(0)))
held = bytearray(80 * 1024 * 1024)
held[::4096] = b"x" * len(held[::4096])
print("still alive", *said)
"""


_PR_CAPBSET_DROP = 24
_CAP_IPC_LOCK = 14


def run(script: str, *, locked_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """A process that hardens itself, perhaps under a limit of memory that it may lock, which root has to keep too."""

    def before() -> None:
        if locked_bytes is not None:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked_bytes, locked_bytes))
            if os.geteuid() == 0:
                ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_IPC_LOCK, 0, 0, 0)

    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def may_lock_without_limit() -> bool:
    return run("from custody.hardening import _may_lock_without_limit as may; print(may())").stdout == "True\n"


def test_memory_is_locked_where_the_limit_allows_and_a_warning_says_so_else():
    ended = run(HARDENED)
    limits, alive = ended.stdout.splitlines()
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    allowed = may_lock_without_limit() or hard == resource.RLIM_INFINITY or hard >= 512 * 1024 * 1024
    assert limits.startswith("(0, 0) ")
    assert limits.endswith("0o77")
    locked_kib, warnings = map(int, limits.removeprefix("(0, 0) ").split()[:2])
    assert (locked_kib > 0, warnings) == ((True, 0) if allowed else (False, 1))
    assert alive.startswith("still alive")


def test_a_low_limit_gives_a_warning_and_no_failure_later():
    ended = run(HARDENED, locked_bytes=256 * 1024)
    limits, alive = ended.stdout.splitlines()
    assert limits.startswith("(0, 0) 0 1 ")
    assert alive.startswith("still alive memory isn't locked")
    assert "LimitMEMLOCK" in alive


def test_a_hardened_process_leaves_no_core_and_cannot_be_read():
    script = (
        "import ctypes, os, signal\nfrom custody import hardening\nhardening.harden(lambda _: None)\n"
        "os.write(1, b'%d' % ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"  # PR_GET_DUMPABLE
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        dumpable = child.stdout.read()
        _, status = os.waitpid(child.pid, 0)
        child.returncode = -os.WTERMSIG(status)
    assert dumpable == b"0"
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
