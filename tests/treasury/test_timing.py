"""Reconciliation goes by the times it is given: how often, how long what it found is kept, how old breaks may get."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from db.engine import tx
from ledger.accounts import house_account
from tests.treasury.test_reconciling_in_steps import cycle, settled  # noqa: F401 - the fixture
from tests.wallet.conftest import fund
from treasury.alerts import AlertCode, Alerts, Severity
from treasury.break_alerts import AGED_AFTER
from treasury.reconciliation import Reconciler
from treasury.records import BreakReason
from treasury.sampling import held_at
from treasury.timing import Timing

pytestmark = pytest.mark.slow


def reconciler_of(treasury, clock, entropy, **times) -> Reconciler:
    house = treasury.house
    return Reconciler(
        house.chain.engine,
        ledger=house.ledger,
        registry=house.registry,
        nodes={"local": treasury.node},
        banks=[treasury.bank],
        clock=clock,
        entropy=entropy,
        timing=Timing(**times),
    )


async def test_the_worker_runs_as_often_as_it_is_told(treasury, settled, clock, entropy):  # noqa: F811
    seldom = reconciler_of(treasury, clock, entropy, every=timedelta(minutes=5), at_least_every=timedelta(minutes=20))
    assert await seldom.step() == 1
    for wait, mined, ran in ((4, True, 0), (1, False, 1), (5, False, 0), (14, False, 0), (1, False, 1)):
        clock.advance(timedelta(minutes=wait))
        if mined:
            await treasury.house.chain.mine_empty(4)
        assert await seldom.step() == ran, (wait, mined)


async def test_runs_and_samples_are_kept_as_long_as_they_are_told(treasury, settled, database, clock, entropy):  # noqa: F811
    reconciler = reconciler_of(
        treasury,
        clock,
        entropy,
        runs_all=timedelta(minutes=1),
        runs_kept=timedelta(minutes=30),
        samples_all=timedelta(minutes=1),
        samples_kept=timedelta(minutes=30),
    )
    judged = (await cycle(treasury, reconciler, chain=True)).networks[0].block_number
    assert await held_at(database.engine(), "local", judged) is not None
    clock.advance(timedelta(hours=2))
    await cycle(treasury, reconciler, chain=True)
    await cycle(treasury, reconciler, chain=True)
    assert await held_at(database.engine(), "local", judged) is None
    async with tx(database.engine()) as connection:
        quiet = text("SELECT count(*) FROM treasury_reconciliations WHERE NOT changed AND finished_at < :at")
        assert await connection.scalar(quiet, {"at": clock.now() - timedelta(minutes=30)}) == 0


async def test_a_break_grows_critical_when_its_kind_is_said_to(treasury, settled, database, clock):  # noqa: F811
    await fund(treasury.house.ledger, house_account("bank:main", "USD"), 5, name="at the bank")

    async def severity(**ages: timedelta) -> Severity:
        alerts = Alerts(
            database.engine(),
            ledger=treasury.house.ledger,
            registry=treasury.house.registry,
            clock=clock,
            break_ages={**AGED_AFTER, **{BreakReason(kind): age for kind, age in ages.items()}},
        )
        (found,) = [one for one in await alerts.open() if one.code is AlertCode.BREAK_OPEN]
        return found.severity

    await treasury.reconciler.run_changes()
    clock.advance(timedelta(hours=5))
    assert await severity() is Severity.WARNING
    assert await severity(no_statement=timedelta(hours=6)) is Severity.WARNING
    assert await severity(no_statement=timedelta(hours=5)) is Severity.CRITICAL
