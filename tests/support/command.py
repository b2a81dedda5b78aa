"""The command line as its own process, run from this tree; passphrases through pipes, answers through its input.

Two ways, both real processes: `onebook` forks one off a process that has imported everything (tests/support/forked.py),
which takes a tenth of a second; `onebook_afresh` starts the installed program in a new interpreter, which takes two.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import forked

PROJECT = Path(__file__).resolve().parents[2]
ENTRY = "cli.__main__:run"
PROGRAM = Path(sys.executable).with_name("onebook")


def surroundings(**more: str) -> dict[str, str]:
    """Our environment without any setting of an installation, and with `more`."""
    kept = {name: told for name, told in os.environ.items() if not name.startswith(("ONEBOOK_", "CREDENTIALS_"))}
    return {**kept, "PYTHONPATH": str(PROJECT), **more}


def onebook(
    *arguments: str | Path,
    cwd: Path,
    passphrase: bytes | None = None,
    typed: str = "",
    environment: Mapping[str, str] | None = None,
    inherited: tuple[int, ...] = (),
    seconds: float = 100,
) -> subprocess.CompletedProcess[str]:
    """Run `onebook ARGUMENTS` in `cwd` to its end, `typed` at its input. ONEBOOK_* variables don't reach it."""
    command: list[str | Path] = [PROGRAM, *arguments]
    descriptors: tuple[int, ...] = ()
    if passphrase is not None:
        reading, writing = os.pipe()
        os.write(writing, passphrase)
        os.close(writing)
        command += ["--passphrase-fd", str(reading)]
        descriptors = (reading,)
    try:
        return forked.run(
            ENTRY,
            command,
            cwd=cwd,
            env=surroundings(**(environment or {})),
            input=typed,
            timeout=seconds,
            pass_fds=(*descriptors, *inherited),
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def onebook_afresh(
    *arguments: str | Path, cwd: Path, environment: Mapping[str, str] | None = None, seconds: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run the installed `onebook ARGUMENTS` in a new interpreter: for what depends on how that begins."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(**(environment or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
