"""Requests a second over HTTP: the API's own process on a PostgreSQL of its own, asked by wrk over loopback.

Authentication, idempotency and the rate limit are on. The client is a C program, so that what is measured is the
service; it shares the machine with it all the same.
"""

import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from base.children import free_port, listen, start_child, stop_child
from base.clock import SystemClock
from base.collector import calm_collector
from base.entropy import SystemEntropy
from base.errors import ConfigError
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, median, number
from bench.machine import describe_machine, describe_server
from bench.stage import FOLDER, server
from db.engine import create_engine
from db.migrate import migrate
from db.server import Running, at_database, create_database
from identity.keys import RATE_PER_MINUTE_MAX
from identity.service import Identity
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from ledger.requests import worker_id
from ledger.service import PostgresLedger

CLIENTS = 64
"""Keep-alive connections."""

BULK = 100
"""Transfers of a bulk request."""

USERS = 400
_QUICK_USERS = 100

GROWTH = (10_000, 1_000_000)
_QUICK_GROWTH = (10_000, 60_000)
"""Entries after which the API process's memory is measured, and measured again."""

TARGETS = {
    "http_transfers_per_s": 3_000.0,
    "http_p99_ms": 35.0,
    "http_bulk_entries_per_s": 10_000.0,
    "http_bulk_over_bulk100": 0.7,
    "rss_growth": 1.05,
}

_LUA = Path(__file__).with_suffix(".lua")
_USDC = Asset("USDC", AssetKind.STABLECOIN, 6)
_FUNDS = 10**18
_START_SECONDS = 30


async def measure(options: Options, progress: Progress) -> Report:
    """Start a server and the API, and measure the wanted rows."""
    if shutil.which("wrk") is None:
        raise ConfigError("the load comes from wrk, which isn't here: apt-get install wrk", code="tool_missing")
    with server("api") as running:
        async with _opened(running, options, progress) as service:
            bench = _Bench(service, options, progress)
            await bench.rows()
            await bench.processes()
            await bench.growth()
        settings = {
            "postgresql": await describe_server(running.admin_url),
            "run": {
                "seconds": options.seconds,
                "seed": options.seed,
                "clients": CLIENTS,
                "quick": options.quick,
                "growth": _QUICK_GROWTH if options.quick else GROWTH,
            },
        }
    return Report(
        area="api", machine=describe_machine(), settings=settings, at=datetime.now(UTC), figures=bench.figures
    )


@dataclass(frozen=True, slots=True)
class _Service:
    """The API under load: its address and process, how to start a further one beside it, and who may ask."""

    url: str
    process: psutil.Process
    start: Callable[[], subprocess.Popen[bytes]]
    ledger: PostgresLedger
    users: Sequence[str]
    handles: Sequence[str]
    keys: Sequence[str]
    folder: Path


