"""The simulator's own clock: it stands where it was put, or runs on from there; and what is due at an instant."""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

from base.clock import Clock, SystemClock

JOBS_MAX = 100_000
"""Jobs that one run may do: more means that a job makes itself again without end."""


class Timeline:
    """A settable clock with jobs. Jobs run in order of their instants, each with the clock at its own one."""

    def __init__(self, start: datetime | None = None) -> None:
        self._machine: Clock = SystemClock()
        self._frozen = start
        self._offset = timedelta()
        self._jobs: list[tuple[datetime, int, Callable[[], None]]] = []
        self._count = 0

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return self._machine.now() + self._offset if self._frozen is None else self._frozen

    def seconds(self) -> int:
        """The present instant in Unix seconds."""
        return int(self.now().timestamp())

    @property
    def is_frozen(self) -> bool:
        return self._frozen is not None

    def at(self, instant: datetime, job: Callable[[], None]) -> None:
        """Do `job` once `instant` has come."""
        self._count += 1
        heapq.heappush(self._jobs, (instant, self._count, job))

    def after(self, seconds: int, job: Callable[[], None]) -> None:
        """Do `job` in so many seconds; at once if there are none to wait."""
        if seconds <= 0:
            job()
        else:
            self.at(self.now() + timedelta(seconds=seconds), job)

    def move(self, to: datetime, *, frozen: bool) -> None:
        """Put the clock to an instant, doing what was due on the way; then let it stand or run on."""
        for _ in range(JOBS_MAX):
            if not self._jobs or self._jobs[0][0] > to:
                break
            due, _, job = heapq.heappop(self._jobs)
            self._frozen = max(due, self.now())
            job()
        self._frozen = to if frozen else None
        self._offset = timedelta() if frozen else to - self._machine.now()

    def run_due(self) -> None:
        """Do what is due by now."""
        for _ in range(JOBS_MAX):
            if not self._jobs or self._jobs[0][0] > self.now():
                return
            heapq.heappop(self._jobs)[2]()

    @property
    def waiting(self) -> int:
        """Jobs that aren't due yet."""
        return len(self._jobs)
