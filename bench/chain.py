"""The area `chain`: reading blocks, recomputing them, and taking a chain in, from a local anvil that holds real tokens.

A busy block is one of the node's own, with many token transfers. The chain that is taken in has one deposit address
among the recipients of each block, and a million others that are watched. Gas per leg of a batch: `bench.payout_gas`;
five hundred withdrawals at once: `bench.withdrawals`.
"""

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import psutil

from base.clock import SystemClock
from base.progress import Progress
from bench import payout_gas, withdrawals
from bench.frame import Better, Figure, Options, Report, median, number
from bench.machine import describe_machine, describe_server
from bench.stage import FOLDER, server
from chain import local
from chain.evm import transfers
from chain.evm.blocks import read_block
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from chain.follower import Did, Follower
from chain.local import LocalChain, NodeKind
from chain.networks import Encoding, Network
from db.engine import create_engine
from db.migrate import migrate
from db.server import Running, at_database, create_database, drop_database

TARGETS = {
    "extract_logs_per_s": 50_000.0,
    "verified_receipts_per_s": 3_000.0,
    "watch_1m_mib": 300.0,
    "watch_1m_over_1k": 0.9,
    "backfill_s": 60.0,
    "deposit_seen_s": 1.0,
    "withdrawals_500_s": 60.0,
    "withdrawals_500_batched_s": 60.0,
}
"""What figures must reach."""

BUSY_TRANSFERS = 200
"""Token transfers in the block that is read and recomputed."""

BLOCKS, TRANSFERS = 10_000, 10
"""Of the chain that is taken in: its blocks, and the token transfers in each."""

RECIPIENTS = 500
"""Whom strangers pay. The node hashes all of its state at each block: with ever new ones it gets slower and slower."""

QUICK_BLOCKS = 60
WATCHED_FEW, WATCHED_MANY = 1_000, 1_000_000
WATCHED_QUICK = 10_000
DEPOSITS = 20
"""Deposits whose delay is measured, one after the other."""

PAUSE_SECONDS = 0.5
"""Between two looks of an idle worker, as configured by default."""

_GAS, _FEE, _TIP = hex(90_000), hex(50 * 10**9), hex(10**9)
_WAIT_SECONDS = 30


