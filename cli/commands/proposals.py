"""`onebook proposals`: what one treasurer may not do alone, confirmed or withdrawn over the API."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.api_client import api_client, get, post
from cli.options import Api, Config, Json
from cli.output import say, show_json, show_table
from cli.policies import settings_if_any

app = typer.Typer(
    help="What one treasurer may not do alone: list, confirm, withdraw. Needs a treasury key in ONEBOOK_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Id = Annotated[str, typer.Argument(metavar="PROPOSAL", help="Its id, prp_...")]


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Those that were decided too.")] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what waits for a second person, the newest first, at most a hundred.

    Example: onebook proposals list
    """
    with api_client(api, settings_if_any(config)) as client:
        found = get(client, f"/v1/treasury/proposals?limit=100&open={'false' if everything else 'true'}")
    if json:
        show_json(found)
    elif not found["items"]:
        say("None.")
    else:
        columns = ("id", "kind", "what", "made_by", "state", "expires_at", "reason")
        rows = [{**one, "what": _what(one)} for one in found["items"]]
        show_table("Proposals", columns, [tuple(str(row[name] or "") for name in columns) for row in rows])


@app.command()
def confirm(proposal: Id, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Confirm what somebody else proposed: it's done. Exit code 1 if it's refused.

    Example: onebook proposals confirm prp_01jd3v
    """
    _decide(proposal, "confirm", api=api, config=config, json=json)


@app.command()
def withdraw(proposal: Id, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Take a proposal back, whoever made it. Exit code 1 if it's refused.

    Example: onebook proposals withdraw prp_01jd3v
    """
    _decide(proposal, "withdraw", api=api, config=config, json=json)


def _decide(proposal: str, act: str, *, api: str | None, config: Any, json: bool) -> None:
    with api_client(api, settings_if_any(config)) as client:
        done = post(client, f"/v1/treasury/proposals/{quote(proposal, safe='')}/{act}", {})
    if json:
        show_json(done)
        return
    became = f": {done['became']}" if done["became"] else ""
    say(f"{done['id']}, {_what(done)}, is {done['state']}{became}")


def _what(proposal: dict[str, Any]) -> str:
    """What is proposed, in a few words."""
    match proposal["kind"]:
        case "adjustment":
            return f"{proposal['amount']} {proposal['asset']} from {proposal['debit']} to {proposal['credit']}"
        case "reversal":
            part = "all" if proposal["lines"] is None else "parts"
            return f"{part} of {proposal['entry']} back"
        case "credit_line":
            return f"{proposal['account']} may owe {proposal['amount']} {proposal['asset']}"
        case _:
            items = ", ".join(one["item"] for one in proposal["open_items"] or ()) or "nothing"
            return f"close all before {proposal['until']} in spite of {items}"
