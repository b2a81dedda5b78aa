"""What `onebook restore` does: a backup becomes an installation in a new folder, or nothing of it is there."""

import asyncio
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sqlalchemy import text

from base.errors import ConfigError
from base.progress import Progress
from cli.drill_sheet import NAMED_MAX
from cli.whole_folders import made_whole
from custody.journal_copy import copy_journal
from custody.journal_file import Head
from db import dumps
from db.engine import create_engine, tx
from db.server import PostgresServer
from wiring import backups
from wiring.backups import DATABASE, HOME, JOURNAL, MANIFEST, OUTSIDE, Manifest, place_in_backup
from wiring.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Restored:
    """A new installation. `by_hand`: files that belong outside of its folder, and where; nothing is written there.

    `rows`: how far its signer's journal goes, None without one.
    """

    config: Path
    manifest: Manifest
    by_hand: dict[str, str]
    rows: int | None


def restore(backup: Path, home: Path, *, journal: Path | None, progress: Progress) -> Restored:
    """Put a backup back into the folder `home`, which must not exist: its files, and its database.

    The database goes into a server of its own in that folder, or, where the backup's settings name one, into that: it
    must be empty. `journal`: the signer's own, which knows more than the backup's copy. Raises ConfigError for a backup
    that isn't what its manifest says, JournalBehind for a journal that knows less, and what `db.dumps` raises.
    """
    manifest = backups.read_manifest(backup)
    with progress.bar("hashing", manifest.size) as told:
        flaws = backups.find_flaws(backup, manifest, told=told)
    if flaws:
        raise ConfigError(f"{backup} isn't whole: {'; '.join(map(str, flaws[:NAMED_MAX]))}")
    with made_whole(home) as draft:
        by_hand = _put_files_back(backup, draft, manifest)
        config = draft / PurePosixPath(manifest.config).relative_to(HOME)
        settings = load_settings(config)
        rows = _put_journal_back(journal, backup, manifest, settings, draft, by_hand)
        _put_database_back(backup, settings, manifest, draft, progress)
    return Restored(home / config.name, manifest, by_hand, rows)


def _put_files_back(backup: Path, draft: Path, manifest: Manifest) -> dict[str, str]:
    by_hand = {}
    for one in manifest.files:
        place = PurePosixPath(one.path)
        if place.parts[0] == HOME:
            backups.copy_file(backup / place, draft.joinpath(*place.parts[1:]))
        elif place.parts[0] == OUTSIDE:
            by_hand[str(backup / place)] = str(Path("/", *place.parts[1:]))
        elif one.path not in (DATABASE, JOURNAL, MANIFEST):
            raise ConfigError(f"{one.path} is no file of an installation")
    return by_hand


def _put_journal_back(
    given: Path | None, backup: Path, manifest: Manifest, settings: Settings, draft: Path, by_hand: dict[str, str]
) -> int | None:
    """How far the journal goes; None where nothing was signed, or where it lies outside."""
    told = manifest.journal
    journal = given or (None if told is None else backup / JOURNAL)
    if journal is None:
        return None
    place = place_in_backup(settings, settings.journal)
    if place.parts[0] == OUTSIDE:
        by_hand[str(journal)] = str(settings.path(settings.journal))
        return None
    target = draft.joinpath(*place.parts[1:])
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    knowing = None if told is None else Head(told.sequence, bytes.fromhex(told.hash))
    return copy_journal(journal, target, knowing=knowing).sequence


def _put_database_back(backup: Path, settings: Settings, manifest: Manifest, draft: Path, progress: Progress) -> None:
    told = manifest.database
    programs = dumps.restorer(max(told.server, told.pg_dump))

    async def put(url: str, *, is_ours: bool) -> None:
        await (dumps.make_roles(url, told.roles) if is_ours else _require_empty(url, told.roles))
        with progress.bar("putting the database back", sum(told.sizes.values())) as advance:
            await dumps.restore(
                programs, url, backup / DATABASE, sizes=told.sizes, told=advance, whole_or_not=not is_ours
            )

    named = settings.database_owner_url or settings.database_url
    if named is not None:
        asyncio.run(put(named.get_secret_value(), is_ours=False))
        return
    with PostgresServer(draft / "postgres", prefer=programs.source) as running:
        asyncio.run(put(running.admin_url, is_ours=True))


async def _require_empty(url: str, roles: tuple[str, ...]) -> None:
    engine = create_engine(url, pool_size=1, application_name="onebook restore")
    try:
        async with tx(engine) as connection:
            tables = await connection.scalar(
                text(
                    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE c.relkind IN ('r', 'p', 'v', 'S') AND n.nspname NOT LIKE 'pg\\_%'"
                    " AND n.nspname <> 'information_schema'"
                )
            )
            there = set(await connection.scalars(text("SELECT rolname::text FROM pg_roles")))
    finally:
        await engine.dispose()
    if tables:
        raise ConfigError("the database that the settings name isn't empty: nothing is written over; make a new one")
    if lacking := sorted({*roles} - there):
        raise ConfigError(f"the server lacks roles that own or use the book: CREATE ROLE {', '.join(lacking)} first")
