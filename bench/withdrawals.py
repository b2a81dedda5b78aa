"""Many withdrawals asked for at once, until the last one is final, in a whole installation with a block a second.

Final at a depth of six. One by one: four hot addresses pay. Batched: they share transactions through the payout
contract. PostgreSQL, signer, worker and API are processes of their own, started by `cli.bench_house`.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

from base.children import start_child, stop_child
from base.errors import Unavailable
from bench.frame import Options
from chain import local
from chain.evm.addresses import show_address

ROWS = {"withdrawals_500_s": False, "withdrawals_500_batched_s": True}
"""The rows, and whether they pay in batches."""

COUNT, QUICK_COUNT = 500, 20
CALLERS = 32
"""Requests that are sent side by side."""

FUNDED_USDC = 100_000 * 10**6
WAIT_SECONDS = 300
_LOOK_SECONDS = 0.2

Seen = TypeVar("Seen")


async def measure(options: Options, folder: Path) -> AsyncIterator[tuple[str, float]]:
    """Each wanted row with its seconds, in an installation of its own in `folder`."""
    count = QUICK_COUNT if options.quick else COUNT
    for name, batched in ROWS.items():
        if options.wants(name):
            place = folder / name
            place.mkdir(parents=True)
            with _house(place, batched=batched) as house:
                yield name, await _until_final(house, count, batched=batched)


@contextmanager
def _house(folder: Path, *, batched: bool) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "cli.bench_house", str(folder), *(["--batched"] if batched else [])]
    log, ready = folder / "house.log", folder / "ready.json"
    child = start_child(command, log=log)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not ready.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the installation for the bench didn't start:\n{log.read_text()[-2000:]}")
            time.sleep(_LOOK_SECONDS)
        yield json.loads(ready.read_bytes())
    finally:
        stop_child(child, seconds=60)


async def _until_final(house: dict[str, str], count: int, *, batched: bool) -> float:
    """Seconds from the first request until the last withdrawal is final.

    Raises Unavailable if one ends otherwise, or if what was to be paid in batches wasn't, or the other way round.
    """
    limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=CALLERS)
    async with httpx.AsyncClient(base_url=house["api_url"], timeout=60, trust_env=False, limits=limits) as http:
        user = await _funded_user(http, house)
        connection = await asyncpg.connect(house["database_url"].replace("+asyncpg", ""))
        try:
            started = time.monotonic()
            asking = asyncio.create_task(_ask_all(http, user, count))

            async def all_are_final() -> bool:
                if asking.done():
                    asking.result()
                states = dict(await connection.fetch("SELECT state, count(*) FROM wallet_withdrawals GROUP BY 1"))
                lost = {state: states[state] for state in ("rejected", "cancelled", "reverted") if state in states}
                if lost:
                    raise Unavailable(f"withdrawals that aren't final but ended: {lost}")
                return bool(states.get("final") == count)

            await _eventually(f"{count} withdrawals are final", all_are_final)
            seconds = time.monotonic() - started
            await asking
            in_batches = await connection.fetchval("SELECT count(*) FROM wallet_batch_legs WHERE result = 'paid'")
            if bool(in_batches) is not batched:
                raise Unavailable(
                    f"{in_batches} of {count} withdrawals were paid in batches: that isn't what's measured"
                )
        finally:
            await connection.close()
    return seconds


async def _ask_all(http: httpx.AsyncClient, user: dict[str, str], count: int) -> None:
    async def ask(number: int) -> None:
        body = {"asset": "USDC", "network": "local", "amount": "1.00"}
        body["address"] = show_address("0x" + secrets.token_bytes(20).hex())
        answer = await http.post("/v1/withdrawals", json=body, headers=user | {"Idempotency-Key": f"payout-{number}"})
        answer.raise_for_status()

    await asyncio.gather(*(ask(number) for number in range(count)))


async def _funded_user(http: httpx.AsyncClient, house: dict[str, str]) -> dict[str, str]:
    """The headers of a user who has what all withdrawals take."""
    operator = {"Authorization": f"Bearer {house['operator_key']}"}

    async def made(path: str, body: dict[str, object], headers: dict[str, str]) -> dict[str, Any]:
        answer = await http.post(path, json=body, headers=headers | {"Idempotency-Key": secrets.token_hex(8)})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    person = await made("/v1/users", {"handle": "alice", "name": "Alice"}, operator)
    key = await made("/v1/api-keys", {"label": "alice", "scopes": ["user"], "user": person["id"]}, operator)
    user = {"Authorization": f"Bearer {key['secret']}"}
    address = (await made("/v1/deposit-addresses", {"network": "local"}, user))["address"]
    await asyncio.to_thread(local.transfer, house["chain_url"], "USDC", address, FUNDED_USDC)

    async def is_credited() -> bool:
        answer = await http.get("/v1/deposits", headers=user)
        return answer.is_success and [one["state"] for one in answer.json()["items"]] == ["final"]

    await _eventually("the user's deposit is final", is_credited)
    return user


async def _eventually(what: str, look: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await look():
        if time.monotonic() > deadline:
            raise Unavailable(f"after {WAIT_SECONDS} s it still isn't so that {what}")
        await asyncio.sleep(_LOOK_SECONDS)
