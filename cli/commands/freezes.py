"""`onebook freeze`, `unfreeze`, `freezes`: what people may not do now, over the API; and what the signer won't sign."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from base.errors import OnebookError
from cli.api_client import api_client, get, post
from cli.options import Api, Config, Json
from cli.output import say, show_json, show_table
from cli.policies import settings_if_any
from wiring.settings import Settings


def freeze(
    scope: Annotated[str, typer.Argument(help="account, owner, asset, or network.")],
    target: Annotated[
        str, typer.Argument(help="An account's name, a user, an asset's code, a network, rail or bank account.")
    ],
    code: Annotated[
        str,
        typer.Option("--code", help="court_order, fraud_suspected, sanctions, user_request, incident, other."),
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; it stays.")],
    until: Annotated[str | None, typer.Option("--until", help="Lift it by itself then (RFC 3339).")] = None,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Stop what people intend with an account, user, asset or network. What the chain or a bank did is still
    booked. The key is taken from ONEBOOK_API_KEY. Exit code 1 if it's refused.

    Example: onebook freeze owner @alice --code court_order --reason "order 17/26" --until 2027-01-31T00:00:00Z
    """
    asked = {"scope": scope, "target": target, "reason_code": code, "reason": reason, "expires_at": until}
    with api_client(api, settings_if_any(config)) as client:
        made = post(client, "/v1/treasury/freezes", asked)
    _tell(made, "frozen", json=json)


def unfreeze(
    freeze: Annotated[str, typer.Argument(help="The freeze's id, frz_...: `onebook freezes` lists them.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; it stays.")],
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Lift a freeze: one of its target's reasons. What is frozen for others as well stays frozen until then.

    Exit code 1 if it's refused.

    Example: onebook unfreeze frz_01jd3v --reason "the court has withdrawn its order"
    """
    with api_client(api, settings_if_any(config)) as client:
        lifted = post(client, f"/v1/treasury/freezes/{quote(freeze, safe='')}/lift", {"reason": reason})
    _tell(lifted, "lifted", json=json)


def freezes(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    api: Api = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what is frozen, and why; the signer's freezes as well. At most a hundred; the signer where it can be asked.

    Example: onebook freezes --json
    """
    settings = settings_if_any(config)
    with api_client(api, settings) as client:
        found = get(client, f"/v1/treasury/freezes?limit=100{'&lifted=true' if everything else ''}")
    found["signer"] = _signer_freezes(settings)
    if json:
        show_json(found)
        return
    columns = ("id", "scope", "target", "reason_code", "reason", "set_by", "expires_at", "lifted_at")
    rows = [tuple(str(item[name] or "") for name in columns) for item in found["items"]]
    rows += [
        ("", one["scope"], one["target"], "", "no reason was given here", "", "", "") for one in found["unexplained"]
    ]
    if rows:
        show_table("Freezes", columns, rows)
    else:
        say("Nothing is frozen in the book.")
    if found["signer"] is None:
        say("The signer wasn't asked.")
    for one in found["signer"] or ():
        say(f"The signer: {one}; its approvers lift that (`onebook signer lift`).")


def _signer_freezes(settings: Settings | None) -> list[str] | None:
    """What its approvers have frozen; None where it can't be asked."""
    if settings is None:
        return None
    import asyncio

    from custody.client import SignerClient, SignerStatus

    async def ask() -> SignerStatus:
        client = SignerClient(settings.path(settings.signer_socket))
        try:
            return await client.status()
        finally:
            await client.close()

    try:
        told = asyncio.run(ask())
    except (OnebookError, OSError):
        return None
    return [
        "everything is frozen" if chain_id is None else f"chain {chain_id}{f', {asset}' if asset else ''} is frozen"
        for chain_id, asset in told.frozen
    ]


def _tell(freeze: dict[str, Any], done: str, *, json: bool) -> None:
    if json:
        show_json(freeze)
    else:
        say(f"{freeze['id']}: {freeze['scope']} {freeze['target']} {done}")
