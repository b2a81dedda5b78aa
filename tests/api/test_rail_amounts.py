"""Amounts that a payment provider can't carry are refused before anything is on record."""

from typing import Any

import pytest

from tests.api.conftest import Stage, settings_for

ORDER = {"rail": "stripe", "asset": "EUR", "amount": "0.50", "method": "pm_card_visa"}
ASSETS = [
    {"code": "EUR", "kind": "fiat", "scale": 4},
    {"code": "JPY", "kind": "fiat", "scale": 2},
    {"code": "USDC", "kind": "stablecoin", "scale": 6},
    {"code": "ETH", "kind": "crypto", "scale": 18},
]


@pytest.fixture
def settings(tmp_path):
    """A Stripe that nobody answers at."""
    told = {"api_key": "sk_test_secretsecret", "webhook_secret": "whsec_secretsecret", "base_url": "http://127.0.0.1:9"}
    return settings_for(tmp_path, environment="test", assets=ASSETS, bank_accounts=[], bank={}, rails={"stripe": told})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"amount": "0.49"}, {"minimum": "0.50", "maximum": "999999.99", "decimals": 2, "asset": "EUR"}),
        ({"amount": "1000000.00"}, {"minimum": "0.50", "maximum": "999999.99"}),
        ({"amount": "1.005"}, {"decimals": 2, "amount": "1.005"}),
        ({"asset": "JPY", "amount": "120.50"}, {"decimals": 0, "minimum": "50.00"}),
        ({"asset": "USDC", "amount": "5.00"}, {"asset": "USDC", "param": "asset"}),
    ],
)
async def test_an_amount_that_the_rail_cannot_carry_is_422_with_its_bounds(stage: Stage, asked: Any, told: Any):
    refused = await stage.alice.post("/v1/top-ups", ORDER | asked, key="one")
    assert (refused.status_code, refused.json()["code"]) == (422, "amount_not_payable"), refused.text
    assert {name: refused.json()[name] for name in told} == told
    assert (await stage.alice.get("/v1/top-ups")).json()["items"] == []
    taken = await stage.alice.post("/v1/top-ups", ORDER, key="one")
    assert (taken.status_code, taken.json()["state"]) == (201, "unknown"), "the key was still free"
