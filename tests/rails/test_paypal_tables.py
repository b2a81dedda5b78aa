"""What PayPal's words mean to us covers what PayPal's own files list. Pure; only the files are read."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.ids import new_id
from fiat.rails.errors import Declined, EffectUnknown, RailCorrupt, RateLimited, RefusedByProvider
from fiat.rails.paypal import refusals, statuses
from fiat.rails.paypal.account import API_VERSIONS
from fiat.rails.paypal.keys import still_known
from fiat.rails.paypal.reading import Reader, our_reference
from fiat.rails.paypal.refusals import DECLINES, read_refusal
from fiat.rails.paypal.webhooks import KINDS
from fiat.rails.protocol import DisputeStatus, PaymentStatus, PayoutStatus, RefundStatus
from tests.rails.paypal_house import ASSETS
from tests.rails.schemas import folder

FILES = {
    "orders": "paypal.checkout_orders_v2.json",
    "payments": "paypal.payments_payment_v2.json",
    "payouts": "paypal.payments_payouts_batch_v1.json",
    "disputes": "paypal.customer_disputes_v1.json",
    "webhooks": "paypal.notifications_webhooks_v1.json",
}

OURS = "ABCDEFGHJKLMN"
READ = Reader(ASSETS, merchant=OURS)

CALLED = {
    "orders": ("orders.capture-422", "orders.authorize-422"),
    "payments": ("422", "captures.refund-422", "authorizations.void-422", "409"),
}
"""Where the files list what our calls may be refused for."""


def official(api: str) -> dict[str, Any]:
    return dict(json.loads((folder() / FILES[api]).read_text(encoding="utf-8")))


def listed(api: str, *path: str) -> list[str]:
    found: Any = official(api)["components"]["schemas"]
    for part in path:
        found = found[part]
    return list(found["enum"])


@pytest.mark.parametrize("api", FILES)
def test_the_versions_written_down_are_those_of_the_files(api: str):
    assert official(api)["info"]["version"] == API_VERSIONS[api]


@pytest.mark.parametrize(
    ("table", "api", "path", "more"),
    [
        (statuses.ORDER, "orders", ("order_status",), set()),
        (statuses.AUTHORIZATION, "payments", ("authorization_status", "properties", "status"), {"EXPIRED"}),
        (statuses.AUTHORIZATION, "orders", ("authorization_status", "properties", "status"), {"EXPIRED"}),
        (statuses.CAPTURE, "payments", ("capture_status", "properties", "status"), set()),
        (statuses.CAPTURE, "orders", ("capture_status", "properties", "status"), set()),
        (statuses.REFUND, "payments", ("refund_status", "properties", "status"), set()),
        (statuses.PAYOUT_ITEM, "payouts", ("transaction_enum",), {"NEW", "DENIED"}),
        (statuses.PAYOUT_BATCH, "payouts", ("batch_enum",), {"NEW"}),
        (statuses.DISPUTE, "disputes", ("status",), set()),
        (statuses.STAGE_IS_INQUIRY, "disputes", ("dispute_lifecycle_stage",), set()),
        (statuses.OUTCOME, "disputes", ("dispute_outcome", "properties", "outcome_code"), set()),
    ],
)
def test_every_status_of_the_files_has_a_meaning(table: Mapping[str, Any], api: str, path: tuple[str, ...], more: Any):
    assert set(table) == set(listed(api, *path)) | more


def test_a_word_that_is_new_is_never_guessed():
    for table in (statuses.ORDER, statuses.CAPTURE, statuses.REFUND, statuses.PAYOUT_ITEM, statuses.OUTCOME):
        for word in ("SHINY", None, 7, ["COMPLETED"]):
            with pytest.raises(EffectUnknown):
                statuses.meaning(table, word)


def issues(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        named = value.get("issue")
        if isinstance(named, dict):
            yield from named.get("enum", ())
        for one in value.values():
            yield from issues(one)
    elif isinstance(value, list):
        for one in value:
            yield from issues(one)


def refusable() -> set[str]:
    found: set[str] = set()
    for api, schemas in CALLED.items():
        known = official(api)["components"]["schemas"]
        for schema in schemas:
            found |= set(issues(known[schema]))
    return found


def test_every_refusal_of_the_files_becomes_an_error_and_each_that_we_name_is_in_them():
    told = refusable()
    assert len(told) > 100
    kinds = {type(read_refusal(422, {"name": "X", "details": [{"issue": one}]}, None).as_error()) for one in told}
    assert kinds == {Declined, RateLimited, EffectUnknown, RefusedByProvider}
    ours = {*DECLINES, *refusals.LATER, *refusals.UNDER_WAY, *refusals.ALREADY}
    assert ours - told == {"INSUFFICIENT_FUNDS", "RECEIVER_INVALID"}, "the files list none for payouts"


def test_what_only_we_can_change_is_never_told_to_the_payer_as_a_decline():
    fault = ("PAYEE", "NOT_ENABLED", "NOT_ELIGIBLE", "PERMISSION", "CURRENCY", "DECIMAL", "INVALID_", "PLATFORM")
    for issue in refusable():
        if issue.startswith(fault) and issue not in ("PAYEE_BLOCKED_TRANSACTION",):
            assert issue not in DECLINES


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["name", "error", "details", "issue", "field", "links", "link", "rel", "href", "debug_id"]
                )
                | st.text(),
                inner,
            )
        ),
    )
)
def test_whatever_a_refusal_s_body_is_it_is_read(body: Any):
    refusal = read_refusal(422, body, None)
    assert refusal.as_error().message
    assert "@" not in str(refusal)


def test_a_person_in_a_refusal_isn_t_repeated():
    detail = {"issue": "Receiver pat@example.com is unknown", "field": "items[0].receiver", "value": "pat@example.com"}
    refusal = read_refusal(400, {"name": "VALIDATION_ERROR", "message": "pat@example.com", "details": [detail]}, "d1")
    assert "pat" not in f"{refusal}{refusal!r}{refusal.as_error().message}{refusal.__dict__}"
    assert isinstance(refusal.as_error(), Declined)


def test_the_page_for_operators_names_every_event_to_subscribe_to():
    page = (Path(__file__).parents[2] / "docs" / "rails-paypal.md").read_text(encoding="utf-8")
    for event in KINDS:
        assert f"`{event}`" in page or f"`.{event.rpartition('.')[2]}`" in page, event


# Money of disputes, by what moved


def movement(type: str, value: str, reason: str, party: str = "SELLER") -> dict[str, Any]:
    amount = {"currency_code": "USD", "value": value}
    return {"affected_party": party, "amount": amount, "type": type, "reason": reason, "initiated_time": "x"}


def dispute(**told: Any) -> dict[str, Any]:
    return {
        "dispute_id": "PP-1",
        "create_time": "2030-01-01T00:00:00Z",
        "status": "UNDER_REVIEW",
        "dispute_life_cycle_stage": "CHARGEBACK",
        "dispute_amount": {"currency_code": "USD", "value": "50.00"},
        "disputed_transactions": [{"seller_transaction_id": "C1"}],
    } | told


TAKEN = movement("DEBIT", "50.00", "DISPUTE_SETTLEMENT")
BACK = movement("CREDIT", "50.00", "DISPUTE_SETTLEMENT")
FEE = movement("DEBIT", "15.00", "CHARGEBACK_FEE")
FEE_BACK = movement("CREDIT", "15.00", "DISPUTE_FEE")
TO_BUYER = movement("CREDIT", "50.00", "DISPUTE_SETTLEMENT", party="BUYER")


@pytest.mark.parametrize(
    ("told", "status", "withdrawn", "fee"),
    [
        ({"dispute_life_cycle_stage": "INQUIRY"}, DisputeStatus.INQUIRY, 0, 0),
        ({"status": "OPEN"}, DisputeStatus.OPEN, 0, 0),
        ({"status": "WAITING_FOR_SELLER_RESPONSE", "money_movements": [TAKEN, FEE]}, DisputeStatus.OPEN, 50_00, 15_00),
        ({"money_movements": [TAKEN, TO_BUYER]}, DisputeStatus.UNDER_REVIEW, 50_00, 0),
        ({"outcome": "RESOLVED_SELLER_FAVOUR", "money_movements": [TAKEN, FEE, BACK]}, DisputeStatus.WON, 0, 15_00),
        ({"outcome": "DENIED", "money_movements": [TAKEN, FEE, BACK, FEE_BACK]}, DisputeStatus.WON, 0, 0),
        ({"outcome": "RESOLVED_BUYER_FAVOUR", "money_movements": [TAKEN]}, DisputeStatus.LOST, 50_00, 0),
        ({"outcome": "ACCEPTED", "refunded": "20.00"}, DisputeStatus.LOST, 20_00, 0),
        ({"outcome": "RESOLVED_WITH_PAYOUT", "refunded": "50.00"}, DisputeStatus.WON, 0, 0),
        ({"outcome": "RESOLVED_WITH_PAYOUT", "money_movements": [TAKEN]}, DisputeStatus.LOST, 50_00, 0),
        ({"outcome": "CANCELED_BY_BUYER", "money_movements": [TAKEN, BACK]}, DisputeStatus.CLOSED, 0, 0),
        ({"status": "RESOLVED"}, DisputeStatus.CLOSED, 0, 0),
    ],
)
def test_a_dispute_s_money_is_what_moved(told: dict[str, Any], status: DisputeStatus, withdrawn: int, fee: int):
    told = dict(told)
    if "outcome" in told:
        outcome = {"outcome_code": told.pop("outcome")}
        if "refunded" in told:
            outcome["amount_refunded"] = {"currency_code": "USD", "value": told.pop("refunded")}
        told |= {"status": "RESOLVED", "dispute_outcome": outcome}
    found = READ.dispute(dispute(**told))
    assert (found.status, found.withdrawn, found.fee) == (status, withdrawn, fee)


# Fees


@pytest.mark.parametrize(
    ("breakdown", "fee"),
    [
        (None, None),
        ({"gross_amount": "10.00"}, 0),
        ({"paypal_fee": "0.84"}, 84),
        ({"paypal_fee": "0.84", "platform_fees": "1.00"}, 1_84),
    ],
)
def test_a_payment_s_fee_is_paypal_s_and_the_platform_s(breakdown: dict[str, str] | None, fee: int | None):
    capture: dict[str, Any] = {"id": "C1", "status": "COMPLETED", "amount": usd("10.00")}
    if breakdown is not None:
        told: dict[str, Any] = {name: usd(value) for name, value in breakdown.items()}
        if "platform_fees" in told:
            told["platform_fees"] = [{"amount": told["platform_fees"]}]
        capture["seller_receivable_breakdown"] = told
    unit = {"payee": {"merchant_id": OURS}, "amount": usd("10.00"), "payments": {"captures": [capture]}}
    found = READ.payment({"id": "O1", "status": "COMPLETED", "purchase_units": [unit]})
    assert (found.status, found.fee) == (PaymentStatus.CAPTURED, fee)


@pytest.mark.parametrize(
    ("payee", "error"),
    [({"merchant_id": "NMLKJHGFEDCBA"}, RailCorrupt), ({"email_address": "us@example.com"}, EffectUnknown)],
    ids=str,
)
def test_an_order_that_doesn_t_say_that_it_pays_us_is_not_taken(payee: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        READ.payment({"id": "O1", "status": "APPROVED", "purchase_units": [{"payee": payee, "amount": usd("10.00")}]})


def test_a_fee_that_paypal_gives_back_with_a_refund_is_negative():
    given_back = {"paypal_fee": usd("0.35")}
    told = {"id": "R1", "status": "COMPLETED", "amount": usd("10.00"), "seller_payable_breakdown": given_back}
    found = READ.refund(told, capture="C1")
    assert (found.status, found.fee) == (RefundStatus.COMPLETED, -35)


def test_every_end_of_a_payout_is_told_apart():
    assert set(statuses.PAYOUT_ITEM.values()) == set(PayoutStatus)


def usd(value: str) -> dict[str, str]:
    return {"currency_code": "USD", "value": value}


# Ids and their age


@given(st.integers(0, 2**41), st.integers(0, 10**9))
def test_an_id_of_ours_tells_its_age(milliseconds: int, seed: int):
    made_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    id = new_id("top", ManualClock(made_at), SeededEntropy(seed))
    kept = timedelta(hours=5)
    assert still_known(id, kept, made_at + kept - timedelta(milliseconds=2))
    assert not still_known(id, kept, made_at + kept)
    assert our_reference(id) == id


@pytest.mark.parametrize("text", ["", "top_", "order 7", "top_01jd", "top_il0ouuuuuuuuuuuuuuuuuuuuuu"])
def test_what_isn_t_an_id_of_ours_has_no_age_and_is_no_reference(text: str):
    assert not still_known(text, timedelta(days=36_500), datetime(2030, 1, 1, tzinfo=UTC))
    assert our_reference(text) is None
