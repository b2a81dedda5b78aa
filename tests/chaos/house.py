"""The house under attack: real processes of one installation, started again whenever they end, as a supervisor does.

PostgreSQL, signer, workers and API are processes of their own that die with this one. Each can be killed, hung or kept
away; one that ends without being killed is remembered in `deserted`.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import asyncpg
from pydantic import SecretStr

from base.children import free_port, listen
from base.clock import SystemClock
from base.entropy import SystemEntropy
from chain.networks import Traces
from chain.signing import OwnKey, Role
from cli.install import ChainChoice, install
from custody.keystore import Argon2Cost
from custody.launcher import LaunchedSigner
from db.server import PostgresServer, Running, clean
from tests.chaos.plan import FINAL_DEPTH, SPENDABLE_DEPTH
from tests.ledger.chaos import kill_server
from tests.support.chain import RunningChain
from tests.support.command import PROJECT, surroundings
from tests.support.forked import Forked
from wiring.parts import open_parts
from wiring.payouts import Payouts
from wiring.preparing import first_operator_key, prepare_book
from wiring.settings import CONFIG_VARIABLE, Settings, load_settings
from wiring.signing import XpubAddresses
from wiring.wallet import build_payouts

PASSPHRASE = b"correct horse battery staple"
LIGHT = Argon2Cost(memory_kib=64, passes=1, lanes=1)
"""A cost that takes no time: for tests only."""

NETWORK, API, SIGNER, LIST = "local", "api", "signer", "listed.txt"

SWEPT_USDC, SWEPT_ETH = "1040", "1.04"
"""Whole units at a deposit address from which on they are swept: more than each gets at first."""

PAYOUTS = f"""
[[payouts]]
network = "{NETWORK}"
legs_min = 2
wait_seconds = 2
"""
"""Two that wait at the same time share a transaction already."""

HOT_SENDERS = 2
WORKER_PAUSE_MS = 250
REPLACE_AFTER_SECONDS = 5
"""Blocks come each second here, so that what isn't mined by then was dropped, or is outbid."""

NO_LIST = 2
"""The status with which a process ends that finds no screening list when it starts."""

LOOK_SECONDS = 0.05
READY_SECONDS = 60.0


@dataclass(slots=True)
class Process:
    """One of the house's processes. `killed`: the child whose end is our doing. `points`: where it killed itself."""

    name: str
    launch: Callable[[], Forked]
    log: Path
    child: Forked
    killed: Forked | None = None
    points: list[str] = field(default_factory=list)
    starts: int = 1
    started_at: float = field(default_factory=time.monotonic)

    def send(self, number: signal.Signals) -> bool:
        """Whether it was there to get the signal."""
        if self.child.poll() is not None:
            return False
        self.child.send_signal(number)
        return True


