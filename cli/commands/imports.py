"""`onebook import`: take in a bank statement, or a file of entries of any length."""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.errors import ConfigError, OnebookError
from cli.options import Config, Json
from cli.output import Exit, fail, say, show_json
from ledger.errors import BadFile
from ledger.rowfiles import FileFormat
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from fiat.bank.records import StatementReceipt

_INTERRUPTED = 128 + 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Take a bank statement, or a file of entries, into the book.",
)


@app.command()
def bank(
    file: Annotated[Path, typer.Argument(help="camt.053, camt.054, MT940, pain.002 or pacs.004.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Take in a bank's file, as `onebook bank import` does with several.

    The same file, or overlapping ones, again: nothing is booked twice.

    Example: onebook import bank statement-2026-11-20.xml
    """
    from cli.commands.bank import told

    receipt = asyncio.run(_bank(_settings(config), file))
    if json:
        show_json(asdict(receipt))
        return
    say(told(receipt))
    for warning in receipt.warnings:
        say(f"  mind: {warning}")


async def _bank(settings: Settings, file: Path) -> "StatementReceipt":
    from wiring.banking import build_bank
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook import") as parts:
        return await build_bank(parts).import_path(file)


@app.command()
def entries(
    file: Annotated[str, typer.Argument(help="CSV or JSON Lines, also gzipped; - is standard input.")],
    check: Annotated[bool, typer.Option("--check", help="Only say what is wrong with it; write nothing.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Read it once: what stands before a wrong row is booked.")
    ] = False,
    opens: Annotated[bool, typer.Option("--open", help="Open accounts that are missing.")] = False,
    migrate: Annotated[
        bool,
        typer.Option("--migrate", help="They are another book's: take evidence, bank and custody accounts as well."),
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", help="Where to write the rows that the book refuses, with the reason.")
    ] = None,
    form: Annotated[
        FileFormat | None, typer.Option("--format", help="What the file is, if its name doesn't say it.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Book a file of entries: all of it is checked first, then booked in its order; docs/import-export.md.

    Each id is booked once: after an interruption, or to try again what was refused, run the same command again.
    Exit code 1 if entries were refused, 2 if the file is wrong (then nothing was written).

    Example: onebook import entries opening.csv --open --rejects refused.csv
    """
    if check and no_check:
        fail("--check and --no-check exclude each other", Exit.USAGE)
    from cli.entries_import import BY_HAND, Run  # here: it needs all of the service

    settings = _settings(config)
    run = Run(
        file,
        _format(file, form),
        opens=opens,
        only_checks=check,
        checks=not no_check,
        by_hand=None if migrate else BY_HAND,
        rejects=rejects,
    )
    try:
        asyncio.run(run.take(settings))
    except BadFile as error:
        fail(f"{run.name}: {error.message}; {run.so_far()}", Exit.USAGE)
    except KeyboardInterrupt:
        sys.stderr.write(f"onebook: interrupted; {run.so_far()}\n")
        raise typer.Exit(_INTERRUPTED) from None
    except OnebookError:
        sys.stderr.write(f"onebook: {run.name}: {run.so_far()}\n")
        raise
    if json:
        show_json(run.document())
    else:
        run.tell()
    if code := run.exit_code():
        raise typer.Exit(code)


def _settings(config: Path | None) -> Settings:
    return with_database(load_settings(find_config(config)))


def _format(file: str, form: FileFormat | None) -> FileFormat:
    """The format that was named, else that of the file's name."""
    if form is not None:
        return form
    name = file.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return FileFormat.CSV
    if name.endswith((".jsonl", ".ndjson")):
        return FileFormat.JSONL
    raise ConfigError(f"{file}: its name doesn't say what it is; add --format csv or --format jsonl")
