"""What a process that holds secrets does to itself first: no core dump, unreadable for others, memory never on disk.

Linux only. What the system doesn't allow is said in a warning and left; a secret in swap is better than no signer.
"""

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
"""Lock pages when they're first touched, not whole reservations (thread stacks) at once."""
_CAP_IPC_LOCK: Final = 14

LOCKED_BYTES_MIN: Final = 512 * 1024 * 1024
"""What may be locked at least, or nothing is: under a smaller limit a later allocation (64 MiB of Argon2id) fails."""


def harden(warn: Callable[[str], None]) -> None:
    """No core dumps, no reading of our memory by others of the same user, no swap, files for ourselves only."""
    forbid_core_dumps()
    if not forbid_reading():
        warn("the kernel refused to make this process unreadable for others (PR_SET_DUMPABLE)")
    if not lock_memory():
        warn(
            "memory isn't locked, so that secrets could reach the swap space: raise the limit (LimitMEMLOCK=infinity, "
            "`ulimit -l`) to 512 MiB or more, or switch swap off"
        )
    os.umask(0o077)


def forbid_core_dumps() -> None:
    """The kernel writes no core of this process, for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_reading() -> bool:
    """Whether others of the same user can now neither trace this process nor read /proc/PID/mem."""
    return bool(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def lock_memory() -> bool:
    """Whether all memory of this process, now and later, stays in RAM; False where the limit is too low for that."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = hard == resource.RLIM_INFINITY or _may_lock_without_limit()
    if not unlimited and hard < LOCKED_BYTES_MIN:
        return False
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    return bool(_libc().mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def _may_lock_without_limit() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
