"""`onebook backup` and `onebook restore`: one folder with database, signer's journal and the installation's files."""

from pathlib import Path
from typing import Annotated

import typer

from base.progress import Progress
from cli.options import Config, Json
from cli.output import say, show_json
from cli.whole_folders import end_in_order
from wiring.running import with_database
from wiring.settings import find_config, load_settings


def backup(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not be there yet.")],
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave out key files, personal.key and seal.key.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a backup: a dump of the database, the signer's journal, key files, policy, settings, seals, epochs.

    The service may run meanwhile. The folder appears when all of it is there. Key files are encrypted (Argon2id,
    AES-256-GCM), all else isn't: whoever has the backup reads the book, and with personal.key what is sealed in it.

    Example: onebook backup backups/monday
    """
    from cli.backing_up import make_backup  # here: it needs all of the service

    end_in_order()
    path = find_config(config)
    settings = with_database(load_settings(path))
    with Progress() as progress:
        made = make_backup(settings, path, folder, with_keys=not without_keys, progress=progress)
    told = made.manifest
    if json:
        show_json(
            {
                "folder": str(made.folder),
                "made_at": told.made_at.isoformat(),
                "book": told.book,
                "seq": told.seq,
                "seals": told.seals,
                "schema": told.schema,
                "journal_rows": None if told.journal is None else told.journal.sequence,
                "keys": told.keys,
                "files": len(told.files),
                "bytes": told.size,
                "variables": told.variables,
                "seals_without_file": made.unsealed,
            }
        )
        return
    rows = "no journal" if told.journal is None else f"{told.journal.sequence} rows of the signer's journal"
    say(f"{made.folder}: book {told.book} through seq {told.seq}, {told.seals} seals, {rows}")
    keys = "key files (encrypted), personal.key and seal.key are in it" if told.keys else "no keys are in it"
    say(f"{len(told.files)} files, {told.size:,} bytes; {keys}")
    if made.unsealed:
        say(f"{len(made.unsealed)} seals have no file where the settings say, so the backup hasn't them either")
    if told.variables:
        say(f"not in it, since they came from the environment or credentials: {', '.join(told.variables)}")
    say(f"Try it: onebook doctor --restore-drill --from {made.folder}")


def restore(
    backup: Annotated[Path, typer.Argument(help="A folder that `onebook backup` made.")],
    folder: Annotated[Path, typer.Argument(help="Where the installation goes; it must not be there yet.")],
    journal: Annotated[
        Path | None,
        typer.Option("--journal", help="The signer's journal as it was last, instead of the backup's older copy."),
    ] = None,
    json: Json = False,
) -> None:
    """Make an installation of a backup: its files and its database, in a new folder.

    Where the backup's settings name a database, it goes there, and that must be empty. Then start the service, and give
    `onebook recover`, which rebuilds what was signed since.

    Example: onebook restore backups/monday wallet --journal old/journal.sqlite
    """
    from cli.restoring import restore as put_back  # here: it needs all of the service

    end_in_order()
    with Progress() as progress:
        made = put_back(backup.absolute(), folder.absolute(), journal=journal, progress=progress)
    if json:
        show_json(
            {
                "config": str(made.config),
                "book": made.manifest.book,
                "made_at": made.manifest.made_at.isoformat(),
                "journal_rows": made.rows,
                "by_hand": made.by_hand,
                "variables": made.manifest.variables,
            }
        )
        return
    say(f"{made.config}: book {made.manifest.book} as of {made.manifest.made_at.isoformat()}")
    if made.rows is not None:
        say(f"the signer's journal goes to row {made.rows}" + ("" if journal else ": the backup's own copy"))
    for source, target in made.by_hand.items():
        say(f"to be put back by hand: {source} to {target}")
    if made.manifest.variables:
        told = ", ".join(made.manifest.variables)
        say(f"to be set again, since they came from the environment or credentials: {told}")
    if not made.manifest.keys:
        say("the backup has no keys: put key files, personal.key and seal.key where the settings say")
    say(f"Next: onebook up --config {made.config}; beside it onebook recover, then onebook reconcile (docs/backup.md)")
