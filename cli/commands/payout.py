"""`onebook payout`: the contract that pays many withdrawals in one transaction."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Config, Json
from cli.output import Exit, say, show_json
from wiring.running import with_database
from wiring.settings import find_config, load_settings

if TYPE_CHECKING:
    from wiring.payouts import Standing

app = typer.Typer(
    help="The contract that pays many withdrawals in one transaction: deploy, status.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Network = Annotated[str, typer.Argument(help="Which network, by its name in onebook.toml.")]


@app.command()
def deploy(network: Network, config: Config = None, json: Json = False) -> None:
    """Have the contract created by the key and with the nonce that the policy names; the worker carries it out.

    Asked again, it's the same transaction. Exit code 2 where policy and nonce don't fit: nothing is done then.

    Example: onebook payout deploy local
    """
    found = asyncio.run(_run(network, config, deploys=True))
    if json:
        show_json(_as_json(network, found))
        return
    _show(network, found)
    if not found.stands:
        say("It's used once its code stands at a final block; `onebook payout status` tells.")


@app.command()
def status(network: Network, config: Config = None, json: Json = False) -> None:
    """Say where the contract is, whether its code stands there at a final block, and how batches go by it.

    Exit code 1 while it doesn't stand, 3 if no node tells.

    Example: onebook payout status local --json
    """
    found = asyncio.run(_run(network, config, deploys=False))
    if json:
        show_json(_as_json(network, found))
    else:
        _show(network, found)
    if found.stands is None:
        raise typer.Exit(Exit.UNAVAILABLE)
    if not found.stands:
        raise typer.Exit(Exit.DISAGREES)


async def _run(network: str, config: Path | None, *, deploys: bool) -> "Standing":
    from wiring.parts import open_parts
    from wiring.wallet import build_payouts  # here: they need all of the service

    settings = with_database(load_settings(find_config(config)))
    async with open_parts(settings, name="onebook payout") as parts:
        payouts = build_payouts(parts, network)
        if deploys:
            await payouts.deploy()
        return await payouts.standing()


def _show(network: str, found: "Standing") -> None:
    from chain.evm.addresses import show_address

    contract, own = found.contract, found.transaction
    say(f"network      {network}")
    say(f"contract     {show_address(contract.address)}")
    say(f"created by   {contract.deployer} ({show_address(found.deployer)}), nonce {contract.nonce}")
    if own is None and found.refusal is not None:
        say(f"transaction  the signer refused it: {found.refusal}")
    elif own is None:
        say(f"transaction  none was asked for: onebook payout deploy {network}")
    else:
        lacks = f", waits for {own.waiting_for}: {own.refusal}" if own.waiting_for else ""
        say(f"transaction  {own.id}, {own.state}{lacks or (f': {own.refusal}' if own.refusal else '')}")
    if found.stands is None:
        say(f"code         can't be told now: {found.problem}")
    else:
        words = "stands there" if found.stands else "isn't there"
        say(f"code         {words} at the last final block")
    if found.terms is None:
        say("batches      off: [[payouts]] in onebook.toml (docs/batches.md)")
    else:
        terms = found.terms
        seconds = int(terms.wait.total_seconds())
        say(f"batches      {terms.legs_min} to {terms.legs_max} legs, which wait {seconds} s at most")
    for state, count in sorted(found.batches.items()):
        say(f"  {state:10} {count}")


def _as_json(network: str, found: "Standing") -> dict[str, Any]:
    contract, own, terms = found.contract, found.transaction, found.terms
    return {
        "network": network,
        "contract": contract.address,
        "deployer": {"key": str(contract.deployer), "address": found.deployer, "nonce": contract.nonce},
        "transaction": None
        if own is None
        else {
            "id": own.id,
            "state": own.state.value,
            "nonce": own.nonce,
            "waiting_for": own.waiting_for,
            "reason": own.refusal,
            "tx_hash": own.mined.tx_hash if own.mined else None,
        },
        "refusal": found.refusal,
        "stands": found.stands,
        "problem": found.problem,
        "terms": None
        if terms is None
        else {
            "legs_min": terms.legs_min,
            "legs_max": terms.legs_max,
            "wait_seconds": int(terms.wait.total_seconds()),
        },
        "batches": found.batches,
    }
