"""Makes a fresh clone ready: checks the machine, then `.venv` with the locked packages, then Node's packages.

    python3 bootstrap.py
    python3 bootstrap.py --service      # where nothing but the service runs: without Node and what only tests use

Runs on the standard library alone. Each step is stamped when it's done (`.onebook/stamps/`), so an interrupted run
resumes where it stopped, and one that has nothing to do takes no network and a blink.
"""

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
STAMPS = HERE / ".onebook" / "stamps"
PYTHONS = ((3, 11), (3, 13))
GLIBC = (2, 28)
DISK_GIB = 3


def main() -> int:
    asked = argparse.ArgumentParser(description="Make this folder ready to run.")
    asked.add_argument("--service", action="store_true", help="leave out Node and what only tests use")
    asked.add_argument("--packages", action="store_true", help="install the locked packages alone, not the project")
    told = asked.parse_args()
    missing = problems()
    if missing:
        for line in missing:
            print(f"onebook: {line}", file=sys.stderr)
        return 1
    try:
        make_venv(service=told.service)
        if not told.packages:
            install_project()
        if not (told.packages or told.service):
            prepare_node()
    except subprocess.CalledProcessError as failure:
        print(f"onebook: {failure.cmd[0]} failed with status {failure.returncode}; run the same again", file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"onebook: {problem}; set that right and run the same again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def problems() -> list[str]:
    """What this machine lacks, a line each with how to get it."""
    found = []
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        found.append(
            f"CPython 3.11 to 3.13 is needed, this is {platform.python_version()}: run make PYTHON=python3.11 ..."
        )
    if sys.implementation.name != "cpython":
        found.append(f"CPython is needed, this is {sys.implementation.name}: run make PYTHON=/path/to/cpython ...")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        found.append(f"Linux on x86-64 is needed, this is {sys.platform} on {platform.machine()}")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        found.append(f"glibc 2.28 or newer is needed, this is {name or 'another C library'} {version}")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        found.append("Python's venv module is missing: apt-get install python3-venv (or your system's like)")
    free = shutil.disk_usage(HERE).free / 2**30
    if not VENV.exists() and free < DISK_GIB:
        found.append(f"{DISK_GIB} GiB of disk are needed here, {free:.1f} are free: make room or clone elsewhere")
    return found


def make_venv(*, service: bool) -> None:
    """`.venv` with exactly what requirements.txt locks; `service`: but for what only tests use."""
    lock = HERE / "requirements.txt"
    text = lock.read_text(encoding="utf-8")
    if service:
        left_out = of_tests(text, (HERE / "pyproject.toml").read_text(encoding="utf-8"))
        text = "".join(block for name, block in blocks(text) if name not in left_out)
        lock = STAMPS / "requirements-service.txt"
        STAMPS.mkdir(parents=True, exist_ok=True)
        lock.write_text(text, encoding="utf-8")
    stamp = stamp_for("venv", text.encode() + platform.python_version().encode() + str(VENV).encode())
    made_for = VENV / "made-for"
    told = f"{VENV}\n{platform.python_version()}\n"
    fits = (VENV / "bin" / "python").exists() and made_for.exists() and made_for.read_text(encoding="utf-8") == told
    if fits and stamp.exists():
        return
    started = say("installing the locked Python packages into .venv (about a minute)")
    if not fits:  # absent, half made, made elsewhere before this folder was moved, or by another Python
        run(sys.executable, "-m", "venv", "--clear", VENV)
        made_for.write_text(told, encoding="utf-8")
    run(VENV / "bin" / "pip", *PIP, "--require-hashes", "--no-deps", "-r", lock)
    done(stamp, started)


NEEDED_TO_INSTALL = {"hatchling", "editables"}
"""Of the extra `dev`: what builds the editable install."""


def of_tests(lock: str, project: str) -> set[str]:
    """The locked packages that only tests and developers use: those of the extra `dev`, and what only these need."""
    dev = names_of(project, "dev = [") - names_of(project, "dependencies = [") - NEEDED_TO_INSTALL
    needed_by = {name: set(re.findall(r"^    # (?:via|  ) ?([a-z].*)$", block, re.M)) for name, block in blocks(lock)}
    found: set[str] = set()
    while True:
        more = {
            name
            for name, by in needed_by.items()
            if name not in found and all(who in found or (who.startswith("onebook") and name in dev) for who in by)
        }
        if not more:
            return found
        found |= more


def blocks(lock: str) -> list[tuple[str, str]]:
    """Each locked package's name and lines: its version, its hashes, and who needs it."""
    found = re.split(r"^(?=[a-z0-9])", lock, flags=re.M)
    return [(re.split(r"[=\[]", block, maxsplit=1)[0], block) for block in found if block.strip()]


def names_of(project: str, opening: str) -> set[str]:
    """The packages that a list of pyproject.toml names. (tomllib is there from Python 3.11 on, this runs on older ones
    too, to say that they're too old.)"""
    listed = project.split(opening, 1)[1].split("\n]", 1)[0]
    return {name.lower() for name in re.findall(r'^  "([A-Za-z0-9._-]+)', listed, re.M)}


def install_project() -> None:
    """This project itself, editable, so that `.venv/bin/onebook` runs from this folder."""
    stamp = stamp_for("project", (HERE / "pyproject.toml").read_bytes() + str(VENV).encode())
    if stamp.exists() and (VENV / "bin" / "onebook").exists():
        return
    started = say("installing onebook itself")
    run(VENV / "bin" / "pip", *PIP, "--no-deps", "--no-build-isolation", "-e", HERE)
    done(stamp, started)


def prepare_node() -> None:
    """npm packages and compiled contracts; hardhat-local/prepare.py keeps stamps of its own."""
    run(VENV / "bin" / "python", HERE / "hardhat-local" / "prepare.py")


PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-input")


def stamp_for(step: str, content: bytes) -> Path:
    return STAMPS / f"{step}-{hashlib.sha256(content).hexdigest()[:16]}"


def say(text: str) -> float:
    print(f"onebook: {text} ...", flush=True)
    return time.monotonic()


def done(stamp: Path, started: float) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    step = stamp.name.rsplit("-", 1)[0]
    for old in STAMPS.glob(f"{step}-*"):
        old.unlink()
    stamp.touch()
    print(f"onebook: ... done in {time.monotonic() - started:.0f} s", flush=True)


def run(*command: object) -> None:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run([str(part) for part in command], check=True, cwd=HERE, env=environment)


if __name__ == "__main__":
    sys.exit(main())
