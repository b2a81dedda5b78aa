"""An API process under load: a book with funded users who have keys, the service on it as production starts it, wrk.

Authentication, idempotency and the rate limit are on. The client is a C program, so that what is measured is the
service; it shares the machine with it all the same.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from base.children import free_port, listen, start_child, stop_child
from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import ConfigError
from base.progress import Progress
from bench.stage import FOLDER
from db.engine import create_engine
from db.migrate import migrate
from db.server import Running, at_database, create_database
from identity.keys import RATE_PER_MINUTE_MAX
from identity.service import Identity
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset
from ledger.outcomes import require_accepted
from ledger.requests import worker_id
from ledger.service import PostgresLedger

CLIENTS = 64
"""Keep-alive connections."""

FUNDS = 10**18
"""Smallest units that each user has of each asset, and each purpose of the house that is funded."""

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Service:
    """The API under load: its address and process, how to start a further one beside it, and who may ask."""

    url: str
    process: psutil.Process
    start: Callable[[], subprocess.Popen[bytes]]
    engine: AsyncEngine
    ledger: PostgresLedger
    users: Sequence[str]
    handles: Sequence[str]
    keys: Sequence[str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What wrk tells of a run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raises ConfigError where there is none."""
    if shutil.which("wrk") is None:
        raise ConfigError("the load comes from wrk, which isn't here: apt-get install wrk", code="tool_missing")


async def load(service: Service, script: Path, plan: str, *, what: str, seconds: float) -> Answer:
    """Have wrk ask for so long, as `script` says by a `plan` in Lua. Raises ConfigError if any request failed."""
    told = service.folder / "plan.lua"
    told.write_text(plan)
    command = ("wrk", "-t", "1", "-c", str(CLIENTS), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s")
    process = await asyncio.create_subprocess_exec(
        *command, "-s", str(script), service.url, "--", str(told), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    lines = [line for line in said.decode().splitlines() if line.startswith("ANSWER ")]
    if not lines:
        raise ConfigError(f"wrk said nothing that could be read: {said.decode()[-500:]}", code="tool_failed")
    answer = Answer(**json.loads(lines[0].removeprefix("ANSWER ")))
    if answer.failed:
        raise ConfigError(f"{answer.failed} of {answer.requests} requests ({what}) failed", code="load_failed")
    return answer


def lua_list(texts: Sequence[str]) -> str:
    """Texts as Lua writes a list of them."""
    return "{" + ",".join(f"'{text}'" for text in texts) + "}"


@asynccontextmanager
async def serving(
    running: Running,
    name: str,
    *,
    assets: Sequence[Asset],
    users: int,
    progress: Progress,
    config: str = "",
    files: Mapping[str, str] | None = None,
    stock: Sequence[str] = (),
) -> AsyncIterator[Service]:
    """A book of these assets with funded users who have keys, and the API on it as production starts it.

    `config` and `files` are added to its folder; `stock` are purposes of the house that are funded in every asset.
    """
    await create_database(running.admin_url, name)
    await migrate(at_database(running.owner_url, name))
    url = at_database(running.app_url, name)
    engine = create_engine(url, application_name="onebook bench")
    ledger = PostgresLedger(engine, clock=SystemClock())
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        await ledger.create_book()
        for asset in assets:
            await ledger.register_asset(asset)
        people, handles, keys = await _people(engine, ledger, users, assets, stock, progress)
        kinds = "".join(
            f'[[assets]]\ncode = "{asset.code}"\nkind = "{asset.kind.value}"\nscale = {asset.scale}\n'
            for asset in assets
        )
        (folder / "onebook.toml").write_text(f"requests_per_minute = {RATE_PER_MINUTE_MAX}\n\n{kinds}\n{config}")
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
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
            yield Service(address, process, start, engine, ledger, people, handles, keys, folder)
        finally:
            stop_child(child)
            listener.close()
    finally:
        await ledger.aclose()
        await engine.dispose()
        shutil.rmtree(folder, ignore_errors=True)


async def _people(
    engine: AsyncEngine,
    ledger: PostgresLedger,
    count: int,
    assets: Sequence[Asset],
    stock: Sequence[str],
    progress: Progress,
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
    for asset in (asset.code for asset in assets):
        accounts = [*(user_account(user, asset) for user in users), *(house_account(one, asset) for one in stock)]
        capital = house_account("capital", asset)
        await ledger.ensure_open(capital, *accounts)
        funding = (
            Post(id=worker_id("bench:fund", account), postings=(Posting(capital, account, asset, FUNDS),))
            for account in accounts
        )
        for outcomes in await ledger.submit(*map(alone, funding)):
            require_accepted(outcomes)
    return users, handles, keys


async def _until_ready(address: str, child: subprocess.Popen[bytes]) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    async with httpx.AsyncClient(base_url=address) as client:
        while asyncio.get_running_loop().time() < deadline and child.poll() is None:
            try:
                if (await client.get("/health/live")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise ConfigError("the API didn't start", code="api_not_started")
