"""Fees, limits and tiers over HTTP: what is told is what is booked, and each refusal has its numbers."""

from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger.accounts import house_account
from tests.api.conftest import Stage, settings_for
from tests.api.test_payouts import IBAN, NAME
from wiring.settings import Settings

pytestmark = pytest.mark.slow

TARIFF = """
default_tier = "standard"
reference = "EUR"

[tiers.standard]
free.transfer = { operations = 2 }
limits.out = { operation = "500.00", day = "600.00", month = "5000.00" }
limits.conversion = { day = "150.00" }
account_fee = { asset = "EUR", amount = "2.00", short = "waive" }

[tiers.verified]
limits.out = { day = "50000.00" }

[[fees]]
operation = "transfer"
percent = "0.35"

[[fees]]
operation = "transfer"
asset = "EUR"
percent = "0.35"
flat = "0.10"
maximum = "1.00"

[[fees]]
operation = "withdrawal"
network = "local"
percent = "1"

[[fees]]
operation = "withdrawal"
network = "local"
asset = "USDC"
percent = "1.25"
minimum = "0.50"

[[fees]]
operation = "payout"
asset = "EUR"
rail = "bank"
flat = "0.75"

[[fees]]
operation = "conversion"
percent = "0.25"
"""
TO = "0x000000000000000000000000000000000000dEaD"
HEADS = ("status", "code", "limit", "sum", "tier", "asset", "cap", "used", "required", "available", "frees_at")
MIDNIGHT = "2026-01-02T00:00:00+00:00"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tariff.toml").write_text(TARIFF)
    return settings_for(tmp_path, bank_accounts=[{"name": "main", "iban": IBAN, "asset": "EUR", "payout_fee": "9.00"}])


@pytest.fixture
async def rich(stage: Stage) -> Stage:
    for asset, amount in (("EUR", "10000.00"), ("USDC", "10000.00"), ("ETH", "1.00")):
        await stage.fund(stage.alice, amount, asset)
    return stage


def transfer(amount: str, asset: str = "EUR", **more: Any) -> dict[str, Any]:
    return {"recipient": "@bob", "asset": asset, "amount": amount} | more


def withdrawal(amount: str, asset: str = "USDC", **more: Any) -> dict[str, Any]:
    return {"asset": asset, "network": "local", "address": TO, "amount": amount} | more


def payout(amount: str, **more: Any) -> dict[str, Any]:
    return {"asset": "EUR", "amount": amount, "recipient": {"name": NAME, "iban": IBAN}} | more


async def preview(stage: Stage, **asked: Any) -> dict[str, Any]:
    answer = await stage.alice.post("/v1/fee-previews", asked, key=None)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    scale = {"EUR": 2, "USDC": 6, "ETH": 18}[told["asset"]]
    part = Decimal(told["amount"]) * Decimal(told["percent"]) / 100
    fee = Decimal(told["flat"]) + part.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_CEILING)
    fee = max(fee, Decimal(told["minimum"]))
    fee = fee if told["maximum"] is None else min(fee, Decimal(told["maximum"]))
    assert Decimal(told["fee"]) == (0 if told["free"] else fee)
    assert Decimal(told["total"]) == sum(Decimal(told[part]) for part in ("amount", "fee", "network_fee"))
    return told


async def test_a_transfer_costs_what_its_preview_says_and_two_are_free(rich: Stage) -> None:
    seen = []
    for left in (2, 1, 0):
        told = await preview(rich, operation="transfer", asset="EUR", amount="33.33")
        sent = await rich.alice.post("/v1/transfers", transfer("33.33", fee_accepted=told["fee"]))
        assert sent.status_code == 201, sent.text
        assert sent.json()["fee"] == told["fee"]
        assert told["allowance"]["operations_left"] == left
        seen.append((told["rule"], told["free"], told["fee"]))
    assert seen == [("fees[2]", True, "0.00"), ("fees[2]", True, "0.00"), ("fees[2]", False, "0.22")]
    told = await preview(rich, operation="transfer", asset="ETH", amount="0.01")
    assert (told["rule"], told["percent"], told["fee"]) == ("fees[1]", "0.35", "0.000035")
    dear = await preview(rich, operation="hold", asset="EUR", amount="400.00")
    assert (dear["fee"], dear["maximum"]) == ("1.00", "1.00")


