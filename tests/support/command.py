"""The command line as its own process, run from this tree; passphrases through pipes, answers through its input."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


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
    kept = {name: told for name, told in os.environ.items() if not name.startswith("ONEBOOK_")}
    kept |= {"PYTHONPATH": str(PROJECT), **(environment or {})}
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    descriptors: tuple[int, ...] = ()
    if passphrase is not None:
        reading, writing = os.pipe()
        os.write(writing, passphrase)
        os.close(writing)
        command += ["--passphrase-fd", str(reading)]
        descriptors = (reading,)
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=kept,
            input=typed,
            capture_output=True,
            text=True,
            timeout=seconds,
            pass_fds=(*descriptors, *inherited),
            check=False,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
