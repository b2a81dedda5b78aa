"""`onebook verify`: checks what somebody gave you, without a database or an installation; without a network, mostly."""

from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.output import say, show_json
from ledger.proofs import Proven, read_proof, verify
from ledger.seals import parse_public_key, read_seal

app = typer.Typer(help="Check a proof, offline.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def families() -> None:
    """Check a proof, offline."""


@app.command()
def entry(
    file: Annotated[Path, typer.Argument(help="A proof, as `onebook proof` writes it.")],
    key: Annotated[
        str | None, typer.Option("--key", help="The public key that you trust: a PEM file, or 64 hex digits.")
    ] = None,
    seal: Annotated[
        Path | None,
        typer.Option("--seal", help="A seal that you kept: the proof must be under that very one."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check that an entry is in the book just as the file says. Exit code 1 if it isn't proven.

    Without --key and --seal only the file's own consistency is shown: anybody can sign with a key of their own.

    Example: onebook verify entry rent.proof.json --key seal.pem
    """
    proven = verify(
        read_proof(content(file)),
        trusted=() if key is None else (parse_public_key(key),),
        outside=None if seal is None else read_seal(seal),
    )
    trust = "the key that you gave" if key else "the seal that you kept" if seal else None
    if json:
        show_json(
            {
                "proven": True,
                "trusted": trust is not None,
                "entry": dict(proven.command),
                "lines": [dict(line) for line in proven.lines],
                "metadata": proven.metadata,
                "seal": proven.seal.document(),
            }
        )
        return
    _show(proven, trust)


@app.command()
def solvency(
    file: Annotated[Path, typer.Argument(help="Your file: one proof, or your proofs with their epoch.")],
    user: Annotated[str | None, typer.Option("--user", help="Your own id: the proofs must be yours.")] = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", help="The epoch that it must be of: its number, or BOOK/NUMBER.")
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root", help="What everybody was shown, 64 hex digits: the epoch's hash, of a lone proof its root."
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option("--published", help="What everybody was shown of the epoch, fetched by yourself."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The public key of seals that you trust: a PEM file, or 64 hex digits.")
    ] = None,
    rpc: Annotated[
        str | None,
        typer.Option("--rpc", help="A node of your own, by its URL: it must show the epoch's hash in a final block."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check that what you are owed is counted in a total, and what is held beside it. Exit code 1 if it isn't so.

    Without --root or --published only the file's own consistency is shown: anybody can make a list of their own.
    Nothing is asked of a network but with --rpc. Exit code 3 if that node doesn't answer.

    Example: onebook verify solvency usdc.proof.json --user usr_alice --root ROOT
    """
    from cli.solvency_check import check, show  # here: it reads signatures

    found = check(
        content(file),
        user=user,
        epoch=epoch,
        root=root,
        published=None if published is None else content(published),
        trusted=() if key is None else (parse_public_key(key),),
        rpc=rpc,
    )
    if json:
        show_json(found.document())
        return
    show(found)


def content(file: Path) -> bytes:
    """What is in a file. Raises ConfigError where it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error


def _show(proven: Proven, trust: str | None) -> None:
    command, seal = proven.command, proven.seal.seal
    outcome = "accepted" if command["refusal"] is None else f"refused: {command['refusal']}"
    say(f"entry {command['seq']} of book {command['book']}: {command['kind']} {command['id']}, {outcome}")
    effective = f", effective {command['effective_at']}" if command["effective_at"] else ""
    say(f"  booked {command['booked_at']}{effective}")
    for line in proven.lines:
        say(f"  {line['kind']:8} {line['debit']} -> {line['credit']}  {line['amount']}")
    for name, value in (proven.metadata or {}).items():
        say(f"  {name}: {value}")
    say(f"is under seal {seal.number} ({seal.first_seq} to {seal.last_seq}), made {seal.sealed_at.isoformat()}")
    if trust is None:
        say(f"signed by {proven.seal.key.hex()}: compare this key, or give it with --key; anybody can make one")
    else:
        say(f"and that is {'signed by ' if 'key' in trust else ''}{trust}")
