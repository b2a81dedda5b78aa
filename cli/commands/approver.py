"""`onebook approver`: the key with which somebody approves, and what they ask others to approve."""

from pathlib import Path
from typing import Annotated

import typer

from base.entropy import SystemEntropy
from cli.asking import PassphraseFd, ask_for
from cli.output import say, show_json
from custody import approver_keys

app = typer.Typer(help="Approvers' keys, and asking for approval.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def approver() -> None:
    """Approvers' keys, and asking for approval."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Your name, as the policy is to say it.")],
    out: Annotated[Path | None, typer.Option("--out", help="The key's file; else NAME.approver here.")] = None,
    passphrase_fd: PassphraseFd = None,
    json: Json = False,
) -> None:
    """Make your key, in an encrypted file, and say what the policy is to have of it.

    The file and the passphrase together sign in your name. There is no other copy: lost, the policy gets a new key.

    Example: onebook approver create ada --out ada.approver
    """
    path = out or Path(f"{name}{approver_keys.SUFFIX}")
    passphrase = ask_for(f"the new key of {name}", passphrase_fd, confirm=True)
    header = approver_keys.create(path, name, passphrase=passphrase, entropy=SystemEntropy())
    _show(path, header, json=json)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="An approver's key file.")], json: Json = False) -> None:
    """Say whose key a file holds, as the entry that a policy has of them. Needs no passphrase.

    Example: onebook approver show ada.approver
    """
    _show(file, approver_keys.read_header(file), json=json)


def _show(path: Path, header: approver_keys.ApproverKeyHeader, *, json: bool) -> None:
    entry = approver_keys.people_entry(header.person)
    if json:
        show_json({"file": str(path), "name": header.name, "key": header.public_key.hex(), "entry": entry})
        return
    say(f"# {path}")
    say(entry.rstrip())
