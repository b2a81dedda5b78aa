"""What every command prints: sentences and tables for people, one JSON document with `--json`; and the exit codes."""

import json
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

from base.errors import BrokenInvariant, ConfigError, OnebookError, Unavailable


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    DISAGREES = 1
    """The command ran and found that something doesn't agree, or a request was refused."""
    USAGE = 2
    """Wrong arguments or configuration; nothing was done."""
    UNAVAILABLE = 3
    """Something that is needed doesn't answer; try again."""
    BROKEN = 4
    """An invariant is broken: look before going on."""


PIPE_COLUMNS = 200
"""Width of tables where there is no terminal to tell its own: wide enough for an account's name on one line."""

console = Console(
    highlight=False,
    markup=False,
    emoji=False,  # `:bank:` in an account's name is no picture
    soft_wrap=True,
    width=None if sys.stdout.isatty() else PIPE_COLUMNS,
)


def say(text: str = "") -> None:
    """Print a line for people."""
    console.print(text)


def show_json(document: object) -> None:
    """Print one JSON document, amounts and instants as strings."""
    sys.stdout.write(json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> None:
    """Print a table; the columns numbered in `right` are aligned to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def fail(text: str, code: Exit) -> NoReturn:
    """Say in one line what went wrong, on standard error, and end with this exit code."""
    sys.stderr.write(f"onebook: {text}\n")
    raise typer.Exit(code)


def exit_code(error: OnebookError) -> Exit:
    """The exit code of an error's kind."""
    match error:
        case ConfigError():
            return Exit.USAGE
        case Unavailable():
            return Exit.UNAVAILABLE
        case BrokenInvariant():
            return Exit.BROKEN
        case _:
            return Exit.DISAGREES
