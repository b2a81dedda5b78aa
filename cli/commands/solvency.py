"""`onebook solvency`: epochs of what is owed to users and held for them; what is published, and each user's proof."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.errors import ConfigError, Unavailable
from base.files import write_atomically
from base.progress import Progress
from chain.evm.addresses import parse_address
from cli.options import Config
from cli.output import say, show_table
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from treasury.anchor_states import Anchored
    from treasury.solvency_epochs import Epochs, KnownEpoch
    from treasury.solvency_handed import ToSign
    from treasury.solvency_statements import ControlTold

app = typer.Typer(
    help="What is owed to users and held for them, provable to each: new, show, proof, anchor, control.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document: what everybody may see.")]
Number = Annotated[int | None, typer.Option("--epoch", help="An epoch's number; else the latest.", min=1)]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write it; else to standard output.")]


@app.callback()
def solvency() -> None:
    """What is owed to users and held for them, provable to each: new, show, proof, anchor, control."""


@app.command()
def new(
    wait: Annotated[
        int, typer.Option("--wait", help="Seconds to wait for signatures, the seal and the chain.", min=0, max=86_400)
    ] = 0,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what is owed to every user and held for them now, as the book's next epoch. Its hash is stated in the book.

    Addresses sign it, a seal covers it, and it's written on a chain where that is set, by the worker's next steps; with
    --wait they're waited for, exit code 3 if that takes longer. Exit code 1 while a chain isn't settled, 3 where nodes
    don't tell what is held: then nothing is kept.

    Example: onebook solvency new --wait 900
    """
    made, lacks = asyncio.run(_make(_settings(config), wait))
    _show(made, json=json)
    if wait and lacks:
        raise Unavailable(f"epoch {made.statement.epoch} is made; after {wait} s it still {'; '.join(lacks)}")


@app.command()
def show(epoch: Number = None, config: Config = None, json: Json = False) -> None:
    """Show an epoch as everybody may see it: totals, coverage, reserves, who signed, and the seal.

    Example: onebook solvency show --epoch 3
    """
    _show(asyncio.run(_read(_settings(config), epoch)), json=json)


@app.command()
def proof(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    asset: Annotated[str | None, typer.Argument(help="The asset's code; else all, with their epoch.")] = None,
    epoch: Number = None,
    out: Out = None,
    config: Config = None,
) -> None:
    """Write a user's proof that what they are owed is counted. It's for that user alone.

    Example: onebook solvency proof usr_01jd3v5m1n7hdctdvdrq57hz97 USDC --out usdc.proof.json
    """
    content = asyncio.run(_prove(_settings(config), user, asset, epoch))
    if out is None:
        sys.stdout.write(content.decode() + "\n")
        return
    try:
        write_atomically(out, content + b"\n")
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}") from error
    say(f"{out}: check it with `onebook verify solvency {out} --user {user} --root ROOT`")


