"""Looking after the book: reconcile it."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import typer

from cli.options import Config, Json
from cli.output import Exit, say, show_json, show_table
from ledger.money import Asset, format_amount
from treasury.records import Reconciliation
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

COLUMNS = ("kind", "account", "asset", "expected", "found", "open for", "owner", "state", "perhaps", "")


def reconcile(config: Config = None, json: Json = False) -> None:
    """Compare the book with the chain, the bank and itself.

    Exit code 0 if all agrees, or what doesn't is accounted for by two treasurers; 1 if there is an unexplained break;
    3 if there is none, and something couldn't be compared now.

    Example: onebook reconcile --json
    """
    run, assets = asyncio.run(_reconcile(_settings(config)))
    if json:
        show_json(asdict(run) | {"unexplained": run.unexplained, "judged": run.judged})
    else:
        _show_reconciliation(run, assets)
    raise typer.Exit(_exit(run))


def _exit(run: Reconciliation) -> Exit:
    if run.unexplained:
        return Exit.DISAGREES
    return Exit.OK if run.judged else Exit.UNAVAILABLE


def _settings(config: Path | None) -> Settings:
    return with_database(load_settings(find_config(config)))


async def _reconcile(settings: Settings) -> tuple[Reconciliation, Mapping[str, Asset]]:
    from base.progress import Progress
    from wiring.parts import open_parts
    from wiring.treasury import build_reconciler

    async with open_parts(settings, name="onebook reconcile") as parts:
        with Progress() as progress:
            run = await build_reconciler(parts).run(told=lambda what: progress.note(f"comparing {what}"))
        return run, await parts.ledger.assets()


def _show_reconciliation(run: Reconciliation, assets: Mapping[str, Asset]) -> None:
    for network in run.networks:
        how = f"through block {network.block_number}" if network.skipped is None else f"not judged: {network.skipped}"
        name = network.network if network.network.startswith("rail:") else f"network {network.network}"
        say(f"{name}: {how}")
    if run.in_flight:
        say(f"{len(run.in_flight)} movements are on chain and not booked yet; they are no breaks")
    if run.breaks:
        rows = [
            (
                found.reason,
                found.account or "(all accounts)",
                found.asset,
                format_amount(found.expected, assets[found.asset]),
                format_amount(found.found, assets[found.asset]),
                f"{found.age(run.finished_at).total_seconds():.0f} s",
                found.owner or "-",
                found.state,
                found.causes[0].code if found.causes else "-",
                found.detail,
            )
            for found in run.breaks
        ]
        show_table("Breaks", COLUMNS, rows, right=(3, 4, 5))
        if run.open_breaks > len(run.breaks):
            say(f"These are the first {len(run.breaks)}; `onebook breaks list` shows all.")
    explained = f", {run.explained} explained" if run.explained else ""
    say(f"{run.checks} comparisons; {run.open_breaks} {'break' if run.open_breaks == 1 else 'breaks'}{explained}")
