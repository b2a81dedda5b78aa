"""The exchange over HTTP: answers that recompute from their own fields, refusals with numbers, what the house made."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.api_client import KEY_VARIABLE
from tests.api.conftest import Stage, settings_for
from tests.support.command import onebook
from wiring.settings import Settings

pytestmark = pytest.mark.slow

SCALES = {"EUR": 2, "USD": 2, "USDC": 6, "ETH": 18}
PAIRS = [("EUR", "USDC"), ("USDC", "EUR"), ("EUR", "ETH"), ("ETH", "USDC"), ("USDC", "ETH"), ("ETH", "EUR")]


@pytest.fixture(name="settings")
def with_exchange(tmp_path) -> Settings:
    assets = [
        {"code": code, "kind": "fiat" if scale == 2 else "crypto", "scale": scale} for code, scale in SCALES.items()
    ]
    return settings_for(
        tmp_path,
        assets=assets,
        exchange={
            "reference": "USD",
            "value_min": "1.00",
            "value_max": "2000000.00",
            "pairs": [{"base": "EUR", "quote": "USD", "spread_basis_points": 50, "tiers": {"gold": 10}}],
            "exposures": [{"asset": "EUR", "most": "1000.00"}],
        },
    )


def ratio(text: str) -> Fraction:
    num, _, den = text.partition("/")
    return Fraction(Decimal(num)) / (int(den) if den else 1)


def units(text: str, asset: str) -> int:
    found = Decimal(text).scaleb(SCALES[asset])
    assert found == int(found)
    return int(found)


def check(quote: dict[str, str]) -> None:
    """With nothing but the answer's own fields: every figure to the unit."""
    kept = Fraction(10_000 - int(quote["spread_basis_points"]), 10_000)
    sold, bought = units(quote["sell_amount"], quote["sell"]), units(quote["buy_amount"], quote["buy"])
    rate = ratio(quote["rate"]) * Fraction(10 ** SCALES[quote["buy"]], 10 ** SCALES[quote["sell"]])
    lost = ratio(quote["rounding"])
    assert 0 <= lost < 1
    if quote["exact"] == "sell":
        assert bought + lost == sold * rate * kept
    else:
        assert sold - lost == bought / (rate * kept)
    assert units(quote["spread"], quote["sell"]) == sold * int(quote["spread_basis_points"]) // 10_000
    assert units(quote["total"], quote["sell"]) == sold + units(quote["fee"], quote["sell"])


async def test_every_figure_of_a_quote_recomputes_from_its_own_fields(stage: Stage):
    for asset in ("USDC", "ETH"):
        await stage.fund_account(f"house/fx/{asset}", "100000000.00")
    loop = asyncio.get_running_loop()
    asked: list[dict[str, str]] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from([pair for pair in PAIRS if pair[1] != "EUR"]), st.integers(1, 10**7), st.booleans())
    def draw(pair, cents, selling):
        sell, buy = pair
        key, asset = ("sell_amount", sell) if selling else ("buy_amount", buy)
        amount = f"{cents // 100}.{cents % 100:02d}"
        asked.append({"sell": sell, "buy": buy, key: amount})
        assert asset in SCALES

    await loop.run_in_executor(None, draw)
    told = 0
    for body in asked:
        answer = await stage.alice.post("/v1/quotes", body)
        if answer.status_code == 201:
            check(answer.json())
            told += 1
        else:
            assert answer.json()["code"] in ("outside_sizes", "exchange_short", "exposure_reached"), answer.json()
    assert told > len(asked) // 4