@dataclass(slots=True)
class House:
    """What runs. `deserted`: what ended without being killed."""

    home: Path
    config: Path
    settings: Settings
    server: PostgresServer
    running: Running
    listener: socket.socket
    faults: Sequence[str] = ()
    processes: dict[str, Process] = field(default_factory=dict)
    deserted: list[str] = field(default_factory=list)
    operator_key: str = ""
    list_back_at: float = 0.0
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set while something is missing without which nothing starts."""

    @property
    def api_url(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def hot(self) -> list[str]:
        """The hot addresses, in lower-case hex."""
        addresses = XpubAddresses(self.settings.xpubs)
        return [addresses.address(OwnKey(Role.HOT, index)).lower() for index in range(HOT_SENDERS)]

    @property
    def gas(self) -> str:
        """The address that pays for what deposit addresses send, in lower-case hex."""
        return XpubAddresses(self.settings.xpubs).address(OwnKey(Role.GAS, 0)).lower()

    @property
    def workers(self) -> list[str]:
        return [name for name in self.processes if name.startswith("worker")]

    def folder(self, worker: str) -> Path:
        """Where a worker leaves word at which point it died."""
        return self.home / worker

    # Starting

    def start(self, *, workers: int) -> None:
        """Signer, workers and API, each ready when this returns."""
        self._add(SIGNER, self._signer)
        signer = cast("subprocess.Popen[bytes]", self.processes[SIGNER].child)
        LaunchedSigner(signer, self._log(SIGNER), 0).await_ready()
        for number in range(workers):
            name = f"worker-{number}"
            self.folder(name).mkdir()
            self._add(name, lambda name=name: self._worker(name))  # type: ignore[misc]
        self._add(API, self._api)
        self.may_start.set()

    async def watch(self, stop: asyncio.Event) -> None:
        """Start again what ended, until told to stop."""
        while not stop.is_set():
            for process in self.processes.values():
                await self.may_start.wait()
                if process.child.poll() is not None:
                    self._mourn(process)
                    process.child, process.started_at = process.launch(), time.monotonic()
                    process.starts += 1
            await asyncio.sleep(LOOK_SECONDS)

    def _mourn(self, process: Process) -> None:
        """Remember why it ended."""
        died = self.folder(process.name) / "died"
        if died.exists():
            process.points.append(died.read_text())
            died.unlink()
        elif process.started_at < self.list_back_at and process.child.returncode == NO_LIST:
            return  # it was just starting when the list went
        elif process.killed is not process.child:
            self.deserted.append(f"{process.name} ended with {process.child.returncode}: {_end(process.log)}")

    def stop(self) -> None:
        """End all, the database last, and remove its files."""
        for process in reversed(self.processes.values()):
            process.send(signal.SIGCONT)
            process.child.kill()
            process.child.wait(timeout=20)
        self.listener.close()
        self.server.stop()
        clean(self.home / "postgres")

    async def create_payout_contract(self, until_it_stands: Callable[[Payouts], Awaitable[None]]) -> None:
        """Have the contract made through which batches pay; nothing else may have been sent from the gas address."""
        async with open_parts(self.settings, name="chaos") as parts:
            payouts = build_payouts(parts, NETWORK)
            await payouts.deploy()
            await until_it_stands(payouts)

    # Striking

    def kill(self, name: str) -> bool:
        """SIGKILL; whether it ran."""
        process = self.processes[name]
        if not process.send(signal.SIGKILL):
            return False
        process.killed = process.child
        return True

    async def hang(self, name: str, seconds: float) -> None:
        """Let it stand still for so long, sockets open; then it goes on."""
        process = self.processes[name]
        if process.send(signal.SIGSTOP):
            try:
                await asyncio.sleep(seconds)
            finally:
                process.send(signal.SIGCONT)

    async def kill_at(self, point: str, *, seconds: float) -> bool:
        """Have the first worker that comes to a named point kill itself there; whether one got there in time."""
        before, passing = self._points_seen(), self.home / "arming"
        passing.write_text(point)
        passing.rename(self.home / "armed")
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline and self._points_seen() == before:
            await asyncio.sleep(LOOK_SECONDS)
        (self.home / "armed").unlink(missing_ok=True)
        return self._points_seen() > before

    def _points_seen(self) -> int:
        """How many workers have killed themselves at a point; they may not have been mourned yet."""
        left = sum((self.folder(name) / "died").exists() for name in self.workers)
        return left + sum(len(self.processes[name].points) for name in self.workers)

    async def kill_connections(self) -> int:
        """End every connection of the service to the database; how many there were."""
        connection = await asyncpg.connect(self.running.admin_url)
        try:
            return int(await connection.fetchval(_TERMINATE))
        finally:
            await connection.close()

    def restart_database(self, dice: random.Random) -> str:
        """End the server in one of three ways, and start it again at its address; which way it was."""
        address = self.running.app_url
        way = kill_server(self.running, dice)
        self.running = self.server.start()
        assert self.running.app_url == address, "somebody took the database's port while it was away"
        return way

    async def without_list(self, seconds: float) -> None:
        """The screening list is gone for so long. Nothing is started meanwhile: nothing starts without it."""
        listed = self.home / LIST
        self.may_start.clear()
        listed.rename(listed.with_suffix(".away"))
        try:
            await asyncio.sleep(seconds)
        finally:
            listed.with_suffix(".away").rename(listed)
            self.list_back_at = time.monotonic()
            self.may_start.set()

    # Processes

    def _add(self, name: str, launch: Callable[[], Forked]) -> None:
        self.processes[name] = Process(name, launch, self._log(name), launch())

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        database = self.settings.database_url
        assert database is not None
        return surroundings(
            **{CONFIG_VARIABLE: str(self.config), "ONEBOOK_DATABASE_URL": database.get_secret_value()},
        )

    def _fork(self, entry: str, arguments: Sequence[str], *, log: str, pass_fds: Sequence[int] = ()) -> Forked:
        with self._log(log).open("ab") as said:
            return Forked(
                entry, arguments, cwd=PROJECT, env=self._environment(), stdout=said, stderr=said, pass_fds=pass_fds
            )

    def _worker(self, name: str) -> Forked:
        return self._fork("tests.chaos.worker:run", ["worker", str(self.folder(name)), *self.faults], log=name)

    def _api(self) -> Forked:
        number = self.listener.fileno()
        return self._fork("api.serve:main", ["api", "--fd", str(number)], log=API, pass_fds=[number])

    def _signer(self) -> Forked:
        settings = self.settings
        with ExitStack() as stack:
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            os.write(writing, PASSPHRASE)
            os.close(writing)
            arguments = ["signer", "--passphrase-fd", str(reading)]
            for option in ("keys", "policy", "journal"):
                arguments += [f"--{option}", str(settings.path(getattr(settings, option)))]
            socket_path = settings.path(settings.signer_socket)
            socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            arguments += ["--socket", str(socket_path)]
            return self._fork("custody.signer:_run", arguments, log=SIGNER, pass_fds=[reading])


_TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'onebook_app'"


async def make_house(
    home: Path, chain: RunningChain, *, urls: Sequence[str], listed: Sequence[str], faults: Sequence[str] = ()
) -> House:
    """A new installation behind these endpoints, with a database of its own; nothing but that runs yet."""
    config = _install(home, chain, urls)
    (home / LIST).write_text("".join(f"{address}\n" for address in listed))
    server = PostgresServer(home / "postgres", settings={"shared_buffers": "64MB", "max_connections": "120"})
    try:
        return await _prepare(home, config, server, faults)
    except BaseException:
        server.stop()
        clean(home / "postgres")
        raise


async def _prepare(home: Path, config: Path, server: PostgresServer, faults: Sequence[str]) -> House:
    running = server.start()
    settings = load_settings(config).model_copy(
        update={
            "database_url": SecretStr(running.app_url),
            "database_owner_url": SecretStr(running.owner_url),
        }
    )
    await prepare_book(settings, report=lambda _: None)
    listener = listen("127.0.0.1", free_port())
    house = House(home, config, settings, server, running, listener, faults)
    house.operator_key = await first_operator_key(settings)
    return house


def _install(home: Path, chain: RunningChain, urls: Sequence[str]) -> Path:
    token = chain.node.tokens["USDC"]
    made = install(
        home,
        passphrase=PASSPHRASE,
        chains=[
            ChainChoice(
                name=NETWORK,
                url=chain.url,
                chain_id=chain.chain_id,
                genesis_hash=chain.genesis_hash,
                tokens={"USDC": (token.address.lower(), token.decimals)},
                spendable_depth=SPENDABLE_DEPTH,
                final_depth=FINAL_DEPTH,
                replace_after_seconds=REPLACE_AFTER_SECONDS,
            )
        ],
        banks=(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        worker_pause_ms=WORKER_PAUSE_MS,
        requests_per_minute=100_000,
        hot_senders=HOT_SENDERS,
        cost=LIGHT,
    )
    text = made.config.read_text()
    for before, after in {
        f'rpc_urls = ["{chain.url}"]\n': f'rpc_urls = {list(urls)!r}\ntraces = "{Traces.EVERY_BLOCK}"\n'.replace(
            "'", '"'
        ),
        "# screening_list =": f'screening_list = "{LIST}" #',
        'deposit_minimum = "1.00"\n': f'deposit_minimum = "1.00"\nsweep_threshold = "{SWEPT_USDC}"\n',
        'deposit_minimum = "0.001"\n': f'deposit_minimum = "0.001"\nsweep_threshold = "{SWEPT_ETH}"\n',
    }.items():
        assert text.count(before) == 1, f"the configuration has no {before!r} to change"
        text = text.replace(before, after)
    made.config.write_text(text + PAYOUTS)
    return made.config


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-600:]
