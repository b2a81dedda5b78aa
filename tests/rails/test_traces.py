"""Calls of payment providers as spans: what was called, of whom, and nothing of whose payment it is."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from base import tracing
from tests.rails import paypal_house, square_rail, stripe_rail
from tests.rails.conftest import Sim
from tests.support.collector import Collector, collector
from tests.support.waiting import until
from wiring.otlp import Otlp


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as got:
        otlp = Otlp(endpoint=got.url, service="test", version="0", ratio=1.0)
        monkeypatch.setattr(tracing, "active", otlp)
        try:
            yield got
        finally:
            otlp.close()


async def test_each_call_is_a_span_below_what_made_it_by_the_name_of_its_kind(
    sim: Sim, ids: Callable[[str], str], recorded: Collector
):
    told: list[str] = []
    rails: list[tuple[Any, Any]] = [
        (stripe_rail.rail_of(sim), stripe_rail.ordered(ids)),
        (square_rail.rail_of(sim), square_rail.ordered(ids)),
        (paypal_house.rail(sim), paypal_house.ordered(sim, 100_00)),
    ]
    assert tracing.active is not None
    with tracing.active.span("step", tracing.Kind.INTERNAL, {}):
        for rail, order in rails:
            made = await rail.create_payment(order)
            assert await rail.fetch_payment(made.id) is not None
            told += [made.id, order.reference, *([made.capture_id] if made.capture_id else [])]
            await rail.aclose()
    [step] = until("the step is there", lambda: recorded.named("step"))
    names = {span.name for span in recorded.below(step)}
    assert {name.partition(" ")[0] for name in names} == {"stripe", "square", "paypal"}
    assert {
        "paypal POST /v1/oauth2/token",
        "paypal POST /v2/checkout/orders",
        "paypal GET /v2/checkout/orders/{}",
    } <= names
    assert any(name.startswith("stripe PaymentIntentService.create") for name in names), names
    assert any("Payments" in name and name.endswith(".create") for name in names if name.startswith("square")), names
    sent = b"".join(recorded.bodies)
    secrets = (sim.house.stripe.api_key, sim.house.square.access_token)
    assert [word for word in (*told, *secrets) if word.encode() in sent] == []
