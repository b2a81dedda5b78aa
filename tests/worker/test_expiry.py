"""The worker ends holds whose time has come, without being asked: by the step that its loops run."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from ledger.accounts import house_account, user_account
from ledger.asking import decide
from ledger.commands import Hold, Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.outcomes import LineKind
from ledger.service import PostgresLedger
from ledger.state import HoldState
from tests.support.postgres import Database
from tests.support.waiting import eventually
from wiring.parts import Parts, build_registry
from wiring.settings import AssetSettings, Settings
from wiring.signing import XpubAddresses
from wiring.steps import open_steps
from worker.loops import Job, run_jobs

ALICE, BOB, BANK = user_account("usr_a", "EUR"), user_account("usr_b", "EUR"), house_account("bank:main", "EUR")


@pytest.mark.slow
async def test_the_workers_loops_end_what_is_due_and_nothing_else(
    database: Database, clock: ManualClock, entropy: SeededEntropy, tmp_path: Path
):
    settings = Settings(home=tmp_path, assets=(AssetSettings(code="EUR", kind=AssetKind.FIAT, scale=2),))
    engine = database.engine()
    ledger = PostgresLedger(engine, clock=clock, entropy=entropy)
    await ledger.create_book()
    await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
    await ledger.ensure_open(ALICE, BOB, BANK)
    await decide(ledger, alone(Post(id="fund", postings=(Posting(BANK, ALICE, "EUR", 100),))))
    for name, days in (("soon", 1), ("late", 3), ("endless", None)):
        expires_at = None if days is None else clock.now() + timedelta(days=days)
        postings = (Posting(ALICE, BOB, "EUR", 10),)
        await decide(ledger, alone(Hold(id=name, subject=f"hld_{name}", postings=postings, expires_at=expires_at)))
    clock.advance(timedelta(days=2))
    parts = Parts(
        settings=settings,
        engine=engine,
        ledger=ledger,
        registry=build_registry(settings),
        nodes={},
        addresses=XpubAddresses({}),
        clock=clock,
        entropy=entropy,
    )
    stop = asyncio.Event()
    async with open_steps(parts, None) as steps:
        jobs = [Job(name, step) for name, step in steps.items()]
        loops = asyncio.create_task(run_jobs(jobs, pause_seconds=0.01, stop=stop))

        async def has_ended() -> bool:
            found = await ledger.hold("soon")
            return found is not None and found.state is HoldState.EXPIRED

        await eventually("the due hold has ended", has_ended)
        stop.set()
        await loops
    states = {name: found.state for name in ("late", "endless") if (found := await ledger.hold(name)) is not None}
    assert states == {"late": HoldState.OPEN, "endless": HoldState.OPEN}
    told = [line.kind for line in await ledger.history(subject="hld_soon")]
    assert told == [LineKind.RELEASED, LineKind.HELD]  # its end is told under its own subject
    account = await ledger.account(ALICE)
    assert account is not None
    assert (account.balance, account.available) == (100, 80)
    await ledger.aclose()
