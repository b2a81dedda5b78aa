"""What `onebook backup` does: the database first, the signer's journal after it, then the files; whole or not at all.

In this order, since every attempt is stored before the signer is asked: a journal that was copied later has all that
the dump has seen. What it has beyond that `onebook recover` rebuilds; a journal behind the database would sign nothing.
"""

import asyncio
import importlib.metadata
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock, SystemClock
from base.files import write_atomically
from base.progress import Progress
from cli.whole_folders import made_whole
from custody.journal_copy import copy_journal
from db import dumps
from ledger.errors import BookCorrupt
from ledger.sealing import last_seal
from ledger.tables import books
from treasury.tables import solvency_epochs
from wiring.backups import (
    DATABASE,
    FORMAT,
    JOURNAL,
    MANIFEST,
    DatabaseTold,
    JournalTold,
    Manifest,
    copy_file,
    epoch_files,
    journal_file,
    key_files,
    list_files,
    place_in_backup,
    seal_files,
    single_files,
)
from wiring.settings import CREDENTIALS_VARIABLE, Settings

_SEAL_TRIES, _SEAL_PAUSE_SECONDS = 50, 0.1
"""The worker writes a seal's file right after its row: so long a file is waited for."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is whole. `unsealed`: numbers of seals whose files aren't where the settings say."""

    folder: Path
    manifest: Manifest
    unsealed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the dump has of the book."""

    seq: int
    seals: int
    schema: str
    epochs: tuple[int, ...]


def make_backup(
    settings: Settings,
    config: Path,
    target: Path,
    *,
    with_keys: bool,
    progress: Progress,
    clock: Clock | None = None,
) -> Backup:
    """Make the folder `target`, which must not exist: it appears when all is in it, flushed to disk.

    `config`: the settings' file. Nothing is written but below `target`'s parent. Raises ConfigError for a target that
    exists or a part that is missing, DiskFull, and what `db.dumps` and `custody.journal_copy` raise.
    """
    with made_whole(target) as draft:
        url = settings.database_owner_url or settings.database_url
        assert url is not None, "with_database was called"
        sources = list(single_files(settings, config, with_keys=with_keys))  # first, so that it fails at once
        sources += key_files(settings) if with_keys else ()
        journal = journal_file(settings)
        made_at = (clock or SystemClock()).now().replace(microsecond=0)
        (draft / DATABASE).touch(mode=0o600)
        seen, dumped, pg_dump = asyncio.run(_dump(settings, url.get_secret_value(), draft, progress))
        head = None
        if journal is not None:
            found = copy_journal(journal, draft / JOURNAL)
            head = JournalTold(sequence=found.sequence, hash=found.hash.hex())
        seals, unsealed = _seal_files(settings, seen.seals)
        sources += [*seals, *epoch_files(settings, seen.epochs)]
        _copy(settings, sources, draft, progress)
        with progress.bar("hashing", sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())) as told:
            files = list_files(draft, told=told)
        manifest = Manifest(
            format=FORMAT,
            onebook=importlib.metadata.version("onebook"),
            made_at=made_at,
            book=settings.book,
            seq=seen.seq,
            seals=seen.seals,
            schema=seen.schema,
            config=place_in_backup(settings, config).as_posix(),
            keys=with_keys,
            variables=tuple(sorted(_from_environment())),
            database=DatabaseTold(server=dumped.server, pg_dump=pg_dump, roles=dumped.roles, sizes=dict(dumped.sizes)),
            journal=head,
            files=files,
        )
        write_atomically(draft / MANIFEST, manifest.document())
    return Backup(target, manifest, tuple(unsealed))


async def _dump(settings: Settings, url: str, draft: Path, progress: Progress) -> tuple[_Seen, dumps.Dumped, int]:
    async with dumps.exported(url) as (connection, snapshot, dumped):
        seen = await _look(connection, settings.book)
        with progress.bar("dumping the database", dumped.size) as told:
            pg_dump = await dumps.dump(url, draft / DATABASE, snapshot, dumped, told=told)
    _flush(draft / DATABASE)
    return seen, dumped, pg_dump


async def _look(connection: AsyncConnection, book: str) -> _Seen:
    from db.migrate import current_in  # here: nothing else of this needs alembic

    seq = (await connection.execute(select(books.c.seq).where(books.c.book == book))).scalar_one_or_none()
    if seq is None:
        raise BookCorrupt(f"there is no book {book!r} in this database")
    sealed = await last_seal(connection, book)
    numbers = select(solvency_epochs.c.number).where(solvency_epochs.c.book == book).order_by(solvency_epochs.c.number)
    epochs = tuple(await connection.scalars(numbers))
    schema = await connection.run_sync(current_in)
    return _Seen(seq, 0 if sealed is None else sealed.seal.number, schema or "", epochs)


def _seal_files(settings: Settings, through: int) -> tuple[list[Path], list[int]]:
    for _ in range(_SEAL_TRIES):
        there, lacking = seal_files(settings, through)
        if lacking != [through]:
            break
        time.sleep(_SEAL_PAUSE_SECONDS)
    return there, lacking


def _copy(settings: Settings, sources: list[Path], draft: Path, progress: Progress) -> None:
    with progress.bar("copying files", sum(path.stat().st_size for path in sources)) as told:
        for path in dict.fromkeys(sources):
            copy_file(path, draft / place_in_backup(settings, path), told=told)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _from_environment() -> Iterator[str]:
    """Names of variables and credentials that settings come from: what a restore must be given again."""
    known = {f"ONEBOOK_{name.upper()}" for name in Settings.model_fields}
    credentials = Path(os.environ.get(CREDENTIALS_VARIABLE) or "/nonexistent")
    files = [path.name for path in credentials.iterdir()] if credentials.is_dir() else []
    yield from {name.upper() for name in (*os.environ, *files)} & known
