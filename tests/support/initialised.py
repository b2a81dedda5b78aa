"""Servers' folders as a first start leaves them, copied from one that was really made: initdb takes seconds of CPU.

initialised = Initialised(folder)
initialised.put(place)                       # a server that was started once, and stopped, may be started there
initialised.put(other, prefer="embedded")
initialised.clean()

Each copy is a server of its own, with the files, roles and passwords of the first. What a first start does is looked
at where it's done, never in a copy.
"""

import asyncio
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from db.migrate import migrate
from db.server import _MARK, _OUTSIDE_PREFIX, PostgresServer, clean


@dataclass(slots=True)
class Initialised:
    """One original of each source of programs, below `folder`, made when first asked for.

    `migrated`: its database has its tables.
    """

    folder: Path
    migrated: bool = False
    originals: dict[str | None, Path] = field(default_factory=dict)

    def put(self, place: Path, *, prefer: str | None = None) -> Path:
        """Copy the original of `prefer` (None: as `PostgresServer` chooses) to `place`, a new folder; gives that."""
        original = self._original(prefer)
        place.mkdir(mode=0o700, parents=True)
        record = json.loads((original / "server.json").read_text())
        home, copied = original, place
        if record["outside"]:
            home = Path(record["outside"])
            copied = Path(tempfile.mkdtemp(prefix=_OUTSIDE_PREFIX, dir=home.parent))
            copied.chmod(0o711)
            (copied / _MARK).write_text(json.dumps({"folder": str(place)}))
            record["outside"] = str(copied)
        written = place / "server.json"
        written.touch(mode=0o600)
        written.write_text(json.dumps({**record, "port": None}))
        subprocess.run(["cp", "-a", home / "data", copied / "data"], check=True)
        return place

    def clean(self) -> None:
        """Remove the originals; copies are removed by who asked for them."""
        for original in self.originals.values():
            clean(original)

    def _original(self, prefer: str | None) -> Path:
        if prefer not in self.originals:
            place = self.folder / f"original-{prefer}"
            self.originals[prefer] = place  # first: a start that fails leaves files too
            with PostgresServer(place, prefer=prefer) as running:
                if self.migrated:
                    asyncio.run(migrate(running.owner_url))
        return self.originals[prefer]
