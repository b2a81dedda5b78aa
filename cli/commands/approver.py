"""`onebook approver`: the key with which somebody approves, and what they ask others to approve."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from base.entropy import SystemEntropy
from cli.asking import PassphraseFd, agree, ask_for, json_text, read_text, whole_number, write_new
from cli.options import Json
from cli.output import say, show_json
from cli.policies import person_of, policy_path, read_policy, settings_if_any
from custody import approver_keys
from custody.approval_requests import ApprovalRequest, request_to_json
from custody.approvals import Mandate
from custody.intent_json import intent_from_terms_json, terms_of_file
from custody.statement_words import approval_in_words

app = typer.Typer(help="Approvers' keys, and asking for approval.", no_args_is_help=True, rich_markup_mode=None)

Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml, if any.")
]


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


@app.command()
def request(
    terms: Annotated[Path, typer.Argument(help="An intent, or its terms, as JSON; docs/approvals.md shows each kind.")],
    key: Annotated[Path, typer.Option("--key", help="Your approver key: you make it, others approve it.")],
    out: Annotated[Path, typer.Option("--out", help="Where the request goes.")],
    fee_wei_max: Annotated[str, typer.Option(help="The highest total fee in wei.")],
    hours: Annotated[int, typer.Option(help="For so long it may be signed.", min=1, max=24 * 90)] = 24,
    policy: Annotated[Path | None, typer.Option("--policy", help="The policy in force; else the configured.")] = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Ask the others to approve an intent that you make: a file for POST /v1/treasury/approvals and `onebook approve`.

    Example: onebook approver request payment.json --key cleo.approver --fee-wei-max 10000000000000000 --out r.json
    """
    found = read_policy(policy_path(policy, settings_if_any(config), option="--policy"))
    person = person_of(found, approver_keys.read_header(key), key)
    intent = intent_from_terms_json(terms_of_file(read_text(terms)))
    now = int(datetime.now(UTC).timestamp())
    mandate = Mandate(
        maker=person.name,
        not_after=now + hours * 3600,
        fee_wei_max=whole_number("--fee-wei-max", fee_wei_max),
        policy_version=found.version,
        policy_fingerprint=found.fingerprint,
    )
    asked = ApprovalRequest(intent, mandate)
    for name, text in approval_in_words(asked.statement, found, now=now).lines:
        say(f"  {name:12} {text}")
    agree(f"Ask for it as {person.name}?")
    opened = approver_keys.open_key(key, passphrase=ask_for(f"the key of {person.name}", passphrase_fd))
    made = replace(mandate, made_by=opened.sign(asked.made, name=person.name))
    write_new(out, json_text(request_to_json(ApprovalRequest(intent, made))))
    say(f"{out}: made by {person.name}")


def _show(path: Path, header: approver_keys.ApproverKeyHeader, *, json: bool) -> None:
    entry = approver_keys.people_entry(header.person)
    if json:
        show_json({"file": str(path), "name": header.name, "key": header.public_key.hex(), "entry": entry})
        return
    say(f"# {path}")
    say(entry.rstrip())
