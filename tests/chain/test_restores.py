"""Whether a database has forgotten: told by its incarnation and by what was noted, and what waits meanwhile."""

from datetime import timedelta

import pytest

from chain import restores, transactions
from chain.errors import NeedsRecovery
from chain.restores import FRESH, RESTORED, Gate
from db.engine import create_engine, tx
from db.server import Running, at_database, create_database, drop_database
from tests.chain.test_rebuilding import payment
from tests.support.postgres import Database

pytestmark = pytest.mark.slow

HEAD = (7, b"\7" * 32)


async def begin(engine, clock) -> None:
    async with tx(engine) as connection:
        await restores.begin(connection, now=clock.now())


async def halt(engine):
    async with tx(engine) as connection:
        return await restores.halt(connection)


async def test_f47_a_copy_of_a_database_is_halted_until_it_was_recovered(
    postgres: Running, database: Database, clock, entropy
):
    engine = database.engine()
    assert await halt(engine) is None, "no keys are in use yet"
    await begin(engine, clock)
    await begin(engine, clock)
    assert await halt(engine) is None
    await engine.dispose()
    await database.leave()
    copy = f"{database.name}_copy"
    await create_database(postgres.admin_url, copy, template=database.name)
    restored = create_engine(at_database(postgres.app_url, copy))
    try:
        await begin(restored, clock)
        found = await halt(restored)
        assert found is not None
        assert (found.why, found.since) == (RESTORED, None)
        async with tx(restored) as connection:
            with pytest.raises(NeedsRecovery, match="until the operator has run `onebook recover`"):
                await transactions.reserve(connection, payment("wdr_a"), clock=clock, entropy=entropy)
        async with tx(restored) as connection:
            await restores.settled(connection, HEAD, now=clock.now())
        assert await halt(restored) is None
        async with tx(restored) as connection:
            assert await restores.through(connection) == HEAD
    finally:
        await restored.dispose()
        await drop_database(postgres.admin_url, copy)
    assert await halt(database.engine()) is None, "the original goes on"


async def test_f47_what_the_journal_was_found_to_have_halts_and_the_first_reason_stays(database: Database, clock):
    engine = database.engine()
    async with tx(engine) as connection:
        await restores.note_missing(connection, "wdr_1 is missing", now=clock.now())
    since = clock.now()
    clock.advance(timedelta(hours=1))
    await begin(engine, clock)
    async with tx(engine) as connection:
        await restores.note_missing(connection, "wdr_2 is missing", now=clock.now())
    found = await halt(engine)
    assert found is not None
    assert (found.why, found.since) == ("wdr_1 is missing", since)


async def test_a_gate_looks_anew_once_in_a_second_and_its_steps_wait(database: Database, clock):
    engine, moved = database.engine(), []
    gate = Gate(engine, clock=clock)

    async def step() -> int:
        moved.append(1)
        return 1

    guarded = gate.guard(step)
    assert await guarded() == 1
    async with tx(engine) as connection:
        await restores.note_missing(connection, "wdr_1 is missing", now=clock.now())
    await gate.require()  # it has looked within this second
    clock.advance(FRESH)
    with pytest.raises(NeedsRecovery, match="wdr_1 is missing: nothing moves"):
        await gate.require()
    assert (await guarded(), len(moved)) == (0, 1)
    async with tx(engine) as connection:
        await restores.settled(connection, HEAD, now=clock.now())
    assert await gate.look() is None
    assert await guarded() == 1
