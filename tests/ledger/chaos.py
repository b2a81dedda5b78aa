"""Eight processes at one book while clients and server are killed, then audit and replay: `make chaos-ledger`.

The server is one of our own that flushes as in production. Everything random follows from the seed that is printed,
but for the timing of processes.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen

from base.children import start_child, stop_child
from db.engine import create_engine
from db.migrate import migrate
from db.server import PostgresServer, Running, clean
from tests.ledger import replay
from tests.ledger.crowd import PROCESSES, Crowd, found_book
from tests.ledger.replay import Found
from tests.ledger.spender import Errand
from tests.support.waiting import until

PROJECT = Path(__file__).parents[2]
SETTINGS = {"shared_buffers": "64MB", "max_connections": "120"}
CLOCKS = {6: 0.5, 7: -0.5}
"""Hours by which the clocks of two processes differ from the machine's: they are an hour apart."""


@dataclass(slots=True)
class Processes:
    """The crowd's processes and their records in `folder`."""

    url: str
    crowd: Crowd
    folder: Path
    until: float
    most: int = 1_000_000
    least_seconds: float = 1.5
    running: dict[int, Popen[bytes]] = field(default_factory=dict)
    started_at: dict[int, int] = field(default_factory=dict)
    """How long each process's record was when it was started last, in bytes."""

    def start(self, process: int, *, url: str | None = None) -> None:
        """Start one, or start it again after it was killed: it goes on where its record ends."""
        errand = Errand(
            url=url or self.url,
            seed=self.crowd.seed,
            epoch=self.crowd.epoch.isoformat(),
            process=process,
            record=str(self.record(process)),
            until=self.until,
            least_seconds=self.least_seconds,
            most=self.most,
            hours_ahead=CLOCKS.get(process, 0),
        )
        self.started_at[process] = self._length(process)
        program = [sys.executable, "-m", "tests.ledger.spender", json.dumps(asdict(errand))]
        self.running[process] = start_child(
            program, log=self.folder / f"{process}.log", cwd=PROJECT, env=dict(os.environ), death_signal=signal.SIGKILL
        )

    def _length(self, process: int) -> int:
        record = self.record(process)
        return record.stat().st_size if record.exists() else 0

    def has_spoken(self, process: int) -> bool:
        """Whether it runs and has said something since it was started."""
        return self.running[process].poll() is None and self._length(process) > self.started_at[process]

    def record(self, process: int) -> Path:
        return self.folder / f"{process}.record"

    def records(self) -> list[Path]:
        return sorted(self.folder.glob("*.record"))

    def kill(self, process: int) -> None:
        self.running[process].kill()
        assert self.running[process].wait() == -signal.SIGKILL, (self.folder / f"{process}.log").read_text()[-3000:]

    async def finish(self, *, seconds: float) -> None:
        """Wait until all have ended well."""
        waits = (
            asyncio.to_thread(child.wait, max(1, self.until - time.monotonic()) + seconds)
            for child in self.running.values()
        )
        ends = await asyncio.gather(*waits)
        for process, end in zip(self.running, ends, strict=True):
            assert end == 0, (
                f"process {process} ended with {end}: {(self.folder / f'{process}.log').read_text()[-3000:]}"
            )

    def stop(self) -> None:
        for child in self.running.values():
            stop_child(child, sig=signal.SIGKILL)


def kill_server(running: Running, chance: random.Random) -> str:
    """End the server in one of three ways; returns which."""
    way = chance.choice(("killed", "immediate", "fast"))
    os.kill(running.pid, {"killed": signal.SIGKILL, "immediate": signal.SIGQUIT, "fast": signal.SIGINT}[way])
    until("the server has ended", lambda: not _is_alive(running.pid), seconds=20)
    return way


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def unleash(
    processes: Processes,
    *,
    chance: random.Random,
    clients: bool = False,
    server: PostgresServer | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Let the crowd loose until its time is up; kill `clients`, or the `server`, now and then. All end well."""
    running = server.start() if server else None
    for process in range(PROCESSES):
        processes.start(process)
    while time.monotonic() < processes.until - 1:
        await asyncio.sleep(chance.uniform(0.3, 1.2))
        if server and running and (not clients or chance.random() < 0.25):
            say(f"{processes.until - time.monotonic():.1f} s left: the server ends, {kill_server(running, chance)}")
            running = server.start()
            await asyncio.sleep(chance.uniform(0.5, 2))
        elif clients:
            process = chance.randrange(PROCESSES)
            if processes.has_spoken(process):
                processes.kill(process)
                processes.start(process)
    await processes.finish(seconds=60)


async def run(folder: Path, *, seed: int, seconds: float, clients: bool, say: Callable[[str], None] = print) -> Found:
    """A crowd at a server of its own, which is killed now and then; then the audit and the replay."""
    say(f"seed {seed}, {seconds:.0f} s")
    server = PostgresServer(folder / "postgres", settings=SETTINGS)
    try:
        running = server.start()
        await migrate(running.owner_url)
        owner, app = create_engine(running.owner_url), create_engine(running.app_url, pool_size=3)
        await found_book(owner, app)
        crowd = Crowd(seed, datetime.now(UTC).replace(microsecond=0))
        processes = Processes(running.app_url, crowd, folder, time.monotonic() + 2 + seconds)
        try:
            await unleash(processes, chance=random.Random(seed), clients=clients, server=server, say=say)
            return await replay.check(app, crowd, processes.records())
        finally:
            processes.stop()
            await owner.dispose()
            await app.dispose()
    finally:
        server.stop()
        clean(folder / "postgres")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="onebook-chaos-") as place:
        found = asyncio.run(run(Path(place), seed=chosen.seed, seconds=chosen.seconds, clients=True))
    for name in found.__slots__:
        figure = getattr(found, name)
        print(f"{name}: {figure if isinstance(figure, int) else {str(key): n for key, n in figure.most_common()}}")


if __name__ == "__main__":
    main()
