"""What the tests cost: seconds of CPU of all processes, servers and what they forked included, folder by folder.

python -m tests.cpu                      # each folder below tests/, one after the other
python -m tests.cpu wallet journey -- -n 2 -k batch
                                         # these; what follows -- goes to pytest

CPU seconds say what `make test` takes on a busy machine too, where a clock doesn't: divided by the number of cores they
are the least that the whole can take.
"""

import ctypes
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent

_PR_SET_CHILD_SUBREAPER = 36


def folders() -> list[str]:
    """Those that have tests."""
    return sorted(place.name for place in TESTS.iterdir() if any(place.rglob("test_*.py")))


def spent(folder: str, options: list[str]) -> tuple[float, float, int]:
    """CPU seconds and seconds by the clock of one folder's tests, and pytest's exit code."""
    before, began = _children(), time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--dist", "worksteal", *options, str(TESTS / folder)]
    tests = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    code = 1
    while True:
        try:
            pid, status = os.wait()  # also for whom its own parent didn't wait
        except ChildProcessError:
            return _children() - before, time.monotonic() - began, code
        if pid == tests.pid:
            tests.returncode = code = os.waitstatus_to_exitcode(status)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str]) -> int:
    """Print a line per folder; 1 if any test failed."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    wanted, options = arguments[:at], arguments[at + 1 :]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    total, failed = 0.0, False
    for folder in wanted or folders():
        cpu, seconds, code = spent(folder, options or ["-n", "2"])
        total, failed = total + cpu, failed or code != 0
        end = "" if code == 0 else f"   pytest ended with {code}"
        print(f"{folder:12} {cpu:7.0f} s CPU {seconds:7.0f} s{end}", flush=True)
    print(f"{'all':12} {total:7.0f} s CPU")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
