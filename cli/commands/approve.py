"""`onebook approve`: shows somebody what they are about to sign, out of the bytes that are signed, and signs it."""

import base64
import binascii
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.api_client import api_client, get, post
from cli.asking import PassphraseFd, agree, ask_for, read_text, type_again, write_new
from cli.output import Exit, fail, say
from cli.policies import person_of, policy_path, read_policy, settings_if_any
from custody import approver_keys
from custody.approval_requests import read_request, signature_to_json, signed_to_text
from custody.statement_words import StatementWords, approval_in_words
from wiring.settings import Settings

Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml, if any.")
]


def approve(
    request: Annotated[str, typer.Argument(help="A request's id at the API (apr_...), or its file.")],
    key: Annotated[Path, typer.Option("--key", help="Your approver key.")],
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Your own copy of the policy; else the configured one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the signature there instead of sending it to the API.")
    ] = None,
    api: Annotated[
        str | None, typer.Option("--api", help="The API's address; the key is taken from ONEBOOK_API_KEY.")
    ] = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Approve what was asked, after seeing it: amounts, addresses, names from your policy file, what nobody checks.

    Example: onebook approve apr_01jd3v --key ada.approver --policy policy.toml
    """
    settings = settings_if_any(config)
    mine = read_policy(policy_path(policy, settings, option="--policy"))
    person = person_of(mine, approver_keys.read_header(key), key)
    statement = _statement(request, api, settings, out)
    words = approval_in_words(statement, mine, now=int(datetime.now(UTC).timestamp()), reader=person.name)
    _show(words, mine.version, mine.fingerprint)
    if words.obstacles:
        fail(f"the signer would not count it: {words.obstacles[0]}", Exit.DISAGREES)
    if words.amount is None:
        agree(f"Approve it as {person.name}?")
    else:
        type_again("the amount", words.amount)
    opened = approver_keys.open_key(key, passphrase=ask_for(f"the key of {person.name}", passphrase_fd))
    signature = opened.sign(statement, name=person.name)
    if out is not None:
        write_new(out, signed_to_text(statement, signature))
        say(f"{out}: approved by {person.name}")
        return
    with api_client(api, settings) as client:
        told = post(client, f"/v1/treasury/approvals/{request}/signatures", signature_to_json(signature))
    say(f"approved by {', '.join(one['by'] for one in told['approvals'])}; {told['state']}")


def _statement(request: str, api: str | None, settings: Settings | None, out: Path | None) -> bytes:
    """The bytes to sign, from the API or from a file."""
    if not request.startswith("apr_"):
        if out is None:
            raise ConfigError("a request from a file is approved into a file: give --out")
        return read_request(read_text(Path(request))).statement
    with api_client(api, settings) as client:
        told = get(client, f"/v1/treasury/approvals/{request}")
    try:
        return base64.b64decode(str(told.get("statement", "")), validate=True)
    except binascii.Error as problem:
        raise ConfigError("the API gave no statement to sign") from problem


def _show(words: StatementWords, version: int, fingerprint: bytes) -> None:
    say("You are about to approve:\n")
    for name, text in words.lines:
        say(f"  {name:12} {text}")
    say(f"\nNames and decimals are out of your policy file, version {version}, fingerprint {fingerprint.hex()}.")
    say("This can't check:")
    for sentence in words.unchecked:
        say(f"  - {sentence}")
    for sentence in words.obstacles:
        say(f"  !!! {sentence}")
    say()
