"""When there is too much at once: a clear answer and when to come again, never a queue without an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api import turns
from api.app import create_app
from api.errors import StillUnderWay
from api.turns import Turns
from base.clock import ManualClock
from base.entropy import SeededEntropy
from db.engine import create_engine, tx
from ledger.service import PostgresLedger
from tests.api.conftest import Caller, Stage
from tests.support.postgres import Database
from tests.support.waiting import eventually
from wallet.bulk import BulkTransfers
from wallet.transfers import Fees, Transfers
from wiring.assemble import build_services
from wiring.parts import Parts, build_registry
from wiring.services import Services
from wiring.settings import Settings
from wiring.signing import XpubAddresses

SEND = {"recipient": "@bob", "asset": "USDC", "amount": "1.00"}


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    """Alice has 10 USDC, and has sent 1, so that all accounts are open."""
    await stage.fund(stage.alice, "10.00", "USDC")
    await stage.alice.post("/v1/transfers", SEND, key="opens the accounts")
    return stage


@asynccontextmanager
async def served(services: Services, who: Caller) -> AsyncIterator[Caller]:
    """`who`, asking another process of the same installation."""
    transport = httpx.ASGITransport(app=create_app(services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://onebook.test") as api:
        yield Caller(api, who.secret, who.user)


async def has(who: Caller) -> str:
    return str((await who.get("/v1/balances/USDC")).json()["balance"])


@asynccontextmanager
async def busy_book(database: Database) -> AsyncIterator[None]:
    """Somebody else has the book's lock: nothing can be written meanwhile."""
    async with tx(database.engine()) as connection:
        await connection.execute(text("SELECT ledger_lock('main')"))
        yield


