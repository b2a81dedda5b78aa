"""`onebook`: the one command. Here the families of commands are put together and errors become exit codes.

A command's module is imported when the command is named: `onebook chain status` needn't load what `onebook up` does,
and `onebook --help` needs none. Within a command's module, what takes long to import is imported by what needs it.
"""

import importlib
import importlib.metadata
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from base.errors import OnebookError
from base.exits import exit_code

EXITS = """
Exit codes: 0 fine, 1 refused or something disagrees, 2 wrong usage or configuration, 3 something needed doesn't answer
(try again), 4 an invariant is broken.
"""


class Command(NamedTuple):
    """Where a command is, a function or a family of its own, and the first sentence of what it says of itself."""

    place: str
    sentence: str


COMMANDS = {
    "demo": Command(
        "cli.commands.demo:demo",
        "Play a real journey on a new book, new keys and two new chains; then stay up until Ctrl-C.",
    ),
    "init": Command(
        "cli.commands.service:init",
        "Make an installation: configuration, keys, the signer's policy, and the first operator key.",
    ),
    "up": Command(
        "cli.commands.service:up",
        "Run all processes of the installation until Ctrl-C: database (unless configured), signer, worker, API.",
    ),
    "prepare": Command(
        "cli.commands.service:prepare",
        "Bring the database to this version's tables and the configuration's assets; again is harmless.",
    ),
    "serve": Command("cli.commands.service:serve", "Run the API alone, in this process."),
    "worker": Command("cli.commands.service:worker", "Run the worker alone, in this process."),
    "signer": Command("cli.commands.signer:app", "The process that holds the keys."),
    "policy": Command("cli.commands.policy:app", "What the signer may sign: check, explain, compare, sign."),
    "approver": Command("cli.commands.approver:app", "Approvers' keys, and asking for approval."),
    "approve": Command(
        "cli.commands.approve:approve",
        "Approve what was asked, after seeing it: amounts, addresses, names from your policy file, what nobody checks.",
    ),
    "keys": Command(
        "cli.commands.keys:app", "The signer's keys: ceremony, drill, list, import, rotate, passphrase, destroy."
    ),
    "reconcile": Command("cli.commands.book:reconcile", "Compare the book with the chain, the bank and itself."),
    "breaks": Command("cli.commands.breaks:app", "Breaks: list, show, own, note, propose, confirm, withdraw."),
    "proposals": Command("cli.commands.proposals:app", "What one treasurer may not do alone: list, confirm, withdraw."),
    "positions": Command(
        "cli.commands.positions:positions",
        "Show per asset what is owed, held and where, on its way and left; exit code 1 if not covered.",
    ),
    "backup": Command(
        "cli.commands.backup:backup",
        "Make a backup: a dump of the database, the signer's journal, key files, policy, settings, seals, epochs.",
    ),
    "restore": Command(
        "cli.commands.backup:restore", "Make an installation of a backup: its files and its database, in a new folder."
    ),
    "recover": Command(
        "cli.commands.recover:recover",
        "Rebuild every withdrawal, hold and idempotency key that the signer's journal knows and this database doesn't.",
    ),
    "audit": Command(
        "cli.commands.proofs:audit", "Recompute every balance, hold, hash and seal of the book from its journal."
    ),
    "proof": Command(
        "cli.commands.proofs:proof",
        "Write the proof that an entry is in the book: `onebook verify entry` checks it, also at somebody else's.",
    ),
    "solvency": Command(
        "cli.commands.solvency:app",
        "What is owed to users and held for them, provable to each: new, show, proof, anchor, control.",
    ),
    "verify": Command("cli.commands.verify:app", "Check a proof, offline."),
    "import": Command("cli.commands.imports:app", "Take a bank statement, or a file of entries, into the book."),
    "bank": Command("cli.commands.bank:app", "Files of our banks, and the key of personal data."),
    "report": Command(
        "cli.commands.reports:report",
        "Write a report of a period: balance sheet, income, movements, costs, ageing, a user's statement.",
    ),
    "export": Command("cli.commands.exports:export", "Write the book, or a part of it, as it is at one instant."),
    "chain": Command(
        "cli.commands.chain:app",
        "The developer's local chain: up, mine, time, snapshot, reorg, faucet, price, scenario, status, reanchor.",
    ),
    "rails": Command("cli.commands.rails:app", "Payment providers' simulators for developers: sim."),
    "payout": Command(
        "cli.commands.payout:app", "The contract that pays many withdrawals in one transaction: deploy, status."
    ),
    "exchange": Command("cli.commands.exchange:app", "Rates that are believed, and what the exchange holds and made."),
    "freeze": Command(
        "cli.commands.freezes:freeze", "Stop what people intend with an account, user, asset or network."
    ),
    "unfreeze": Command("cli.commands.freezes:unfreeze", "Lift a freeze: one of its target's reasons."),
    "freezes": Command("cli.commands.freezes:freezes", "List what is frozen, and why; the signer's freezes as well."),
    "approvals": Command("cli.commands.approvals:app", "What waits for people's signatures: list, show."),
    "period": Command("cli.commands.periods:app", "Days and months of the book: check, close, list."),
    "audit-log": Command(
        "cli.commands.audit_log:audit_log", "List what people did: who, when, on what, why, and what came of it."
    ),
    "webhooks": Command("cli.commands.webhooks:app", "What payment providers sent: list, show, retry."),
    "tariff": Command("cli.commands.tariff:app", "Fees, limits and tiers: check, show, explain."),
    "config": Command(
        "cli.commands.service:config",
        "Show the configuration in force: the file with the variables over it, secrets hidden.",
    ),
    "doctor": Command("cli.commands.doctor:doctor", "Say what is missing and how to get it."),
    "bench": Command("cli.commands.bench:app", "Measure how fast book, API, audit and signer are here."),
}
"""Each command by its name. The sentences are here as well so that a list of commands needs none of them."""


class Commands(TyperGroup):
    """The commands by name, each loaded when it's asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            family = typer.main.get_command(found)
            family.name = cmd_name
            return family
        alone = typer.Typer(rich_markup_mode=None)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = {name: TyperCommand(name, help=command.sentence) for name, command in COMMANDS.items()}
        TyperGroup(commands=dict(listed)).format_commands(ctx, formatter)


app = typer.Typer(
    name="onebook",
    cls=Commands,
    help="One book for fiat, stablecoins and crypto." + EXITS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"onebook {importlib.metadata.version('onebook')}")
        raise typer.Exit


@app.callback()
def onebook(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda told: _say_version(wanted=told))
    ] = False,
) -> None:
    """What stands before any command."""


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