@app.command()
def anchor(
    epoch: Annotated[int | None, typer.Argument(help="The epoch's number; else the latest sealed one.", min=1)] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Have an epoch's hash written on the chain that [solvency] anchor names. The worker carries it out.

    It's asked for once: exit code 1 where it's written already, is being written, or can't be now. What the signer
    refused, and what failed on chain, may be asked for again.

    Example: onebook solvency anchor 7
    """
    _show(asyncio.run(_anchor(_settings(config), epoch)), json=json)


@app.command()
def control(
    network: Annotated[str, typer.Argument(help="The network's name.")],
    address: Annotated[str, typer.Argument(help="A cold address that the epoch names.")],
    epoch: Number = None,
    signature: Annotated[
        str | None,
        typer.Option(
            "--signature", help="0x and hex digits, or a file with them; without it, the text to sign is told."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Tell what a cold address is to sign for an epoch; or take its signature, made elsewhere, and keep it if it's so.

    A wallet's personal_sign (EIP-191) of exactly the line that is printed. A contract wallet, such as a Safe, is asked
    at a final block (ERC-1271). Exit code 1 where the signature isn't the address's: nothing is kept then.

    Example: onebook solvency control ethereum 0x1d... --signature signed.txt
    """
    told = None if signature is None else _signature(signature)
    settings, place = _settings(config), parse_address(address)
    to_sign, kept = asyncio.run(_control(settings, network, place, epoch, told))
    if kept is None:
        say(to_sign.text)
        typer.echo(f"its EIP-191 hash, as contract wallets are asked: 0x{to_sign.digest.hex()}", err=True)
    elif kept.kind == "key":
        say(f"kept: the key of {kept.address} signed it")
    else:
        say(f"kept: the contract {kept.address} took it as its own at block {kept.block_number}")


def _signature(told: str) -> bytes:
    """The bytes, given themselves or in a file. Raises ConfigError."""
    text = told
    if not told.startswith("0x"):
        try:
            text = Path(told).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--signature: {told} can't be read: {error}") from error
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise ConfigError("--signature: it isn't 0x and hex digits") from error


async def _control(
    settings: Settings, network: str, address: str, number: int | None, signature: bytes | None
) -> tuple[ToSign, ControlTold | None]:
    from wiring.parts import open_parts
    from wiring.solvency import build_handed_controls  # here: they need all of the service
    from wiring.treasury import build_command_epochs

    async with open_parts(settings, name="onebook solvency") as parts:
        handed = build_handed_controls(parts, build_command_epochs(parts))
        if signature is None:
            _, to_sign = await handed.wanted(network, address, number)
            return to_sign, None
        epoch, to_sign = await handed.wanted(network, address, number)
        return to_sign, await handed.hand_in(network, address, signature, epoch.row.number)


def _settings(config: Path | None) -> Settings:
    return with_database(load_settings(find_config(config)))


async def _make(settings: Settings, wait: int) -> tuple[KnownEpoch, tuple[str, ...]]:
    """The epoch, and what it still lacks after so many seconds."""
    from cli.solvency_waiting import lacking, wait_for

    async with _epochs(settings) as epochs:
        with _progress() as (progress, told):
            epoch = await epochs.make(told=told)
            is_anchored = settings.solvency.anchor is not None
            if wait:
                epoch = await wait_for(epochs, epoch, progress, seconds=wait, is_anchored=is_anchored)
    return epoch, lacking(epoch, is_anchored=is_anchored)


async def _read(settings: Settings, number: int | None) -> KnownEpoch:
    async with _epochs(settings) as epochs:
        return await epochs.epoch(number)


async def _prove(settings: Settings, user: str, asset: str | None, number: int | None) -> bytes:
    from treasury.solvency_reading import write_bundle

    async with _epochs(settings) as epochs:
        known = await epochs.epoch(number)
        if asset is not None:
            return epochs.prove(known, user, asset)
        at = settings.solvency.published_at
        return write_bundle(epochs.prove_all(known, user), known.published, published_at=at)


async def _anchor(settings: Settings, number: int | None) -> KnownEpoch:
    from wiring.parts import open_parts
    from wiring.solvency import build_anchors  # here: they need all of the service
    from wiring.treasury import build_command_epochs

    async with open_parts(settings, name="onebook solvency") as parts:
        asked = await build_anchors(parts).ask(number)
        return await build_command_epochs(parts).epoch(asked)


@asynccontextmanager
async def _epochs(settings: Settings) -> AsyncIterator[Epochs]:
    from wiring.parts import open_parts
    from wiring.treasury import build_command_epochs  # here: they need all of the service

    async with open_parts(settings, name="onebook solvency") as parts:
        yield build_command_epochs(parts)


@contextmanager
def _progress() -> Iterator[tuple[Progress, Callable[[str, int, int], object]]]:
    """A bar for each part, one after the other: it's there as soon as the part begins."""
    with Progress() as progress, ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}

        def told(what: str, step: int, total: int) -> None:
            if what not in bars:
                bars[what] = stack.enter_context(progress.bar(what, total))
            bars[what](step)

        yield progress, told


def _show(epoch: KnownEpoch, *, json: bool) -> None:
    from treasury.solvency_reading import place_of, standing_of

    if json:
        sys.stdout.write(epoch.published.document().decode() + "\n")
        return
    statement, published = epoch.statement, epoch.published
    say(f"epoch {statement.epoch}: what was owed at seq {statement.seq}, booked {statement.booked_at}")
    say(f"hash  {epoch.row.digest}: publish it where everybody sees the same")
    rows = [(one.asset, one.users, one.total, one.root) for one in statement.lists]
    show_table("Owed, in smallest units", ("asset", "users", "owed", "root"), rows, right=(1, 2))
    covered = [
        (one.asset, one.owed, one.held, one.ratio or "-", one.receivable, one.in_transit, one.unassigned)
        for one in statement.coverage
    ]
    show_table(
        "Coverage",
        ("asset", "owed", "held", "ratio", "owed to us", "in transit", "unassigned"),
        covered,
        right=(1, 2, 3, 4, 5, 6),
    )
    reserves = [(one.asset, one.amount, standing_of(one, published).value, place_of(one)) for one in statement.reserves]
    show_table("Reserves", ("asset", "amount", "how it's shown", "where"), reserves, right=(1,))
    for block in statement.networks:
        say(f"{block.network}: balances at block {block.block_number} {block.block_hash}, by {block.nodes} node(s)")
    for control in epoch.controls:
        if control.refusal is not None:
            say(f"{control.owner.address} on {control.network} didn't sign: {control.refusal}")
    if epoch.row.controls_at is None:
        say("addresses haven't all been asked to sign yet: the worker does that, with the signer")
    say("no seal covers it yet" if published.seal is None else "a seal of the book covers it")
    if epoch.anchor is not None:
        _show_anchor(epoch.anchor)


def _show_anchor(anchor: Anchored) -> None:
    at, lacks = anchor.mined, "" if anchor.waiting_for is None else f", waits for {anchor.waiting_for}"
    where = "" if at is None else f" by {at.tx_hash} in block {at.block_number}"
    why = "" if anchor.reason is None else f": {anchor.reason}"
    say(f"its hash on {anchor.network}: {anchor.state}{where}{lacks}{why}")
