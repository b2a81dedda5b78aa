"""`onebook webhooks`: what payment providers sent, and dead letters tried again, over the API.

A body is shown only where the database and the key of personal data are: the API never gives one out.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.api_client import KEY_VARIABLE, api_client, get, post
from cli.options import Api, Config, Json
from cli.output import Exit, fail, say, show_json, show_table
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

app = typer.Typer(
    help=f"What payment providers sent: list, show, retry. Needs a treasury key in {KEY_VARIABLE}.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also those whose effect has come or is to come.")] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List dead letters: webhooks whose effect failed too often, the newest first, at most a hundred.

    Exit code 2 without a key, 3 if the API doesn't answer.

    Example: onebook webhooks list --json
    """
    with api_client(api, _settings(api, config)) as client:
        found = get(client, f"/v1/treasury/webhooks?limit=100{'' if everything else '&state=dead'}")
    if json:
        show_json(found)
        return
    if not found["items"]:
        say("None.")
        return
    columns = ("id", "rail", "kind", "object", "state", "attempts", "code", "received_at")
    show_table("Webhooks", columns, [tuple(str(item[name] or "") for name in columns) for item in found["items"]])


@app.command()
def show(
    webhook: Annotated[str, typer.Argument(help="Its id, whk_...")],
    body: Annotated[
        bool, typer.Option("--body", help="Print the bytes that came, and nothing else; read from the database.")
    ] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show what a webhook was about. Its body is kept for 30 days, sealed; --body needs the database and the key file,
    no API key.

    Exit code 1 if there is none such, or its body isn't kept.

    Example: onebook webhooks show whk_01jd3v --body
    """
    if body:
        found = asyncio.run(_body(with_database(load_settings(find_config(config))), webhook))
        if found is None:
            why = "it came too long ago, or there was no key to seal it"
            fail(f"the body of {webhook} isn't kept: {why}", Exit.DISAGREES)
        typer.echo(found)
        return
    with api_client(api, _settings(api, config)) as client:
        told = get(client, f"/v1/treasury/webhooks/{webhook}")
    if json:
        show_json(told)
        return
    for name, value in told.items():
        say(f"{name}: {'' if value is None else value}")


@app.command()
def retry(
    webhook: Annotated[str, typer.Argument(help="Its id, whk_...")],
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Have a dead letter's effect tried again, from the first try on.

    Exit code 1 if there is none such, or its effect has come already.

    Example: onebook webhooks retry whk_01jd3v
    """
    with api_client(api, _settings(api, config)) as client:
        told = post(client, f"/v1/treasury/webhooks/{webhook}/retry", {})
    if json:
        show_json(told)
    else:
        say(f"{told['id']}: {told['state']}; the worker tries it now")


def _settings(api: str | None, config: Path | None) -> Settings | None:
    return None if api is not None else load_settings(find_config(config))


async def _body(settings: Settings, webhook: str) -> bytes | None:
    from wiring.parts import open_parts
    from wiring.rails import build_rails

    async with open_parts(settings, name="onebook webhooks show") as parts:
        rails = build_rails(parts.settings, parts.engine, parts.ledger, clock=parts.clock, entropy=parts.entropy)
        try:
            return await rails.inbox.body(webhook)
        finally:
            await rails.inbox.aclose()
