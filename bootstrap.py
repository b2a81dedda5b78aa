"""Makes a fresh clone ready: checks the machine, then `.venv` with the locked packages, then Node's packages.

    python3 bootstrap.py

Runs on the standard library alone. Each step is stamped when it's done (`.onebook/stamps/`), so an interrupted run
resumes where it stopped, and one that has nothing to do takes no network and a blink.
"""

import hashlib
import importlib.util
import os
import platform
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
    missing = problems()
    if missing:
        for line in missing:
            print(f"onebook: {line}", file=sys.stderr)
        return 1
    try:
        make_venv()
        install_project()
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


def make_venv() -> None:
    """`.venv` with exactly what requirements.txt locks."""
    lock = HERE / "requirements.txt"
    stamp = stamp_for("venv", lock.read_bytes() + platform.python_version().encode() + str(VENV).encode())
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
