"""Our systemd units as data, and processes started the way systemd starts them: command, environment, credentials,
folder, and the system calls and memory that the unit allows.

unit = Unit.read("onebook-api", Places(...))
with unit.started(log=folder / "api.log") as process: ...
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from base.children import die_with_parent, stop_child
from tests.deploy.sandbox import Sandbox, allowed_calls, libseccomp

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
NAMES = ("onebook-api", "onebook-prepare", "onebook-signer", "onebook-worker")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a test has what the units expect at fixed paths."""

    folder: Path

    def __post_init__(self) -> None:
        for path in (self.house, self.signer, self.run, self.etc, self.credentials):
            path.mkdir(mode=0o755 if path == self.run else 0o700, parents=True, exist_ok=True)

    @property
    def house(self) -> Path:
        return self.folder / "house"

    @property
    def signer(self) -> Path:
        return self.folder / "signer"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    def put_in(self, text: str) -> str:
        """A unit's text with the test's paths."""
        for there, here in (
            ("/opt/onebook/.venv/bin", Path(sys.executable).parent),
            ("/opt/onebook", PROJECT),
            ("/var/lib/onebook-signer", self.signer),
            ("/var/lib/onebook", self.house),
            ("/run/onebook-signer", self.run),
            ("/etc/onebook", self.etc),
        ):
            text = text.replace(there, str(here))
        return text


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: each setting's values in order, by section and name."""

    name: str
    settings: Mapping[tuple[str, str], list[str]]
    places: Places | None = field(default=None, repr=False)

    @classmethod
    def read(cls, name: str, places: Places | None = None) -> "Unit":
        """The unit of this name in deploy/, with the test's paths if `places` are given."""
        text = (DEPLOY / f"{name}.service").read_text(encoding="utf-8")
        return cls(name, dict(_settings(places.put_in(text) if places else text)), places)

    def all(self, name: str, section: str = "Service") -> list[str]:
        """A setting's values."""
        return self.settings.get((section, name), [])

    def one(self, name: str, section: str = "Service") -> str:
        """A setting's only value."""
        [value] = self.all(name, section)
        return value

    @property
    def command(self) -> list[str]:
        return shlex.split(self.one("ExecStart"))

    @contextmanager
    def started(self, *, log: Path, **replaced: str) -> Iterator[subprocess.Popen[bytes]]:
        """The unit's process, ended at the end. `replaced`: words of its command by others."""
        command = [replaced.get(word, word) for word in self.command]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.one("WorkingDirectory"),
                env=self.environment(),
                preexec_fn=self._arm(),
            )
        try:
            yield process
        finally:
            stop_child(process)

    def environment(self) -> dict[str, str]:
        """What the process finds: systemd's few variables, the unit's own, and the folder of its credentials."""
        assert self.places is not None
        folder = self.places.credentials / self.name
        folder.mkdir(mode=0o700, exist_ok=True)
        for told in (*self.all("LoadCredential"), *self.all("LoadCredentialEncrypted")):
            name, _, path = told.partition(":")
            shutil.copyfile(path, folder / name)
        ours = dict(told.split("=", 1) for line in self.all("Environment") for told in shlex.split(line))
        kept = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(PROJECT)}
        return {**kept, **ours, "CREDENTIALS_DIRECTORY": str(folder)}

    def sandbox(self) -> Sandbox:
        """What its process may do."""
        return Sandbox(
            calls=allowed_calls(self.all("SystemCallFilter")),
            no_new_code=self.all("MemoryDenyWriteExecute") == ["yes"],
        )

    def _arm(self) -> "_Armed":
        return _Armed(self.sandbox())


class _Armed:
    """What the child does before it becomes the unit's program."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._tie = die_with_parent()
        libseccomp()  # here rather than between fork and exec

    def __call__(self) -> None:
        self._tie()
        self._sandbox.enter()


def _settings(text: str) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """As systemd.syntax(7) reads: comments anywhere, also within a continued line; an empty value begins anew."""
    found: dict[tuple[str, str], list[str]] = {}
    section, held = "", ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        held += line
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        line, held = held.strip(), ""
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            name, _, value = line.partition("=")
            values = found.setdefault((section, name.strip()), [])
            if value.strip() or name.strip() == "CapabilityBoundingSet":
                values.append(value.strip())
            else:
                values.clear()
    yield from found.items()
