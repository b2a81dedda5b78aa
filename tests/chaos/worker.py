"""The worker of a chaos run: the shipped one, which dies at named points, and with a planted fault where asked.

argv: its name, its folder (for `died`; the order `armed` lies beside it and is for all workers), then the names of
faults (tests/chaos/planted.py).
"""

import sys
from pathlib import Path

from tests.chaos import planted
from tests.support.killable_worker import KillAt
from worker.run import main


def run() -> None:
    """The program."""
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        planted.plant(planted.Fault(name))
    sys.exit(main(KillAt(folder.parent / "armed", folder / "died")))
