"""Orders over HTTP: convert and send, withdraw or pay out in one request; top up and convert."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from fiat.rails.sandbox import fee_of
from ledger.accounts import house_account
from tests.api.conftest import Stage, settings_for
from tests.api.test_resources import OUTSIDE

pytestmark = pytest.mark.slow

SECRET = "an-orders-tests-sandbox"


@pytest.fixture
def settings(tmp_path, request):
    """`dear`: conversions cost one percent, top-ups two, at most 250.00 a day; their users bear the provider's."""
    dear = getattr(request, "param", None) == "dear"
    if dear:
        rules = [
            f'[[fees]]\noperation = "{name}"\npercent = "{part}"' for name, part in (("conversion", 1), ("top_up", 2))
        ]
        tier = '[tiers.standard]\nlimits.top_up = { day = "250.00" }'
        head = 'default_tier = "standard"\nreference = "EUR"'
        (tmp_path / "tariff.toml").write_text("\n".join((head, tier, *rules)))
    return settings_for(
        tmp_path,
        environment="test",
        rails={"sandbox": {"webhook_secret": SECRET}, "fee_bearer": "user" if dear else "house"},
        bank_accounts=[
            {
                "name": "main",
                "iban": "DE89370400440532013000",
                "bic": "COBADEFFXXX",
                "holder": "Onebook Test",
                "asset": "EUR",
                "payouts": True,
                "payout_fee": "1.50",
            }
        ],
    )


@pytest.fixture
async def market(stage: Stage) -> Stage:
    """Alice has 500 EUR and no USDC; the exchange has both."""
    await stage.fund(stage.alice, "500.00", "EUR")
    await stage.fund(stage.alice, "1.00", "ETH")
    await stage.fund_account("house/fx/USDC", "5000.00")
    await stage.fund_account("house/fx/EUR", "5000.00")
    return stage


async def balance(stage: Stage, who, asset: str) -> str:
    return str((await who.get(f"/v1/balances/{asset}")).json()["available"])


async def quoted(stage: Stage, **body):
    answer = await stage.alice.post("/v1/order-quotes", body)
    assert answer.status_code == 201, answer.json()
    return answer.json()


async def test_converting_and_sending_is_one_request_and_one_group(market: Stage):
    to = {"transfer": {"recipient": "@bob", "memo": "rent"}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="40.00", **to)
    assert (told["fee"], told["quote"]["buy_amount"]) == ("0.00", "40.00")
    body = {"quote": told["quote"]["id"], "amount": "40.00", **to}
    made = await market.alice.post("/v1/orders", body, key="once")
    assert made.status_code == 201, made.json()
    order = made.json()
    assert (order["state"], order["kind"], order["amount"]) == ("done", "transfer", "40.00")
    assert await balance(market, market.bob, "USDC") == "40.00"
    assert await balance(market, market.alice, "USDC") == "0.00"
    assert (await market.bob.get(f"/v1/transfers/{order['following']}")).json()["memo"] == "rent"
    again = await market.alice.post("/v1/orders", body, key="once")
    assert (again.status_code, again.json()) == (201, order)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await market.alice.get(f"/v1/orders/{order['id']}")).json() == order
    assert (await market.alice.get("/v1/orders")).json()["items"] == [order]
    assert (await market.bob.get(f"/v1/orders/{order['id']}")).status_code == 404
    other = await market.alice.post("/v1/orders", body, key="twice")
    assert (other.status_code, other.json()["code"]) == (409, "quote_used")
    assert await balance(market, market.bob, "USDC") == "40.00"


