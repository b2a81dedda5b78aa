"""`onebook`: the one command. Here the families of commands are put together and errors become exit codes."""

import sys

import typer

from base.errors import OnebookError
from cli.commands import book, chain, demo, doctor, service
from cli.output import exit_code

EXITS = """
Exit codes: 0 fine, 1 refused or something disagrees, 2 wrong usage or configuration, 3 something needed doesn't answer
(try again), 4 an invariant is broken.
"""

app = typer.Typer(
    name="onebook",
    help="One book for fiat, stablecoins and crypto." + EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(chain.app, name="chain")
app.add_typer(service.signer_app, name="signer")
for command in (
    demo.demo,
    service.init,
    service.up,
    service.serve,
    service.worker,
    service.config,
    book.reconcile,
    book.audit,
    book.import_,
    doctor.doctor,
):
    app.command(command.__name__.strip("_"))(command)


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
