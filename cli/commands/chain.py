"""`onebook chain`: the developer's own chain. Play money: its keys are known to everybody."""

import re
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from base.entropy import SystemEntropy
from base.errors import Rejected
from chain import local, local_blocks, local_prices
from chain.local import ChainRecord, LocalChain, NodeKind
from chain.local_snapshots import Snapshots
from cli.commands.reanchor import reanchor
from cli.options import Json
from cli.output import Exit, fail, say, show_json
from ledger.money import Asset, AssetKind, parse_amount

app = typer.Typer(
    help="The developer's local chain: up, mine, time, snapshot, reorg, faucet, price, scenario, status, reanchor.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
snapshots = typer.Typer(
    help="Snapshots of the local chain, by name: take, list, revert.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(snapshots, name="snapshot")
app.command()(reanchor)

NUMBERS = {"ignore_unknown_options": True}
"""So that -5 reaches us as a number, and is answered as one."""

MINE_MAX = 10_000
UNITS_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

DEEP = "whoever follows this chain sees a reorganisation down to block {height}: below what they call final they halt"

FOLDER = Path(".onebook/chain")
DEMO_FOLDER = Path(".onebook/demo/chain")
Folder = Annotated[Path, typer.Option("--folder", help="The chain's folder: its record and its log.")]
Url = Annotated[str | None, typer.Option("--url", help="The node, instead of the chain in the folder.")]


@app.command()
def up(
    kind: Annotated[NodeKind, typer.Option(help="Which node.")] = NodeKind.HARDHAT,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; the next free one if it's taken.")] = 8545,
    block_seconds: Annotated[
        int | None, typer.Option(help="A block every so often; none: one per transaction.")
    ] = None,
    folder: Folder = FOLDER,
    json: Json = False,
) -> None:
    """Start a fresh chain with its tokens and stay until Ctrl-C. It forgets everything when it ends.

    Example: onebook chain up --kind anvil --block-seconds 1
    """
    running = local.find_running(folder)
    if running is not None:
        fail(f"a chain runs already: {running.url} (chain id {running.chain_id})", Exit.USAGE)
    with LocalChain.start(kind, folder, port=port, block_seconds=block_seconds) as chain:
        _show(chain.record, json=json)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            chain.process.wait()
    say("the chain has ended; what was on it is gone")


@app.command(context_settings=NUMBERS)
def mine(
    blocks: Annotated[str, typer.Argument(help=f"How many, 1 to {MINE_MAX}.")] = "1",
    url: Url = None,
    folder: Folder = FOLDER,
) -> None:
    """Mine blocks at once.

    Example: onebook chain mine 6
    """
    wanted = _whole(blocks, "blocks")
    if not 1 <= wanted <= MINE_MAX:
        fail(f"1 to {MINE_MAX} blocks can be mined at once, not {wanted}", Exit.USAGE)
    height = local.mine(_url(url, folder), wanted)
    say(f"height {height}")


@app.command(context_settings=NUMBERS)
def time(
    when: Annotated[
        str | None,
        typer.Argument(help='"+90", "+15m", "+2h" or "+3d" from the head block on; an instant; or Unix seconds.'),
    ] = None,
    mined: Annotated[bool, typer.Option("--mine", help="Mine a block with it at once.")] = False,
    url: Url = None,
    folder: Folder = FOLDER,
) -> None:
    """Say the head block's time, or set the next block's: forward only. The blocks after it go on from there.

    Example: onebook chain time +3d --mine
    """
    node = _url(url, folder)
    if when is not None:
        at = _instant(when, local_blocks.head_time(node))
        local_blocks.set_next_time(node, at)
        if not mined:
            say(f"the next block's time is {_shown(at)}")
            return
    if mined:
        local.mine(node)
    say(f"height {local.height(node)}, time {_shown(local_blocks.head_time(node))}")


@snapshots.command()
def take(
    name: Annotated[str, typer.Argument(help="What to call it.")], url: Url = None, folder: Folder = FOLDER
) -> None:
    """Remember the whole chain as it is now, under a name.

    Example: onebook chain snapshot take before-the-deposit
    """
    taken = _snapshots(url, folder).take(name)
    say(f"snapshot {name} at height {taken.height}")


@snapshots.command("list")
def listed(url: Url = None, folder: Folder = FOLDER, json: Json = False) -> None:
    """List the snapshots, in the order in which they were taken.

    Example: onebook chain snapshot list
    """
    found = _snapshots(url, folder).listed()
    if json:
        show_json([{"name": name, "height": one.height, "block_hash": one.block_hash} for name, one in found.items()])
        return
    for name, one in found.items():
        say(f"{name:20} height {one.height}, block {one.block_hash}")
    if not found:
        say("there is no snapshot of this chain")


@snapshots.command()
def revert(
    name: Annotated[str, typer.Argument(help="Which snapshot.")], url: Url = None, folder: Folder = FOLDER
) -> None:
    """Go back to a snapshot: what was mined since never happened. Those taken after it are gone; it may be used again.

    Example: onebook chain snapshot revert before-the-deposit
    """
    taken = _snapshots(url, folder).revert(name)
    say(f"height {taken.height}, as at snapshot {name}")
    say(DEEP.format(height=taken.height))


@app.command(context_settings=NUMBERS)
def reorg(
    depth: Annotated[str, typer.Argument(help="How many of the last blocks.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Mine their transactions again; else the node forgets them.")
    ] = False,
    url: Url = None,
    folder: Folder = FOLDER,
    json: Json = False,
) -> None:
    """Replace the last blocks by as many of another branch. On Hardhat it takes a snapshot at the block that stays.

    Example: onebook chain reorg 3 --keep
    """
    done = _snapshots(url, folder).reorganise(_whole(depth, "depth"), keep=keep)
    if json:
        show_json({"height": done.height, "ancestor": done.ancestor, "kept": done.kept, "dropped": done.dropped})
        return
    say(f"blocks {done.ancestor + 1} to {done.ancestor + len(done.replaced)} are others now; height {done.height}")
    for word, hashes in (("kept", done.kept), ("dropped", done.dropped)):
        for tx_hash in hashes:
            say(f"  {word:8} {tx_hash}")


@app.command()
def faucet(
    address: Annotated[str, typer.Argument(help="Who gets it, with its EIP-55 checksum or all in lower case.")],
    amount: Annotated[str, typer.Argument(help='How much, such as "25" or "0.5".')],
    asset: Annotated[str, typer.Option(help="ETH, USDC or DAI.")] = "ETH",
    url: Url = None,
    folder: Folder = FOLDER,
) -> None:
    """Give play money to an address.

    Example: onebook chain faucet 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 25 --asset USDC
    """
    decimals = 18 if asset == "ETH" else (local.TOKENS[asset].decimals if asset in local.TOKENS else None)
    if decimals is None:
        fail(f"the local chain has no {asset}: it has ETH, {', '.join(local.TOKENS)}", Exit.USAGE)
    units = parse_amount(amount, Asset(asset, AssetKind.CRYPTO, decimals))
    tx_hash = local.faucet(_url(url, folder), address, units, asset)
    say(f"{amount} {asset} to {address} in {tx_hash}")


@app.command()
def price(
    pair: Annotated[str, typer.Argument(help='Of what in what, such as "ETH/USD".')],
    amount: Annotated[str, typer.Argument(help='What one whole is worth, such as "2500.50".')],
    feed: Annotated[str | None, typer.Option(help="The feed's contract; none: a new one is put on the chain.")] = None,
    url: Url = None,
    folder: Folder = FOLDER,
) -> None:
    """Have a price feed contract tell a price, as Chainlink's aggregators do; for `[[exchange.sources]]` kind chain.

    Example: onebook chain price ETH/USD 2500.50
    """
    node, unit = _url(url, folder), Asset("USD", AssetKind.FIAT, local_prices.DECIMALS)
    answer = parse_amount(amount, unit)
    contract = feed or local_prices.deploy_feed(node, pair)
    local_prices.tell_price(node, contract, answer)
    say(f"{pair} is {amount}, told by the feed {contract}")


@app.command()
def scenario(
    name: Annotated[str | None, typer.Argument(help="Which; none: list them.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Whom it pays, such as a deposit address; else nobody.")
    ] = None,
    url: Url = None,
    folder: Folder = FOLDER,
) -> None:
    """Play one of the stories in hardhat-local/scenarios/ on the chain, saying what happens.

    Example: onebook chain scenario deposit-and-reorg --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    from cli.scenarios import Scene, nobody, play, summaries

    if name is None:
        for known, sentence in summaries().items():
            say(f"{known:26} {sentence}")
        return
    node = _url(url, folder)
    whom = nobody(SystemEntropy()) if to is None else local.recipient(to)
    play(name, Scene(url=node, to=whom, say=say))


@app.command()
def status(url: Url = None, folder: Folder = FOLDER, json: Json = False) -> None:
    """Say where the chain runs and how high it is.

    Example: onebook chain status --json
    """
    found = local.status(_url(url, folder))
    shown = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "tokens"}
    shown |= {symbol: f"{token.address}, {token.decimals} decimals" for symbol, token in found.tokens.items()}
    if json:
        show_json(shown)
        return
    for name, value in shown.items():
        say(f"{name:14} {value}")


def _url(url: str | None, folder: Path) -> str:
    return _place(url, folder)[0]


def _snapshots(url: str | None, folder: Path) -> Snapshots:
    return Snapshots(*_place(url, folder))


def _place(url: str | None, folder: Path) -> tuple[str, Path]:
    """The node, and the folder that its chain's snapshots are named in."""
    if url is not None:
        return url, folder
    for place in (folder, DEMO_FOLDER):
        running = local.find_running(place)
        if running is not None:
            return running.url, place
    return fail(
        f"no chain runs from {folder}: start one with `onebook chain up`, or name its node with --url", Exit.USAGE
    )


def _whole(told: str, name: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", told, re.ASCII) is None:
        raise Rejected(f"{name} is a whole number such as 3, not {told[:60]!r}", param=name)
    return int(told)


def _instant(told: str, head_time: int) -> int:
    """Unix seconds of an instant that was typed in one of its forms. Raises Rejected."""
    if (ahead := re.fullmatch(r"\+([0-9]{1,15})([smhd]?)", told, re.ASCII)) is not None:
        return head_time + int(ahead[1]) * UNITS_SECONDS[ahead[2]]
    if re.fullmatch(r"-?[0-9]{1,18}", told, re.ASCII) is not None:
        return int(told)
    with suppress(ValueError):
        found = datetime.fromisoformat(told)
        if found.tzinfo is not None:
            return int(found.timestamp())
    raise Rejected(
        f"{told[:60]!r} is no time: +90, +15m, +2h or +3d, an instant with its zone such as 2030-01-31T12:00:00Z, or"
        " Unix seconds",
        param="time",
    )


def _shown(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ} ({seconds})"


def _show(record: ChainRecord, *, json: bool) -> None:
    if json:
        show_json(record.to_json())
        return
    say(f"{record.kind} on {record.url}, chain id {record.chain_id}")
    for symbol, token in record.tokens.items():
        say(f"  {symbol:5} {token.address}  {token.decimals} decimals")
    say(f"  faucet {record.faucet}")
    say("Ctrl-C ends it")
