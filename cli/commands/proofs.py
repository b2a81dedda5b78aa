"""Proof of the book: audit it against itself and the seals outside, prove an entry to somebody else."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.errors import ConfigError
from base.files import write_atomically
from base.progress import Progress
from cli.options import Config, Json
from cli.output import Exit, say, show_json, show_table
from ledger.money import Asset
from ledger.proofs import EntryProof
from ledger.seals import SignedSeal, load_seal_key, parse_public_key, read_seal, seal_numbers, seal_path
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from ledger.audit import AuditReport
    from treasury.operations.audit_log import LogDifference


def audit(
    since_last_seal: Annotated[
        bool, typer.Option("--since-last-seal", help="Only what was booked behind the last seal: quick.")
    ] = False,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Seals that were kept outside: a file, or their folder; else the configured one."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The public key of seals: a PEM file or hex; else our own.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Recompute every balance, hold, hash and seal of the book from its journal. Exit code 1 if a row disagrees.

    Rows of the audit log are compared with what the book's records sealed of them, unless --since-last-seal is given.

    Example: onebook audit --root /media/usb/seals
    """
    settings = _settings(config)
    outside = _outside(root or settings.path(settings.seals), settings.book, is_named=root is not None)
    report, acts = asyncio.run(_audit(settings, outside, _trusted(settings, key), since_last_seal=since_last_seal))
    if json:
        show_json(asdict(report) | {"audit_log_differs": [asdict(one) for one in acts]})
    else:
        _show_audit(report)
        for one in acts:
            say(f"audit_log_differs: row {one.row} is {one.what}")
    if acts or not report.clean:
        raise typer.Exit(Exit.DISAGREES)


def proof(
    entry: Annotated[str, typer.Argument(help="An entry's number (seq), or its command's id.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; else to standard output.")] = None,
    without_metadata: Annotated[
        bool, typer.Option("--without-metadata", help="Prove the entry and keep to yourself what its metadata says.")
    ] = False,
    config: Config = None,
) -> None:
    """Write the proof that an entry is in the book: `onebook verify entry` checks it, also at somebody else's.

    Example: onebook proof 17 --out rent.proof.json
    """
    made = asyncio.run(_prove(_settings(config), entry, with_metadata=not without_metadata))
    content = jsonlib.dumps(made.document(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        sys.stdout.write(content)
        return
    try:
        write_atomically(out, content.encode(), mode=0o644)
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}") from error
    say(f"{out}: entry {entry} under seal {made.seal.seal.number}; check it with `onebook verify entry {out}`")


def _settings(config: Path | None) -> Settings:
    return with_database(load_settings(find_config(config)))


def _outside(place: Path, book: str, *, is_named: bool) -> list[SignedSeal]:
    """The seals at a place. The configured folder may be empty: then nothing was sealed yet."""
    if place.is_file():
        return [read_seal(place)]
    found = [read_seal(seal_path(place, book, number)) for number in seal_numbers(place, book)]
    if is_named and not found:
        raise ConfigError(f"{place} is neither a seal nor a folder with seals of book {book}")
    return found


def _trusted(settings: Settings, key: str | None) -> tuple[bytes, ...]:
    if key is not None:
        return (parse_public_key(key),)
    own = settings.path(settings.seal_key)
    return (load_seal_key(own).public,) if own.exists() else ()


async def _audit(
    settings: Settings, outside: Sequence[SignedSeal], trusted: tuple[bytes, ...], *, since_last_seal: bool
) -> tuple[AuditReport, list[LogDifference]]:
    from ledger.audit import audit as audit_book
    from wiring.operations import build_audit_log
    from wiring.parts import open_parts

    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    async with open_parts(settings, name="onebook audit") as parts:
        last = await parts.ledger.last_seq()
        with Progress() as progress, progress.bar("auditing", last) as advance:
            done = 0

            def told(checked: int, total: int) -> None:
                nonlocal done
                now = last - total + checked  # what lies under the last seal counts as done
                advance(now - done)
                done = now

            report = await audit_book(
                parts.engine,
                settings.book,
                since_last_seal=since_last_seal,
                outside=outside,
                trusted=trusted,
                assets=assets,
                progress=told,
            )
        return report, [] if since_last_seal else await build_audit_log(parts).differences()


async def _prove(settings: Settings, entry: str, *, with_metadata: bool) -> EntryProof:
    from ledger.proving import prove_entry
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook proof") as parts:
        wanted = int(entry) if entry.isascii() and entry.isdigit() else entry
        return await prove_entry(parts.engine, settings.book, wanted, with_metadata=with_metadata)


def _show_audit(report: AuditReport) -> None:
    span = f"from {report.after_seq + 1} " if report.after_seq else ""
    say(
        f"book {report.book}: {report.commands} commands, {report.lines} lines, {report.accounts} accounts,"
        f" {report.holds} holds {span}through seq {report.through_seq}"
    )
    if report.seals:
        outside = f", {report.outside_seals} of them compared with those kept outside" if report.outside_seals else ""
        say(f"{report.seals} seals through seq {report.sealed_seq}{outside}")
    else:
        say("nothing is sealed yet")
    if report.erased:
        say(f"{report.erased} commands had their metadata erased")
    rows = [(found.where, found.what, found.expected, found.found) for found in report.disagreements]
    if rows:
        show_table("Rows that disagree", ("row", "what", "should be", "is"), rows, right=(2, 3))
    disagree = "row disagrees" if len(rows) == 1 else "rows disagree"
    say("every row agrees with the journal" if report.clean else f"{len(rows)} {disagree}")
