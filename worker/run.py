"""The worker process: reads the settings, builds the steps, runs their loops until it's told to stop.

python -m worker.run [--metrics-fd N]
"""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import structlog

from base import tracing
from base.children import listen
from base.errors import OnebookError, Unavailable
from base.exits import exit_code
from chain.checkpoints import Checkpoint
from chain.evm.node import load_libraries
from db.changes import state
from wiring.measures import build_measures
from wiring.operations import note_start
from wiring.parts import Parts, open_parts
from wiring.preparing import refuse_lost_tiers
from wiring.running import with_database
from wiring.screening import listed_addresses, refuse_silent_oracles
from wiring.settings import Settings, load_settings
from wiring.steps import Step, open_steps
from wiring.telemetry import traced
from wiring.token_checks import refuse_misfits
from wiring.treasury import build_alerts
from wiring.wallet import build_own_signer
from worker.alerts import AlertLog
from worker.loops import Job, run_jobs
from worker.metrics import InstallationCollector, serving
from worker.stillness import Stillness
from worker.traced import traced_step

OUTSIDE = frozenset({"journal", "follow", "bank-files", "rates"})
"""Steps whose work comes from the signer, a node, a folder or a feed. The others' comes from the database or with time:
what a node tells reaches them through `follow`."""

log = structlog.get_logger()


async def work(
    settings: Settings, *, checkpoint: Checkpoint | None = None, metrics: socket.socket | None = None
) -> None:
    """Run the worker until SIGTERM or SIGINT. `checkpoint` is told of each durable step.

    `metrics`: a socket that listens already, instead of the settings' port.
    """
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
        if (recording := tracing.active) is not None:
            steps = {name: traced_step(name, step, recording) for name, step in steps.items()}
        jobs = [Job(name, step, outside=name.partition(":")[0] in OUTSIDE) for name, step in steps.items()]
        jobs.append(Job("alerts", AlertLog(build_alerts(parts), clock=parts.clock).step))
        still = Stillness(partial(state, parts.engine))
        with _measured(parts, metrics):
            await run_jobs(jobs, pause_seconds=settings.worker_pause_ms / 1000, stop=stop, still=still)
    log.info("worker stopped")


@contextmanager
def _measured(parts: Parts, given: socket.socket | None) -> Iterator[None]:
    """Serve metrics meanwhile. A worker whose metrics nobody can have works on: that is told in its log."""
    wanted = parts.settings.metrics
    listener = given
    if listener is None and wanted.port:
        try:
            listener = listen(wanted.host, wanted.port)
        except OSError as problem:
            log.error("metrics aren't served", host=wanted.host, port=wanted.port, reason=str(problem))
    if listener is None:
        yield
        return
    host, port = listener.getsockname()[:2]
    if given is None and port != wanted.port:
        log.warning("the port of metrics was taken: another is used", wanted=wanted.port, port=port)
    every = timedelta(seconds=wanted.every_seconds)
    collector = InstallationCollector(build_measures(parts), every=every, clock=parts.clock)
    with serving(listener, collector):
        log.info("metrics are served", host=host, port=port, path="/metrics")
        yield


async def _look_at_journal(steps: Mapping[str, Step]) -> None:
    """Before anything moves: a database that has forgotten payments is halted. A signer that's away is asked later."""
    if "journal" in steps:
        try:
            await steps["journal"]()
        except Unavailable as problem:
            log.warning("the signer's journal wasn't looked at", reason=problem.message)


def main(checkpoint: Checkpoint | None = None, arguments: Sequence[str] = ()) -> int:
    """Run the worker with the settings in force; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.run", description="Run the worker of one installation.")
    parser.add_argument("--metrics-fd", type=int, help="serve metrics on an inherited socket that listens already")
    fd = parser.parse_args(arguments).metrics_fd
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
        metrics = None if fd is None else socket.socket(fileno=fd)
        with traced(settings, process="worker"):
            asyncio.run(work(settings, checkpoint=checkpoint, metrics=metrics))
    except OnebookError as error:
        sys.stderr.write(f"onebook worker: {error.message}\n")
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(arguments=sys.argv[1:]))
