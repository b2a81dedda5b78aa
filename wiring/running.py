"""What is running: a small file under the installation's `run/` folder, written by whoever supervises the processes.

It holds the addresses that only a start can know (a database of our own, ports), for the command line's use. It carries
passwords, so only its owner can read it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import SecretStr

from base.errors import ConfigError
from base.files import write_atomically
from wiring.settings import Settings

RECORD = Path("run/running.json")


@dataclass(frozen=True, slots=True)
class Running:
    """One installation's running processes: the supervisor's pid, the children's by name, and the addresses."""

    pid: int
    started: float
    api_url: str
    database_url: str = field(repr=False)
    owner_url: str = field(repr=False)
    children: dict[str, int] = field(default_factory=dict)
    metrics_url: str = ""

    @property
    def alive(self) -> bool:
        """Whether that very supervisor still runs (its start time tells a reused pid from it)."""
        import psutil  # here, since few processes look

        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1)
        except psutil.NoSuchProcess:
            return False


def own_start() -> float:
    """When this process began, in seconds since the epoch, as `Running.started` wants it."""
    import psutil

    return float(psutil.Process().create_time())


def write_running(home: Path, running: Running) -> None:
    """Record what runs for the installation at `home`."""
    path = home / RECORD
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, json.dumps(asdict(running), indent=1).encode())


def read_running(home: Path) -> Running | None:
    """What runs for the installation at `home`; None when nothing does."""
    try:
        running = Running(**json.loads((home / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return running if running.alive else None


def forget_running(home: Path) -> None:
    """Remove the record: nothing runs any more."""
    (home / RECORD).unlink(missing_ok=True)


def with_database(settings: Settings) -> Settings:
    """The settings with the database's address filled in from what runs. Raises ConfigError when nothing does."""
    if settings.database_url is not None:
        return settings
    running = read_running(settings.home)
    if running is None:
        raise ConfigError(
            "there is no database: start the service with `onebook up`, or name a PostgreSQL by database_url"
            " (ONEBOOK_DATABASE_URL)",
            code="no_database",
        )
    return settings.model_copy(
        update={
            "database_url": SecretStr(running.database_url),
            "database_owner_url": SecretStr(running.owner_url),
        }
    )
