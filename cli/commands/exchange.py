"""`onebook exchange`: which rates are believed and why others aren't; what the house holds and made. Over the API."""

from pathlib import Path

import typer

from cli.api_client import KEY_VARIABLE, api_client, get
from cli.options import Api, Config, Json
from cli.output import say, show_json, show_table
from wiring.settings import Settings, find_config, load_settings

app = typer.Typer(
    help=f"Rates that are believed, and what the exchange holds and made. Needs a treasury key in {KEY_VARIABLE}.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def rates(api: Api = None, config: Config = None, json: Json = False) -> None:
    """Show what is believed of each pair, what isn't and why, and what every source said last.

    Exit code 2 without a key, 3 if the API doesn't answer or no rates are there.

    Example: onebook exchange rates
    """
    with api_client(api, _settings(api, config)) as client:
        told = get(client, "/v1/treasury/rates")
    if json:
        show_json(told)
        return
    say(f"Rates {told['id']}, the oldest from {told['as_of']}")
    columns = ("base", "quote", "rate", "spread_basis_points")
    show_table("Believed", columns, [[pair[name] for name in columns] for pair in told["pairs"]], right=(2, 3))
    for doubt in told["unknown"]:
        facts = ", ".join(f"{name} {fact}" for name, fact in doubt["facts"].items())
        say(f"not known: {doubt['base']}/{doubt['quote']}, {doubt['doubt']}: {facts}")
    if told["readings"]:
        told_by = ("source", "base", "quote", "rate", "as_of")
        show_table("Sources", told_by, [[one[name] for name in told_by] for one in told["readings"]], right=(3,))
    for source, why in told["failed"].items():
        say(f"no answer from {source}: {why}")


@app.command()
def positions(api: Api = None, config: Config = None, json: Json = False) -> None:
    """Show what the exchange holds of each asset, what it cost, and what was made of it, in the reference asset.

    Exit code 2 without a key, 3 if the API doesn't answer.

    Example: onebook exchange positions --json
    """
    with api_client(api, _settings(api, config)) as client:
        told = get(client, "/v1/treasury/exchange")
    if json:
        show_json(told)
        return
    if not told["items"]:
        say("None: nothing is in the exchange's stock, or [exchange] names no reference.")
        return
    columns = ("asset", "quantity", "average_cost", "cost", "value", "unrealised", "realised", "earned", "reference")
    rows = [["" if one[name] is None else one[name] for name in columns] for one in told["items"]]
    show_table("The exchange's positions", columns, rows, right=range(1, 8))


def _settings(api: str | None, config: Path | None) -> Settings | None:
    return None if api is not None else load_settings(find_config(config))
