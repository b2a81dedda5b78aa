"""What a unit lets its process do, laid upon a process of a test by the kernel's own means: seccomp, and memory that
can't become code. Not here: namespaces and mounts, for which systemd itself would have to run."""

import ctypes
import errno
import functools
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
"""Linux 6.3; what systemd's MemoryDenyWriteExecute= does where the kernel has it."""

ALLOW, DENY_EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
UNKNOWN = -1
"""__NR_SCMP_ERROR: no kernel has a call of this name."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`calls`: system calls by name; others fail with EPERM."""

    calls: frozenset[str]
    no_new_code: bool

    def enter(self) -> None:
        """Confine this very process, and what it becomes. Called between fork and exec."""
        libc = ctypes.CDLL(None, use_errno=True)
        _done(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        if self.no_new_code and libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
            number = ctypes.get_errno()
            if number != errno.EINVAL:  # an older kernel
                raise OSError(number, "memory-deny-write-execute")
        seccomp = libseccomp()
        filter_ = seccomp.seccomp_init(DENY_EPERM)
        for name in self.calls:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number != UNKNOWN:
                seccomp.seccomp_rule_add(filter_, ALLOW, number, 0)
        _done(seccomp.seccomp_load(filter_), "seccomp")


def allowed_calls(lines: Sequence[str]) -> frozenset[str]:
    """What SystemCallFilter= lines allow: the first names what may be, those with ~ take away."""
    allowed: set[str] = set()
    for line in lines:
        names = expanded(line.removeprefix("~").split())
        allowed = allowed - names if line.startswith("~") else allowed | names
    return frozenset(allowed | expanded(["@default"]))


def expanded(names: Iterable[str]) -> set[str]:
    """Calls by name, sets of calls (`@mount`) taken apart as this machine's systemd does."""
    found: set[str] = set()
    for name in names:
        found |= expanded(_members(name)) if name.startswith("@") else {name}
    return found


@functools.cache
def _members(group: str) -> tuple[str, ...]:
    told = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    lines = (line.strip() for line in told.stdout.splitlines()[1:])
    return tuple(line for line in lines if line and not line.startswith("#"))


@functools.cache
def libseccomp() -> ctypes.CDLL:
    """The library that systemd makes its filters with."""
    library = ctypes.CDLL("libseccomp.so.2")  # systemd itself needs it
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    return library


def _done(status: int, what: str) -> None:
    if status:
        raise OSError(f"{what}: {status}")
