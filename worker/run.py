"""The worker process: reads the settings, builds the steps, runs their loops until it's told to stop.

python -m worker.run
"""

import asyncio
import signal
import sys

import structlog

from base.errors import OnebookError
from chain.checkpoints import Checkpoint
from chain.evm.node import load_libraries
from wiring.assemble import build_signer, open_parts, open_steps
from wiring.running import with_database
from wiring.settings import Settings, load_settings
from worker.loops import Job, run_jobs

log = structlog.get_logger()


async def work(settings: Settings, *, checkpoint: Checkpoint | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT. `checkpoint` is told of each durable step."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signer = build_signer(settings) if settings.networks else None
    async with (
        open_parts(settings, name="onebook worker") as parts,
        open_steps(parts, signer, checkpoint=checkpoint) as steps,
    ):
        log.info("worker started", jobs=list(steps))
        jobs = [Job(name, step) for name, step in steps.items()]
        await run_jobs(jobs, pause_seconds=settings.worker_pause_ms / 1000, stop=stop)
    log.info("worker stopped")


def main(checkpoint: Checkpoint | None = None) -> int:
    """Run the worker with the settings in force; the exit status."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    try:
        settings = with_database(load_settings())
        if settings.networks:
            load_libraries()
        asyncio.run(work(settings, checkpoint=checkpoint))
    except OnebookError as error:
        sys.stderr.write(f"onebook worker: {error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
