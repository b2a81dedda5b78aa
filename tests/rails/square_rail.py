"""The Square rail at the simulated Square."""

from typing import Any

from fiat.rails.protocol import PaymentOrder
from fiat.rails.square.client import Client
from fiat.rails.square.rail import SquareRail
from tests.rails import orders
from tests.rails.conftest import Sim
from tests.rails.orders import ASSETS, Ids

PATIENCE = 120.0
"""Seconds: tests run on machines that are busy with others."""


def rail_of(
    sim: Sim, *, seconds: float = PATIENCE, token: str | None = None, base_url: str | None = None
) -> SquareRail:
    square = sim.house.square
    return SquareRail(
        "square",
        Client("square", access_token=token or square.access_token, base_url=base_url or square.url, seconds=seconds),
        location=square.store.location,
        merchant=square.store.merchant,
        signature_key=square.signature_key,
        notification_url=f"{sim.inbox.url}/square",
        assets=ASSETS,
        clock=sim.house.world.timeline,
    )


def ordered(ids: Ids, amount: int = 10_000, *, method: str | None = "cnon:card-nonce-ok", **more: Any) -> PaymentOrder:
    return orders.ordered(ids, amount, method=method, **more)


def payments_of(sim: Sim, reference: str) -> list[Any]:
    """The simulator's own record of what was made under one of our ids."""
    return [one for one in sim.house.square.store.payments.values() if one.get("reference_id") == reference]
