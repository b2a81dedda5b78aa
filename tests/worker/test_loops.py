"""Loops around steps: a failing job stops no other, is tried again, and all end when told to."""

import asyncio

import pytest

from base.errors import BrokenInvariant, Unavailable
from worker.loops import Job, run_jobs

PAUSE_SECONDS = 0.01
BOUND_SECONDS = 10


async def running(*jobs: Job, until: asyncio.Event) -> None:
    """Run jobs until `until` is set; fails after a bound."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_jobs(jobs, pause_seconds=PAUSE_SECONDS, stop=stop))
    await asyncio.wait_for(until.wait(), BOUND_SECONDS)
    stop.set()
    await asyncio.wait_for(task, BOUND_SECONDS)


@pytest.mark.parametrize(
    "error", [Unavailable("the node is away"), BrokenInvariant("no such account"), ValueError("?")]
)
async def test_a_job_that_fails_is_tried_again_and_stops_no_other(error):
    tries: list[int] = []
    done: list[int] = []
    enough = asyncio.Event()

    async def fail() -> int:
        tries.append(1)
        if len(tries) >= 3 and len(done) >= 3:
            enough.set()
        raise error

    async def work() -> int:
        done.append(1)
        return 0

    await running(Job("fails", fail), Job("works", work), until=enough)
    assert len(tries) >= 3
    assert len(done) >= len(tries)


async def test_a_job_with_work_goes_on_without_a_pause():
    left, finished = [5], asyncio.Event()

    async def step() -> int:
        if left[0] == 0:
            finished.set()
            return 0
        left[0] -= 1
        return 1

    await running(Job("busy", step), until=finished)
    assert left == [0]


async def test_told_to_stop_it_finishes_the_step_it_is_in():
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), []
    stop = asyncio.Event()

    async def step() -> int:
        begun.set()
        await may_end.wait()
        ended.append(1)
        return 1

    task = asyncio.create_task(run_jobs([Job("slow", step)], pause_seconds=PAUSE_SECONDS, stop=stop))
    await asyncio.wait_for(begun.wait(), BOUND_SECONDS)
    stop.set()
    may_end.set()
    await asyncio.wait_for(task, BOUND_SECONDS)
    assert ended == [1]