async def test_converting_and_withdrawing_buys_the_networks_fee_too(market: Stage):
    to = {"withdrawal": {"network": "local", "address": OUTSIDE}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="40.00", **to)
    body = {
        "quote": told["quote"]["id"],
        "amount": "40.00",
        "fee_accepted": told["fee"],
        "network_fee_accepted": told["network_fee"],
        **to,
    }
    before = await balance(market, market.alice, "EUR")
    order = (await market.alice.post("/v1/orders", body)).json()
    assert order["kind"] == "withdrawal", order
    withdrawal = (await market.alice.get(f"/v1/withdrawals/{order['following']}")).json()
    assert (withdrawal["state"], withdrawal["amount"], withdrawal["fee_highest"]) == (
        "held",
        "40.00",
        told["network_fee"],
    )
    held = (await market.alice.get("/v1/balances/USDC")).json()
    assert (held["held"], held["available"]) == (told["quote"]["buy_amount"], "0.00")
    spent = Decimal(before) - Decimal(await balance(market, market.alice, "EUR"))
    assert spent == Decimal(told["quote"]["total"])
    cancelled = await market.alice.post(f"/v1/withdrawals/{order['following']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    assert await balance(market, market.alice, "USDC") == told["quote"]["buy_amount"]


async def test_converting_and_paying_out_buys_the_payouts_fee_too(market: Stage):
    await market.fund(market.alice, "100.00", "USDC")
    to = {"payout": {"rail": "bank", "name": "Alice A.", "iban": "FR1420041010050500013M02606"}}
    told = await quoted(market, pay_with="USDC", asset="EUR", amount="20.00", **to)
    assert (told["fee"], told["quote"]["buy_amount"]) == ("1.50", "21.50")
    body = {"quote": told["quote"]["id"], "amount": "20.00", **to}
    made = await market.alice.post("/v1/orders", body, key="p")
    assert made.status_code == 201, made.json()
    payout = (await market.alice.get(f"/v1/payouts/{made.json()['following']}")).json()
    assert (payout["state"], payout["amount"], payout["fee"]) == ("requested", "20.00", "1.50")
    assert (await market.alice.post("/v1/orders", body, key="p")).json() == made.json()


@pytest.mark.parametrize("spoilt", ["exchange", "recipient", "funds", "warning"])
async def test_where_one_half_is_refused_nothing_of_the_other_is_done(market: Stage, spoilt: str):
    to = {"transfer": {"recipient": "@bob"}}
    if spoilt == "warning":
        to = {"withdrawal": {"network": "local", "address": OUTSIDE}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="400.00", **to)
    if spoilt == "exchange":  # somebody else buys the stock meanwhile
        await market.fund(market.bob, "5000.00", "EUR")
        taken = {"sell": "EUR", "buy": "USDC", "buy_amount": "4800.00"}
        assert (await market.bob.post("/v1/conversions", taken)).status_code == 201
    if spoilt == "recipient":
        to = {"transfer": {"recipient": "@nobody"}}
    if spoilt == "funds":
        sent = {"recipient": "@bob", "asset": "EUR", "amount": "490.00"}
        assert (await market.alice.post("/v1/transfers", sent)).status_code == 201
    body = {"quote": told["quote"]["id"], "amount": "400.00", **to}
    if spoilt == "warning":
        body["network_fee_accepted"] = "0.000001"
    before = [await balance(market, market.alice, asset) for asset in ("EUR", "USDC")]
    refused = await market.alice.post("/v1/orders", body, key="spoilt")
    codes = {"exchange": "exchange_short", "recipient": "unknown_recipient", "funds": "insufficient_funds"}
    assert refused.json()["code"] == codes.get(spoilt, "fee_above_accepted"), refused.json()
    assert [await balance(market, market.alice, asset) for asset in ("EUR", "USDC")] == before
    assert (await market.alice.get("/v1/orders")).json()["items"] == []
    assert (await market.alice.get(f"/v1/quotes/{told['quote']['id']}")).json()["state"] == "open"
    again = await market.alice.post("/v1/orders", body, key="spoilt")
    assert again.json()["code"] == refused.json()["code"]


async def test_of_many_who_take_one_quote_at_once_one_order_is_made(market: Stage):
    to = {"transfer": {"recipient": "@bob"}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="40.00", **to)
    body = {"quote": told["quote"]["id"], "amount": "40.00", **to}
    answers = await asyncio.gather(*(market.alice.post("/v1/orders", body, key=f"k{n}") for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert await balance(market, market.bob, "USDC") == "40.00"


async def test_what_doesnt_fit_together_is_refused(market: Stage):
    to = {"transfer": {"recipient": "@bob"}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="40.00", **to)
    quote = told["quote"]["id"]
    for body, code in (
        ({"quote": quote, "amount": "40.01", **to}, "quote_mismatch"),
        ({"quote": quote, "amount": "40.00"}, "rejected"),
        ({"quote": quote, **to}, "rejected"),
        ({"quote": quote, "amount": "40.00", **to, "payout": {"rail": "bank"}}, "rejected"),
        ({"quote": quote, "amount": "40.00", "payout": {"rail": "bank", "paypal": "a@b.example"}}, "rejected"),
        ({"quote": quote, "amount": "40.00", "payout": {"rail": "paypal", "name": "A", "iban": "FR14"}}, "rejected"),
        ({"top_up": {"rail": "sandbox", "asset": "EUR", "amount": "10.00"}}, "rejected"),
        ({"quote": "quo_1", "amount": "40.00", **to}, "not_found"),
    ):
        refused = await market.alice.post("/v1/orders", body)
        assert refused.json()["code"] == code, (body, refused.json())


async def test_an_order_may_do_no_more_than_its_parts(market: Stage):
    key = await market.services.identity.create_key(
        label="narrow", scopes=["conversions:write", "wallet:read"], user=market.alice.user
    )
    market.alice.secret, whole = key.secret, market.alice.secret
    to = {"transfer": {"recipient": "@bob"}}
    told = await quoted(market, pay_with="EUR", asset="USDC", amount="40.00", **to)
    for more in (
        to,
        {"withdrawal": {"network": "local", "address": OUTSIDE}},
        {"payout": {"rail": "bank", "name": "A", "iban": "FR1420041010050500013M02606"}},
    ):
        refused = await market.alice.post("/v1/orders", {"quote": told["quote"]["id"], "amount": "40.00", **more})
        assert refused.status_code == 403, refused.json()
    refused = await market.alice.post(
        "/v1/orders", {"top_up": {"rail": "sandbox", "asset": "EUR", "amount": "10.00"}, "buy": "USDC"}
    )
    assert refused.status_code == 403
    market.alice.secret = whole


# Top up and convert


def top_up(method: str, **more):
    order = {"rail": "sandbox", "asset": "EUR", "amount": "100.00", "method": method}
    return {"top_up": order, "buy": "USDC", **more}


async def work(stage: Stage, clock, steps: int = 6) -> None:
    for _ in range(steps):
        await stage.services.rails.top_ups.steps.step()
        await stage.services.top_up_orders.step()
        clock.advance(timedelta(minutes=6))


async def test_what_is_topped_up_is_converted_when_it_is_there(market: Stage, clock):
    made = await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="107.00"), key="t")
    assert made.status_code == 201, made.json()
    order = made.json()
    assert (order["kind"], order["amount"]) == ("top_up", "100.00")
    await work(market, clock)
    done = (await market.alice.get(f"/v1/orders/{order['id']}")).json()
    assert (done["state"], done["waiting_for"]) == ("done", None), done
    conversion = (await market.alice.get(f"/v1/conversions/{done['conversion']}")).json()
    assert (conversion["sell_amount"], conversion["buy_amount"]) == ("100.00", "107.8779")
    assert await balance(market, market.alice, "USDC") == "107.8779"
    assert await balance(market, market.alice, "EUR") == "500.00"
    again = await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="107.00"), key="t")
    assert again.json()["id"] == order["id"]
    await work(market, clock)
    assert await balance(market, market.alice, "USDC") == "107.8779"


