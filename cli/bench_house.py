"""A whole installation for `onebook bench chain`, as a process of its own: `python -m cli.bench_house FOLDER`.

PostgreSQL, signer, worker and API are processes as in production; the chain is a local anvil with a block a second.
Writes FOLDER/ready.json when all is ready, and ends by SIGTERM.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import Unavailable
from base.files import write_atomically
from chain import local
from chain.local import LocalChain, NodeKind
from chain.signing import OwnKey, Role
from cli.install import ChainChoice, install
from cli.supervisor import Supervisor
from custody.keystore import Argon2Cost
from db.server import clean
from wiring.parts import open_parts
from wiring.preparing import first_operator_key, prepare_book
from wiring.settings import Settings, load_settings
from wiring.signing import XpubAddresses
from wiring.wallet import build_payouts

FINAL_DEPTH = 6
FUNDED_USDC, FUNDED_WEI = 100_000 * 10**6, 10 * 10**18
"""What each sender holds at first."""

QUICK_KEYS = Argon2Cost(memory_kib=8 * 1024, passes=1, lanes=1)
STANDS_SECONDS = 120


def main() -> None:
    """Run until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as an exception, so that all children are ended in order
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--batched", action="store_true", help="pay through the payout contract")
    told = parser.parse_args()
    with _house(told.folder, told.senders, batched=told.batched) as ready:
        write_atomically(told.folder / "ready.json", json.dumps(ready).encode())
        while True:
            signal.pause()


@contextmanager
def _house(folder: Path, senders: int, *, batched: bool) -> Iterator[dict[str, str]]:
    passphrase = SystemEntropy().draw(32).hex().encode()
    home = folder / "house"
    with LocalChain.start(NodeKind.ANVIL, folder / "chain", port=None, block_seconds=1) as chain:
        config = _installed(home, chain, senders, passphrase)
        if batched:
            config.write_text(config.read_text() + '\n[[payouts]]\nnetwork = "local"\nwait_seconds = 2\n')
        settings = load_settings(config)
        try:
            with Supervisor(settings, config=config, passphrase=passphrase, say=lambda _: None) as supervisor:
                supervisor.start_database()
                asyncio.run(prepare_book(supervisor.settings, report=lambda _: None))
                operator_key = asyncio.run(first_operator_key(supervisor.settings))
                addresses = XpubAddresses(settings.xpubs)
                for index in range(senders):
                    hot = addresses.address(OwnKey(Role.HOT, index))
                    local.faucet(chain.url, hot, FUNDED_USDC, "USDC")
                    local.faucet(chain.url, hot, FUNDED_WEI, "ETH")
                local.faucet(chain.url, addresses.address(OwnKey(Role.GAS, 0)), FUNDED_WEI, "ETH")
                supervisor.start_signer()
                supervisor.start_worker()
                supervisor.start_api()
                if batched:
                    asyncio.run(_deploy(supervisor.settings))
                owner_url = supervisor.settings.database_owner_url
                assert owner_url is not None
                yield {
                    "api_url": supervisor.api_url,
                    "database_url": owner_url.get_secret_value(),
                    "operator_key": operator_key,
                    "chain_url": chain.url,
                }
        finally:
            clean(home / "postgres")


def _installed(home: Path, chain: LocalChain, senders: int, passphrase: bytes) -> Path:
    token = chain.tokens["USDC"]
    return install(
        home,
        passphrase=passphrase,
        chains=[
            ChainChoice(
                name="local",
                url=chain.url,
                chain_id=chain.chain_id,
                genesis_hash=chain.record.genesis_hash,
                tokens={"USDC": (token.address.lower(), token.decimals)},
                spendable_depth=2,
                final_depth=FINAL_DEPTH,
            )
        ],
        banks=(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        api_port=_free_port(),
        requests_per_minute=100_000,
        worker_pause_ms=100,
        hot_senders=senders,
        cost=QUICK_KEYS,
    ).config


async def _deploy(settings: Settings) -> None:
    """Have the payout contract made, and wait until it stands at a final block."""
    async with open_parts(settings, name="bench") as parts:
        payouts = build_payouts(parts, "local")
        asked = False
        async with asyncio.timeout(STANDS_SECONDS):
            while True:
                try:
                    if not asked:
                        await payouts.deploy()
                        asked = True
                    elif (await payouts.standing()).stands:
                        return
                except Unavailable:
                    pass  # the worker follows the chain in a moment
                await asyncio.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
