"""`onebook solvency`: lists of what is owed to users, kept as epochs; their roots, and each user's proof."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.errors import ConfigError
from base.files import write_atomically
from base.progress import Progress
from cli.output import say, show_json, show_table
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from treasury.solvency_epochs import Epoch

app = typer.Typer(
    help="What is owed to users, provable to each: new, show, proof.", no_args_is_help=True, rich_markup_mode=None
)

Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Number = Annotated[int | None, typer.Option("--epoch", help="An epoch's number; else the latest.", min=1)]


@app.callback()
def solvency() -> None:
    """What is owed to users, provable to each: new, show, proof."""


@app.command()
def new(config: Config = None, json: Json = False) -> None:
    """List what is owed to every user now, as the book's next epoch. Publish its roots where everybody sees them.

    Example: onebook solvency new --json
    """
    _show(asyncio.run(_make(with_database(load_settings(find_config(config))))), json=json)


@app.command()
def show(epoch: Number = None, config: Config = None, json: Json = False) -> None:
    """Show an epoch's totals and roots, as they are to be published.

    Example: onebook solvency show --epoch 3
    """
    from treasury.solvency_epochs import read_epoch

    settings = load_settings(find_config(config))
    _show(read_epoch(settings.path(settings.solvency), settings.book, epoch), json=json)


@app.command()
def proof(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    asset: Annotated[str, typer.Argument(help="The asset's code.")],
    epoch: Number = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; else to standard output.")] = None,
    config: Config = None,
) -> None:
    """Write a user's proof that what they are owed is counted. It's for that user alone.

    Example: onebook solvency proof usr_01jd3v5m1n7hdctdvdrq57hz97 USDC --out usdc.proof.json
    """
    from treasury.solvency_epochs import prove, read_epoch

    settings = load_settings(find_config(config))
    folder = settings.path(settings.solvency)
    with _progress() as told:
        content = prove(folder, read_epoch(folder, settings.book, epoch), user, asset, told=told)
    if out is None:
        sys.stdout.write(content.decode() + "\n")
        return
    try:
        write_atomically(out, content + b"\n")
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}") from error
    say(f"{out}: check it with `onebook verify solvency {out} --user {user} --root ROOT`")


async def _make(settings: Settings) -> Epoch:
    from base.entropy import SystemEntropy
    from treasury.solvency_epochs import make_epoch
    from wiring.assemble import open_parts

    folder = settings.path(settings.solvency)
    async with open_parts(settings, name="onebook solvency") as parts:
        with _progress() as told:
            return await make_epoch(parts.engine, settings.book, folder, entropy=SystemEntropy(), told=told)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], object]]:
    """A bar for each list, one after the other."""
    with Progress() as progress, ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}

        def told(asset: str, step: int, total: int) -> None:
            if asset not in bars:
                bars[asset] = stack.enter_context(progress.bar(f"hashing what is owed in {asset}", total))
            bars[asset](step)

        yield told


def _show(epoch: Epoch, *, json: bool) -> None:
    if json:
        show_json(epoch.document())
        return
    say(f"epoch {epoch.book}/{epoch.number}: what was owed at seq {epoch.seq}, booked {epoch.booked_at.isoformat()}")
    rows = [(one.asset, one.users, one.total, one.receivable, one.root.hex()) for one in epoch.lists]
    show_table("In smallest units", ("asset", "users", "owed", "owed to us", "root"), rows, right=(1, 2, 3))
    say("publish the roots where everybody sees the same; whether anything is held to pay with isn't shown here")
