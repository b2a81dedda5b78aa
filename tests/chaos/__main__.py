"""A run from the command line: `make chaos SECONDS=600 SEED=7`. Status 1: something differs or a floor is missed."""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from base.children import end_with_parent
from db.errors import ServerInUse
from db.server import clean
from tests.chaos.plan import make_plan
from tests.chaos.planted import Fault
from tests.chaos.run import Ending, run

FOLDER = Path(__file__).parents[2] / ".onebook" / "chaos"


async def _until_told(work: Coroutine[Any, Any, Ending]) -> Ending:
    """SIGTERM ends it in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def sweep() -> None:
    """Remove what runs that were killed have left: those whose process is gone. What `--keep` kept goes too."""
    for folder in FOLDER.glob("chaos-*"):
        if not Path("/proc", folder.name.rpartition("-")[2]).exists():
            with contextlib.suppress(ServerInUse):
                clean(folder / "house" / "postgres")
                shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options.add_argument("--users", type=int, default=200)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--plant", action="append", default=[], choices=[fault.value for fault in Fault])
    options.add_argument("--keep", action="store_true", help="leave logs and files where they are")
    chosen = options.parse_args()
    if chosen.seconds < 30 or chosen.users < 2 or chosen.workers < 1:
        options.error("at least 30 seconds, 2 users and 1 worker: less shows nothing")
    end_with_parent(signal.SIGTERM)
    plan = make_plan(chosen.seed, seconds=chosen.seconds, users=chosen.users, workers=chosen.workers)
    sweep()
    place = FOLDER / f"chaos-{os.getpid()}"
    place.mkdir(mode=0o711, parents=True)
    try:
        ending = asyncio.run(_until_told(run(plan, place, faults=chosen.plant)))
    except asyncio.CancelledError:
        print("told to end before the run was over: nothing can be said of it")
        return 1
    finally:
        if chosen.keep:
            print(f"logs: {place}/house")
        else:
            shutil.rmtree(place, ignore_errors=True)
    return 0 if ending.passed else 1


if __name__ == "__main__":
    sys.exit(main())
