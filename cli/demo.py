"""`onebook demo`: all processes on a new book, new keys and a new chain, the story played on them; then they stay up.

Everything lies under `.onebook/demo/` and is made anew each time; production data is never touched.
"""

import asyncio
import fcntl
import os
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from datetime import time as time_of_day
from pathlib import Path

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import ConfigError
from base.files import write_atomically
from chain import local_prices
from chain.local import LocalChain, NodeKind
from chain.signing import OwnKey, Role
from cli.demo_bank import DemoBank, last_business_day, running_bank
from cli.demo_rails import DemoRails, running_rails
from cli.install import BankChoice, ChainChoice, install
from cli.journey import BANK_ACCOUNT, Ending, Person, Stage, play
from cli.output import Exit, say
from cli.supervisor import Supervisor
from custody.keystore import Argon2Cost
from db.server import clean
from wiring.preparing import first_operator_key, prepare_book
from wiring.running import read_running
from wiring.settings import Environment, load_settings
from wiring.signing import XpubAddresses

HOME = Path(".onebook/demo")
LOGS = Path(".onebook/logs")
LOCK = Path(".onebook/demo.lock")
"""Outside of HOME, which each demo makes anew."""

BANK_IBAN = "NL30MOCK0000000005"
BANK_FOLDER = "bank"
BLOCK_SECONDS = 1
"""The demo chain makes a block every second."""

SPENDABLE_DEPTH, FINAL_DEPTH = 2, 4
REPLACE_AFTER_SECONDS = 2
"""Blocks; small, since nothing reorganises a chain of one node but its owner."""

ETHER_PRICE = 3150_25000000
"""What the demo's price feed contract tells, in its own units; the rates file tells the same."""

EXCHANGE = """
# Two sources of rates: the rates file, and a price feed contract on the demo's chain.
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
network = "local"
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


def run_demo(*, exit_after: bool, kind: NodeKind) -> Exit:
    """Start everything, play, report; stay up unless `exit_after`. DISAGREES when anything didn't agree."""
    with _alone() as alone:
        if not alone:
            say(_where_it_runs())
            return Exit.OK
        return _run(exit_after=exit_after, kind=kind)


def wipe() -> None:
    """Remove the demo's files, the database's folder outside included. Raises ConfigError while a demo runs."""
    with _alone() as alone:
        if not alone:
            raise ConfigError(_where_it_runs(), code="demo_runs")
        _remove()


def _run(*, exit_after: bool, kind: NodeKind) -> Exit:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _leave_production_alone()
    _remove()
    home = HOME.resolve()
    home.mkdir(mode=0o700, parents=True)
    say("Starting the processes")
    with (
        LocalChain.start(kind, home / "chain", block_seconds=BLOCK_SECONDS) as chain,
        running_bank(at=_morning(), log=LOGS / "bank.log") as bank,
        running_rails(log=LOGS / "rails.log") as rails,
        _service(home, chain, rails) as (supervisor, operator_key),
    ):
        say(f"  chain: {chain.kind} on {chain.url}, chain id {chain.chain_id}, a block every {BLOCK_SECONDS} s")
        say(f"  bank: mock-bank on {bank.url}")
        say(f"  Stripe and PayPal: simulated, told what to do at {rails.control_url}")
        bank.open_account(BANK_ACCOUNT, iban=BANK_IBAN)
        settings = supervisor.settings
        addresses = XpubAddresses(settings.xpubs)
        hot = addresses.address(OwnKey(Role.HOT, 0))
        stage = Stage(
            api_url=supervisor.api_url,
            operator_key=operator_key,
            chain_url=chain.url,
            block_seconds=BLOCK_SECONDS,
            hot_address=hot,
            bank=bank,
            bank_iban=BANK_IBAN,
            bank_folder=home / BANK_FOLDER,
            rails=rails,
        )
        rails.send_webhooks_to(supervisor.api_url)
        ending = play(stage)
        _write_env(home / "env", ending.people, supervisor, chain, bank, rails)
        _say_where(supervisor, chain)
        say(_verdict(ending))
        if not exit_after:
            supervisor.watch()
        return Exit.OK if ending.agrees else Exit.DISAGREES