@dataclass(frozen=True, slots=True)
class _Answer:
    """What wrk tells of a run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class _Bench:
    def __init__(self, service: _Service, options: Options, progress: Progress) -> None:
        self.figures: list[Figure] = []
        self._service = service
        self._options = options
        self._progress = progress
        self._runs = 0

    async def rows(self) -> None:
        """Each row several times, in turn; medians."""
        wanted = [name for name, figures in _ROWS.items() if self._options.wants_any(*figures)]
        measured: dict[str, list[_Answer]] = {name: [] for name in wanted}
        ratios: list[float] = []
        for name in wanted:
            await self._wrk(name, seconds=1)
        for _ in range(self._options.repeats):
            for name in wanted:
                measured[name].append(await self._wrk(name, seconds=self._options.seconds))
            if "bulk" in wanted:
                ratios.append(measured["bulk"][-1].per_second * BULK / await self._in_process())
        for name in wanted:
            self._tell_row(name, measured[name])
        if ratios:
            self._tell("http_bulk_over_bulk100", median(ratios), "ratio")

    def _tell_row(self, name: str, answers: Sequence[_Answer]) -> None:
        rate, p99 = median([a.per_second for a in answers]), median([a.p99_ms for a in answers])
        factor, unit = (BULK, "entries/s") if name == "bulk" else (1, "requests/s")
        named, slow = _ROWS[name]
        self._tell(named, rate * factor, unit)
        self._tell(slow, p99, "ms", Better.LOWER)

    async def processes(self) -> None:
        """The same transfers at two API processes that share the socket and the book."""
        if not self._options.wants("http_two_processes_per_s"):
            return
        second = self._service.start()
        try:
            for _ in range(_START_SECONDS):
                await self._wrk("transfers", seconds=1)
                if _is_connected(second.pid):  # it asked the database on behalf of somebody
                    break
            else:
                raise ConfigError("a second API process got no requests", code="api_not_started")
            answers = [
                await self._wrk("transfers", seconds=self._options.seconds) for _ in range(self._options.repeats)
            ]
        finally:
            stop_child(second)
        self._tell("http_two_processes_per_s", median([answer.per_second for answer in answers]), "requests/s")
        self._tell("http_two_processes_p99_ms", median([answer.p99_ms for answer in answers]), "ms", Better.LOWER)

    async def growth(self) -> None:
        """The API process's resident memory after many entries over that after few."""
        if not self._options.wants("rss_growth"):
            return
        few, many = _QUICK_GROWTH if self._options.quick else GROWTH
        first = 0
        with self._progress.bar("entries over HTTP", many) as advance:
            done = 0
            while done < many:
                answer = await self._wrk("bulk", seconds=1 if done < few else 5)
                done += answer.requests * BULK
                advance(answer.requests * BULK)
                if not first and done >= few:
                    first = self._service.process.memory_info().rss
        last = self._service.process.memory_info().rss
        self._tell("rss_growth", last / first, "ratio", Better.LOWER)
        self._tell("rss_mib", last / 2**20, "MiB", Better.LOWER)

    async def _in_process(self) -> float:
        """Entries a second of the same bulk requests' entries by the engine alone, in this process."""
        chance = random.Random(self._runs)  # noqa: S311 - repeatable on purpose
        ledger, users = self._service.ledger, self._service.users
        self._runs += 1
        count = 0
        loop = asyncio.get_running_loop()
        calm_collector()
        end = loop.time() + self._options.seconds

        async def call(caller: int) -> None:
            nonlocal count
            sent = 0
            while loop.time() < end:
                groups = []
                for _ in range(BULK):
                    sent += 1
                    debit, credit = chance.sample(users, 2)
                    posting = Posting(
                        user_account(debit, "USDC"), user_account(credit, "USDC"), "USDC", chance.randint(1, 999_999)
                    )
                    name = worker_id("bench:bulk", f"{self._runs}:{caller}:{sent}")
                    groups.append(alone(Post(id=name, subject=name, postings=(posting,))))
                await ledger.submit(*groups)
                count += BULK

        began = loop.time()
        await asyncio.gather(*(call(caller) for caller in range(CLIENTS)))
        return count / (loop.time() - began)

    async def _wrk(self, what: str, *, seconds: float) -> _Answer:
        self._runs += 1
        service = self._service
        plan = service.folder / "plan.lua"
        plan.write_text(
            f"plan = {{ what = '{what}', run = 'r{self._runs}', size = {BULK},"
            f" seed = {self._options.seed + self._runs},"
            f" keys = {_lua_list(service.keys)}, handles = {_lua_list(service.handles)} }}\n"
        )
        command = ("wrk", "-t", "1", "-c", str(CLIENTS), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s")
        process = await asyncio.create_subprocess_exec(
            *command, "-s", str(_LUA), service.url, "--", str(plan), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        told, _ = await process.communicate()
        lines = [line for line in told.decode().splitlines() if line.startswith("ANSWER ")]
        if not lines:
            raise ConfigError(f"wrk said nothing that could be read: {told.decode()[-500:]}", code="tool_failed")
        answer = _Answer(**json.loads(lines[0].removeprefix("ANSWER ")))
        if answer.failed:
            raise ConfigError(f"{answer.failed} of {answer.requests} requests ({what}) failed", code="load_failed")
        return answer

    def _tell(self, name: str, value: float, unit: str, better: Better = Better.HIGHER) -> None:
        self.figures.append(Figure(name, value, unit, TARGETS.get(name), better))
        self._progress.note(f"{name}: {number(value)} {unit}")


_ROWS = {
    "bare": ("http_bare_per_s", "http_bare_p99_ms"),
    "balances": ("http_balances_per_s", "http_balances_p99_ms"),
    "transfers": ("http_transfers_per_s", "http_p99_ms"),
    "bulk": ("http_bulk_entries_per_s", "http_bulk_p99_ms"),
}
"""Each row's figures: how many a second, and the slowest but one in a hundred. `bare` is the yardstick."""


@asynccontextmanager
async def _opened(running: Running, options: Options, progress: Progress) -> AsyncIterator[_Service]:
    """A book with funded users who have keys, and the API on it as production starts it."""
    await create_database(running.admin_url, "bench_api")
    await migrate(at_database(running.owner_url, "bench_api"))
    url = at_database(running.app_url, "bench_api")
    engine = create_engine(url, application_name="onebook bench")
    ledger = PostgresLedger(engine, clock=SystemClock())
    folder = FOLDER / "api"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        await ledger.create_book()
        await ledger.register_asset(_USDC)
        users, handles, keys = await _people(engine, ledger, _QUICK_USERS if options.quick else USERS, progress)
        (folder / "onebook.toml").write_text(
            f"requests_per_minute = {RATE_PER_MINUTE_MAX}\n\n"
            '[[assets]]\ncode = "USDC"\nkind = "stablecoin"\nscale = 6\n'
        )
        listener = listen("127.0.0.1", free_port())
        environment = {"ONEBOOK_CONFIG": str(folder / "onebook.toml"), "ONEBOOK_DATABASE_URL": url}
        command = (sys.executable, "-m", "api.serve", "--fd", str(listener.fileno()))

        def start() -> subprocess.Popen[bytes]:
            return start_child(
                command,
                log=folder / "api.log",
                env=environment,
                death_signal=signal.SIGKILL,
                pass_fds=(listener.fileno(),),
            )

        child = start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            await _until_ready(address, child)
            process = psutil.Process(child.pid)
            yield _Service(address, process, start, ledger, users, handles, keys, folder)
        finally:
            stop_child(child)
            listener.close()
    finally:
        await ledger.aclose()
        await engine.dispose()
        shutil.rmtree(folder, ignore_errors=True)


async def _people(
    engine: AsyncEngine, ledger: PostgresLedger, count: int, progress: Progress
) -> tuple[list[str], list[str], list[str]]:
    identity = Identity(
        engine=engine,
        book=ledger.book,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        rate_per_minute=RATE_PER_MINUTE_MAX,
    )
    users, keys = [], []
    handles = [f"user{place}" for place in range(count)]
    with progress.bar("making users", count) as advance:
        for handle in handles:
            user = await identity.create_user(handle=handle)
            key = await identity.create_key(label="bench", scopes=["user"], user=user.id)
            users.append(user.id)
            keys.append(key.secret)
            advance(1)
    accounts = [user_account(user, "USDC") for user in users]
    capital = house_account("capital", "USDC")
    await ledger.ensure_open(capital, *accounts)
    funding = (
        Post(id=worker_id("bench:fund", account), postings=(Posting(capital, account, "USDC", _FUNDS),))
        for account in accounts
    )
    for outcomes in await ledger.submit(*map(alone, funding)):
        require_accepted(outcomes)
    return users, handles, keys


def _is_connected(pid: int) -> bool:
    return any(found.status == psutil.CONN_ESTABLISHED for found in psutil.Process(pid).net_connections("tcp"))


async def _until_ready(address: str, child: subprocess.Popen[bytes]) -> None:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    async with httpx.AsyncClient(base_url=address) as client:
        while asyncio.get_running_loop().time() < deadline and child.poll() is None:
            try:
                if (await client.get("/health/live")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise ConfigError("the API didn't start", code="api_not_started")


def _lua_list(texts: Sequence[str]) -> str:
    return "{" + ",".join(f"'{text}'" for text in texts) + "}"
