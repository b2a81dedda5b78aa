"""Square's words, all known to the rail by the official file; and its webhooks, read only where they're genuine."""

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from fiat.rails.errors import RefusalReason, WebhookRefused
from fiat.rails.protocol import EVENT_AGE_SECONDS, ObjectKind, RawWebhook
from fiat.rails.square import statuses
from fiat.rails.square.declines import MEANINGS, REASONS, Meaning, meaning, public
from fiat.rails.square.rail import SquareRail
from tests.rails.conftest import Sim
from tests.rails.orders import Ids, refund_of
from tests.rails.schemas import SQUARE_FILE, document, folder
from tests.rails.square_rail import ordered, rail_of


def schema(name: str) -> Any:
    found = document("square", "/v2/payments")
    assert found is not None
    return found.raw["components"]["schemas"][name]


def raw() -> Any:
    """The official file as it is, with its texts."""
    return json.loads((folder() / SQUARE_FILE).read_text(encoding="utf-8"))


@pytest.fixture
async def rail(sim: Sim) -> AsyncIterator[SquareRail]:
    made = rail_of(sim)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("DisputeState", statuses.DISPUTES),
        ("PayoutStatus", statuses.SETTLEMENTS),
        ("ActivityType", statuses.ENTRIES),
        ("ErrorCode", MEANINGS),
    ],
)
def test_every_word_of_the_official_file_is_mapped_and_no_other(name: str, table: dict[str, object]):
    assert set(table) == set(schema(name)["enum"])


def test_every_status_that_the_official_file_describes_is_mapped():
    """It has these two in words only; a refund's older enum has one more."""

    def described(name: str) -> set[str]:
        text = raw()["components"]["schemas"][name]["properties"]["status"]["description"]
        return set(re.findall(r"\b[A-Z]{6,}\b", text))

    assert described("Payment") == set(statuses.PAYMENTS)
    assert described("PaymentRefund") | set(schema("RefundStatus")["enum"]) == set(statuses.REFUNDS)


def test_the_pinned_version_is_the_official_file_s():
    versions = set(re.findall(r'"default": "(20\d\d-\d\d-\d\d)"', json.dumps(raw())))
    assert versions == {statuses.API_VERSION}


def test_a_code_that_is_newer_than_the_file_means_what_its_category_says():
    assert meaning("MOON_DECLINE", "PAYMENT_METHOD_ERROR") is Meaning.DECLINED
    assert meaning("MOON_REFUND", "REFUND_ERROR") is Meaning.DECLINED
    assert meaning("MOON_FIELD", "INVALID_REQUEST_ERROR") is Meaning.REFUSED


def test_what_a_payer_is_told_of_a_decline_is_known_and_harmless():
    told = {public(code) for code, one in MEANINGS.items() if one is Meaning.DECLINED}
    assert told <= set(REASONS)
    for code in ("CARD_DECLINED_CALL_ISSUER", "BUYER_REFUSED_PAYMENT", "ACCOUNT_UNUSABLE", ""):
        assert public(code) == "generic_decline"


# webhooks


@pytest.fixture
async def events(sim: Sim, rail: SquareRail, ids: Ids) -> list[RawWebhook]:
    """The webhooks of a payment, a refund of it, a dispute and a settlement."""
    paid = await rail.create_payment(ordered(ids))
    await rail.refund(refund_of(ids, paid, 100))
    sim.tell("/disputes", provider="square", payment=paid.id, amount=100)
    sim.tell("/settlements", provider="square", everything=True)
    return [RawWebhook(body=one.body, headers=one.headers) for one in sim.webhooks("square")]


async def test_a_genuine_webhook_says_where_to_look(sim: Sim, rail: SquareRail, events: list[RawWebhook]):
    now = sim.house.world.timeline.now()
    read = [await rail.verify(one, now=now) for one in events]
    assert len({one.id for one in read}) == len(read)
    kinds = {one.kind: one for one in read}
    paid, refund = kinds["payment.created"], kinds["refund.created"]
    assert (paid.object_kind, (paid.reference or "")[:4]) == (ObjectKind.PAYMENT, "top_")
    assert (refund.object_kind, (refund.reference or "")[:4]) == (ObjectKind.REFUND, "ref_")
    assert kinds["dispute.created"].object_kind is ObjectKind.DISPUTE
    assert kinds["payout.sent"].object_kind is ObjectKind.SETTLEMENT
    assert abs(paid.occurred_at - now) < timedelta(seconds=1)
    found = await rail.fetch_payment(paid.object)
    assert found is not None
    assert found.reference == paid.reference
    assert await rail.fetch_refund(refund.object) is not None
    assert await rail.fetch_dispute(kinds["dispute.created"].object) is not None
    assert await rail.fetch_settlement(kinds["payout.sent"].object) is not None