@pytest.mark.parametrize(
    ("path", "body", "fee"),
    [
        ("/v1/transfers", transfer("33.33"), "0.22"),
        ("/v1/holds", transfer("33.33", expires_at="2026-01-03T00:00:00Z"), "0.22"),
        ("/v1/withdrawals", withdrawal("100.00"), "1.25"),
        ("/v1/payouts", payout("10.00"), "0.75"),
    ],
)
async def test_a_fee_above_the_accepted_one_is_refused_with_both(
    rich: Stage, path: str, body: dict[str, Any], fee: str
) -> None:
    for _ in range(2):
        await rich.alice.post("/v1/transfers", transfer("1.00"))  # what is free is used up
    answer = await rich.alice.post(path, body | {"fee_accepted": "0.20"}, key="dear")
    told = answer.json()
    assert (answer.status_code, told["code"], told["param"]) == (409, "fee_above_accepted", "fee_accepted")
    assert (told["fee"], told["fee_accepted"], told["asset"]) == (fee, "0.20", body["asset"])
    accepted = await rich.alice.post(path, body | {"fee_accepted": fee}, key="fine")
    assert accepted.status_code == 201, accepted.text
    nonsense = await rich.alice.post(path, body | {"fee_accepted": "-1"})
    assert (nonsense.status_code, nonsense.json()["param"]) == (422, "fee_accepted")


async def test_a_withdrawal_holds_the_service_fee_beside_the_networks(rich: Stage) -> None:
    told = await preview(rich, operation="withdrawal", asset="USDC", amount="100.00", network="local", address=TO)
    assert (told["rule"], told["fee"], told["network_fee"]) == ("fees[4]", "1.25", "3.25065")
    estimate = (await rich.alice.post("/v1/withdrawals/estimate", withdrawal("100.00"))).json()
    assert (estimate["service_fee"], estimate["total"]) == ("1.25", told["total"])
    made = (await rich.alice.post("/v1/withdrawals", withdrawal("100.00", fee_accepted="1.25"), key="w")).json()
    assert (made["fee_highest"], made["service_fee"]) == ("3.25065", "1.25")
    (held,) = (await rich.alice.get("/v1/holds")).json()["items"]
    assert [posting["amount"] for posting in held["postings"]] == ["100.00", "3.25065", "1.25"]
    again = await rich.alice.post("/v1/withdrawals", withdrawal("100.00", fee_accepted="1.25"), key="w")
    assert again.json() == made
    await rich.alice.post(f"/v1/withdrawals/{made['id']}/cancel")
    assert (await rich.alice.get("/v1/balances/USDC")).json()["available"] == "10000.00"
    assert [one["used"] for one in (await rich.alice.get("/v1/limits")).json()["items"]] == ["0.00"] * 4


async def test_a_payout_costs_what_the_tariff_says_and_not_the_older_setting(rich: Stage) -> None:
    told = await preview(rich, operation="payout", asset="EUR", amount="10.00", rail="bank")
    assert (told["rule"], told["fee"], told["total"]) == ("fees[5]", "0.75", "10.75")
    made = (await rich.alice.post("/v1/payouts", payout("10.00"))).json()
    assert (made["fee"], made["total"]) == ("0.75", "10.75")
    await rich.alice.post(f"/v1/payouts/{made['id']}/cancel", {})
    assert (await rich.alice.get("/v1/balances/EUR")).json()["available"] == "10000.00"
    assert [one["used"] for one in (await rich.alice.get("/v1/limits")).json()["items"]] == ["0.00"] * 4


async def test_limits_are_told_and_refuse_over_all_rails_together(rich: Stage) -> None:
    assert (await rich.alice.post("/v1/transfers", transfer("200.00"))).status_code == 201
    assert (await rich.alice.post("/v1/payouts", payout("200.00"))).status_code == 201
    assert (await rich.alice.post("/v1/withdrawals", withdrawal("108.42"))).status_code == 201  # 100.00 euros
    limits = (await rich.alice.get("/v1/limits")).json()
    assert (limits["tier"], limits["reference"]) == ("standard", "EUR")
    assert limits["items"] == [
        {"sum": "out", "limit": "operation", "cap": "500.00", "used": "0.00", "remaining": "500.00", "frees_at": None},
        {
            "sum": "out",
            "limit": "day",
            "cap": "600.00",
            "used": "500.00",
            "remaining": "100.00",
            "frees_at": "2026-01-02T00:00:00.000000Z",
        },
        {
            "sum": "out",
            "limit": "month",
            "cap": "5000.00",
            "used": "500.00",
            "remaining": "4500.00",
            "frees_at": "2026-02-01T00:00:00.000000Z",
        },
        {
            "sum": "conversion",
            "limit": "day",
            "cap": "150.00",
            "used": "0.00",
            "remaining": "150.00",
            "frees_at": "2026-01-02T00:00:00.000000Z",
        },
    ]
    day = (422, "limit_exceeded", "day", "out", "standard", "EUR", "600.00", "500.00")
    for path, body, required in (
        ("/v1/transfers", transfer("100.01"), "100.01"),
        ("/v1/holds", transfer("100.01", expires_at="2026-01-03T00:00:00Z"), "100.01"),
        ("/v1/payouts", payout("100.01"), "100.01"),
        ("/v1/withdrawals", withdrawal("108.43"), "100.01"),
        ("/v1/withdrawals", withdrawal("0.05", "ETH"), "115.32"),
    ):
        for _ in range(2):  # and what is remembered is told in the same words
            told = (await rich.alice.post(path, body, key=f"over {path} {required}")).json()
            assert tuple(told[name] for name in HEADS) == (*day, required, "100.00", MIDNIGHT), told
    one = (await rich.alice.post("/v1/transfers", transfer("500.01"))).json()
    assert (one["limit"], one["cap"], one["required"], one["frees_at"]) == ("operation", "500.00", "500.01", None)
    listed = {"transfers": [transfer("60.00"), transfer("60.00"), transfer("40.00")]}
    made = (await rich.alice.post("/v1/transfers/bulk", listed, key="bulk")).json()
    assert [next(iter(outcome)) for outcome in made["outcomes"]] == ["transfer", "problem", "transfer"]
    problem = made["outcomes"][1]["problem"]
    assert (problem["code"], problem["available"], problem["param"]) == ("limit_exceeded", "40.00", "transfers[1]")
    together = {"transfers": [transfer("0.01")], "mode": "all_or_nothing"}
    whole = (await rich.alice.post("/v1/transfers/bulk", together)).json()
    assert (whole["code"], whole["limit"], whole["param"]) == ("limit_exceeded", "day", "transfers[0]")


