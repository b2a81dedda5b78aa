"""The worker, which ends itself with SIGKILL at a named checkpoint: the program, and the test's hand on it.

worker = KillableWorker(config, folder)
worker.start()
worker.arm("stored")
...
worker.await_kill()      # it died at that very point, by SIGKILL
worker.start()

The shipped worker has no such switch; this is its `main` with a checkpoint of our own.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.command import PROJECT, surroundings
from tests.support.forked import Forked
from tests.support.waiting import until
from wiring.settings import CONFIG_VARIABLE
from worker.run import main

STARTED = '"event": "worker started"'


@dataclass(slots=True)
class KillAt:
    """A checkpoint that reads from a file where to die. `died` gets the point's name in that instant.

    Several workers may read the same `armed`: the first that comes there dies.
    """

    armed: Path
    died: Path

    def reached(self, name: str) -> None:
        """Go on, unless this is the point: then be killed like any process."""
        try:
            point = self.armed.read_text()
        except FileNotFoundError:
            return
        if name != point:
            return
        try:
            self.armed.rename(self.died)
        except FileNotFoundError:  # another worker came there first
            return
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class KillableWorker:
    """A worker process of the installation that `config` describes."""

    config: Path
    folder: Path
    child: Forked | None = field(default=None, repr=False)
    starts: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "killable-worker.log"

    def start(self) -> None:
        """Start it; it runs its steps when this returns."""
        assert self.child is None or self.child.poll() is not None
        environment = surroundings(**{CONFIG_VARIABLE: str(self.config)})
        with self.log.open("ab") as log:
            program = ["killable_worker", str(self.folder)]
            entry = "tests.support.killable_worker:run"
            self.child = Forked(entry, program, cwd=PROJECT, env=environment, stdout=log, stderr=log)
        self.starts += 1
        until("the worker has started", lambda: self.log.read_text().count(STARTED) == self.starts, seconds=40)

    def arm(self, point: str) -> None:
        """From now on it dies when it reaches `point`."""
        (self.folder / "died").unlink(missing_ok=True)
        passing = self.folder / "arming"
        passing.write_text(point)
        passing.rename(self.folder / "armed")

    def await_kill(self, meanwhile: Callable[[], object] = lambda: None, *, seconds: float = 20) -> str:
        """Wait, doing `meanwhile` at each look, until it has killed itself; the point where it did."""
        child = self.child
        assert child is not None

        def ended() -> bool:
            meanwhile()
            return child.poll() is not None

        until("the worker has killed itself", ended, seconds=seconds)
        assert child.returncode == -signal.SIGKILL, self.log.read_text()[-2000:]
        return (self.folder / "died").read_text()

    def kill(self) -> None:
        """SIGKILL from outside, now."""
        assert self.child is not None
        self.child.kill()
        assert self.child.wait() == -signal.SIGKILL, self.log.read_text()[-2000:]

    @property
    def runs(self) -> bool:
        return self.child is not None and self.child.poll() is None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid


def run() -> None:
    """The program."""
    folder = Path(sys.argv[1])
    sys.exit(main(KillAt(folder / "armed", folder / "died")))
