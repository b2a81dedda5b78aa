"""`onebook signer audit`: the signer's journal against the database and the chain."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from base.errors import OnebookError
from cli.asking import write_new
from cli.output import Exit, fail
from custody.resync import missing_to_json
from wiring.running import with_database
from wiring.settings import find_config, load_settings


def audit(
    journal: Annotated[
        Path | None, typer.Option("--journal", help="Read this journal (or its copy) instead of asking the signer.")
    ] = None,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="There is none any more: all is missing.")] = False,
    missing: Annotated[
        Path | None, typer.Option("--missing", help="Write what the journal lacks there, for `onebook signer resync`.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check every row of the signer's journal, and every signature against the database and the chain.

    Exit code 1 with each difference by name, 2 if it can't run. What was signed over an hour ago and isn't on chain is
    one; so is what an own address sent and the journal doesn't have.

    Example: onebook signer audit --json
    """
    from cli.journal_audit import audit_journal, show_found, show_found_json  # here: it needs all of the service

    try:
        settings = with_database(load_settings(find_config(config)))
        found = asyncio.run(audit_journal(settings, journal, none=no_journal))
    except OnebookError as problem:
        fail(problem.message, Exit.USAGE)
    if missing is not None:
        write_new(missing, missing_to_json(found.missing))
    if json:
        show_found_json(found)
    else:
        show_found(found)
    if found.differences:
        raise typer.Exit(Exit.DISAGREES)