async def measure(options: Options, progress: Progress) -> Report:
    """Measure the wanted rows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chain-", dir=FOLDER))
    try:
        with server("chain") as running, LocalChain.start(NodeKind.ANVIL, folder, port=None) as anvil:
            bench = _Bench(options, progress, running, anvil)
            bench.reading()
            await bench.taking_in()
            await bench.seeing()
            for name, gas in payout_gas.measure(options, folder / "payouts"):
                bench.tell(name, gas, "gas", Better.LOWER)
            async for name, seconds in withdrawals.measure(options, folder / "withdrawals"):
                bench.tell(name, seconds, "s", Better.LOWER)
            described = await describe_server(running.admin_url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    run = {"seconds": options.seconds, "seed": options.seed, "quick": options.quick, "blocks": bench.blocks}
    return Report(
        area="chain",
        machine=describe_machine(),
        settings={"run": run | {"transfers_a_block": TRANSFERS, "watched": bench.many}, "postgresql": described},
        at=datetime.now(UTC),
        figures=bench.figures,
    )


@dataclass(frozen=True, slots=True)
class _TakenIn:
    seconds: float
    observed: int
    mib: float
    """What this process held in memory at the end."""


class _Bench:
    """The rows, one method for each family of them."""

    def __init__(self, options: Options, progress: Progress, running: Running, anvil: LocalChain) -> None:
        self.figures: list[Figure] = []
        self.blocks = QUICK_BLOCKS if options.quick else BLOCKS
        self.many = WATCHED_QUICK if options.quick else WATCHED_MANY
        self._options, self._progress, self._running = options, progress, running
        self._writer = _Writer(anvil)

    def reading(self) -> None:
        """From a node's answer in bytes: the transfers in it, and the same with every hash and root recomputed."""
        if not self._options.wants_any("extract_logs_per_s", "verified_receipts_per_s"):
            return
        ref = self._writer.block(BUSY_TRANSFERS)
        answers = self._writer.raw(("eth_getBlockByHash", [ref, True]), ("eth_getBlockReceipts", [ref]))
        own = frozenset({self._writer.recipient(0)})

        def extract(encoding: Encoding) -> Callable[[], None]:
            def once() -> None:
                block, receipts = (msgspec.json.decode(answer)["result"] for answer in answers)
                whole = read_block(block, receipts, encoding)
                transfers.touched(whole)
                transfers.observations(whole, own)

            return once

        for name, unit, encoding in (
            ("extract_logs_per_s", "logs/s", Encoding.UNKNOWN),
            ("verified_receipts_per_s", "receipts/s", Encoding.ETHEREUM),
        ):
            if self._options.wants(name):
                self.tell(name, self._options.rate(extract(encoding), BUSY_TRANSFERS), unit)

    async def taking_in(self) -> None:
        """A chain from its first block on: each block whole, recomputed, with what is ours in it stored."""
        if not self._options.wants_any("backfill_s", "watch_1m_mib", "watch_1m_over_1k"):
            return
        with self._progress.bar("mining", self.blocks) as advance:
            for _ in range(self.blocks):
                self._writer.block(TRANSFERS)
                advance(1)
        few: list[_TakenIn] = []
        many: list[_TakenIn] = []
        for _ in range(self._options.pairs):
            few.append(await self._take_in(WATCHED_FEW))
            many.append(await self._take_in(self.many))
        logs = {one.observed for one in (*few, *many)}
        assert logs == {self.blocks}, f"each block has one transfer of ours, not {logs}"
        self.tell("backfill_s", median([one.seconds for one in many]), "s", Better.LOWER)
        self.tell("watch_1m_mib", max(one.mib for one in many), "MiB", Better.LOWER)
        ratios = [one.seconds / other.seconds for one, other in zip(few, many, strict=True)]
        self.tell("watch_1m_over_1k", statistics.median(ratios), "ratio")

    async def seeing(self) -> None:
        """From a deposit's block to the row of it, the worker looking as often as it's configured to by default."""
        if not self._options.wants("deposit_seen_s"):
            return
        async with self._database(WATCHED_FEW, self._writer.recipient(0)) as (url, follower):
            while (await follower.step()).did is Did.ADVANCED:
                pass
            delays = [await self._delay(url, follower) for _ in range(2 if self._options.quick else DEPOSITS)]
        self.tell("deposit_seen_s", max(delays), "s", Better.LOWER)

    async def _delay(self, url: str, follower: Follower) -> float:
        connection = await asyncpg.connect(url)
        try:
            before = await connection.fetchval("SELECT count(*) FROM chain_observations")
            self._writer.block(1)
            mined = time.perf_counter()
            while time.perf_counter() - mined < _WAIT_SECONDS:
                await asyncio.sleep(PAUSE_SECONDS)  # the worker had looked just before: the longest that it can take
                await follower.step()
                if await connection.fetchval("SELECT count(*) FROM chain_observations") > before:
                    return time.perf_counter() - mined
            raise AssertionError("a deposit wasn't seen")
        finally:
            await connection.close()

    async def _take_in(self, watched: int) -> _TakenIn:
        async with self._database(watched, self._writer.recipient(0)) as (url, follower):
            head = local.height(self._writer.url)
            start = time.perf_counter()
            with self._progress.bar(f"taking in, {watched:,} watched", head + 1) as advance:
                height = -1
                while (done := await follower.step()).did is Did.ADVANCED:
                    advance(done.height - height)
                    height = done.height
            seconds = time.perf_counter() - start
            connection = await asyncpg.connect(url)
            try:
                unverified = await connection.fetchval("SELECT count(*) FROM chain_blocks WHERE NOT verified")
                assert (height, unverified) == (head, 0)
                observed = await connection.fetchval("SELECT count(*) FROM chain_observations")
            finally:
                await connection.close()
        return _TakenIn(seconds, observed - self._writer.aside, psutil.Process().memory_info().rss / 2**20)

    @asynccontextmanager
    async def _database(self, watched: int, own: str) -> AsyncIterator[tuple[str, Follower]]:
        """A fresh database with so many watched addresses, `own` among them, and a follower that writes to it."""
        name = f"bench_{watched}_{next(_numbers)}"
        admin = at_database(self._running.admin_url, name)
        await create_database(self._running.admin_url, name)
        try:
            await migrate(at_database(self._running.owner_url, name))
            await _watch(admin, watched, own)
            engine = create_engine(at_database(self._running.app_url, name), application_name="onebook bench")
            rpc = HttpRpc(self._writer.url)
            network = Network(
                name="local",
                chain_id=self._writer.chain_id,
                rpc_urls=(self._writer.url,),
                native_asset="ETH",
                spendable_depth=1,
                final_depth=4,
                tip_floor=10**9,
            )
            follower = Follower(
                engine=engine, network=network, nodes=Pool(network, [Node(network, rpc)]), clock=SystemClock()
            )
            try:
                yield admin, follower
            finally:
                await follower.close()
                await rpc.close()
                await engine.dispose()
        finally:
            await drop_database(self._running.admin_url, name)

    def tell(self, name: str, value: float, unit: str, better: Better = Better.HIGHER) -> None:
        """A figure of the report."""
        self.figures.append(Figure(name, value, unit, TARGETS.get(name), better))
        self._progress.note(f"{name}: {number(value)} {unit}")