async def test_f70_what_is_not_square_s_is_refused_with_its_reason(
    sim: Sim, rail: SquareRail, events: list[RawWebhook]
):
    now, good = sim.house.world.timeline.now(), events[0]
    name = "x-square-hmacsha256-signature"
    header = {name: good.headers[name]}

    async def refusal(body: bytes, headers: dict[str, str], after: timedelta = timedelta()) -> RefusalReason:
        with pytest.raises(WebhookRefused) as refused:
            await rail.verify(RawWebhook(body=body, headers=headers), now=now + after)
        assert body.decode(errors="replace") not in f"{refused.value!r} {refused.value}" or not body
        return refused.value.reason

    assert await refusal(good.body, {}) is RefusalReason.UNSIGNED
    altered = good.body.replace(b'"amount":10000', b'"amount":99999')
    assert altered != good.body
    for body in (altered, good.body + b" ", b"\xff\xfe", b""):
        assert await refusal(body, header) is RefusalReason.WRONG_SIGNATURE
    for wrong in ("x", header[name][:-2], f"{header[name]}=", "é"):
        assert await refusal(good.body, {name: wrong}) is RefusalReason.WRONG_SIGNATURE
    window = timedelta(seconds=EVENT_AGE_SECONDS)
    assert await refusal(good.body, header, window + timedelta(seconds=2)) is RefusalReason.TOO_OLD
    assert await refusal(good.body, header, -timedelta(seconds=302)) is RefusalReason.TOO_NEW
    assert (await rail.verify(good, now=now + window - timedelta(seconds=2))).id


async def test_a_webhook_that_was_signed_for_another_address_is_refused(
    sim: Sim, rail: SquareRail, events: list[RawWebhook]
):
    body = events[0].body
    headers = sim.house.square.sign(body, "https://example.com/square", badly=False)
    with pytest.raises(WebhookRefused) as refused:
        await rail.verify(RawWebhook(body=body, headers=headers), now=sim.house.world.timeline.now())
    assert refused.value.reason is RefusalReason.WRONG_SIGNATURE


GOOD = {"merchant_id": "M", "type": "moon.landed", "event_id": "e", "created_at": "2030-01-31T12:00:00Z"}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([], RefusalReason.MALFORMED),
        ("text", RefusalReason.MALFORMED),
        (GOOD, RefusalReason.MALFORMED),
        (GOOD | {"data": {}, "created_at": "2030-01-31T12:00:00"}, RefusalReason.MALFORMED),
        (GOOD | {"data": {}, "merchant_id": "other"}, RefusalReason.FOREIGN),
        (GOOD | {"data": {"type": "moon", "id": "1"}}, None),
    ],
)
async def test_what_is_signed_and_not_for_us_is_refused_or_passed_by(
    sim: Sim, rail: SquareRail, told: Any, reason: RefusalReason | None
):
    square, now = sim.house.square, sim.house.world.timeline.now()
    if isinstance(told, dict):
        told = told | {"merchant_id": square.store.merchant if told["merchant_id"] == "M" else "other"}
        told |= {"created_at": now.isoformat()} if told["created_at"].endswith("Z") else {}
    body = json.dumps(told).encode()
    webhook = RawWebhook(body=body, headers=square.sign(body, f"{sim.inbox.url}/square", badly=False))
    if reason is None:
        event = await rail.verify(webhook, now=now)
        assert (event.kind, event.object_kind, event.reference) == ("moon.landed", ObjectKind.OTHER, None)
        return
    with pytest.raises(WebhookRefused) as refused:
        await rail.verify(webhook, now=now)
    assert refused.value.reason is reason


def test_nothing_secret_is_in_a_rail_s_text(sim: Sim):
    made, square = rail_of(sim), sim.house.square
    assert square.access_token not in f"{made!r} {made}"
    assert square.signature_key not in f"{made!r} {made}"