async def test_refusals_say_what_bounds_them(stage: Stage):
    await stage.fund(stage.alice, "5000.00", "EUR")
    await stage.fund_account("house/fx/USDC", "100.00")

    async def refused(path: str, body: dict[str, str]) -> dict[str, object]:
        answer = await stage.alice.post(path, body)
        assert answer.is_error, answer.json()
        return dict(answer.json())

    small = await refused("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "0.50"})
    assert (small["code"], small["value"], small["value_min"], small["reference"]) == (
        "outside_sizes",
        "0.54",
        "1.00",
        "USD",
    )
    short = await refused("/v1/quotes", {"sell": "EUR", "buy": "USDC", "buy_amount": "100.01"})
    assert (short["code"], short["required"], short["available"]) == ("exchange_short", "100.01", "100.00")
    await stage.fund_account("house/fx/USDC", "5000.00")
    full = await refused("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "1200.00"})
    assert (full["code"], full["required"], full["available"]) == ("exposure_reached", "1194.00", "1000.00")
    same = await refused("/v1/quotes", {"sell": "EUR", "buy": "EUR", "sell_amount": "1.00"})
    assert same["code"] == "no_rate"
    moved = await refused(
        "/v1/conversions", {"sell": "EUR", "buy": "USDC", "sell_amount": "10.00", "buy_at_least": "10.90"}
    )
    assert (moved["code"], moved["required"], moved["available"]) == ("price_moved", "10.90", "10.78779")
    for body in (
        {"quote": "quo_1", "sell": "EUR"},
        {"sell": "EUR"},
        {"sell": "EUR", "buy": "USDC", "sell_amount": "1.00", "sell_at_most": "1.00"},
        {"sell": "EUR", "buy": "USDC", "sell_amount": "1.00", "buy_amount": "1.00"},
    ):
        assert (await refused("/v1/conversions", body))["code"] == "one_amount"
    tiny = await refused("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "0.001"})
    assert tiny["code"] == "too_many_decimals"


async def test_one_request_converts_at_the_price_of_now_and_its_repeat_gets_the_same(stage: Stage, clock):
    await stage.fund(stage.alice, "50.00", "EUR")
    await stage.fund_account("house/fx/USDC", "5000.00")
    body = {"sell": "EUR", "buy": "USDC", "sell_amount": "10.00", "buy_at_least": "10.78"}
    first = await stage.alice.post("/v1/conversions", body, key="once")
    clock.advance(timedelta(days=3))  # the rates are too old now
    again = await stage.alice.post("/v1/conversions", body, key="once")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    quote = (await stage.alice.get(f"/v1/quotes/{first.json()['quote']}")).json()
    check(quote)
    assert quote["state"] == "used"
    late = await stage.alice.post("/v1/conversions", body, key="twice")
    assert (late.status_code, late.json()["code"]) == (503, "rates_too_old")


async def test_the_treasurer_sees_rates_and_what_the_house_made(stage: Stage, address: str, tmp_path):
    await stage.fund(stage.alice, "100.00", "EUR")
    await stage.fund_account("house/fx/USDC", "500.00")
    done = await stage.alice.post("/v1/conversions", {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"})
    while await stage.services.exchange.step():
        pass
    rates = (await stage.treasurer.get("/v1/treasury/rates")).json()
    assert {(pair["base"], pair["quote"]): pair["rate"] for pair in rates["pairs"]}["EUR", "USD"] == "1.0842"
    assert done.json()["rates"] == rates["id"]
    held = {one["asset"]: one for one in (await stage.treasurer.get("/v1/treasury/exchange")).json()["items"]}
    assert held["EUR"]["quantity"] == "100.00"
    assert held["EUR"]["earned"] == "0.54210"
    assert held["EUR"]["value"] == "108.42000"
    assert (held["EUR"]["most"], held["USDC"]["most"]) == ("1000.00", None)
    assert held["USDC"]["quantity"] == "392.1221"
    assert (await stage.alice.get("/v1/treasury/exchange")).status_code == 403

    async def run(*arguments: str):
        environment = {KEY_VARIABLE: str(stage.treasurer.secret)}
        return await asyncio.to_thread(onebook, *arguments, "--api", address, environment=environment, cwd=tmp_path)

    shown = await run("exchange", "rates")
    assert (shown.returncode, "1.0842" in shown.stdout) == (0, True), shown.stderr
    listed = await run("exchange", "positions", "--json")
    assert {one["asset"]: one["quantity"] for one in json.loads(listed.stdout)["items"]}["EUR"] == "100.00"
    assert "average_cost" in (await run("exchange", "positions")).stdout
