"""Steps that found nothing rest while the database stands still, and no longer."""

import asyncio

import pytest
from sqlalchemy import text

from base.errors import Unavailable
from db.changes import state
from db.engine import tx
from tests.support.postgres import Database
from worker.loops import Job, run_jobs
from worker.stillness import Stillness

PAUSE_SECONDS = 0.002
BOUND_SECONDS = 10


class Told:
    """What the database says, as the test sets it: None is one that can't be asked."""

    def __init__(self) -> None:
        self.word: str | None = "as it was"
        self.looks = 0

    async def look(self) -> str:
        self.looks += 1
        if self.word is None:
            raise Unavailable("the database is away")
        return self.word


class Counted:
    """A step that finds nothing, and counts how often it was tried."""

    def __init__(self) -> None:
        self.tries = 0

    async def step(self) -> int:
        self.tries += 1
        return 0


async def reached(what) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not what():
            await asyncio.sleep(PAUSE_SECONDS)


@pytest.fixture
async def worker():
    """Two jobs that find nothing, of which one looks outside, and what their database says."""
    told, inside, outside, stop = Told(), Counted(), Counted(), asyncio.Event()
    jobs = [Job("inside", inside.step), Job("outside", outside.step, outside=True)]
    still = Stillness(told.look)
    running = asyncio.create_task(run_jobs(jobs, pause_seconds=PAUSE_SECONDS, stop=stop, still=still))
    await reached(lambda: inside.tries and told.looks > 2)
    yield told, inside, outside
    stop.set()
    await asyncio.wait_for(running, BOUND_SECONDS / 20)  # nobody rests on


async def test_who_found_nothing_rests_while_the_database_stands_still(worker):
    told, inside, outside = worker
    begun = outside.tries
    await reached(lambda: outside.tries > begun + 50)
    assert inside.tries < outside.tries / 10
    assert told.looks > 10


async def test_who_rests_looks_as_soon_as_anything_was_written(worker):
    told, inside, outside = worker
    await reached(lambda: outside.tries > 20)
    for number in range(5):
        before, looks = inside.tries, outside.tries
        told.word = f"written {number}"
        await reached(lambda before=before: inside.tries > before)
        assert outside.tries < looks + 40, "long before a rest ends by itself"


async def test_a_database_that_cannot_be_asked_is_not_still(worker):
    told, inside, _ = worker
    told.word = None
    before = inside.tries
    await reached(lambda: inside.tries > before + 10)


async def test_a_rest_ends_by_itself():
    told, stop = Told(), asyncio.Event()
    still = Stillness(told.look)
    watching = asyncio.create_task(still.watch(pause_seconds=PAUSE_SECONDS, stop=stop))
    await reached(lambda: still.seen)
    async with asyncio.timeout(BOUND_SECONDS):
        await still.changed(since=still.seen, seconds=0.01)
    stop.set()
    await watching


async def test_what_came_while_a_step_ran_lets_it_run_again():
    told = Told()
    still = Stillness(told.look)
    still._note("before the step")
    still._note("while it ran")
    async with asyncio.timeout(BOUND_SECONDS):
        await still.changed(since="before the step", seconds=BOUND_SECONDS * 2)


async def test_the_word_stays_until_somebody_commits_what_he_wrote(database: Database):
    engine, other = database.engine(), database.engine()

    async def same_after_reading() -> bool:
        before = await state(engine)
        async with tx(other) as connection:
            await connection.execute(text("SELECT count(*) FROM pg_class"))
        return await state(engine) == before

    assert any([await same_after_reading() for _ in range(20)]), "more than the server's own housekeeping writes"
    begun = await state(engine)
    async with tx(other) as connection:
        await connection.execute(text("SELECT pg_current_xact_id()"))  # as any write draws one
        under_way = await state(engine)
    assert await state(engine) not in (begun, under_way)
