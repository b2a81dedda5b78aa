"""`onebook chain`: the developer's own chain. Play money: its keys are known to everybody."""

import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from chain import local
from chain.local import ChainRecord, LocalChain, NodeKind
from cli.output import Exit, fail, say, show_json
from ledger.money import Asset, AssetKind, parse_amount

app = typer.Typer(
    help="The developer's local chain: up, mine, faucet, status.", no_args_is_help=True, rich_markup_mode=None
)

FOLDER = Path(".onebook/chain")
DEMO_FOLDER = Path(".onebook/demo/chain")
Folder = Annotated[Path, typer.Option("--folder", help="The chain's folder: its record and its log.")]
Url = Annotated[str | None, typer.Option("--url", help="The node, instead of the chain in the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


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


@app.command()
def mine(
    blocks: Annotated[int, typer.Argument(min=1, max=10_000)] = 1, url: Url = None, folder: Folder = FOLDER
) -> None:
    """Mine blocks at once.

    Example: onebook chain mine 6
    """
    height = local.mine(_url(url, folder), blocks)
    say(f"height {height}")


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
    if url is not None:
        return url
    running = local.find_running(folder) or local.find_running(DEMO_FOLDER)
    if running is not None:
        return running.url
    return fail(
        f"no chain runs from {folder}: start one with `onebook chain up`, or name its node with --url", Exit.USAGE
    )


def _show(record: ChainRecord, *, json: bool) -> None:
    if json:
        show_json(record.to_json())
        return
    say(f"{record.kind} on {record.url}, chain id {record.chain_id}")
    for symbol, token in record.tokens.items():
        say(f"  {symbol:5} {token.address}  {token.decimals} decimals")
    say(f"  faucet {record.faucet}")
    say("Ctrl-C ends it")
