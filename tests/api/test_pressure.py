"""When there is too much at once: a clear answer and when to come again, never a queue without an end."""

import asyncio

import pytest

from api import turns
from api.errors import StillUnderWay
from api.turns import Turns
from ledger.service import PostgresLedger
from tests.api.conftest import Stage

SEND = {"recipient": "@bob", "asset": "USDC", "amount": "1.00"}


@pytest.mark.slow
async def test_a_full_queue_is_429_with_the_seconds_to_wait_and_nothing_is_done(stage: Stage, monkeypatch):
    await stage.fund(stage.alice, "10.00", "USDC")
    await stage.alice.post("/v1/transfers", SEND, key="opens the accounts")
    ledger = stage.services.ledger
    assert isinstance(ledger, PostgresLedger)
    monkeypatch.setattr(ledger._batcher, "_queue_max", 0)
    for path, body in (("/v1/transfers", SEND), ("/v1/transfers/bulk", {"transfers": [SEND, SEND]})):
        answer = await stage.alice.post(path, body, key="busy")
        assert (answer.status_code, answer.json()["code"]) == (429, "book_busy")
        assert int(answer.headers["Retry-After"]) >= 1
    monkeypatch.undo()
    assert (await stage.alice.post("/v1/transfers", SEND, key="busy")).status_code == 201
    assert (await stage.bob.get("/v1/balances/USDC")).json()["balance"] == "2.00"


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