async def test_of_many_at_once_as_many_are_free_as_are_left(rich: Stage) -> None:
    listed = {"transfers": [transfer("10.00", memo=str(number)) for number in range(4)]}
    made = (await rich.alice.post("/v1/transfers/bulk", listed, key="apart")).json()
    assert [outcome["transfer"]["fee"] for outcome in made["outcomes"]] == ["0.00", "0.00", "0.14", "0.14"]
    assert (await rich.alice.post("/v1/transfers/bulk", listed, key="apart")).json() == made


async def test_of_many_together_as_many_are_free_as_are_left(rich: Stage) -> None:
    items = [transfer("10.00", memo=str(number)) for number in range(4)]
    body = {"transfers": items, "mode": "all_or_nothing"}
    made = (await rich.alice.post("/v1/transfers/bulk", body, key="together")).json()
    assert [outcome["transfer"]["fee"] for outcome in made["outcomes"]] == ["0.00", "0.00", "0.14", "0.14"]
    fees = await rich.services.ledger.account(house_account("fees", "EUR"))
    assert fees is not None
    assert fees.balance == 28
    late = [transfer("10.00", fee_accepted="0")]
    told = (await rich.alice.post("/v1/transfers/bulk", {"transfers": late, "mode": "all_or_nothing"})).json()
    assert (told["code"], told["fee"], told["param"]) == ("fee_above_accepted", "0.14", "transfers[0].fee_accepted")


async def test_without_fresh_rates_limited_users_are_told_to_wait(rich: Stage, settings: Settings) -> None:
    rates = settings.path(settings.rates)
    rates.write_text(rates.read_text().replace("2026-01-01", "2025-01-01"))
    for path, body in (("/v1/transfers", transfer("1.00", "USDC")), ("/v1/withdrawals", withdrawal("0.01", "ETH"))):
        answer = await rich.alice.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (503, "limit_unvalued"), answer.text
    assert (await rich.alice.post("/v1/transfers", transfer("1.00"))).status_code == 201


async def test_fees_are_told_by_the_tier(rich: Stage) -> None:
    told = (await rich.alice.get("/v1/fees")).json()
    assert (told["tier"], told["account_fee"]) == ("standard", {"asset": "EUR", "amount": "2.00", "short": "waive"})
    assert [(rule["rule"], rule["operation"], rule["network"], rule["rail"]) for rule in told["rules"]] == [
        ("fees[1]", "transfer", None, None),
        ("fees[2]", "transfer", None, None),
        ("fees[3]", "withdrawal", "local", None),
        ("fees[4]", "withdrawal", "local", None),
        ("fees[5]", "payout", None, "bank"),
        ("fees[6]", "conversion", None, None),
    ]
    assert told["free"][0]["operations_left"] == 2


