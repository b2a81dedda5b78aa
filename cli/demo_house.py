"""The demo's installation and its processes: two networks, two bank accounts, two providers, rates and a tariff."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.files import write_atomically
from chain import local_prices
from chain.local import LocalChain
from cli.demo_rails import DemoRails
from cli.install import BankChoice, ChainChoice, install
from cli.journey.stage import BankAccount
from cli.output import say
from cli.supervisor import Supervisor
from custody.keystore import Argon2Cost
from wiring.preparing import first_operator_key, prepare_book
from wiring.settings import Environment, load_settings

LOGS = Path(".onebook/logs")
BANK_FOLDER = "bank"
EUROS = BankAccount("ONEBOOK", "NL30MOCK0000000005", "EUR")
POUNDS = BankAccount("ONEBOOK-GBP", "NL03MOCK0000000006", "GBP")

SPENDABLE_DEPTH, FINAL_DEPTH = 2, 4
"""Blocks; small, since nothing reorganises a chain of one node but its owner."""

REPLACE_AFTER_SECONDS = 2

ETHER_PRICE = 3150_25000000
"""What the demo's price feed contract tells, in its own units; the rates file tells the same."""

EXCHANGE = """
# Two sources of rates: the rates file, and a price feed contract on the demo's first chain.
[exchange]
reference = "USD"
every_seconds = 1
max_age_seconds = 604800
value_max = "10000.00"

[[exchange.sources]]
name = "desk"
kind = "file"
path = "rates.toml"

[[exchange.sources]]
name = "onchain"
kind = "chain"
network = "{network}"
pairs = [{{ base = "ETH", quote = "USD", contract = "{feed}" }}]

[[exchange.exposures]]
asset = "USDC"
least = "100.00"
"""

TARIFF = """
# What the demo's users pay, and how much they may move (docs/tariff.md).
default_tier = "standard"
reference = "USD"

[tiers.standard]
limits.out = { operation = "5000.00", day = "10000.00" }
free.transfer = { operations = 10 }

[[fees]]
operation = "conversion"
percent = "0.10"

[[fees]]
operation = "withdrawal"
asset = "USDC"
flat = "0.05"

[[fees]]
operation = "transfer"
percent = "0.20"
"""

QUICK_KEYS = Argon2Cost(memory_kib=8 * 1024, passes=1, lanes=1)
"""The demo's passphrase is random and dies with it, so that stretching it longer would only cost time."""


@dataclass(frozen=True, slots=True)
class DemoChain:
    """A network of the demo: its name in the book, its tokens there, and the node that it is."""

    name: str
    assets: tuple[str, ...]
    node: LocalChain

    def choice(self) -> ChainChoice:
        """The same, as an installation begins with it."""
        tokens = {asset: self.node.tokens[asset] for asset in self.assets}
        return ChainChoice(
            name=self.name,
            url=self.node.url,
            chain_id=self.node.chain_id,
            genesis_hash=self.node.record.genesis_hash,
            tokens={asset: (token.address.lower(), token.decimals) for asset, token in tokens.items()},
            spendable_depth=SPENDABLE_DEPTH,
            final_depth=FINAL_DEPTH,
            replace_after_seconds=REPLACE_AFTER_SECONDS,
        )


@contextmanager
def running_house(home: Path, chains: Sequence[DemoChain], rails: DemoRails) -> Iterator[tuple[Supervisor, str]]:
    """Install into `home`, start the processes, and give the first operator's key; all of them end on leaving.

    The first chain carries the price feed.
    """
    passphrase = SystemEntropy().draw(32).hex().encode()
    feed = local_prices.deploy_feed(chains[0].node.url, "ETH/USD")
    local_prices.tell_price(chains[0].node.url, feed, ETHER_PRICE)
    made = install(
        home,
        passphrase=passphrase,
        chains=[chain.choice() for chain in chains],
        banks=[BankChoice(name, one.iban, one.asset) for name, one in (("main", EUROS), ("pounds", POUNDS))],
        clock=SystemClock(),
        entropy=SystemEntropy(),
        worker_pause_ms=250,
        requests_per_minute=6_000,
        cost=QUICK_KEYS,
        logs=LOGS.resolve(),
        public_books=True,
        bank_folder=Path(BANK_FOLDER),
        environment=Environment.TEST,
        rails=rails.settings(home),
        exchange=EXCHANGE.format(feed=feed, network=chains[0].name),
    )
    write_atomically(home / "tariff.toml", TARIFF.encode())
    settings = load_settings(made.config)
    with Supervisor(settings, config=made.config, passphrase=passphrase, say=lambda t: say(f"  {t}")) as supervisor:
        supervisor.start_database()
        asyncio.run(prepare_book(supervisor.settings, report=lambda _: None))
        operator_key = asyncio.run(first_operator_key(supervisor.settings))
        supervisor.start_signer()
        supervisor.start_worker()
        supervisor.start_api()
        supervisor.record()
        yield supervisor, operator_key
