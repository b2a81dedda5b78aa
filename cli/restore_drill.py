"""What `onebook doctor --restore-drill` does: a backup is put back beside the service, and looked at with its own code.

All that is written lies in a folder and in a server that are made for it and gone at the end, however it ends. The
service's database is only read, by a fresh backup; with a backup that is there already it isn't asked at all.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from base.clock import SystemClock
from base.errors import OnebookError
from base.progress import Progress
from cli import drill_checks, drill_keys
from cli.backing_up import make_backup
from cli.drill_sheet import Check, Failed, Sheet, require_none
from cli.whole_folders import ENDINGS
from custody.journal_audit import JournalReading
from db import dumps, migrate
from db.server import APP, OWNER, PostgresServer, Running, at_database, clean, create_database
from wiring import backups
from wiring.backups import Manifest, laid_out
from wiring.parts import open_parts
from wiring.settings import Settings, load_settings

_PUT_BACK = ("files put back", "server", "database")
"""What a restore has to do before the service can be started on it."""

_OF_DATABASE = (
    *("database", "schema", "definitions", "book", "audit log", "balances", "signatures", "addresses"),
    *("personal data", "epochs"),
)
_SCRATCH = "onebook-drill-"
_ANEW = "made_anew"
"""A database beside the one that was put back, with what migrations make and nothing else."""

Service = Callable[[], tuple[Settings, Path]]
"""Tells the settings of the service, with its database's address, and their file."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill's outcome. `restored_seconds`: how long it took until there was a database to start the service on."""

    backup: str
    manifest: Manifest | None
    checks: list[Check]
    restored_seconds: float
    seconds: float
    passed: bool


def drill(
    backup: Path | None,
    service: Service,
    *,
    passphrase: bytes | None,
    progress: Progress,
    told: Callable[[Check], object] = lambda _: None,
) -> Drill:
    """Put a backup back and look at all of it; without one, a fresh one of `service`.

    Whatever goes wrong is a check that failed. Raises what `service` raises.
    """
    started = time.monotonic()
    sheet = Sheet(told=told)
    with _scratch() as scratch:
        folder = backup
        if backup is None:
            settings, config = service()
            folder = scratch / "backup"
            sheet.look("backup", lambda: _back_up(settings, config, scratch / "backup", progress))
        assert folder is not None
        manifest = None
        if not sheet.failed:
            try:
                manifest = backups.read_manifest(folder)
            except OnebookError as problem:
                sheet.fail("manifest", problem.message)
        if manifest is not None:
            _Going(scratch, folder, manifest, sheet, progress, passphrase).through()
    return Drill(
        backup="fresh" if backup is None else str(backup),
        manifest=manifest,
        checks=sheet.checks,
        restored_seconds=round(sheet.seconds_of(*_PUT_BACK), 3),
        seconds=round(time.monotonic() - started, 3),
        passed=not sheet.failed,
    )


@dataclass(slots=True)
class _Going:
    """A drill under way: its own folder, the backup, and what it has found out so far."""

    scratch: Path
    backup: Path
    manifest: Manifest
    sheet: Sheet
    progress: Progress
    passphrase: bytes | None
    clock: SystemClock = field(default_factory=SystemClock)
    settings: Settings | None = None
    reading: JournalReading = field(default_factory=JournalReading)
    running: Running | None = None

    @property
    def home(self) -> Path:
        """Where the files are put back."""
        return self.scratch / "restored"

    def through(self) -> None:
        """All checks, in order."""
        self.sheet.look("files", self._compare_files)
        self.sheet.look("files put back", self._put_files_back)
        self.sheet.look("settings", self._read_settings)
        self._look_at_keys()
        with self._server() as server:
            if self.sheet.look("server", lambda: self._start(server)) and self.running is not None:
                asyncio.run(self._look_at_database(self.running))
            else:
                self._skip_database("there is no server to put it back into")

    # Files and keys

    def _compare_files(self) -> str:
        with self.progress.bar("hashing", self.manifest.size) as told:
            require_none(backups.find_flaws(self.backup, self.manifest, told=told))
        age = self.clock.now() - self.manifest.made_at
        return (
            f"{len(self.manifest.files)} files, {self.manifest.size:,} bytes, each as the manifest says;"
            f" made {self.manifest.made_at.isoformat()}, {age.total_seconds() / 3600:.1f} h ago"
        )

    def _put_files_back(self) -> str:
        names = [name for name in backups.files_in(self.backup) if name not in (backups.DATABASE, backups.MANIFEST)]
        for name in names:
            backups.copy_file(self.backup / name, self.home / name)
        return f"{len(names)} files"

    def _read_settings(self) -> str:
        read = load_settings(self.home / self.manifest.config).model_copy(update={"book": self.manifest.book})
        self.settings = laid_out(read, self.home)
        return drill_keys.read_settings(self.settings, self.clock)

    def _look_at_keys(self) -> None:
        told, settings = self.manifest.journal, self.settings
        if told is None:
            self.sheet.skip("journal", "nothing was signed where this backup was made")
        else:
            path = self.home / backups.JOURNAL
            self.sheet.look("journal", lambda: drill_keys.read_journal(path, told, self.reading, self.progress))
        if settings is None:
            self.sheet.skip("keys", "there are no settings to compare them with")
            return
        self.sheet.look("keys", lambda: drill_keys.list_key_files(settings, self.manifest))
        self.sheet.look("keys opened", lambda: drill_keys.open_keys(settings, self.manifest, self.passphrase))

    # The database

    @contextmanager
    def _server(self) -> Iterator[PostgresServer]:
        """A server of our own, of the version that can take the dump; gone at the end."""
        folder = self.scratch / "postgres"
        oldest = max(self.manifest.database.server, self.manifest.database.pg_dump)
        server = PostgresServer(folder, prefer=dumps.restorer(oldest).source)
        try:
            yield server
        finally:
            with _undisturbed():
                server.stop()
                clean(folder)

    def _start(self, server: PostgresServer) -> str:
        self.running = server.start()
        return f"PostgreSQL {self.running.version} ({self.running.source}) on 127.0.0.1:{self.running.port}"

    async def _look_at_database(self, running: Running) -> None:
        ask, settings = self.sheet.ask, self.settings
        if not await ask("database", self._put_database_back(running)):
            self._skip_database("no database was put back")
            return
        if not await ask("schema", self._bring_to_this_version(running)) or settings is None:
            self._skip_database("there is no database of this version, or there are no settings")
            return
        await ask("definitions", self._compare_definitions(running))
        is_ours = APP in self.manifest.database.roles
        url, owner = SecretStr(running.app_url if is_ours else running.admin_url), SecretStr(running.admin_url)
        settings = settings.model_copy(update={"database_url": url, "database_owner_url": owner})
        async with open_parts(settings, name="onebook restore drill") as parts:
            await ask("book", drill_checks.audit_book(parts, self.manifest, self.progress))
            await ask("audit log", drill_checks.compare_audit_log(parts))
            await ask("balances", drill_checks.add_up(parts, self.clock))
            if self.manifest.journal is None:
                self.sheet.skip("signatures", "the backup has no journal")
            else:
                await ask("signatures", drill_checks.compare_signatures(parts, self.reading, self.clock))
            await ask("addresses", drill_checks.derive_addresses(parts))
            if self.manifest.keys:
                await ask("personal data", drill_checks.open_personal(parts))
            else:
                self.sheet.skip("personal data", "the backup was made without keys")
            await ask("epochs", drill_checks.check_epochs(parts))

    async def _put_database_back(self, running: Running) -> str:
        told = self.manifest.database
        await dumps.make_roles(running.admin_url, told.roles)
        programs = dumps.restorer(max(told.server, told.pg_dump))
        with self.progress.bar("putting the database back", sum(told.sizes.values())) as advance:
            await dumps.restore(
                programs, running.admin_url, self.backup / backups.DATABASE, sizes=told.sizes, told=advance
            )
        return f"{len(told.sizes)} tables, {sum(told.sizes.values()):,} bytes, by pg_restore {programs.major}"

    async def _bring_to_this_version(self, running: Running) -> str:
        found = await migrate.current(running.admin_url)
        if found != self.manifest.schema:
            raise Failed(f"the dump has the schema {found}, the manifest says {self.manifest.schema}")
        if found is not None and found not in migrate.revisions():
            raise Failed(f"the dump has the schema {found}, which this version doesn't know: a newer one made it")
        lacking = await migrate.pending(running.admin_url)
        if not lacking:
            return f"{found}, that of this version"
        await migrate.migrate(running.owner_url if OWNER in self.manifest.database.roles else running.admin_url)
        return f"{found}, brought to {lacking[-1]} by {len(lacking)} migrations, as `onebook up` does"

    async def _compare_definitions(self, running: Running) -> str:
        """Tables, constraints, triggers, functions and rights are those that this version's migrations make."""
        told = self.manifest.database
        programs = dumps.restorer(max(told.server, told.pg_dump))
        await create_database(running.admin_url, _ANEW)
        await migrate.migrate(at_database(running.owner_url, _ANEW))
        with_rights = {OWNER, APP} <= {*told.roles}
        wanted, found = [
            await dumps.definitions(programs, url, self.scratch / f"{name}.sql", with_rights=with_rights)
            for name, url in (("wanted", at_database(running.admin_url, _ANEW)), ("found", running.admin_url))
        ]
        require_none(
            [
                f"{name} {'is another' if name in found else 'is missing'}"
                for name, definition in wanted.items()
                if found.get(name) != definition
            ]
        )
        more = len(found.keys() - wanted.keys())
        beside = f"; {more} more: the book's partitions, and what isn't ours" if more else ""
        return f"{len(wanted)} definitions as this version's migrations make them{beside}"

    def _skip_database(self, why: str) -> None:
        done = {check.what for check in self.sheet.checks}
        for what in _OF_DATABASE:
            if what not in done:
                self.sheet.skip(what, why)


def _back_up(settings: Settings, config: Path, folder: Path, progress: Progress) -> str:
    made = make_backup(settings, config, folder, with_keys=True, progress=progress)
    return f"made anew: {len(made.manifest.files)} files, {made.manifest.size:,} bytes"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for its owner alone, named by this process; those of drills that were killed are removed."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-"))
    try:
        yield folder
    finally:
        with _undisturbed():
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*-*"):
        process = left.name.removeprefix(_SCRATCH).partition("-")[0]
        if left.is_symlink() or left.stat().st_uid != os.geteuid() or Path("/proc", process).exists():
            continue
        with suppress(OnebookError, OSError):
            clean(left / "postgres")
            shutil.rmtree(left)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What is cleaned up here is so even where somebody is impatient."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