def _leave_production_alone() -> None:
    """Forget every `ONEBOOK_*` variable: each would override the demo's configuration, the database's address too."""
    told = sorted(name for name in os.environ if name.startswith("ONEBOOK_"))
    for name in told:
        del os.environ[name]
    if told:
        say(f"The demo keeps to itself and ignores {', '.join(told)}")


def _remove() -> None:
    clean(HOME / "postgres")
    shutil.rmtree(HOME, ignore_errors=True)


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other demo runs from this folder, be it that it's still starting; held while we do."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _where_it_runs() -> str:
    running = read_running(HOME.resolve())
    if running is None:
        return "a demo is starting here already; it will say where"
    return f"a demo runs already: {running.api_url} (its keys: source {HOME}/env); Ctrl-C there ends it"


@contextmanager
def _service(home: Path, chain: LocalChain, rails: DemoRails) -> Iterator[tuple[Supervisor, str]]:
    passphrase = SystemEntropy().draw(32).hex().encode()
    token = chain.tokens["USDC"]
    feed = local_prices.deploy_feed(chain.url, "ETH/USD")
    local_prices.tell_price(chain.url, feed, ETHER_PRICE)
    made = install(
        home,
        passphrase=passphrase,
        chain=ChainChoice(
            name="local",
            url=chain.url,
            chain_id=chain.chain_id,
            genesis_hash=chain.record.genesis_hash,
            tokens={"USDC": (token.address.lower(), token.decimals)},
            spendable_depth=SPENDABLE_DEPTH,
            final_depth=FINAL_DEPTH,
            replace_after_seconds=REPLACE_AFTER_SECONDS,
        ),
        banks=(BankChoice("main", BANK_IBAN, "EUR"),),
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
        exchange=EXCHANGE.format(feed=feed),
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


def _morning() -> datetime:
    """Nine o'clock of the newest business day that is over: its statement can be out."""
    return datetime.combine(last_business_day(datetime.now(UTC).date()), time_of_day(9), UTC)


def _write_env(
    path: Path,
    people: Mapping[str, Person],
    supervisor: Supervisor,
    chain: LocalChain,
    bank: DemoBank,
    rails: DemoRails,
) -> None:
    told = {
        "ONEBOOK_URL": supervisor.api_url,
        "ONEBOOK_CONFIG": str(supervisor.settings.home / "onebook.toml"),
        "ONEBOOK_RPC": chain.url,
        "ONEBOOK_USDC": chain.tokens["USDC"].address,
        "BANK_URL": bank.url,
        "RAILS_URL": rails.control_url,
        **{f"{name.upper()}_KEY": person.key for name, person in people.items()},
    }
    text = "# Addresses and keys of the running demo. Worth nothing elsewhere, and nothing once it has ended.\n"
    text += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())
    write_atomically(path, text.encode())


def _say_where(supervisor: Supervisor, chain: LocalChain) -> None:
    say()
    say(f"API    {supervisor.api_url}   (pages: /  /docs)")
    say(f"watch  {supervisor.metrics_url}   (for Prometheus: docs/operations/)")
    say(f"chain  {chain.url}")
    say(f"keys   source {HOME}/env")
    say(f"logs   {LOGS}/")


def _verdict(ending: Ending) -> str:
    """The treasury's one sentence: how much was compared, at which block, and what didn't agree."""
    compared = ", ".join(
        (
            _many(ending.assets, "asset"),
            _many(ending.accounts, "account"),
            _many(ending.networks, "network"),
        )
    )
    agree = "all agree" if ending.agrees else "they do not all agree"
    return f"{compared}: {agree} at block {ending.block}; {_many(ending.breaks, 'break')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
