"""The worker process: reads the settings, builds the steps, runs their loops until it's told to stop.

python -m worker.run
"""

import asyncio
import signal
import sys
from collections.abc import Mapping
from functools import partial

import structlog

from base.errors import OnebookError, Unavailable
from chain.checkpoints import Checkpoint
from chain.evm.node import load_libraries
from db.changes import state
from wiring.operations import note_start
from wiring.parts import open_parts
from wiring.preparing import refuse_lost_tiers
from wiring.running import with_database
from wiring.screening import listed_addresses, refuse_silent_oracles
from wiring.settings import Settings, load_settings
from wiring.steps import Step, open_steps
from wiring.token_checks import refuse_misfits
from wiring.treasury import build_alerts
from wiring.wallet import build_own_signer
from worker.alerts import AlertLog
from worker.loops import Job, run_jobs
from worker.stillness import Stillness

OUTSIDE = frozenset({"journal", "follow", "bank-files", "rates"})
"""Steps whose work comes from the signer, a node, a folder or a feed. The others' comes from the database or with time:
what a node tells reaches them through `follow`."""

log = structlog.get_logger()


async def work(settings: Settings, *, checkpoint: Checkpoint | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT. `checkpoint` is told of each durable step."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listed_addresses(settings)  # without a readable list nothing starts
    async with (
        open_parts(settings, name="onebook worker") as parts,
        open_steps(parts, build_own_signer(parts) if settings.networks else None, checkpoint=checkpoint) as steps,
    ):
        await refuse_lost_tiers(parts)
        if (untold := await refuse_misfits(parts)) is not None:
            log.warning("tokens not compared with the configuration", reason=untold)
        if (untold := await refuse_silent_oracles(settings, parts.nodes)) is not None:
            log.warning("sanctions oracles not looked at", reason=untold)
        await _look_at_journal(steps)
        if (unnoted := await note_start(parts, "worker")) is not None:
            log.warning("the start isn't in the audit log", reason=unnoted)
        log.info("worker started", jobs=list(steps))
        jobs = [Job(name, step, outside=name.partition(":")[0] in OUTSIDE) for name, step in steps.items()]
        jobs.append(Job("alerts", AlertLog(build_alerts(parts), clock=parts.clock).step))
        still = Stillness(partial(state, parts.engine))
        await run_jobs(jobs, pause_seconds=settings.worker_pause_ms / 1000, stop=stop, still=still)
    log.info("worker stopped")


async def _look_at_journal(steps: Mapping[str, Step]) -> None:
    """Before anything moves: a database that has forgotten payments is halted. A signer that's away is asked later."""
    if "journal" in steps:
        try:
            await steps["journal"]()
        except Unavailable as problem:
            log.warning("the signer's journal wasn't looked at", reason=problem.message)


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
