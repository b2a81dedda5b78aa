"""The processes that check ranges side by side: PostgreSQL and Python share the work of an audit on all cores.

They die with their parent. Results are taken in the order of the jobs, whoever was faster.
"""

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from base.children import die_with_parent
from base.errors import Unavailable
from ledger.audit.ranges import RangeJob, RangeResult
from ledger.audit.worker import Setup

_ENDED = "a process of the audit ended before its work was done"

_WORKER = "from ledger.audit.worker import main; main()"


def crew_size() -> int:
    """As many as there are cores, up to four: each worker keeps a server process busy as well."""
    return max(1, min(4, os.cpu_count() or 1))


async def run_crew(
    jobs: Sequence[RangeJob], setup: Setup, *, processes: int, take: Callable[[RangeResult], None]
) -> None:
    """Check all ranges and hand each result to `take`, in order. Raises Unavailable when a worker ends too early."""
    todo = iter(enumerate(jobs))
    done: dict[int, RangeResult] = {}
    taken = 0

    def finished(index: int, result: RangeResult) -> None:
        nonlocal taken
        done[index] = result
        while taken in done:
            take(done.pop(taken))
            taken += 1

    tasks = [asyncio.create_task(_work(setup, todo, finished)) for _ in range(min(processes, len(jobs)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _work(
    setup: Setup, todo: Iterator[tuple[int, RangeJob]], finished: Callable[[int, RangeResult], None]
) -> None:
    """Keep one process busy until nothing is left to do."""
    async with _worker(setup) as process:
        for index, job in todo:
            await _send(process, job)
            finished(index, await _receive(process))


@asynccontextmanager
async def _worker(setup: Setup) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent()
    )
    try:
        await _send(process, setup)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _send(process: Process, value: Setup | RangeJob) -> None:
    assert process.stdin is not None
    content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    try:
        process.stdin.write(len(content).to_bytes(8) + content)
        await process.stdin.drain()
    except ConnectionError as error:
        raise Unavailable(_ENDED) from error


async def _receive(process: Process) -> RangeResult:
    assert process.stdout is not None
    try:
        length = int.from_bytes(await process.stdout.readexactly(8))
        content = await process.stdout.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise Unavailable(_ENDED) from error
    result: RangeResult = pickle.loads(content)  # noqa: S301 - from our own child
    return result
