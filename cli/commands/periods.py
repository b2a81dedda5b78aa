"""`onebook period`: days and months of the book, checked, closed and listed over the API."""

from typing import Annotated
from urllib.parse import quote

import typer

from cli.api_client import api_client, get, post
from cli.options import Api, Config, Json
from cli.output import Exit, say, show_json, show_table
from cli.policies import settings_if_any

app = typer.Typer(
    help="Days and months of the book: check, close, list. Needs a treasury key in ONEBOOK_API_KEY.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Named = Annotated[str, typer.Argument(help="A month, 2026-10, or a day, 2026-10-31, of the treasury's time zone.")]


@app.command()
def check(period: Named, api: Api = None, config: Config = None, json: Json = False) -> None:
    """Say what stands open in a period. Exit code 1 if anything does.

    Example: onebook period check 2026-10
    """
    with api_client(api, settings_if_any(config)) as client:
        found = get(client, f"/v1/treasury/periods/{quote(period, safe='')}/open-items")
    if json:
        show_json(found)
    else:
        for one in found["items"]:
            say(f"{one['item']}: {one['detail']}")
        if not found["items"]:
            say(f"{period}: nothing stands open")
    if found["items"]:
        raise typer.Exit(Exit.DISAGREES)


@app.command()
def close(
    period: Named,
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; it stays.")],
    force: Annotated[
        bool, typer.Option("--force", help="Though something stands open: another treasurer has to confirm it.")
    ] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Close a period, for good: what comes later with a date in it takes effect at its end. Exit code 1 if something
    stands open in it.

    Example: onebook period close 2026-10 --reason "October is reported"
    """
    asked = {"period": period, "reason": reason}
    with api_client(api, settings_if_any(config)) as client:
        told = post(client, "/v1/treasury/proposals/periods" if force else "/v1/treasury/periods", asked)
    if json:
        show_json(told)
        return
    if force:
        say(f"{period} isn't closed yet: another treasurer confirms it by `onebook proposals confirm {told['id']}`")
    else:
        say(f"{period} is closed, all before {told['closed_until']}, at seq {told['seq']}")
    for one in told["open_items"] or ():
        say(f"  in spite of {one['item']}: {one['detail']}")


@app.command("list")
def list_(api: Api = None, config: Config = None, json: Json = False) -> None:
    """List closed periods, the latest first, at most a hundred.

    Example: onebook period list
    """
    with api_client(api, settings_if_any(config)) as client:
        found = get(client, "/v1/treasury/periods?limit=100")
    if json:
        show_json(found)
        return
    if not found["items"]:
        say("None.")
        return
    columns = ("period", "closed_until", "closed_at", "closed_by", "confirmed_by", "seq", "state", "reason")
    show_table("Periods", columns, [tuple(str(one[name] or "") for name in columns) for one in found["items"]])
