"""`onebook recover`: rebuilds, from the signer's journal, what a database that was put back has forgotten."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from base.progress import Progress
from cli.output import Exit, fail, say, show_json, show_table
from wiring.running import with_database
from wiring.settings import find_config, load_settings

if TYPE_CHECKING:
    from ledger.money import Asset
    from wiring.recovery_items import Done, Item, Outlook

LISTED_MAX = 20
"""Waiting withdrawals that are named; `--json` has them all."""


def recover(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done: the default.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    leave: Annotated[
        list[str] | None,
        typer.Option("--leave", help="A subject that's listed as by hand and that you see to; may be repeated."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Rebuild every withdrawal, hold and idempotency key that the signer's journal knows and this database doesn't.

    For a database that was put back from a backup: nothing moves until this has run. The signer must run; worker and
    API may. Killed in between, run it again: it goes on. Exit code 1 while something is missing.

    Example: onebook recover --yes
    """
    if dry_run and yes:
        fail("--dry-run only looks, --yes does it: give one of them", Exit.USAGE)
    asyncio.run(_recover(yes=yes, leave=tuple(leave or ()), config=config, json=json))


async def _recover(*, yes: bool, leave: tuple[str, ...], config: Path | None, json: bool) -> None:
    from cli.signer_people import client_of
    from wiring.parts import open_parts
    from wiring.recovery import open_recovering

    settings = with_database(load_settings(find_config(config)))
    if not settings.networks:
        fail("no network is configured, so nothing was ever signed: there is nothing to recover from", Exit.USAGE)
    client = client_of(None, settings)
    try:
        async with (
            open_parts(settings, name="onebook recover") as parts,
            open_recovering(parts, client) as recovering,
        ):
            with Progress() as progress:
                outlook = await recovering.outlook(progress)
            assets = await parts.ledger.assets()
            if not json:
                _show(outlook, assets)
            done = None
            if yes and outlook.is_needed:
                with Progress() as progress:
                    done = await recovering.run(progress, leave=leave)
    finally:
        await client.close()
    if json:
        show_json({"outlook": _outlook_json(outlook), "done": None if done is None else _done_json(done)})
    elif done is not None:
        _show_done(done)
    elif outlook.is_needed:
        say("Nothing was done. `onebook recover --yes` does it.")
    if done.left if done is not None else outlook.is_needed:
        raise typer.Exit(Exit.DISAGREES)


def _show(outlook: "Outlook", assets: "Mapping[str, Asset]") -> None:
    say(f"{outlook.rows} rows of the signer's journal were read.")
    if not outlook.is_needed:
        say("All that was signed is known here: there is nothing to recover.")
        return
    why = "something is missing" if outlook.halt is None else outlook.halt.why
    say(f"Nothing moves: {why}.")
    if outlook.items:
        columns = ("subject", "what", "owner", "amount", "of a debt", "to", "nonce", "attempts", "transaction")
        show_table("What was signed and isn't known here:", columns, [_cells(one, assets) for one in outlook.items])
    else:
        say("All that was signed is known here; that only has to be written down.")
    for one in outlook.items:
        if one.note is not None:
            say(f"  {one.subject}: {one.note}")
    _name("The signer refused meanwhile, and they'll be refused again", outlook.refused)
    _name("Withdrawals of the backup that a batch may have paid, and that a person must end", outlook.in_batches)
    _name("Withdrawals of the backup that nothing was signed for, and that go on afterwards", outlook.waiting)


def _cells(item: "Item", assets: "Mapping[str, Asset]") -> tuple[str, ...]:
    from ledger.money import format_amount

    def money(units: int | None) -> str:
        if not units or item.asset is None:
            return ""
        return f"{format_amount(units, assets[item.asset])} {item.asset}"

    what = item.part.value.replace("_", " ")
    sent = (item.tx_hash or "")[:18]
    place = f"{item.nonce} of {item.sender}"
    return (
        *(item.subject, what, item.owner or "", money(item.amount), money(item.shortage), item.to or ""),
        *(place, str(item.attempts), sent),
    )


def _name(what: str, subjects: Sequence[str]) -> None:
    if subjects:
        more = f" and {len(subjects) - LISTED_MAX} more" if len(subjects) > LISTED_MAX else ""
        say(f"{what}: {', '.join(subjects[:LISTED_MAX])}{more}")


def _show_done(done: "Done") -> None:
    made = done.transactions
    say(
        f"Rebuilt: {done.withdrawals} withdrawals, {made.transactions} transactions, {made.attempts} attempts;"
        f" {made.refused} refusals written down, {made.moved} reservations got other nonces; {done.booked} blocks,"
        " deposits and inflows were taken in."
    )
    if not done.left:
        say("All that was signed is known here: the service goes on by itself. Compare: `onebook reconcile`")
        return
    say("These are left to a person, and nothing moves until they are seen to (docs/recover.md, By hand):")
    for one in done.left:
        say(f"  {one.subject}: {one.note}")
    say("When they are: onebook recover --yes " + " ".join(f"--leave {one.subject}" for one in done.left))


def _outlook_json(outlook: "Outlook") -> dict[str, Any]:
    return {
        "needed": outlook.is_needed,
        "why": None if outlook.halt is None else outlook.halt.why,
        "since": None if outlook.halt is None or outlook.halt.since is None else outlook.halt.since.isoformat(),
        "rows": outlook.rows,
        "items": [_item_json(one) for one in outlook.items],
        "refused": list(outlook.refused),
        "in_batches": list(outlook.in_batches),
        "waiting": list(outlook.waiting),
    }


def _done_json(done: "Done") -> dict[str, Any]:
    made = done.transactions
    return {
        "withdrawals": done.withdrawals,
        "transactions": made.transactions,
        "attempts": made.attempts,
        "refused": made.refused,
        "moved": made.moved,
        "left": [_item_json(one) for one in done.left],
    }


def _item_json(item: "Item") -> dict[str, Any]:
    return {
        "subject": item.subject,
        "batch": item.batch,
        "part": item.part.value,
        "kind": item.kind,
        "network": item.network,
        "chain_id": item.chain_id,
        "sender": item.sender,
        "nonce": item.nonce,
        "attempts": item.attempts,
        "row": item.row,
        "tx_hash": item.tx_hash,
        "raw": None if item.raw is None else "0x" + item.raw.hex(),
        "owner": item.owner,
        "asset": item.asset,
        "units": None if item.amount is None else str(item.amount),
        "to": item.to,
        "shortage_units": str(item.shortage),
        "note": item.note,
    }
