"""What every command prints: sentences and tables for people, one JSON document with `--json`; and the exit codes."""

import json
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

from base.exits import Exit as Exit

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
