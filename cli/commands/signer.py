"""`onebook signer`: run it, ask how it is, and what people say about the signer itself: freeze, lift, the time."""

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from cli.asking import PassphraseFd, ask_passphrase
from cli.commands.signer_audit import audit
from cli.commands.signer_resync import resync
from cli.options import Json
from cli.output import say, show_json
from cli.policies import policy_path, read_policy, settings_if_any
from cli.signer_people import People, asked, client_of, say_together
from custody.approvals import Signature, freeze_statement, lift_statement, time_statement
from custody.client import SignerClient, SignerStatus
from custody.derivation import checksummed
from custody.intents import NATIVE
from custody.passphrases import PASSPHRASE_ENV
from wiring.settings import Settings, find_config, load_settings

app = typer.Typer(help="The process that holds the keys.", no_args_is_help=True, rich_markup_mode=None)
app.command("resync")(resync)
app.command("audit")(audit)

Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml, if any.")
]
Network = Annotated[int | None, typer.Option("--network", help="A network, by its chain id; else everything.")]
Asset = Annotated[
    str | None, typer.Option("--asset", help="An asset on it: native, a contract, or its name in the policy.")
]
Socket = Annotated[Path | None, typer.Option("--socket", help="The signer's socket; else the configured one.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Your copy of the policy; else the configured one.")]
Key = Annotated[Path | None, typer.Option("--key", help="Your approver key.")]
With = Annotated[
    list[Path] | None, typer.Option("--with", help="Another's signature, from --sign-only; may be repeated.")
]
SignOnly = Annotated[bool, typer.Option("--sign-only", help="Sign into --out, for another to send.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where --sign-only writes the signature.")]
Serial = Annotated[
    str | None,
    typer.Option("--serial", help="The signer's serial (`onebook signer status`), for --sign-only elsewhere."),
]

_CONTRACT = re.compile(r"0x[0-9a-fA-F]{40}")


@app.callback()
def signer() -> None:
    """The process that holds the keys."""


@app.command("run")
def run(
    config: Config = None,
    allow_uid: Annotated[list[int] | None, typer.Option(help="Another user's id that may ask for signatures.")] = None,
) -> None:
    """Run the signer alone, in this process. The passphrase: a systemd credential, else asked at the terminal.

    Keys in a PKCS#11 token are opened where the configuration names one; its PIN comes in the same ways.

    Example: onebook signer run --config wallet/onebook.toml --allow-uid 998
    """
    settings = load_settings(find_config(config))
    passphrase_from: list[str] = []
    if not os.environ.get("CREDENTIALS_DIRECTORY"):
        reading, writing = os.pipe()
        os.write(writing, ask_passphrase(confirm=False, token=settings.pkcs11_token))
        os.close(writing)
        os.set_inheritable(reading, True)
        passphrase_from = ["--passphrase-fd", str(reading)]
    socket = settings.path(settings.signer_socket)
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.pop(PASSPHRASE_ENV, None)
    arguments = [
        *("--socket", str(socket), "--keys", str(settings.path(settings.keys))),
        *("--policy", str(settings.path(settings.policy)), "--journal", str(settings.path(settings.journal))),
    ]
    if settings.pkcs11 is not None:
        module, token = settings.pkcs11
        arguments += ["--pkcs11-module", str(module), "--pkcs11-token", token]
    for uid in allow_uid or []:
        arguments += ["--allow-uid", str(uid)]
    command = [sys.executable, "-m", "custody.signer", *arguments, *passphrase_from]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and module


@app.command()
def status(socket: Socket = None, config: Config = None, json: Json = False) -> None:
    """Say how the signer is: frozen, clock, policy, people, serial, journal. Exit code 3 if it doesn't answer.

    Example: onebook signer status --json
    """
    found = asked(client_of(socket, settings_if_any(config)), SignerClient.status)
    if json:
        show_json(_document(found))
    else:
        _show(found)


