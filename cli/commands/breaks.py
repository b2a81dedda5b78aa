"""`onebook breaks`: what doesn't agree, for a treasurer's shell, over the API: who asks is told by their key."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from cli.api_client import KEY_VARIABLE, api_client, get, post
from cli.options import Api, Config, Json
from cli.output import Exit, fail, say, show_json, show_table
from wiring.settings import Settings, find_config, load_settings

app = typer.Typer(
    help=f"Breaks: list, show, own, note, propose, confirm, withdraw. Needs a treasury key in {KEY_VARIABLE}.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Id = Annotated[str, typer.Argument(metavar="BREAK", help="Its id, brk_...")]
ResolutionId = Annotated[str, typer.Argument(metavar="RESOLUTION", help="Its id, brs_...")]

PAGE = 100
"""Breaks that one request gives."""

PAGES_MAX = 100
"""Pages that a list asks for."""


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="open, proposed, awaiting_cycle, accepted or resolved.")] = None,
    kind: Annotated[str | None, typer.Option(help="Such as chain_differs; docs/reconciliation.md has all.")] = None,
    network: Annotated[str | None, typer.Option(help="Of this network; a provider's is rail:NAME.")] = None,
    owner: Annotated[str | None, typer.Option(help="That this person (or key) looks after.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List breaks, the oldest first: all that stand, unless something else is asked for.

    Exit code 2 without a key, 3 if the API doesn't answer.

    Example: onebook breaks list --kind bank_differs
    """
    asked = {"state": state, "kind": kind, "network": network, "owner": owner, "all": "true" if everything else None}
    wanted = {name: value for name, value in asked.items() if value is not None}
    found: list[dict[str, Any]] = []
    with api_client(api, _settings(api, config)) as client:
        for _ in range(PAGES_MAX):
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = get(client, f"/v1/treasury/breaks?{urlencode({**wanted, **after, 'limit': PAGE})}")
            found += page["items"]
            if not page["has_more"]:
                break
    if json:
        show_json({"items": found, "has_more": page["has_more"]})
    elif not found:
        say("None.")
    else:
        show_table("Breaks", COLUMNS, [_row(one) for one in found], right=(3, 4))
        if page["has_more"]:
            say(f"More follow: these are the first {len(found)}.")


@app.command()
def show(id: Id, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Show a break: what may be behind it, the evidence, how it's to be resolved, and its history.

    Exit code 1 if there is none such.

    Example: onebook breaks show brk_01jd3v
    """
    with api_client(api, _settings(api, config)) as client:
        _show(get(client, f"/v1/treasury/breaks/{id}"), json=json)


@app.command()
def own(
    id: Id,
    to: Annotated[str, typer.Option("--to", help="A person, a treasury key's id, `me`, or `nobody`.")] = "me",
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say who looks after a break.

    Example: onebook breaks own brk_01jd3v --to key_01jd3v
    """
    owner = None if to == "nobody" else to
    with api_client(api, _settings(api, config)) as client:
        _show(post(client, f"/v1/treasury/breaks/{id}/owner", {"owner": owner}), json=json)


@app.command()
def note(
    id: Id,
    words: Annotated[str, typer.Argument(metavar="NOTE", help="What is to stay in its history.")],
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Add a note to a break's history. It stays: nobody can change or delete it.

    Example: onebook breaks note brk_01jd3v "the bank says that the line comes tomorrow"
    """
    with api_client(api, _settings(api, config)) as client:
        _show(post(client, f"/v1/treasury/breaks/{id}/notes", {"note": words}), json=json)


@app.command()
def propose(
    id: Id,
    reason: Annotated[str, typer.Option(help="Why; it stays in the history and in the entry.")],
    against: Annotated[
        str | None, typer.Option(help="An entry against this purpose of the house: suspense, ...")
    ] = None,
    amount: Annotated[str | None, typer.Option(help="Of the entry; else the whole difference.")] = None,
    until: Annotated[str | None, typer.Option(help="Instead of an entry: accept it as timing until then.")] = None,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Propose how a break is resolved: by an entry, or until a date as a matter of time. Another treasurer confirms it.

    Exit code 1 if it can't be resolved so.

    Example: onebook breaks propose brk_01jd3v --against rail-fees --reason "the bank's fee of November"

    Example: onebook breaks propose brk_01jd3v --until 2030-01-31T12:00:00Z --reason "its line comes on Monday"
    """
    if (against is None) == (until is None):
        fail("give either --against, for an entry, or --until, for a matter of time", Exit.USAGE)
    if until is not None and amount is not None:
        fail("--amount is of an entry; what is accepted until a date is the whole difference", Exit.USAGE)
    body = {"kind": "entry", "against": against, "amount": amount} if until is None else {"until": until}
    with api_client(api, _settings(api, config)) as client:
        path = f"/v1/treasury/breaks/{id}/resolutions"
        told = post(client, path, {"kind": "acceptance", **body, "reason": reason})
    _decided(told, json=json, then=f"another treasurer confirms it: onebook breaks confirm {told['id']}")


@app.command()
def confirm(id: ResolutionId, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Confirm what another treasurer proposed. An entry is posted at once; the next cycle tells whether it helped.

    Exit code 1 if it's your own proposal, or the difference has changed.

    Example: onebook breaks confirm brs_01jd3v
    """
    with api_client(api, _settings(api, config)) as client:
        told = post(client, f"/v1/treasury/resolutions/{id}/confirm", {})
    _decided(told, json=json, then="the next cycle tells whether the difference is gone")


@app.command()
def withdraw(id: ResolutionId, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Take a proposal back, whoever made it.

    Example: onebook breaks withdraw brs_01jd3v
    """
    with api_client(api, _settings(api, config)) as client:
        told = post(client, f"/v1/treasury/resolutions/{id}/withdraw", {})
    _decided(told, json=json, then=f"{told['break_id']} is open again")


COLUMNS = ("break", "kind", "account", "difference", "age", "state", "owner", "perhaps")


def _row(told: dict[str, Any]) -> tuple[object, ...]:
    return (
        told["id"],
        told["reason"],
        told["account"] or "(all accounts)",
        f"{told['difference']} {told['asset']}",
        f"{timedelta(seconds=told['age_seconds'])}{' !' if told['aged'] else ''}",
        told["state"],
        told["owner"] or "-",
        told["causes"][0]["code"] if told["causes"] else "-",
    )


def _show(told: dict[str, Any], *, json: bool) -> None:
    if json:
        show_json(told)
        return
    show_table(told["id"], COLUMNS[1:], [_row(told)[1:]], right=(2, 3))
    say(f"expected {told['expected']}, found {told['found']} {told['asset']}; first seen at {told['at'] or '-'}")
    for cause in told["causes"]:
        say(f"  perhaps {cause['code']} ({cause['likelihood']}): {cause['sentence']} {' '.join(cause['evidence'])}")
    for one in told["resolutions"]:
        how = f"{one['amount']} against {one['against']}" if one["kind"] == "entry" else f"timing until {one['until']}"
        say(f"  {one['id']} {one['state']}: {how}, by {one['proposed_by']}: {one['reason']}")
    for line in told["history"]:
        say(f"  {line['at']} {line['by'] or 'cycle'}: {line['kind']} {line['words']}")


def _decided(told: dict[str, Any], *, json: bool, then: str) -> None:
    if json:
        show_json(told)
    else:
        say(f"{told['id']}: {told['state']}; {then}")


def _settings(api: str | None, config: Path | None) -> Settings | None:
    return None if api is not None else load_settings(find_config(config))
