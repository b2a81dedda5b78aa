"""Starting the signer as a child process: the passphrase goes through a pipe, never an argument or the environment.

For the edges that run all processes on one machine (demo, up, tests). In production the system's service manager
starts it.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.children import start_child
from custody.errors import SignerUnavailable

READY: Final = "signer ready"
"""The signer's line on standard output once it listens."""

START_SECONDS: Final = 30.0
"""Three key files at Argon2id's full cost take about two seconds on a busy machine."""

_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class LaunchedSigner:
    """A signer that was started; `child` is its process, `log` its output, from byte `log_start` on."""

    child: subprocess.Popen[bytes]
    log: Path
    log_start: int

    def await_ready(self, *, seconds: float = START_SECONDS) -> None:
        """Wait until it listens. Raises SignerUnavailable when it ended (with its last line) or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.child.poll() is not None
            lines = self.lines()
            if ended:
                last = lines[-1] if lines else f"exit code {self.child.returncode}"
                raise SignerUnavailable(f"the signer didn't start: {last}")
            if READY in lines:
                return
            time.sleep(_POLL_SECONDS)
        raise SignerUnavailable(f"the signer isn't ready after {seconds:.0f} s; its log is {self.log}")

    def lines(self) -> list[str]:
        """What it has said so far."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace").splitlines()


def launch_signer(
    *,
    socket: Path,
    keys: Path,
    policy: Path,
    journal: Path,
    passphrase: bytes,
    log: Path,
    cwd: Path | None = None,
    pkcs11: tuple[Path, str] | None = None,
) -> LaunchedSigner:
    """Start a signer whose output is appended to `log`; it dies with us. Returns at once: `await_ready` waits.

    It gets none of our settings from the environment (database passwords, say).

    `cwd` is where `python -m custody.signer` finds the package, if it isn't installed. `pkcs11`: module and label of
    the token that holds keys; `passphrase` is its PIN then.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    log_start = log.stat().st_size
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as stream:
            stream.write(passphrase)  # at most 1 KiB, so the pipe takes it whole
        command: list[str | Path] = [sys.executable, "-m", "custody.signer", "--passphrase-fd", str(reading)]
        command += ["--socket", socket, "--keys", keys, "--policy", policy, "--journal", journal]
        if pkcs11 is not None:
            command += ["--pkcs11-module", pkcs11[0], "--pkcs11-token", pkcs11[1]]
        environment = {name: told for name, told in os.environ.items() if not name.startswith("ONEBOOK_")}
        child = start_child(command, log=log, cwd=cwd, env=environment, pass_fds=[reading])
        return LaunchedSigner(child, log, log_start)
    finally:
        os.close(reading)
