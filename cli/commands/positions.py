"""`onebook positions`: what is owed and held, per asset, now or at an earlier moment. Over the API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from cli.api_client import api_client, get
from cli.output import Exit, say, show_json, show_table
from wiring.settings import find_config, load_settings


def positions(
    at: Annotated[
        str | None, typer.Option("--at", help="As it was at an instant, such as 2026-11-22T12:00:00Z.")
    ] = None,
    block: Annotated[
        str | None, typer.Option("--block", help="As it was through a network's final block, such as main:1200.")
    ] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Value all of it in this asset.")] = None,
    api: Annotated[
        str | None, typer.Option("--api", help="The API's address; else the running installation's.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show per asset what is owed, held and where, on its way and left; exit code 1 if not covered.

    With --block also what nodes told of that block, where they were asked then; exit code 1 if that's something else.
    Needs a treasury key in ONEBOOK_API_KEY. Exit code 2 without one, 3 if the API doesn't answer.

    Example: onebook positions --at 2026-11-22T12:00:00Z --reference EUR
    """
    settings = None if api is not None else load_settings(find_config(config))
    asked = {name: given for name, given in (("at", at), ("block", block), ("reference", reference)) if given}
    with api_client(api, settings) as client:
        told = get(client, f"/v1/treasury/positions?{urlencode(asked)}")
    if json:
        show_json(told)
    else:
        _show(told)
    by_nodes = told["told_by_nodes"]
    differs = by_nodes is not None and by_nodes["agrees"] is False
    if differs or not all(one["covered"] and one["balanced"] for one in told["items"]):
        raise typer.Exit(Exit.DISAGREES)


def _show(told: Mapping[str, Any]) -> None:
    through = (
        "" if told["block"] is None else f", through block {told['block']['number']} of {told['block']['network']}"
    )
    say(f"As of {told['as_of']} (entry {told['seq']}){through}")
    show_coverage("Positions", told)
    places = [
        *(
            (one["asset"], f"{place['network']} {place['role']}", place["amount"])
            for one, place in _of(told, "custody")
        ),
        *((one["asset"], f"bank {place['account']}", place["amount"]) for one, place in _of(told, "banks")),
        *((one["asset"], f"provider {place['rail']}", place["amount"]) for one, place in _of(told, "providers")),
        *(
            (one["asset"], f"on its way {place['direction']}, {place['place']}", place["amount"])
            for one, place in _of(told, "transits")
        ),
    ]
    show_table("Where it is", ("asset", "place", "amount"), places, right=(2,))
    if told["told_by_nodes"] is not None:
        _show_told(told["told_by_nodes"], told["block"]["number"])
    hot = [
        (one["asset"], one["network"], one["hot"], one["share"]["ratio"] or "", one["target"] or "", one["short"] or "")
        for one in told["hot"]
    ]
    show_table("At hot addresses", ("asset", "network", "hot", "share", "target", "short"), hot, right=range(2, 6))
    for gas in told["gas"]:
        lasts = f"lasts {gas['days']} days" if gas["days"] is not None else f"unknown for how long: {gas['unknown']}"
        say(f"gas on {gas['network']}: {gas['coins']} {gas['asset']}, {lasts}")
    if told["valuation"] is not None:
        _show_values(told["valuation"])


def _show_told(told: Mapping[str, Any], number: int) -> None:
    """What nodes told of the block beside the book's figures, or that they weren't asked, and where they were."""
    if not told["sampled"]:
        near = [str(one) for one in (told["nearest_below"], told["nearest_above"]) if one is not None]
        where = f"the nearest that were: {' and '.join(near)}" if near else "none of this network was yet"
        say(f"nodes weren't asked what own addresses held at block {number}; {where}")
        return
    rows = [
        (one["asset"], one["role"], one["book"], one["nodes"], one["difference"] if one["book"] != one["nodes"] else "")
        for one in told["items"]
    ]
    title = f"What nodes told of block {number}, at {told['taken_at']}"
    show_table(title, ("asset", "role", "book", "nodes", "difference"), rows, right=range(2, 5))


def show_coverage(title: str, told: Mapping[str, Any]) -> None:
    """The table of what is owed and how far what is held reaches, from the API's answer."""
    columns = ("asset", "owed", "in_transit", "held", "receivable", "unassigned", "stock", "equity")
    rows = [
        [*(one[name] for name in columns), one["coverage"]["ratio"] or "-", "yes" if one["covered"] else "NO"]
        for one in told["items"]
    ]
    show_table(title, (*columns, "coverage", "covered"), rows, right=range(1, 9))


def _show_values(valuation: Mapping[str, Any]) -> None:
    reference, columns = valuation["reference"], ("owed", "in_transit", "held", "equity")
    rows = [[one["asset"], *(one[name] for name in columns)] for one in valuation["items"]]
    rows.append(["all of these", *(valuation["totals"][name] for name in columns)])
    title = f"Worth in {reference}"
    if valuation["rates"] is not None:
        title += f", by rates {valuation['rates']}, the oldest {valuation['rates_age_seconds']} s before"
    show_table(title, ("asset", *columns), rows, right=range(1, 5))
    for one in valuation["unvalued"]:
        say(f"not valued: {one['asset']}, {one['reason']}")


def _of(told: Mapping[str, Any], kind: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [(one, place) for one in told["items"] for place in one[kind]]
