"""The Stripe rail at the simulated Stripe."""

from typing import Any

from fiat.rails.protocol import PaymentOrder
from fiat.rails.stripe.client import Client
from fiat.rails.stripe.rail import StripeRail
from tests.rails import orders
from tests.rails.conftest import Sim
from tests.rails.orders import ASSETS, Ids

PATIENCE = 120.0
"""Seconds: tests run on machines that are busy with others."""


def rail_of(
    sim: Sim, *, seconds: float = PATIENCE, api_key: str | None = None, base_url: str | None = None
) -> StripeRail:
    stripe = sim.house.stripe
    client = Client("stripe", api_key=api_key or stripe.api_key, base_url=base_url or stripe.url, seconds=seconds)
    secret, clock = stripe.webhook_secret, sim.house.world.timeline
    return StripeRail("stripe", client, webhook_secret=secret, live=False, assets=ASSETS, clock=clock)


def ordered(ids: Ids, amount: int = 10_000, *, method: str | None = "pm_card_visa", **more: Any) -> PaymentOrder:
    return orders.ordered(ids, amount, method=method, **more)


def payments_of(sim: Sim, reference: str) -> list[Any]:
    """The simulator's own record of what was made under one of our ids."""
    made = sim.house.stripe.store.tables["pi"].values()
    return [one for one in made if one["metadata"].get("reference") == reference]
