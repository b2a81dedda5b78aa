"""Requests a second over HTTP: the API's own process on a PostgreSQL of its own, asked by wrk over loopback.

Authentication, idempotency and the rate limit are on. The client is a C program, so that what is measured is the
service; it shares the machine with it all the same.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from base.children import stop_child
from base.collector import calm_collector
from base.errors import ConfigError
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, median, number
from bench.http import CLIENTS, START_SECONDS, Answer, Service, load, lua_list, require_wrk, serving
from bench.machine import describe_machine, describe_server
from bench.stage import server
from ledger.accounts import user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.requests import worker_id

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


async def measure(options: Options, progress: Progress) -> Report:
    """Start a server and the API, and measure the wanted rows."""
    require_wrk()
    with server("api") as running:
        async with serving(
            running,
            "bench_api",
            assets=(_USDC,),
            users=_QUICK_USERS if options.quick else USERS,
            progress=progress,
        ) as service:
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


class _Bench:
    def __init__(self, service: Service, options: Options, progress: Progress) -> None:
        self.figures: list[Figure] = []
        self._service = service
        self._options = options
        self._progress = progress
        self._runs = 0

    async def rows(self) -> None:
        """Each row several times, in turn; medians."""
        wanted = [name for name, figures in _ROWS.items() if self._options.wants_any(*figures)]
        measured: dict[str, list[Answer]] = {name: [] for name in wanted}
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

    def _tell_row(self, name: str, answers: Sequence[Answer]) -> None:
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
            for _ in range(START_SECONDS):
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

    async def _wrk(self, what: str, *, seconds: float) -> Answer:
        self._runs += 1
        service = self._service
        plan = (
            f"plan = {{ what = '{what}', run = 'r{self._runs}', size = {BULK},"
            f" seed = {self._options.seed + self._runs},"
            f" keys = {lua_list(service.keys)}, handles = {lua_list(service.handles)} }}\n"
        )
        return await load(service, _LUA, plan, what=what, seconds=seconds)

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


def _is_connected(pid: int) -> bool:
    return any(found.status == psutil.CONN_ESTABLISHED for found in psutil.Process(pid).net_connections("tcp"))
