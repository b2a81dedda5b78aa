"""Loops around steps: the only place where background work waits. A step does one bounded piece of work and returns.

A step says how much it did: nothing means that the loop may pause, and then rest for as long as the database stands
still (`worker.stillness`), unless the step's work comes from elsewhere. What can't be done now is tried again later,
further and further apart; a broken invariant stops its own loop's hurry, is logged as critical, and never stops the
others.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from base.errors import BrokenInvariant, OnebookError
from worker.stillness import Stillness, pause

PAUSE_MAX_SECONDS = 30.0
"""A failing step is tried at least this often."""

log = structlog.get_logger()
steps_done = Counter("onebook_worker_steps_total", "Steps that did something", ["job"])
steps_failed = Counter("onebook_worker_failures_total", "Steps that raised", ["job", "code"])


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of background work. `step` returns how many things it moved on; 0 means there was nothing to do.

    `outside`: its work comes from outside the database, so that it looks after each pause.
    """

    name: str
    step: Callable[[], Awaitable[int]]
    outside: bool = False


async def run_jobs(
    jobs: Sequence[Job], *, pause_seconds: float, stop: asyncio.Event, still: Stillness | None = None
) -> None:
    """Run every job's loop until `stop` is set; each finishes the step that it's in. Without `still` none rests."""
    async with asyncio.TaskGroup() as group:
        if still is not None:
            group.create_task(still.watch(pause_seconds=pause_seconds, stop=stop), name="stillness")
        for job in jobs:
            resting = None if job.outside else still
            group.create_task(_loop(job, pause_seconds=pause_seconds, stop=stop, still=resting), name=job.name)


async def _loop(job: Job, *, pause_seconds: float, stop: asyncio.Event, still: Stillness | None) -> None:
    failures = 0
    while not stop.is_set():
        before = still.seen if still is not None else None
        try:
            moved = await job.step()
        except Exception as error:
            failures += 1
            _report(job, error, failures)
            await pause(_back_off(pause_seconds, failures), stop)
            continue
        failures = 0
        if moved:
            steps_done.labels(job.name).inc()
        else:
            await pause(pause_seconds, stop)
            if still is not None:
                await still.changed(since=before)


def _report(job: Job, error: Exception, failures: int) -> None:
    code = error.code if isinstance(error, OnebookError) else type(error).__name__
    steps_failed.labels(job.name, code).inc()
    if isinstance(error, OnebookError) and not isinstance(error, BrokenInvariant):
        log.warning("step failed", job=job.name, code=code, reason=error.message, failures=failures)
    else:
        log.critical("step broke", job=job.name, code=code, failures=failures, exc_info=error)


def _back_off(pause_seconds: float, failures: int) -> float:
    """Longer after each failure in a row, with jitter so that workers don't knock together."""
    longest: float = min(PAUSE_MAX_SECONDS, pause_seconds * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not secrets
