"""Payouts over HTTP: asked, read, cancelled, refused without repeating what was sent."""

from typing import Any

import pytest

from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

IBAN = "DE89370400440532013000"
NAME = "Zacharias Quill"


def body(amount: str = "10.00", name: str = NAME, iban: str = IBAN) -> dict[str, Any]:
    return {"asset": "EUR", "amount": amount, "recipient": {"name": name, "iban": iban}}


async def test_a_payout_is_asked_for_read_listed_and_cancelled(stage: Stage) -> None:
    await stage.fund(stage.alice, "100.00", "EUR")
    made = (await stage.alice.post("/v1/payouts", body())).json()
    assert (made["state"], made["amount"], made["total"], made["cancellable"]) == ("requested", "10.00", "10.00", True)
    assert made["recipient"] == {"name": NAME, "iban": IBAN}
    assert (await stage.alice.get(f"/v1/payouts/{made['id']}")).json() == made
    assert (await stage.alice.get("/v1/payouts")).json()["items"] == [made]
    assert (await stage.bob.get(f"/v1/payouts/{made['id']}")).status_code == 404
    (seen,) = (await stage.treasurer.get("/v1/treasury/payouts?state=requested")).json()["items"]
    assert (seen["id"], seen["user"], seen["account"]) == (made["id"], stage.alice.user, "main")
    assert (await stage.treasurer.get("/v1/treasury/payout-files")).json()["items"] == []
    gone = (await stage.alice.post(f"/v1/payouts/{made['id']}/cancel", {})).json()
    assert (gone["state"], gone["cancellable"]) == ("cancelled", False)
    late = await stage.alice.post(f"/v1/payouts/{made['id']}/cancel", {})
    assert (late.status_code, late.json()["code"]) == (409, "payout_not_cancellable")
    doubt = await stage.treasurer.post(f"/v1/treasury/payouts/{made['id']}/fail", {})
    assert (doubt.status_code, doubt.json()["code"]) == (409, "payout_not_in_doubt")


@pytest.mark.parametrize(
    "asked",
    [
        body(iban="DE00370400440532013000"),
        body(iban="Q" * 100),
        body(name=NAME * 20),
        body(amount="10.001"),
        body(),  # nothing is there to pay it with
    ],
)
async def test_a_refusal_repeats_nothing_of_the_recipient(stage: Stage, asked: dict[str, Any]) -> None:
    answer = await stage.alice.post("/v1/payouts", asked)
    assert 400 <= answer.status_code < 500, answer.text
    assert "Zacharias" not in answer.text
    assert asked["recipient"]["iban"] not in answer.text


@pytest.mark.parametrize(
    ("recipient", "code", "param"),
    [
        ({"paypal": "zacharias@example.com"}, "no_payout_rail", "asset"),
        ({"paypal": "Zacharias"}, "invalid_recipient", "recipient.paypal"),
        ({"paypal": "zacharias@example.com", "iban": IBAN}, "invalid_recipient", "recipient"),
        ({"name": NAME}, "invalid_recipient", "recipient"),
        ({}, "invalid_recipient", "recipient"),
    ],
)
async def test_a_recipient_is_a_bank_account_or_a_paypal_account_that_something_pays(
    stage: Stage, recipient: dict[str, str], code: str, param: str
) -> None:
    answer = await stage.alice.post("/v1/payouts", {"asset": "EUR", "amount": "10.00", "recipient": recipient})
    told = answer.json()
    assert (answer.status_code // 100, told["code"], told["param"]) == (4, code, param)
    assert "zacharias" not in answer.text.lower()