async def test_a_declined_payment_ends_its_order_and_says_why(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_declined"))).json()
    await work(market, clock)
    ended = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert ended["state"] == "failed"
    assert ended["waiting_for"]
    closed = await market.alice.post(f"/v1/orders/{made['id']}/cancel")
    assert (closed.status_code, closed.json()["code"]) == (409, "order_not_open")


async def test_a_price_below_the_least_waits_by_name_until_its_owner_accepts_it(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="110.00"))).json()
    await work(market, clock)
    waiting = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (waiting["state"], waiting["waiting_for"]) == ("converting", "price_moved")
    assert await balance(market, market.alice, "EUR") == "600.00"
    accepted = await market.alice.post(f"/v1/orders/{made['id']}/accept", {"buy_at_least": "107.00"})
    assert accepted.json()["buy_at_least"] == "107.00"
    await work(market, clock)
    assert (await market.alice.get(f"/v1/orders/{made['id']}")).json()["state"] == "done"


async def test_a_waiting_order_is_given_up_and_the_money_stays(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="110.00"))).json()
    await work(market, clock)
    cancelled = await market.alice.post(f"/v1/orders/{made['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    await work(market, clock)
    assert await balance(market, market.alice, "EUR") == "600.00"
    assert await balance(market, market.alice, "USDC") == "0.00"


async def test_rates_that_are_too_old_make_it_wait_and_fresh_ones_end_that(market: Stage, clock, settings):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa"))).json()
    await market.services.rails.top_ups.steps.step()
    clock.advance(timedelta(days=2))
    await market.services.top_up_orders.step()
    await work(market, clock, 3)
    waiting = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (waiting["state"], waiting["waiting_for"]) == ("converting", "rates_too_old")
    path = settings.path(settings.rates)
    path.write_text(path.read_text().replace("2026-01-01T", "2026-01-03T"))
    await work(market, clock, 3)
    assert (await market.alice.get(f"/v1/orders/{made['id']}")).json()["state"] == "done"


@pytest.mark.parametrize("settings", ["dear"], indirect=True)
async def test_a_top_up_order_converts_what_its_owner_has_of_it_and_no_other_money(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="100.00"))).json()
    await work(market, clock)
    done = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert done["state"] == "done", done
    conversion = (await market.alice.get(f"/v1/conversions/{done['conversion']}")).json()
    assert Decimal(conversion["fee"]) > 0
    assert Decimal(conversion["total"]) * 100 == 100_00 - fee_of(100_00) - 200
    assert await balance(market, market.alice, "EUR") == "500.00"


