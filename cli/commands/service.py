"""Installing and running the service: init, up, prepare, serve, worker, config."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import ConfigError
from cli.asking import ask_passphrase
from cli.options import Config, Json
from cli.output import Exit, fail, say, show_json
from wiring.running import with_database
from wiring.settings import CONFIG_VARIABLE, find_config, load_settings

if TYPE_CHECKING:
    from cli.install import BankChoice, ChainChoice
    from cli.supervisor import Supervisor


def init(
    folder: Annotated[Path, typer.Argument(help="Where the installation goes.")] = Path(),
    chain_url: Annotated[str | None, typer.Option(help="An EVM node; its chain id and genesis are asked.")] = None,
    network: Annotated[str, typer.Option(help="The network's name in the book.")] = "evm",
    token: Annotated[list[str] | None, typer.Option(help="A token on it, as USDC=0xCONTRACT:6.")] = None,
    start_height: Annotated[
        int | None, typer.Option(help="The first block to read; none: the node's newest one now.", min=0)
    ] = None,
    depth: Annotated[int, typer.Option(help="Blocks until a deposit can be spent; final at twice that.")] = 12,
    bank: Annotated[list[str] | None, typer.Option(help="A bank account of yours, as NAME=IBAN:EUR.")] = None,
    json: Json = False,
) -> None:
    """Make an installation: configuration, keys, the signer's policy, and the first operator key.

    The words that are printed are the only backup of the keys. They and the operator key are shown once.

    Example: onebook init wallet --chain-url http://127.0.0.1:8545 --token USDC=0xCONTRACT:6 --bank main=IBAN:EUR
    """
    from cli.install import install
    from cli.supervisor import Supervisor

    passphrase = ask_passphrase(confirm=True)
    chosen = _chain(chain_url, network, token or [], depth, start_height) if chain_url else None
    made = install(
        folder,
        passphrase=passphrase,
        chain=chosen,
        banks=tuple(_bank(text) for text in bank or []),
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    settings = load_settings(made.config)
    with Supervisor(settings, config=made.config, passphrase=passphrase, say=lambda _: None) as supervisor:
        supervisor.start_database()
        key = asyncio.run(_prepare_with_key(supervisor))
    if json:
        show_json(
            {"config": str(made.config), "fingerprints": made.fingerprints, "words": made.words, "operator_key": key}
        )
        return
    say(f"wrote {made.config}")
    say("\nWrite these words down, by role, and keep them offline. They are the money, and are never shown again:")
    for role, words in made.words.items():
        say(f"  {role:8} {words}")
    say(f"\nFirst operator key, shown once:\n  {key}")
    say(f"\nNext: onebook up --config {made.config}; beside it, onebook doctor looks at all its parts")


def up(config: Config = None) -> None:
    """Run all processes of the installation until Ctrl-C: database (unless configured), signer, worker, API.

    Example: onebook up --config wallet/onebook.toml
    """
    from cli.supervisor import Supervisor
    from wiring.preparing import prepare_book

    path = find_config(config)
    settings = load_settings(path)
    passphrase = ask_passphrase(confirm=False, token=settings.pkcs11_token)
    with Supervisor(settings, config=path, passphrase=passphrase, say=say) as supervisor:
        supervisor.start_database()
        asyncio.run(prepare_book(supervisor.settings, report=say))
        if settings.networks:
            supervisor.start_signer()
        supervisor.start_worker()
        supervisor.start_api()
        supervisor.record()
        say("up; Ctrl-C ends it")
        supervisor.watch()


def prepare(config: Config = None) -> None:
    """Bring the database to this version's tables and the configuration's assets; again is harmless.

    It needs the database's owner (database_owner_url). `onebook up` does it by itself; before processes of a new
    version are started one by one it's done by hand, with the old ones stopped.

    Example: ONEBOOK_DATABASE_OWNER_URL=postgresql://... onebook prepare
    """
    from wiring.preparing import prepare_book

    asyncio.run(prepare_book(with_database(load_settings(find_config(config))), report=say))
    say("prepared")


def serve(config: Config = None) -> None:
    """Run the API alone, in this process.

    Example: ONEBOOK_DATABASE_URL=postgresql://... onebook serve
    """
    _become("api.serve", config)


def worker(config: Config = None) -> None:
    """Run the worker alone, in this process.

    Example: ONEBOOK_DATABASE_URL=postgresql://... onebook worker
    """
    _become("worker.run", config)


def config(config: Config = None, json: Json = False) -> None:
    """Show the configuration in force: the file with the variables over it, secrets hidden.

    Example: onebook config --json
    """
    settings = load_settings(find_config(config))
    shown = settings.model_dump(mode="json")
    if json:
        show_json(shown)
        return
    for name, value in shown.items():
        say(f"{name:22} {value}")


async def _prepare_with_key(supervisor: Supervisor) -> str:
    from wiring.preparing import first_operator_key, prepare_book

    await prepare_book(supervisor.settings, report=lambda _: None)
    return await first_operator_key(supervisor.settings)


def _become(module: str, config: Path | None) -> None:
    """Go on as another module in this very process, with the configuration's address."""
    path = find_config(config)
    with_database(load_settings(path))  # what's wrong is said at once; the module reads them itself, so that no
    os.environ[CONFIG_VARIABLE] = str(path)  # password gets into its environment
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - our own interpreter and module


def _chain(url: str, network: str, tokens: list[str], depth: int, start_height: int | None) -> ChainChoice:
    import httpx

    from cli.install import ChainChoice

    def ask(method: str, *params: object) -> object:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = httpx.post(url, json=body, timeout=10).json()
            return answer["result"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise ConfigError(f"the node at {url} doesn't answer {method}: {error}") from error

    genesis = ask("eth_getBlockByNumber", "0x0", False)
    if not isinstance(genesis, dict):
        raise ConfigError(f"the node at {url} shows no genesis block")
    return ChainChoice(
        name=network,
        url=url,
        chain_id=int(str(ask("eth_chainId")), 16),
        genesis_hash=str(genesis["hash"]),
        tokens=dict(_token(text) for text in tokens),
        start_height=int(str(ask("eth_blockNumber")), 16) if start_height is None else start_height,
        spendable_depth=depth,
        final_depth=2 * depth,
    )


def _token(text: str) -> tuple[str, tuple[str, int]]:
    asset, _, place = text.partition("=")
    contract, _, decimals = place.partition(":")
    if not (asset and contract.startswith("0x") and decimals.isdigit()):
        fail(f"{text!r} is no token: write ASSET=0xCONTRACT:DECIMALS", Exit.USAGE)
    return asset, (contract.lower(), int(decimals))


def _bank(text: str) -> BankChoice:
    from cli.install import BankChoice

    name, _, place = text.partition("=")
    iban, _, asset = place.partition(":")
    if not (name and iban and asset):
        fail(f"{text!r} is no bank account: write NAME=IBAN:ASSET", Exit.USAGE)
    return BankChoice(name, iban, asset)