async def test_an_operator_puts_users_into_tiers_and_says_why(rich: Stage) -> None:
    path = f"/v1/users/{rich.alice.user}/tier"
    assert (await rich.operator.get(path)).json() == {"user": rich.alice.user, "tier": "standard", "history": []}
    changed = await rich.operator.put("/v1/users/alice/tier", {"tier": "verified", "reason": "identity checked"})
    (entry,) = changed.json()["history"]
    by = (await rich.operator.get("/v1/me")).json()["key"]["id"]
    assert entry == {
        "at": "2026-01-01T00:00:00.000000Z",
        "by": by,
        "from_tier": "standard",
        "to_tier": "verified",
        "reason": "identity checked",
    }
    assert (await rich.operator.get(path)).json() == changed.json()
    assert (await rich.alice.post("/v1/transfers", transfer("5000.00"))).status_code == 201
    unknown = (await rich.operator.put(path, {"tier": "gold", "reason": "x"})).json()
    assert (unknown["status"], unknown["code"], unknown["known"]) == (422, "unknown_tier", ["standard", "verified"])
    silent = (await rich.operator.put(path, {"tier": "standard", "reason": " "})).json()
    assert (silent["status"], silent["code"], silent["param"]) == (422, "reason_missing", "reason")
    nobody = await rich.operator.put("/v1/users/zoe/tier", {"tier": "verified", "reason": "x"})
    assert nobody.status_code == 404
    for caller in (rich.alice, rich.treasurer):
        refused = await caller.put(path, {"tier": "verified", "reason": "please"})
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_scope")


@pytest.mark.parametrize(
    "asked",
    [
        {"operation": "conversion", "rail": "bank"},
        {"operation": "withdrawal"},
        {"operation": "payout"},
        {"operation": "top_up"},
        {"operation": "transfer", "network": "local"},
    ],
)
async def test_a_preview_needs_what_the_operation_goes_over(rich: Stage, asked: dict[str, str]) -> None:
    answer = await rich.alice.post("/v1/fee-previews", {"asset": "EUR", "amount": "1.00"} | asked, key=None)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_previewed")


async def test_what_a_preview_cant_price_is_refused_as_the_operation_would_be(rich: Stage) -> None:
    for asked, code in (
        ({"operation": "payout", "rail": "bank", "asset": "ETH", "amount": "1.00"}, "no_payout_rail"),
        ({"operation": "withdrawal", "network": "mars", "asset": "USDC", "amount": "1.00"}, "unknown_network"),
        ({"operation": "transfer", "asset": "DOGE", "amount": "1.00"}, "unknown_asset"),
        ({"operation": "top_up", "rail": "bank", "asset": "EUR", "amount": "1.00"}, "unknown_rail"),
        ({"operation": "swap", "asset": "EUR", "amount": "1.00"}, "invalid_request"),
    ):
        answer = await rich.alice.post("/v1/fee-previews", asked, key=None)
        assert answer.json()["code"] == code, answer.text


async def convert(stage: Stage, amount: str) -> Any:
    quote = (
        await stage.alice.post("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": amount}, key=None)
    ).json()
    return quote, await stage.alice.post("/v1/conversions", {"quote": quote["id"]})


async def test_conversions_have_a_fee_and_a_sum_of_their_own(rich: Stage) -> None:
    await rich.fund_account(house_account("fx", "USDC"), "100000.00")
    told = await preview(rich, operation="conversion", asset="EUR", amount="100.00")
    assert (told["rule"], told["fee"], [one["sum"] for one in told["limits"]]) == ("fees[6]", "0.25", ["conversion"])
    quote, done = await convert(rich, "100.00")
    assert (quote["fee"], quote["total"]) == ("0.25", "100.25")
    assert (done.status_code, done.json()["fee"]) == (201, "0.25")
    assert [one["used"] for one in (await rich.alice.get("/v1/limits")).json()["items"]] == [
        "0.00",
        "0.00",
        "0.00",
        "100.00",
    ]
    _, refused = await convert(rich, "50.01")
    told = refused.json()
    numbers = ("conversion", "standard", "EUR", "150.00", "100.00", "50.01", "50.00", MIDNIGHT)
    assert tuple(told[name] for name in HEADS[3:]) == numbers
    _, fits = await convert(rich, "50.00")
    assert fits.status_code == 201


async def test_a_conversions_repeat_gives_the_first_outcome_though_its_value_cant_be_told(
    rich: Stage, settings: Settings
) -> None:
    await rich.fund_account(house_account("fx", "EUR"), "100000.00")
    asked = {"sell": "USDC", "buy": "EUR", "sell_amount": "10.00"}
    quote = (await rich.alice.post("/v1/quotes", asked, key=None)).json()
    first = await rich.alice.post("/v1/conversions", {"quote": quote["id"]}, key="once")
    assert first.status_code == 201, first.text
    other = (await rich.alice.post("/v1/quotes", asked, key=None)).json()
    rates = settings.path(settings.rates)
    rates.write_text(rates.read_text().replace("2026-01-01", "2025-01-01"))
    again = await rich.alice.post("/v1/conversions", {"quote": quote["id"]}, key="once")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    stopped = await rich.alice.post("/v1/conversions", {"quote": other["id"]})
    assert (stopped.status_code, stopped.json()["code"]) == (503, "limit_unvalued"), stopped.text