@pytest.mark.parametrize("settings", ["dear"], indirect=True)
async def test_the_fee_of_its_payment_is_told_accepted_and_doesnt_lower_what_its_owner_asks_for(market: Stage, clock):
    asked = {"operation": "top_up", "rail": "sandbox", "asset": "EUR", "amount": "100.00"}
    told = (await market.alice.post("/v1/fee-previews", asked, key=None)).json()
    assert (told["fee"], told["total"], told["arrives"]) == ("2.00", "100.00", "98.00")
    dear = await market.alice.post("/v1/orders", top_up("tok_visa", fee_accepted="1.99"))
    assert (dear.status_code, dear.json()["code"]) == (409, "fee_above_accepted")
    # It brings 102.91, all fees off: enough for 105.50 in proportion to what is left, not to that and the house's fee.
    body = top_up("tok_visa", buy_at_least="105.50", fee_accepted="2.00")
    made = (await market.alice.post("/v1/orders", body)).json()
    payment = (await market.alice.get(f"/v1/top-ups/{made['top_up']}")).json()
    assert (payment["state"], payment["service_fee"], payment["captured"]) == ("final", "2.00", "100.00")
    await work(market, clock)
    waiting = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (waiting["state"], waiting["waiting_for"]) == ("converting", "price_moved")


@pytest.mark.parametrize("settings", ["dear"], indirect=True)
async def test_over_its_limit_neither_top_up_nor_order_is_made(market: Stage):
    for _ in range(2):
        assert (await market.alice.post("/v1/orders", top_up("tok_visa"))).status_code == 201
    for _ in range(2):
        refused = await market.alice.post("/v1/orders", top_up("tok_visa"), key="third")
        told = refused.json()
        assert (refused.status_code, told["code"], told["sum"], told["limit"]) == (
            422,
            "limit_exceeded",
            "top_up",
            "day",
        )
        assert (told["cap"], told["used"], told["required"], told["asset"]) == ("250.00", "200.00", "100.00", "EUR")
    assert len((await market.alice.get("/v1/orders")).json()["items"]) == 2
    assert len((await market.alice.get("/v1/top-ups")).json()["items"]) == 2


async def test_a_top_up_that_is_refunded_while_its_order_waits_converts_nothing(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa", buy_at_least="110.00"))).json()
    await work(market, clock)
    refunded = await market.alice.post(f"/v1/top-ups/{made['top_up']}/refunds", {"amount": "40.00"})
    assert refunded.status_code == 201, refunded.json()
    await market.alice.post(f"/v1/orders/{made['id']}/accept", {"buy_at_least": "112.00"})
    await work(market, clock)
    waiting = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (waiting["state"], waiting["waiting_for"]) == ("converting", "price_moved")
    await market.alice.post(f"/v1/top-ups/{made['top_up']}/refunds", {"amount": "60.00"})
    await market.alice.post(f"/v1/orders/{made['id']}/accept", {})
    await work(market, clock)
    ended = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (ended["state"], ended["waiting_for"]) == ("cancelled", "given_back")
    assert await balance(market, market.alice, "EUR") == "500.00"
    assert await balance(market, market.alice, "USDC") == "0.00"


async def test_rates_that_cant_be_read_make_it_wait_and_mended_ones_end_that(market: Stage, clock, settings):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa"))).json()
    path = settings.path(settings.rates)
    told = path.read_text()
    path.write_text("no rates")
    await work(market, clock)
    waiting = (await market.alice.get(f"/v1/orders/{made['id']}")).json()
    assert (waiting["state"], waiting["waiting_for"]) == ("converting", "invalid_rates")
    path.write_text(told)
    await work(market, clock, 3)
    assert (await market.alice.get(f"/v1/orders/{made['id']}")).json()["state"] == "done"


async def test_two_workers_convert_a_top_up_once(market: Stage, clock):
    made = (await market.alice.post("/v1/orders", top_up("tok_visa"))).json()
    for _ in range(4):
        await asyncio.gather(*(market.services.top_up_orders.step() for _ in range(3)))
        clock.advance(timedelta(minutes=6))
    assert (await market.alice.get(f"/v1/orders/{made['id']}")).json()["state"] == "done"
    assert await balance(market, market.alice, "USDC") == "107.8779"
    stock = await market.services.ledger.account(house_account("fx", "USDC"))
    assert stock is not None
    assert stock.balance == 5000_000_000 - 107_877_900
