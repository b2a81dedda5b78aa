"""`onebook chain reanchor`: goes on with another local chain after the one that was followed was reset."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from base.errors import NotFound
from cli.asking import agree
from cli.output import Exit, fail, say, show_json
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from ledger.money import Asset
    from treasury.lost_custody import Left
    from wallet.deposit_store import Standing
    from wiring.reanchoring import Done, Outlook, Reanchoring


def reanchor(
    network: Annotated[str, typer.Argument(help="Which network, by its name in onebook.toml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask. For local chains only.")] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="The network's name once more: needed where it's no local chain.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take back what was booked from a local chain that was reset, and follow the new one from its beginning.

    onebook.toml names the new chain's id and genesis block first. Killed in between, run it again: it goes on.

    Example: onebook chain reanchor local --dry-run
    """
    asyncio.run(_reanchor(network, dry_run=dry_run, yes=yes, confirm=confirm, config=config, json=json))


async def _reanchor(
    network: str, *, dry_run: bool, yes: bool, confirm: str | None, config: Path | None, json: bool
) -> None:
    from wiring.parts import open_parts
    from wiring.recovery import build_reanchoring

    settings = with_database(load_settings(find_config(config)))
    async with open_parts(settings, name="onebook chain reanchor") as parts:
        work: Reanchoring = build_reanchoring(parts, network)
        outlook = await work.outlook()
        assets = await parts.ledger.assets()
        if not json:
            _show(outlook, assets)
        if dry_run:
            if json:
                show_json({"outlook": _outlook_json(outlook)})
            return
        _be_sure(settings, network, yes=yes, confirm=confirm)
        await parts.gate.require()
        done = await work.run()
    if json:
        show_json({"outlook": _outlook_json(outlook), "done": _done_json(done)})
    else:
        _show_done(done, network, settings, assets)


def _be_sure(settings: Settings, network: str, *, yes: bool, confirm: str | None) -> None:
    """A person must want it; where a node is none of a local chain's, by typing the network's name."""
    if confirm is not None and confirm != network:
        fail(f"--confirm {confirm} isn't the network's name, {network}: nothing was done", Exit.USAGE)
    foreign = _foreign_node(settings, network)
    if foreign is not None and confirm is None:
        fail(
            f"{foreign}. What was credited from this network would be taken back from its users. If its chain really is"
            f" gone for ever, say --confirm {network}; nothing was done",
            Exit.USAGE,
        )
    if not yes and confirm is None:
        agree(f"Take all of this back and re-anchor {network}?")


def _foreign_node(settings: Settings, network: str) -> str | None:
    """Which node is neither Hardhat nor anvil, in a sentence; None if all are."""
    from chain import local

    (named,) = (one for one in settings.networks if one.name == network)
    for url in named.rpc_urls:
        try:
            local.kind_of(url)
        except NotFound as error:
            return error.message
    return None


def _show(outlook: "Outlook", assets: "Mapping[str, Asset]") -> None:
    reset = outlook.reset
    if reset.begun:
        say(f"network {reset.network.name} was left already; what is still booked from the lost chain:")
    else:
        lost = reset.lost
        say(f"network {reset.network.name}: chain {lost.chain_id} is gone; it was followed to block {lost.height}")
    say(f"  now its nodes serve chain {reset.network.chain_id}, genesis {reset.genesis_hash}, head {reset.head_height}")
    say("This would be done:")
    for one in outlook.deposits:
        act = {"pending": "voided", "credited": "taken back", "final": "taken back"}.get(one.state, "marked as gone")
        say(f"  {one.count} deposits {one.state}, {_amount(one, assets)}: {act}; what is spent becomes a receivable")
    for one in outlook.withdrawals:
        act = "stay: paid on the lost chain" if one.state == "final" else "cancelled, their holds released"
        say(f"  {one.count} withdrawals {one.state}, {_amount(one, assets)}: {act}")
    say(f"  {outlook.inflows} inflows to the house: reversed, out of suspense")
    say("  what custody shows after that: to suspense, for the treasurer. Custody shows now:")
    _show_left(outlook.custody, assets)


def _show_done(done: "Done", network: str, settings: Settings, assets: "Mapping[str, Asset]") -> None:
    say(f"{network} is re-anchored: {done.deposits} deposits taken back, {done.withdrawals} withdrawals given up,")
    say(f"  {done.inflows} inflows reversed. From custody to suspense:")
    _show_left(done.to_suspense, assets)
    (named,) = (one for one in settings.networks if one.name == network)
    say("What to do now:")
    say("  the treasurer assigns what stands in suspense, be it below zero: /v1/treasury/trial-balance, /adjustments")
    say(f"  a policy that names chain {named.chain_id}, accepted by the signer: docs/local-chain.md")
    say("  end `onebook up` and start it again")


def _show_left(left: "Sequence[Left]", assets: "Mapping[str, Asset]") -> None:
    from ledger.money import format_amount

    for one in left:
        say(f"    {one.account:36} {format_amount(one.held, assets[one.asset])}")
    if not left:
        say("    nothing")


def _amount(one: "Standing", assets: "Mapping[str, Asset]") -> str:
    from ledger.money import format_amount

    return (
        "of a token nobody named"
        if one.asset is None
        else f"{format_amount(one.amount, assets[one.asset])} {one.asset}"
    )


def _outlook_json(outlook: "Outlook") -> dict[str, Any]:
    reset = outlook.reset
    return {
        "network": reset.network.name,
        "begun": reset.begun,
        "lost": {"chain_id": reset.lost.chain_id, "genesis_hash": reset.lost.genesis_hash, "height": reset.lost.height},
        "found": {"chain_id": reset.network.chain_id, "genesis_hash": reset.genesis_hash, "head": reset.head_height},
        "deposits": [_standing_json(one) for one in outlook.deposits],
        "withdrawals": [_standing_json(one) for one in outlook.withdrawals],
        "inflows": outlook.inflows,
        "custody": _left_json(outlook.custody),
    }


def _done_json(done: "Done") -> dict[str, Any]:
    counted = {"withdrawals": done.withdrawals, "deposits": done.deposits, "inflows": done.inflows}
    return {**counted, "to_suspense": _left_json(done.to_suspense)}


def _standing_json(one: "Standing") -> dict[str, Any]:
    return {"state": one.state, "asset": one.asset, "count": one.count, "units": str(one.amount)}


def _left_json(left: "Sequence[Left]") -> list[dict[str, Any]]:
    return [{"account": one.account, "units": str(one.held)} for one in left]