@app.command()
def freeze(
    network: Network = None,
    asset: Asset = None,
    key: Key = None,
    with_: With = None,
    sign_only: SignOnly = False,
    out: Out = None,
    serial: Serial = None,
    socket: Socket = None,
    policy: PolicyFile = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Stop signing at once: everything, a network, or an asset on it. One approver is enough. It outlives a restart.

    Example: onebook signer freeze --network 1 --asset USDC --key ada.approver
    """
    people = _people(key, with_, sign_only, out, policy, passphrase_fd, config)
    named = _asset(asset, network, policy, people.settings)

    async def send(client: SignerClient, at: str, by: Sequence[Signature]) -> None:
        await client.freeze(chain_id=network, asset=named, serial=at, by=by[0])

    def statement(at: str) -> bytes:
        return freeze_statement(serial=at, chain_id=network, asset=named)

    if say_together(people, serial=serial, socket=socket, statement=statement, send=send):
        say(f"frozen: {_spell(network, named)}; the people lift it with `onebook signer lift`")


@app.command()
def lift(
    network: Network = None,
    asset: Asset = None,
    key: Key = None,
    with_: With = None,
    sign_only: SignOnly = False,
    out: Out = None,
    serial: Serial = None,
    socket: Socket = None,
    policy: PolicyFile = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Take a freeze back, by as many signatures as change the policy: one sends those that the others wrote to files.

    Example: onebook signer lift --network 1 --key ada.approver --with ben.signature
    """
    people = _people(key, with_, sign_only, out, policy, passphrase_fd, config)
    named = _asset(asset, network, policy, people.settings)

    async def send(client: SignerClient, at: str, by: Sequence[Signature]) -> None:
        await client.lift(chain_id=network, asset=named, serial=at, by=by)

    def statement(at: str) -> bytes:
        return lift_statement(serial=at, chain_id=network, asset=named)

    if say_together(people, serial=serial, socket=socket, statement=statement, send=send):
        say(f"lifted: {_spell(network, named)}")


@app.command("confirm-time")
def confirm_time(
    time: Annotated[
        datetime | None,
        typer.Option(
            "--time",
            formats=["%Y-%m-%dT%H:%M:%SZ"],
            help="When it will be sent, agreed among you, as 2026-11-22T12:00:00Z; else now.",
        ),
    ] = None,
    key: Key = None,
    with_: With = None,
    sign_only: SignOnly = False,
    out: Out = None,
    serial: Serial = None,
    socket: Socket = None,
    policy: PolicyFile = None,
    passphrase_fd: PassphraseFd = None,
    config: Config = None,
) -> None:
    """Confirm what time it is, by as many signatures as change the policy: after a reboot, or when clocks disagreed.

    It must be sent within 60 s of that time by the signer's own clock, which is believed from then on.

    Example: onebook signer confirm-time --time 2026-11-22T12:00:00Z --key ada.approver --with ben.signature
    """
    seconds = int((datetime.now(UTC) if time is None else time.replace(tzinfo=UTC)).timestamp())
    people = _people(key, with_, sign_only, out, policy, passphrase_fd, config)

    async def send(client: SignerClient, at: str, by: Sequence[Signature]) -> None:
        await client.confirm_time(seconds=seconds, serial=at, by=by)

    def statement(at: str) -> bytes:
        return time_statement(serial=at, seconds=seconds)

    if say_together(people, serial=serial, socket=socket, statement=statement, send=send):
        say(f"confirmed: {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC")


def _people(
    key: Path | None,
    others: list[Path] | None,
    sign_only: bool,
    out: Path | None,
    policy: Path | None,
    passphrase_fd: int | None,
    config: Path | None,
) -> People:
    if sign_only != (out is not None):
        raise ConfigError("--sign-only and --out go together: your signature goes there, for another to send")
    return People(
        key=key,
        others=others or [],
        out=out,
        policy=policy,
        passphrase_fd=passphrase_fd,
        settings=settings_if_any(config),
    )


def _asset(asset: str | None, network: int | None, policy: Path | None, settings: Settings | None) -> str | None:
    """An asset as the signer names it. Raises ConfigError."""
    if asset is None or asset == NATIVE:
        found = asset
    elif _CONTRACT.fullmatch(asset):
        contract = bytes.fromhex(asset[2:])
        if asset not in (asset.lower(), checksummed(contract)):
            raise ConfigError(f"{asset} has a wrong EIP-55 checksum: a character is mistyped")
        found = asset.lower()
    else:
        labels = read_policy(policy_path(policy, settings, option="--policy")).labels
        places = [
            one.place for one in labels if (one.chain_id, one.name) == (network, asset) and one.decimals is not None
        ]
        if not places:
            raise ConfigError(f"the policy names no asset {asset!r} on network {network}: give its contract, or native")
        found = places[0]
    if found is not None and network is None:
        raise ConfigError("an asset is frozen on a network: give --network")
    return found


def _spell(network: int | None, asset: str | None) -> str:
    if network is None:
        return "everything"
    return f"network {network}" + (f", asset {asset}" if asset else "")


def _document(found: SignerStatus) -> dict[str, object]:
    return {
        "policy_version": found.policy_version,
        "policy": found.policy_fingerprint.hex(),
        "networks": list(found.networks),
        "people": list(found.people),
        "threshold": found.threshold,
        "serial": found.serial,
        "frozen": [{"chain_id": chain_id, "asset": asset} for chain_id, asset in found.frozen],
        "halted": found.halted,
        "clock": found.clock,
        "journal": {"sequence": found.sequence, "head": found.head.hex()},
        "keys": {name: mark.hex() for name, mark in found.fingerprints.items()},
        "contracts": [
            {"name": name, "chain_id": chain_id, "address": None if address is None else checksummed(address)}
            for name, chain_id, address in found.contracts
        ],
    }


def _show(found: SignerStatus) -> None:
    frozen = ", ".join(_spell(chain_id, asset) for chain_id, asset in found.frozen)
    people = ", ".join(found.people)
    say(f"frozen     {frozen or 'nothing'}")
    say(f"clock      {f'not trusted ({found.clock}): nothing is signed' if found.clock else 'trusted'}")
    if found.halted:
        say("journal    behind what a client has seen: nothing is signed until `onebook signer resync`")
    say(f"journal    row {found.sequence}, {found.head.hex()}")
    say(f"policy     version {found.policy_version}, {found.policy_fingerprint.hex()}")
    say(f"people     {people or 'none'}" + (f"; {found.threshold} of them change it" if people else ""))
    say(f"serial     {found.serial}")
    say(f"networks   {', '.join(map(str, found.networks))}")
    for keys, mark in found.fingerprints.items():
        say(f"{keys:10} {mark.hex()}")
    for name, chain_id, address in found.contracts:
        say(f"contract   {name} on network {chain_id} at {'?' if address is None else checksummed(address)}")
