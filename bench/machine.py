"""The machine a figure was measured on, and what its processes used meanwhile."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

SERVER_SETTINGS = (
    "server_version",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "max_wal_size",
    "wal_compression",
    "commit_delay",
    "data_checksums",
)
"""What of PostgreSQL's settings a reader of the figures wants to know."""


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, kernel and interpreter."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_python_build()}",
    }


def _python_build() -> str:
    """Which build of the interpreter this is: two of one version can differ by a third in speed."""
    branch, date = platform.python_build()
    return f"built {date} ({branch}) with {platform.python_compiler()}"


async def describe_server(url: str) -> dict[str, str]:
    """PostgreSQL's version and the settings that decide what a commit costs."""
    connection = await asyncpg.connect(url)
    try:
        return {name: await connection.fetchval(f"SHOW {name}") for name in SERVER_SETTINGS}
    finally:
        await connection.close()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time until now, in seconds: this process's, and the server's with all its backends, ended ones too."""

    at: float
    python_seconds: float
    postgres_seconds: float

    def since(self, earlier: "Usage") -> tuple[float, float]:
        """Cores kept busy since: (this process, the server)."""
        elapsed = self.at - earlier.at
        return (
            (self.python_seconds - earlier.python_seconds) / elapsed,
            (self.postgres_seconds - earlier.postgres_seconds) / elapsed,
        )


def usage(postmaster: int) -> Usage:
    """What this process and the server under `postmaster` have used until now."""
    server = psutil.Process(postmaster)
    own = server.cpu_times()
    seconds = own.user + own.system + own.children_user + own.children_system
    for backend in server.children():
        try:
            spent = backend.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += spent.user + spent.system
    return Usage(time.perf_counter(), time.process_time(), seconds)


def forget_highest() -> None:
    """Let this process' highest memory be counted from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def highest_mib() -> float:
    """The most memory that this process has had since that was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
