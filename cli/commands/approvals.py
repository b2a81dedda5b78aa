"""`onebook approvals`: what waits for signatures of the policy's people, over the API. `onebook approve` signs."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.api_client import api_client, get
from cli.options import Api, Config, Json
from cli.output import say, show_json, show_table
from cli.policies import settings_if_any

app = typer.Typer(
    help="What waits for people's signatures: list, show. Needs a treasury key in ONEBOOK_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also what is decided.")] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what was asked, the newest first, at most a hundred: what it's about, its age, who signed, who is missing.

    Example: onebook approvals list
    """
    with api_client(api, settings_if_any(config)) as client:
        found = get(client, "/v1/treasury/approvals?limit=100")
    if not everything:
        found["items"] = [one for one in found["items"] if one["state"] == "open"]
    if json:
        show_json(found)
        return
    if not found["items"]:
        say("None.")
        return
    columns = ("id", "state", "about", "amount", "to", "age", "signed by", "missing", "could sign")
    show_table("Approvals", columns, [_row(one) for one in found["items"]])


@app.command()
def show(
    approval: Annotated[str, typer.Argument(help="Its id, apr_...")],
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show one request: what it's about and who signed it. Exit code 1 if there is none such.

    Example: onebook approvals show apr_01jd3v
    """
    with api_client(api, settings_if_any(config)) as client:
        found = get(client, f"/v1/treasury/approvals/{quote(approval, safe='')}")
    if json:
        show_json(found)
        return
    about = found["about"]
    lines = {
        "state": found["state"],
        "about": f"{about['kind']} {about['subject']} on {about['network']}",
        "amount": _amount(found),
        "to": about["to"] or "",
        "maker": found["maker"],
        "not after": found["not_after"],
        "signed by": ", ".join(f"{one['by']} at {one['received_at']}" for one in found["approvals"]) or "nobody",
        "missing": f"{found['missing']} of {found['needed']}",
        "could sign": ", ".join(found["could_sign"]),
    }
    for name, told in lines.items():
        say(f"{name:12} {told}")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    about = one["about"]
    return (
        one["id"],
        one["state"],
        f"{about['kind']} {about['subject']}",
        _amount(one),
        about["to"] or "",
        f"{one['age_seconds'] // 60} min",
        ", ".join(signature["by"] for signature in one["approvals"]),
        str(one["missing"]),
        ", ".join(one["could_sign"]),
    )


def _amount(one: dict[str, Any]) -> str:
    about = one["about"]
    return "" if about["amount"] is None else f"{about['amount']} {about['asset']}"
