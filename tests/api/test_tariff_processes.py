"""Two API processes over one book: a cap isn't passed, an allowance isn't given twice, a lower tier holds in both."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from base.children import free_port, start_child, stop_child
from base.clock import SystemClock
from base.entropy import SystemEntropy
from identity.service import Identity
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.api.conftest import RATES
from tests.support.postgres import Database

pytestmark = pytest.mark.slow

CONFIG = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2
"""
TARIFF = """
default_tier = "standard"
reference = "EUR"

[tiers.standard]
free.transfer = { operations = 7 }
limits.out = { day = "100.00" }

[tiers.open]

[[fees]]
operation = "transfer"
asset = "EUR"
flat = "0.10"
"""
PATIENCE_SECONDS = 30.0


@contextmanager
def serving(home: Path, url: str, name: str) -> Iterator[str]:
    """The address of an API process of this installation."""
    port = free_port()
    env = os.environ | {"ONEBOOK_CONFIG": str(home / "onebook.toml"), "ONEBOOK_DATABASE_URL": url}
    command = [sys.executable, "-m", "api.serve", "--port", str(port)]
    process: subprocess.Popen[bytes] = start_child(command, env=env, log=home / f"{name}.log")
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).json()["ready"]:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_child(process)


async def keys(database: Database) -> tuple[str, str]:
    """The secrets of alice, who has 10,000.00, and of an operator."""
    engine = database.engine()
    ledger = PostgresLedger(engine, clock=SystemClock())
    await ledger.create_book()
    await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
    identity = Identity(engine=engine, book="main", clock=SystemClock(), entropy=SystemEntropy())
    await identity.create_user(handle="bob")
    alice = user_account((await identity.create_user(handle="alice")).id, "EUR")
    source = house_account("capital", "EUR")
    await ledger.ensure_open(alice, source)
    await ledger.submit(alone(Post(id="test:fund", postings=(Posting(source, alice, "EUR", 10_000_00),))))
    key = await identity.create_key(label="a", scopes=["user"], user="alice", rate_per_minute=10_000)
    return key.secret, (await identity.create_operator_key()).secret


def client(address: str, secret: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=PATIENCE_SECONDS)


async def send(api: httpx.AsyncClient, name: str, amount: str) -> httpx.Response:
    body = {"recipient": "@bob", "asset": "EUR", "amount": amount}
    return await api.post("/v1/transfers", json=body, headers={"Idempotency-Key": name})


async def test_two_processes_keep_to_one_cap_and_one_allowance(tmp_path, database):
    (tmp_path / "onebook.toml").write_text(CONFIG)
    (tmp_path / "rates.toml").write_text(RATES)
    (tmp_path / "tariff.toml").write_text(TARIFF)
    alice, operator = await keys(database)
    with ExitStack() as stack:
        here, there = (stack.enter_context(serving(tmp_path, database.app_url, name)) for name in ("one", "two"))
        async with client(here, alice) as one, client(there, alice) as two, client(here, operator) as office:
            answers = await asyncio.gather(*(send((one, two)[n % 2], f"t{n}", "5.00") for n in range(60)))
            fees = sorted(answer.json()["fee"] for answer in answers if answer.status_code == 201)
            assert fees == ["0.00"] * 7 + ["0.10"] * 13
            refused = {answer.json()["code"] for answer in answers if answer.status_code != 201}
            assert refused == {"limit_exceeded"}
            again = await asyncio.gather(*(send((two, one)[n % 2], f"t{n}", "5.00") for n in range(60)))
            told = [(answer.status_code, answer.json().get("id"), answer.json().get("fee")) for answer in again]
            assert told == [(one.status_code, one.json().get("id"), one.json().get("fee")) for one in answers]

            async def into(tier: str) -> None:
                change = await office.put("/v1/users/alice/tier", json={"tier": tier, "reason": "of the test"})
                assert change.status_code == 200, change.text

            await into("open")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await send(two, f"open {time.monotonic_ns()}", "1.00")).status_code != 201:
                    pass
            await into("standard")
            lowered = time.monotonic()
            while (await send(two, f"low {time.monotonic_ns()}", "1.00")).status_code == 201:
                assert time.monotonic() - lowered < 1
