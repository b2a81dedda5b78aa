"""`onebook`: the one command. Here the families of commands are put together and errors become exit codes.

A command's module is imported when the command is named: `onebook chain status` needn't load what `onebook up` does.
"""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from base.errors import OnebookError
from cli.output import exit_code

EXITS = """
Exit codes: 0 fine, 1 refused or something disagrees, 2 wrong usage or configuration, 3 something needed doesn't answer
(try again), 4 an invariant is broken.
"""

COMMANDS = {
    "demo": "cli.commands.demo:demo",
    "init": "cli.commands.service:init",
    "up": "cli.commands.service:up",
    "serve": "cli.commands.service:serve",
    "worker": "cli.commands.service:worker",
    "signer": "cli.commands.signer:app",
    "policy": "cli.commands.policy:app",
    "approver": "cli.commands.approver:app",
    "approve": "cli.commands.approve:approve",
    "keys": "cli.commands.keys:app",
    "reconcile": "cli.commands.book:reconcile",
    "audit": "cli.commands.proofs:audit",
    "proof": "cli.commands.proofs:proof",
    "verify": "cli.commands.verify:app",
    "import": "cli.commands.imports:app",
    "export": "cli.commands.exports:export",
    "chain": "cli.commands.chain:app",
    "config": "cli.commands.service:config",
    "doctor": "cli.commands.doctor:doctor",
    "bench": "cli.commands.bench:app",
}
"""Each command's name and where it is: a function, or a family of its own."""


class Commands(TyperGroup):
    """The commands by name, each loaded when it's asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            family = typer.main.get_command(found)
            family.name = cmd_name
            return family
        alone = typer.Typer(rich_markup_mode=None)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)


app = typer.Typer(
    name="onebook",
    cls=Commands,
    help="One book for fiat, stablecoins and crypto." + EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def onebook() -> None:
    """Only there so that the commands are a group."""


def run() -> None:
    """The console script's entry: run the command, turn our errors into one line and an exit code."""
    try:
        app()
    except OnebookError as error:
        facts = ", ".join(f"{key} {value}" for key, value in error.facts.items() if str(value) not in error.message)
        sys.stderr.write(f"onebook: {error.message}{f' ({facts})' if facts else ''}\n")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(128 + 2)