async def waits_for_the_book(database: Database) -> None:
    """Until somebody waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = :name")
    admin = database.engine(admin=True)

    async def look() -> bool:
        async with tx(admin) as connection:
            return bool(await connection.scalar(waiting, {"name": database.name}))

    await eventually("a request waits for the book", look)


@pytest.mark.slow
async def test_repeats_of_a_request_under_way_wait_and_get_its_answer(funded: Stage, database: Database):
    async with busy_book(database):
        first = asyncio.create_task(funded.alice.post("/v1/transfers", SEND, key="pay"))
        await waits_for_the_book(database)
        repeats = [asyncio.create_task(funded.alice.post("/v1/transfers", SEND, key="pay")) for _ in range(5)]
        other = asyncio.create_task(funded.alice.post("/v1/transfers", SEND | {"amount": "2.00"}, key="pay"))
        await asyncio.wait({*repeats, other}, timeout=0.2)
        assert not any(request.done() for request in (first, other, *repeats))
    answers = await asyncio.gather(first, *repeats)
    assert [answer.status_code for answer in answers] == [201] * 6
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None] + ["true"] * 5
    conflict = (await other).json()
    assert (conflict["code"], conflict["first"]) == ("idempotency_key_reused", answers[0].json()["id"])
    assert await has(funded.bob) == "2.00"


@pytest.mark.slow
async def test_a_repeat_that_has_waited_long_enough_is_409_with_the_seconds_to_wait(
    funded: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
):
    assert turns.WAIT_SECONDS == 5
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.3)
    async with busy_book(database):
        first = asyncio.create_task(funded.alice.post("/v1/transfers", SEND, key="pay"))
        await waits_for_the_book(database)
        repeat = await funded.alice.post("/v1/transfers", SEND, key="pay")
        assert (repeat.status_code, repeat.json()["code"]) == (409, "request_under_way")
        assert int(repeat.headers["Retry-After"]) >= 1
        assert not first.done()
    made = await first
    again = await funded.alice.post("/v1/transfers", SEND, key="pay")
    assert (made.status_code, again.status_code, again.content) == (201, 201, made.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await has(funded.bob) == "2.00"


@pytest.mark.slow
async def test_a_full_queue_is_429_with_the_seconds_to_wait_and_nothing_is_done(funded: Stage, database: Database):
    services = funded.services
    full = PostgresLedger(database.engine(), clock=services.clock, queue_max=0)
    common: dict[str, Any] = {
        "ledger": full,
        "directory": services.identity,
        "clock": services.clock,
        "entropy": services.entropy,
    }
    transfers = Transfers(**common, fees=Fees())
    bulk = BulkTransfers(**common, fees=Fees())
    async with served(replace(services, ledger=full, transfers=transfers, bulk_transfers=bulk), funded.alice) as alice:
        for path, body in (("/v1/transfers", SEND), ("/v1/transfers/bulk", {"transfers": [SEND, SEND]})):
            answer = await alice.post(path, body, key="busy")
            assert (answer.status_code, answer.json()["code"]) == (429, "book_busy")
            assert int(answer.headers["Retry-After"]) >= 1
    made = await funded.alice.post("/v1/transfers", SEND, key="busy")
    assert (made.status_code, "Idempotent-Replayed" in made.headers) == (201, False)
    assert await has(funded.bob) == "2.00"


@pytest.mark.slow
async def test_f67_without_a_connection_left_it_is_503_and_not_ready_until_there_is_one(
    funded: Stage, database: Database, settings: Settings, clock: ManualClock, entropy: SeededEntropy
):
    engine = create_engine(database.app_url, pool_size=8, pool_seconds=0.5)
    parts = Parts(
        settings=settings,
        engine=engine,
        ledger=PostgresLedger(engine, clock=clock, entropy=entropy, retry_seconds=0.5),
        registry=build_registry(settings),
        nodes={},
        addresses=XpubAddresses({}),
        clock=clock,
        entropy=entropy,
    )
    async with served(build_services(parts), funded.alice) as alice:
        assert (await alice.get("/health/ready")).json()["ready"] is True
        assert await has(alice) == "9.00"
        async with AsyncExitStack() as others:
            for _ in range(8):
                await others.enter_async_context(tx(engine))
            for answer in (await alice.get("/v1/balances"), await alice.post("/v1/transfers", SEND, key="pay")):
                assert (answer.status_code, answer.json()["code"]) == (503, "database_busy")
                assert int(answer.headers["Retry-After"]) >= 1
            lost = await alice.get("/health/ready")
            assert (lost.status_code, lost.json()["ready"]) == (503, False)
            assert (await alice.get("/health/live")).status_code == 200
        made = await alice.post("/v1/transfers", SEND, key="pay")
        assert (made.status_code, "Idempotent-Replayed" in made.headers) == (201, False)
        assert (await alice.get("/health/ready")).json()["ready"] is True
    assert await has(funded.bob) == "2.00"
    await engine.dispose()


async def test_a_repeat_waits_for_the_first_and_then_goes_on():
    at_once, order = Turns(), []
    may_end = asyncio.Event()

    async def request(name, until=None):
        async with at_once.of("usr_a", "/v1/transfers", "key"):
            if until is not None:
                await until.wait()
            order.append(name)

    first = asyncio.create_task(request("first", may_end))
    await asyncio.sleep(0)
    repeats = [asyncio.create_task(request("repeat")) for _ in range(3)]
    await asyncio.sleep(0)
    async with at_once.of("usr_b", "/v1/transfers", "key"), at_once.of("usr_a", "/v1/transfers", "other"):
        order.append("others")
    may_end.set()
    await asyncio.gather(first, *repeats)
    assert order == ["others", "first", "repeat", "repeat", "repeat"]


async def test_a_repeat_of_what_takes_too_long_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.01)
    at_once = Turns()
    async with at_once.of("usr_a", "/v1/transfers", "key"):
        with pytest.raises(StillUnderWay) as refused:
            async with at_once.of("usr_a", "/v1/transfers", "key"):
                pass
    assert int(str(refused.value.facts["retry_after"])) > 0
    async with at_once.of("usr_a", "/v1/transfers", "key"):
        pass  # the first one has ended


async def test_a_first_request_that_fails_lets_the_next_one_be_the_first():
    at_once = Turns()
    with pytest.raises(ZeroDivisionError):
        async with at_once.of("usr_a", "/v1/transfers", "key"):
            raise ZeroDivisionError
    assert at_once._under_way == {}
