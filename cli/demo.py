"""`onebook demo`: all processes on a new book, new keys and two new chains, a story played on them; then they stay up.

Everything lies under `.onebook/demo/` and is made anew each time; production data is never touched.
"""

import fcntl
import os
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from datetime import time as time_of_day
from pathlib import Path

from base.errors import ConfigError
from base.files import write_atomically
from chain.local import LocalChain, LocalNodeDown, NodeKind, ToolsMissing
from chain.signing import OwnKey, Role
from cli.demo_bank import DemoBank, last_business_day, running_bank
from cli.demo_house import BANK_FOLDER, EUROS, LOGS, POUNDS, DemoChain, running_house
from cli.demo_rails import DemoRails, running_rails
from cli.journey.people import Person
from cli.journey.stage import Ending, Net, Stage
from cli.journey.story import play
from cli.output import Exit, say
from cli.supervisor import Supervisor
from db.server import clean
from wiring.running import read_running
from wiring.signing import XpubAddresses

HOME = Path(".onebook/demo")
LOCK = Path(".onebook/demo.lock")
"""Outside of HOME, which each demo makes anew."""

FIRST, SECOND = "local", "local-2"
"""The demo's networks, by their names in the book."""

BLOCK_SECONDS = 1
"""Each of the demo's chains makes a block every second."""


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
        _chain(FIRST, kind, home / "chain") as first,
        _second_chain(kind, home / "chain-2") as second,
        running_bank(at=_morning(), log=LOGS / "bank.log") as bank,
        running_rails(log=LOGS / "rails.log") as rails,
        running_house(
            home, (DemoChain(FIRST, ("USDC",), first), DemoChain(SECOND, ("USDC", "DAI"), second)), rails
        ) as (supervisor, operator_key),
    ):
        chains = {FIRST: first, SECOND: second}
        for name, chain in chains.items():
            what = f"{chain.kind} on {chain.url}, chain id {chain.chain_id}"
            say(f"  network {name}: {what}, a block every {BLOCK_SECONDS} s")
        say(f"  bank: mock-bank on {bank.url}")
        say(f"  Stripe and PayPal: simulated, told what to do at {rails.control_url}")
        for account in (EUROS, POUNDS):
            bank.open_account(account.name, iban=account.iban, currency=account.asset)
        stage = Stage(
            api_url=supervisor.api_url,
            operator_key=operator_key,
            first=Net(FIRST, first.url, BLOCK_SECONDS),
            second=Net(SECOND, second.url, BLOCK_SECONDS),
            hot_address=XpubAddresses(supervisor.settings.xpubs).address(OwnKey(Role.HOT, 0)),
            bank=bank,
            euros=EUROS,
            pounds=POUNDS,
            bank_folder=home / BANK_FOLDER,
            rails=rails,
        )
        rails.send_webhooks_to(supervisor.api_url)
        ending = play(stage)
        _write_env(home / "env", ending.people, supervisor, tuple(chains.values()), bank, rails)
        _say_where(supervisor, chains)
        say(_verdict(ending))
        if not exit_after:
            supervisor.watch()
        return Exit.OK if ending.agrees else Exit.DISAGREES


@contextmanager
def _chain(name: str, kind: NodeKind, folder: Path) -> Iterator[LocalChain]:
    """A network's node for the length of a `with` block. Raises LocalNodeDown, which says whose, and ToolsMissing."""
    try:
        started = LocalChain.start(kind, folder, block_seconds=BLOCK_SECONDS)
    except LocalNodeDown as problem:
        raise LocalNodeDown(f"the chain of the network {name} didn't start: {problem.message}") from problem
    with started as chain:
        yield chain


@contextmanager
def _second_chain(kind: NodeKind, folder: Path) -> Iterator[LocalChain]:
    """anvil, which costs less than a second Hardhat; where there is none for this machine, the first one's kind."""
    with ExitStack() as stack:
        try:
            chain = stack.enter_context(_chain(SECOND, NodeKind.ANVIL, folder))
        except ToolsMissing:
            chain = stack.enter_context(_chain(SECOND, kind, folder))
        yield chain


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


def _morning() -> datetime:
    """Nine o'clock of the newest business day that is over: its statement can be out."""
    return datetime.combine(last_business_day(datetime.now(UTC).date()), time_of_day(9), UTC)


def _write_env(
    path: Path,
    people: Mapping[str, Person],
    supervisor: Supervisor,
    chains: Sequence[LocalChain],
    bank: DemoBank,
    rails: DemoRails,
) -> None:
    numbered = dict(zip(("", "_2"), chains, strict=True))
    told = {
        "ONEBOOK_URL": supervisor.api_url,
        "ONEBOOK_CONFIG": str(supervisor.settings.home / "onebook.toml"),
        **{f"ONEBOOK_RPC{suffix}": chain.url for suffix, chain in numbered.items()},
        **{f"ONEBOOK_USDC{suffix}": chain.tokens["USDC"].address for suffix, chain in numbered.items()},
        "ONEBOOK_DAI_2": numbered["_2"].tokens["DAI"].address,
        "BANK_URL": bank.url,
        "RAILS_URL": rails.control_url,
        **{f"{name.upper()}_KEY": person.key for name, person in people.items()},
    }
    text = "# Addresses and keys of the running demo. Worth nothing elsewhere, and nothing once it has ended.\n"
    text += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())
    write_atomically(path, text.encode())


def _say_where(supervisor: Supervisor, chains: Mapping[str, LocalChain]) -> None:
    say()
    say(f"API    {supervisor.api_url}   (pages: /  /docs)")
    say(f"watch  {supervisor.metrics_url}   (for Prometheus: docs/operations/)")
    say(f"chains {', '.join(f'{chain.url} ({name})' for name, chain in chains.items())}")
    say(f"keys   source {HOME}/env")
    say(f"logs   {LOGS}/")


def _verdict(ending: Ending) -> str:
    """The treasury's one sentence: how much was compared, at which block of each network, and what didn't agree."""
    compared = ", ".join(
        (
            _many(ending.assets, "asset"),
            _many(ending.accounts, "account"),
            _many(len(ending.blocks), "network"),
        )
    )
    agree = "all agree" if ending.agrees else "they do not all agree"
    blocks = ", ".join(f"{name} block {block}" for name, block in ending.blocks.items()) or "no block"
    return f"{compared}: {agree} at {blocks}; {_many(ending.breaks, 'break')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
