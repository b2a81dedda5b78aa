"""Killed between the provider's charge and our writing it down: another process finds it, and nobody pays twice."""

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fiat.rails.booking import provider_account
from ledger.accounts import user_account
from ledger.service import PostgresLedger
from railsim.house import House
from railsim.server import running
from tests.fiat.killable_top_up import ADA, USD
from tests.support import forked
from tests.support.postgres import Database

pytestmark = pytest.mark.slow

KILLED_WITHIN = 240
"""Seconds that a process may take, on a busy machine."""


@pytest.fixture
def provider() -> Iterator[House]:
    """Simulated providers over HTTP, each with a record of its own."""
    with running(seed=7, start=datetime(2030, 1, 31, 12, tzinfo=UTC)) as house:
        yield house


@pytest.mark.parametrize(("point", "charged"), [("submitted", 0), ("answered", 1)])
async def test_f71_a_process_killed_after_the_provider_charged_leaves_what_another_one_resolves(
    provider: House, database: Database, point: str, charged: int
):
    clock = provider.world.timeline
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    await ledger.register_asset(USD)
    before = set(_charges(provider))
    code, _ = await _run(provider, database, clock.now(), point)
    assert code == -signal.SIGKILL
    assert len(set(_charges(provider)) - before) == charged
    assert await _balance(ledger, user_account(ADA, "USD")) == 0

    later = clock.now() + timedelta(minutes=2)  # the dead process's lease is over
    code, told = await _run(provider, database, later, "")
    assert code == 0
    id, state, captured, replayed = told.split()
    (charge,) = set(_charges(provider)) - before
    assert (state, captured, replayed) == ("final", "10000", "True")
    assert provider.stripe.store.tables["pi"][charge]["metadata"]["reference"] == id
    assert await _balance(ledger, user_account(ADA, "USD")) == 10_000
    assert await _run(provider, database, later, "") == (0, told)
    assert set(_charges(provider)) - before == {charge}
    owed_to_us = -await _balance(ledger, provider_account("stripe", "USD"))
    assert 0 < owed_to_us < 10_000  # less one fee


def _charges(provider: House) -> list[str]:
    """Payments that the simulator's own record has as charged."""
    made = provider.stripe.store.tables["pi"].items()
    return [id for id, one in made if one["status"] == "succeeded"]


async def _balance(ledger: PostgresLedger, account: str) -> int:
    found = await ledger.account(account)
    return 0 if found is None else found.balance


async def _run(provider: House, database: Database, at: datetime, point: str) -> tuple[int, str]:
    stripe = provider.stripe
    arguments = [database.app_url, stripe.url, stripe.api_key, stripe.webhook_secret, at.isoformat(), point]
    ended = await asyncio.to_thread(
        forked.run,
        "tests.fiat.killable_top_up:run",
        ["killable_top_up", *arguments],
        cwd=forked.PROJECT,
        env=os.environ,
        timeout=KILLED_WITHIN,
    )
    return ended.returncode, ended.stdout
