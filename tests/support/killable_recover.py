"""`onebook recover --yes`, which ends itself with SIGKILL at a named checkpoint.

The shipped command has no such switch.

killed_at("recover.sender", config, folder)      # returns once it has died there
"""

import asyncio
import signal
import sys
from pathlib import Path

from base.progress import Progress
from cli.signer_people import client_of
from tests.support.command import PROJECT, surroundings
from tests.support.forked import Forked
from tests.support.killable_worker import KillAt
from wiring.parts import open_parts
from wiring.recovery import open_recovering
from wiring.running import with_database
from wiring.settings import CONFIG_VARIABLE, load_settings


def killed_at(point: str, config: Path, folder: Path) -> None:
    """Run it until it has killed itself at `point`."""
    armed = folder / "recover.armed"
    armed.write_text(point)
    log = folder / "recover.log"
    with log.open("ab") as out:
        child = Forked(
            "tests.support.killable_recover:run",
            ["killable_recover", str(folder)],
            cwd=PROJECT,
            env=surroundings(**{CONFIG_VARIABLE: str(config)}),
            stdout=out,
            stderr=out,
        )
        status = child.wait(timeout=60)
    assert status == -signal.SIGKILL, f"{point}: status {status}: {log.read_text()[-2000:]}"
    assert (folder / "recover.died").read_text() == point


def run() -> None:
    """The program."""
    asyncio.run(_run(Path(sys.argv[1])))


async def _run(folder: Path) -> None:
    settings = with_database(load_settings())
    client = client_of(None, settings)
    checkpoint = KillAt(folder / "recover.armed", folder / "recover.died")
    async with (
        open_parts(settings, name="test recover") as parts,
        open_recovering(parts, client, checkpoint=checkpoint) as recovering,
    ):
        with Progress() as progress:
            await recovering.run(progress)
