"""A provider that doesn't answer, and the others beside it."""

import asyncio
from contextlib import suppress

import pytest

from base.entropy import SeededEntropy
from fiat.personal import NoVault
from fiat.rails.desk import Desk, Rails
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import Rail
from fiat.rails.top_up_states import TopUpState
from fiat.top_ups import TopUp
from ledger.requests import request_key
from ledger.service import PostgresLedger
from railsim.switches import Fault
from tests.rails import square_rail, stripe_rail
from tests.rails.conftest import Sim
from tests.rails.orders import ASSETS
from tests.support.postgres import Database
from tests.support.waiting import eventually
from wiring.rails import RailServices, rail_steps, services_of
from worker.loops import Job, run_jobs

ADA = "usr_ada"
METHODS = {"stripe": "pm_card_visa", "square": "cnon:card-nonce-ok"}
SILENT_SECONDS = 120.0
"""How long a call hangs: longer than anything else here takes."""


@pytest.mark.slow
async def test_a_provider_that_does_not_answer_keeps_no_other_from_going_on(
    sim: Sim, database: Database, entropy: SeededEntropy
):
    clock = sim.house.world.timeline
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    await ledger.register_asset(next(one for one in ASSETS if one.code == "USD"))
    rails: list[Rail] = [stripe_rail.rail_of(sim, seconds=SILENT_SECONDS), square_rail.rail_of(sim)]
    desk = Desk(
        engine=database.engine(),
        ledger=ledger,
        rails=Rails(rails),
        vault=NoVault("no bank here"),
        clock=clock,
        entropy=entropy,
    )
    services = services_of(desk, Inbox(desk))
    made: dict[str, TopUp] = {}
    for name in ("stripe", "stripe", "square"):
        sim.tell("/switches", provider=name, kind=Fault.CLOSED_BEFORE, method="POST", path="payment")
        key = request_key(owner=ADA, route="POST /test", key=f"{name}-{len(made)}", body={})
        made[name] = await services.top_ups.request(
            key=key, owner=ADA, rail=name, asset="USD", amount=10_000, method=METHODS[name]
        )
        assert made[name].state is TopUpState.UNKNOWN
    sim.advance(seconds=60)
    sim.tell("/switches", provider="stripe", kind=Fault.TIMEOUT_BEFORE, times=100)
    stop = asyncio.Event()
    jobs = [Job(name, step) for name, step in rail_steps(services).items()]
    worker = asyncio.create_task(run_jobs(jobs, pause_seconds=0.05, stop=stop))
    try:
        await eventually("Square's is taken", lambda: _is_final(services, made["square"].id), seconds=60)
        found = await services.top_ups.get(ADA, made["stripe"].id)
        assert found.state is TopUpState.UNKNOWN
        assert any(switch["used"] for switch in sim.tell("/switches", "GET")["switches"] if "timeout" in switch["kind"])
    finally:
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        await services.inbox.aclose()
        for each in rails:
            await each.aclose()


async def _is_final(services: RailServices, top_up: str) -> bool:
    return (await services.top_ups.get(ADA, top_up)).state is TopUpState.FINAL
