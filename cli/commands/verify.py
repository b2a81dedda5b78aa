"""`onebook verify`: checks what somebody gave you, without a database, a network or an installation."""

from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.output import say, show_json
from ledger.proofs import Proven, read_proof, verify
from ledger.seals import parse_public_key, read_seal
from treasury import solvency_proofs
from treasury.solvency_tree import DIGEST_BYTES, Inclusion

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
        read_proof(_content(file)),
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
    file: Annotated[Path, typer.Argument(help="Your proof of what you are owed: one JSON document.")],
    user: Annotated[str | None, typer.Option("--user", help="Your own id: the proof must be yours.")] = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", help="The epoch that it must be of: its number, or BOOK/NUMBER.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="The root that everybody else was shown: 64 hex digits.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check that what you are owed is counted in a total. Exit code 1 if it isn't proven.

    Without --root only the file's own consistency is shown: anybody can make a list of their own.

    Example: onebook verify solvency usdc.proof.json --user usr_alice --root ROOT
    """
    proof = solvency_proofs.read_proof(_content(file))
    if epoch is not None and "/" not in epoch:
        epoch = f"{proof.terms.book}/{epoch}"
    solvency_proofs.verify(proof, owner=user, epoch=epoch, root=None if root is None else _root(root))
    if json:
        show_json(
            {
                "proven": True,
                "root_compared": root is not None,
                "user_compared": user is not None,
                "user": proof.owner,
                "epoch": proof.terms.epoch,
                "asset": proof.terms.asset,
                "seq": proof.terms.seq,
                "amount": str(proof.amount),
                "total": str(proof.total),
                "users": proof.leaves,
                "root": proof.root.hex(),
            }
        )
        return
    _show_owed(proof, is_root_known=root is not None, is_user_known=user is not None)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error


def _root(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != DIGEST_BYTES:
        raise ConfigError(f"--root: {text!r} isn't 64 hex digits; copy the root from where it was published")
    return found


def _show_owed(proof: Inclusion, *, is_root_known: bool, is_user_known: bool) -> None:
    terms = proof.terms
    say(
        f"proven: of {proof.total} {terms.asset} (in its smallest unit) that book {terms.book} owes to"
        f" {proof.leaves} users at seq {terms.seq}, {proof.amount} are counted for {proof.owner} (epoch {terms.epoch})"
    )
    root = f"the root {proof.root.hex()}"
    if is_root_known:
        say("  the root is the one that you gave")
    else:
        say(f"  under {root}: compare it with the one that others were shown, or give that with --root")
    if not is_user_known:
        say(f"  for {proof.owner}: that must be your own id; give yours with --user")
    say("not proven: that other users are counted, which each must look up; nor that anything is held to pay with")


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
