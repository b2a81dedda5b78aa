"""A process that orders one top-up at Stripe and ends itself with SIGKILL at a named instant; started by the kill test.

Arguments: database url, the provider's url, its API key, its webhook secret, an instant, a point ("" for none). Orders
where the request is new, else repeats it, then does the worker's step until nothing is due; prints the top-up's state.
The shipped code has no such switch: it's told the instants.
"""

import asyncio
import os
import signal
import sys
from datetime import datetime

from base.clock import ManualClock
from base.entropy import SystemEntropy
from db.engine import create_engine
from fiat.personal import NoVault
from fiat.rails.desk import Desk, Rails
from fiat.rails.inbox import Inbox
from fiat.rails.stripe.client import Client
from fiat.rails.stripe.rail import StripeRail
from ledger.money import Asset, AssetKind
from ledger.requests import request_key
from ledger.service import PostgresLedger
from wiring.rails import services_of

ADA, USD = "usr_ada", Asset("USD", AssetKind.FIAT, 2)
SECONDS = 120.0


async def main(url: str, provider: str, api_key: str, secret: str, at: str, point: str) -> None:
    def reached(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    engine, clock = create_engine(url), ManualClock(datetime.fromisoformat(at))
    ledger = PostgresLedger(engine, clock=clock)
    client = Client("stripe", api_key=api_key, base_url=provider, seconds=SECONDS)
    rail = StripeRail("stripe", client, webhook_secret=secret, live=False, assets=[USD], clock=clock)
    desk = Desk(
        engine=engine,
        ledger=ledger,
        rails=Rails([rail]),
        vault=NoVault("no bank here"),
        clock=clock,
        entropy=SystemEntropy(),
        reached=reached,
    )
    services = services_of(desk, Inbox(desk))
    while await services.top_ups.steps.step():
        pass
    made = await services.top_ups.request(
        key=request_key(owner=ADA, route="POST /test", key="one", body={"n": 1}),
        owner=ADA,
        rail="stripe",
        asset="USD",
        amount=10_000,
        method="pm_card_visa",
    )
    sys.stdout.write(f"{made.id} {made.state.value} {made.captured} {made.replayed}")
    await services.inbox.aclose()
    await ledger.aclose()
    await engine.dispose()


def run() -> None:
    """The program."""
    asyncio.run(main(*sys.argv[1:]))
