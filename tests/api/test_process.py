"""The API as its own process, over TCP, with its database taken away and given back."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from base.children import free_port, start_child, stop_child
from base.clock import SystemClock
from base.entropy import SystemEntropy
from db.engine import create_engine
from db.migrate import migrate
from db.server import PostgresServer, Running, clean
from identity.service import Identity
from ledger.accounts import user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.api.conftest import RATES
from tests.support.postgres import FOLDER, THROWAWAY
from treasury.operations.acts import Act
from treasury.operations.audit_log import AuditLog

pytestmark = pytest.mark.slow

CONFIG = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2
"""
PATIENCE_SECONDS = 30.0


@pytest.fixture
def server() -> Iterator[tuple[PostgresServer, Running]]:
    """A database server of this test's own, to be stopped and started."""
    folder = FOLDER / f"api-process-{os.getpid()}"
    clean(folder)
    server = PostgresServer(folder, settings=THROWAWAY)
    try:
        running = server.start()
        asyncio.run(migrate(running.owner_url))
        yield server, running
    finally:
        server.stop()
        clean(folder)


def _secret(url: str) -> str:
    async def make() -> str:
        engine = create_engine(url)
        try:
            ledger = PostgresLedger(engine, clock=SystemClock())
            await ledger.create_book()
            await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
            identity = Identity(engine=engine, book="main", clock=SystemClock(), entropy=SystemEntropy())
            await identity.create_user(handle="bob")
            account, source = user_account((await identity.create_user(handle="alice")).id, "EUR"), "house/capital/EUR"
            await ledger.ensure_open(account, source)
            await ledger.submit(alone(Post(id="test:fund", postings=(Posting(source, account, "EUR", 10_00),))))
            await ledger.aclose()
            return (await identity.create_key(label="a", scopes=["user"], user="alice")).secret
        finally:
            await engine.dispose()

    return asyncio.run(make())


def _start(home: Path, url: str, port: int) -> subprocess.Popen[bytes]:
    (home / "onebook.toml").write_text(CONFIG)
    (home / "rates.toml").write_text(RATES)
    env = os.environ | {"ONEBOOK_CONFIG": str(home / "onebook.toml"), "ONEBOOK_DATABASE_URL": url}
    return start_child([sys.executable, "-m", "api.serve", "--port", str(port)], env=env, log=home / "api.log")


def _until(api: httpx.Client, ready: bool) -> httpx.Response:
    """Wait until the service says that it is, or isn't, ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = api.get("/health/ready")
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.json()["ready"] is ready:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not ready={ready} within {PATIENCE_SECONDS} s")


def test_process_serves_loses_its_database_recovers_and_stops(server, tmp_path: Path):
    postgres, running = server
    headers = {"Authorization": f"Bearer {_secret(running.app_url)}"}
    send = {"recipient": "@bob", "asset": "EUR", "amount": "4.00"}
    once = {"Idempotency-Key": "while it's away"}
    port = free_port()
    process = _start(tmp_path, running.app_url, port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20, headers=headers) as api:
            _until(api, ready=True)
            assert api.get("/v1/me").json()["user"]["handle"] == "alice"
            assert "server" not in api.get("/").headers

            postgres.stop()
            lost = _until(api, ready=False)
            assert (lost.status_code, "database" in lost.json()["checks"]) == (503, True)
            assert api.get("/health/live").status_code == 200
            for path in ("/v1/me", "/v1/balances"):
                answer = api.get(path)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
                assert int(answer.headers["Retry-After"]) > 0
                assert "127.0.0.1" not in answer.text
            answer = api.post("/v1/transfers", json=send, headers=once)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
            assert int(answer.headers["Retry-After"]) > 0
            assert api.get("/").status_code == 200

            postgres.start()
            _until(api, ready=True)
            sent = [api.post("/v1/transfers", json=send, headers=once) for _ in range(2)]
            assert [answer.status_code for answer in sent] == [201, 201]
            assert ["Idempotent-Replayed" in answer.headers for answer in sent] == [False, True]
            assert api.get("/v1/balances/EUR").json()["balance"] == "6.00"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) in (0, -signal.SIGTERM)
        (started,) = _starts(running.app_url)
        assert (started.actor.key, started.subject) == ("process:api", "api")
        assert len(json.loads(started.detail or "{}")["config"]) == 64
    finally:
        stop_child(process)


def _starts(url: str) -> list[Act]:
    """What processes have noted of their starts."""

    async def read() -> list[Act]:
        engine = create_engine(url)
        try:
            ledger = PostgresLedger(engine, clock=SystemClock())
            log = AuditLog(engine, ledger=ledger, clock=SystemClock(), entropy=SystemEntropy())
            return await log.recent(action="process.start")
        finally:
            await engine.dispose()

    return asyncio.run(read())


def test_process_says_in_one_line_what_it_lacks(tmp_path: Path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ONEBOOK_")}
    done = subprocess.run(
        [sys.executable, "-m", "api.serve"],
        env=env | {"ONEBOOK_CONFIG": str(tmp_path / "none.toml"), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "onebook init" in done.stderr