_numbers = itertools.count(1)


class _Writer:
    """Fills the chain: blocks of token transfers to many recipients, the first of each block to one of ours."""

    def __init__(self, anvil: LocalChain) -> None:
        self.url, self.chain_id = anvil.url, anvil.chain_id
        self.aside = 0
        """Blocks that aren't of the chain that is taken in."""
        self._sender, self._token = anvil.record.accounts[1], anvil.tokens["USDC"].address
        self._http = httpx.Client(timeout=_WAIT_SECONDS, trust_env=False)
        self._nonce = int(local.rpc(self.url, "eth_getTransactionCount", self._sender, "latest"), 16)
        local.mine_at_once(self.url, on=False)

    @staticmethod
    def recipient(number: int) -> str:
        """Somebody whom nobody has keys for; number 0 is watched."""
        return f"0x{2**100 + number:040x}"

    def block(self, count: int) -> str:
        """Mine a block of so many transfers; its hash."""
        sent = [self._transfer(self.recipient(place and 1 + self._nonce % RECIPIENTS)) for place in range(count)]
        answers = self._http.post(self.url, json=sent).raise_for_status().json()
        failed = [answer["error"] for answer in answers if "error" in answer]
        assert not failed, failed[0]
        self._ask("evm_mine")
        mined = self._ask("eth_getBlockByNumber", "latest", False)
        assert len(mined["transactions"]) == count
        if count != TRANSFERS:
            self.aside += 1
        return str(mined["hash"])

    def raw(self, *calls: tuple[str, Sequence[object]]) -> list[bytes]:
        """The node's answers as it sends them."""
        return [self._http.post(self.url, json=self._request(*call)).raise_for_status().content for call in calls]

    def _transfer(self, to: str) -> dict[str, object]:
        transaction = {
            "from": self._sender,
            "to": self._token,
            "data": "0x" + local.encode_call("transfer(address,uint256)", to, 1).hex(),
            "gas": _GAS,
            "nonce": hex(self._nonce),
            "maxFeePerGas": _FEE,
            "maxPriorityFeePerGas": _TIP,
        }
        self._nonce += 1
        return self._request("eth_sendTransaction", [transaction], number=self._nonce)

    def _ask(self, method: str, *params: object) -> Any:
        answer = self._http.post(self.url, json=self._request(method, params)).raise_for_status().json()
        assert "error" not in answer, answer
        return answer["result"]

    @staticmethod
    def _request(method: str, params: Sequence[object], number: int = 1) -> dict[str, object]:
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


async def _watch(url: str, count: int, own: str) -> None:
    """Issue so many addresses, as COPY, since issuing isn't what is measured."""
    now = SystemClock().now()
    connection = await asyncpg.connect(url)
    try:
        await connection.copy_records_to_table("chain_addresses", records=_issued(count, own, now), columns=_COLUMNS)
        await connection.execute("VACUUM ANALYZE chain_addresses")
    finally:
        await connection.close()


_COLUMNS = ("family", "address", "role", "generation", "key_index", "book", "owner", "issued_at")


def _issued(count: int, own: str, now: datetime) -> Iterator[tuple[object, ...]]:
    for index in range(count):
        address = own if index == 0 else f"0x{index * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276B % 2**160:040x}"
        yield ("evm", address, "deposit", 1, index, "main", f"usr_{index}", now)
