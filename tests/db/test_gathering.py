"""Questions asked together share a query; every asker gets an answer that was read after asking, or the error."""

import asyncio

import pytest
from sqlalchemy import event

from db import gathering
from db.engine import create_engine, tx
from db.errors import DatabaseUnavailable
from db.gathering import Gathering

pytestmark = pytest.mark.slow


@pytest.fixture
def asked():
    return []


@pytest.fixture
async def squares(database, asked):
    async def load(driver, keys):
        asked.append(list(keys))
        rows = await driver.fetch("SELECT n, n * n AS square FROM unnest($1::int[]) AS n WHERE n < 1000", list(keys))
        return {row["n"]: row["square"] for row in rows}

    squares = Gathering(database.engine(), load)
    yield squares
    await squares.aclose()


async def test_who_asks_at_once_shares_a_query(squares, asked):
    answers = await asyncio.gather(*(squares.ask(n % 50) for n in range(300)))
    assert answers == [(n % 50) ** 2 for n in range(300)]
    assert sum(map(len, asked)) == 50
    assert len(asked) <= 2
    assert await squares.ask(5000) is None


async def test_an_answer_is_never_older_than_its_question(squares, asked):
    for _ in range(3):
        assert await squares.ask(7) == 49
    assert asked == [[7]] * 3


async def test_an_asker_who_goes_takes_nobody_along(squares):
    gone, stays = asyncio.create_task(squares.ask(3)), asyncio.create_task(squares.ask(3))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 9


async def test_an_error_reaches_every_asker_and_the_next_question_is_tried_anew(database):
    fails = iter([True, False])

    async def load(driver, keys):
        if next(fails):
            await driver.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return dict.fromkeys(keys, "fine")

    together = Gathering(database.engine(), load)
    answers = await asyncio.gather(*(together.ask(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    assert await together.ask(1) == "fine"
    await together.aclose()


async def test_who_asks_while_the_connection_is_given_back_is_answered_too(database):
    engine = database.engine()
    late: list[asyncio.Future[str | None]] = []

    async def load(driver, keys):
        return dict.fromkeys(keys, "fine")

    together = Gathering(engine, load)

    @event.listens_for(engine.sync_engine, "checkin")
    def _(*_):
        if not late:
            late.append(together.put(2))

    assert await together.ask(1) == "fine"
    await together.aclose()
    assert await asyncio.wait_for(late[0], 10) == "fine"


async def test_who_asks_on_and_on_leaves_others_a_turn_at_the_pool(database, monkeypatch):
    monkeypatch.setattr(gathering, "KEEP_SECONDS", 0.05)
    narrow, served = create_engine(database.app_url, pool_size=1), asyncio.Event()

    async def load(driver, keys):
        return dict.fromkeys(keys, await driver.fetchval("SELECT 1"))

    together = Gathering(narrow, load)

    async def ask_on():
        while not served.is_set():
            assert await together.ask(1) == 1

    asking = asyncio.create_task(ask_on())
    assert await together.ask(2) == 1
    async with tx(narrow):
        served.set()
    await asking
    await together.aclose()
    await narrow.dispose()
