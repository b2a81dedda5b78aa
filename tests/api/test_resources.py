"""A user's resources over HTTP: money in, across and out, and the lists that tell of it."""

import csv
import io
from datetime import timedelta

import pytest

from base.clock import ManualClock
from tests.api.conftest import USDC, Stage
from tests.wallet.scripted_chain import ScriptedChain, digest, paid

pytestmark = pytest.mark.slow

OUTSIDE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


async def test_assets_name_their_networks(stage: Stage):
    items = {row["code"]: row for row in (await stage.alice.get("/v1/assets")).json()["items"]}
    assert items["EUR"] == {"code": "EUR", "kind": "fiat", "scale": 2, "networks": []}
    assert items["USDC"]["networks"][0] == {
        "network": "local",
        "contract": USDC,
        "decimals": 6,
        "deposit_minimum": "0.000001",
    }


async def test_network_never_followed_is_unknown(stage: Stage):
    (network,) = (await stage.alice.get("/v1/networks")).json()["items"]
    assert (network["name"], network["state"], network["height"]) == ("local", "unknown", None)


async def test_transfer_is_seen_by_both_and_by_nobody_else(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    sent = (
        await stage.alice.post(
            "/v1/transfers", {"recipient": "@BOB", "asset": "USDC", "amount": "12.5", "memo": "=dinner"}
        )
    ).json()
    assert (sent["sender"], sent["recipient"]) == (stage.alice.user, stage.bob.user)
    assert (sent["amount"], sent["fee"], sent["memo"]) == ("12.50", "0.00", "=dinner")
    for caller in (stage.alice, stage.bob):
        assert (await caller.get(f"/v1/transfers/{sent['id']}")).json() == sent
        assert (await caller.get("/v1/transfers")).json() == {"items": [sent], "has_more": False}
        receipt = (await caller.get(f"/v1/receipts/{sent['id']}")).json()
        assert (receipt["kind"], receipt["memo"]) == ("transfer", "=dinner")
    made = await stage.services.identity.create_user(handle="carol")
    key = await stage.services.identity.create_key(label="c", scopes=["user"], user=made.id)
    stage.nobody.secret = key.secret
    assert (await stage.nobody.get(f"/v1/transfers/{sent['id']}")).status_code == 404
    assert (await stage.nobody.get(f"/v1/receipts/{sent['id']}")).status_code == 404


async def test_history_is_filtered_paged_and_exported(stage: Stage, clock: ManualClock):
    await stage.fund(stage.alice, "100.00", "USDC")
    for number in range(5):
        clock.advance(timedelta(hours=1))
        body = {"recipient": "@bob", "asset": "USDC", "amount": f"{number + 1}.00", "memo": "=1+1"}
        assert (await stage.alice.post("/v1/transfers", body)).status_code == 201

    first = (await stage.alice.get("/v1/history", kind="transfer", limit=2)).json()
    assert [row["amount"] for row in first["items"]] == ["-5.00", "-4.00"]
    assert first["has_more"] is True
    following = (
        await stage.alice.get("/v1/history", kind="transfer", limit=2, starting_after=first["items"][-1]["id"])
    ).json()
    assert [row["amount"] for row in following["items"]] == ["-3.00", "-2.00"]
    back = (
        await stage.alice.get("/v1/history", kind="transfer", limit=2, ending_before=following["items"][0]["id"])
    ).json()
    assert (back["items"], back["has_more"]) == (first["items"], False)

    since = (clock.now() - timedelta(hours=1)).isoformat()
    recent = (await stage.alice.get("/v1/history", since=since, until=clock.now().isoformat())).json()
    assert [row["amount"] for row in recent["items"]] == ["-4.00"]

    answer = await stage.alice.get("/v1/history", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["amount"] for row in rows] == ["-5.00", "-4.00", "-3.00", "-2.00", "-1.00", "100.00"]
    assert rows[0]["memo"] == "'=1+1"
    assert (await stage.alice.get("/v1/history", format="csv")).text == answer.text
    assert (await stage.alice.get("/v1/history", format="json", headers={"Accept": "text/csv"})).json()["items"]


async def test_transfers_are_listed_in_pages_both_ways(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    made = []
    for number in range(5):
        body = {"recipient": "@bob", "asset": "USDC", "amount": f"{number + 1}.00"}
        made.append((await stage.alice.post("/v1/transfers", body)).json()["id"])
    newest = (await stage.alice.get("/v1/transfers", limit=2)).json()
    assert ([row["id"] for row in newest["items"]], newest["has_more"]) == ([made[4], made[3]], True)
    older = (await stage.alice.get("/v1/transfers", limit=3, starting_after=made[3])).json()
    assert ([row["id"] for row in older["items"]], older["has_more"]) == ([made[2], made[1], made[0]], False)
    newer = (await stage.alice.get("/v1/transfers", limit=2, ending_before=made[1])).json()
    assert ([row["id"] for row in newer["items"]], newer["has_more"]) == ([made[3], made[2]], True)


async def test_exchange_at_a_quote(stage: Stage, clock: ManualClock):
    await stage.fund(stage.alice, "100.00", "EUR")
    await stage.fund_account("house/fx/USDC", "1000.00")
    asked = {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"}
    quote = (await stage.alice.post("/v1/quotes", asked)).json()
    assert (quote["sell_amount"], quote["state"]) == ("100.00", "open")
    assert (await stage.bob.get(f"/v1/quotes/{quote['id']}")).status_code == 404
    done = (await stage.alice.post("/v1/conversions", {"quote": quote["id"]})).json()
    assert done["buy_amount"] == quote["buy_amount"]
    balance = (await stage.alice.get("/v1/balances/USDC")).json()
    assert balance["available"] == quote["buy_amount"]
    assert (await stage.alice.get("/v1/conversions")).json()["items"] == [done]
    used = await stage.alice.post("/v1/conversions", {"quote": quote["id"]})
    assert (used.status_code, used.json()["code"]) == (409, "quote_used")
    late = (await stage.alice.post("/v1/quotes", asked)).json()
    clock.advance(timedelta(minutes=1))
    expired = await stage.alice.post("/v1/conversions", {"quote": late["id"]})
    assert (expired.status_code, expired.json()["code"]) == (409, "quote_expired")


async def test_deposit_address_is_the_same_each_time_and_has_its_checksum(stage: Stage):
    made = [(await stage.alice.post("/v1/deposit-addresses", {"network": "local"})).json() for _ in range(2)]
    assert made[0] == made[1]
    assert made[0]["address"] != made[0]["address"].lower()
    assert (await stage.alice.get("/v1/deposit-addresses")).json()["items"] == [made[0]]
    theirs = (await stage.bob.post("/v1/deposit-addresses", {"network": "local"})).json()
    assert theirs["address"] != made[0]["address"]
    assert (await stage.alice.get("/v1/deposits")).json() == {"items": [], "has_more": False}


async def test_withdrawal_is_estimated_held_and_cancelled(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    body = {"asset": "USDC", "network": "local", "address": OUTSIDE, "amount": "40.00"}
    estimate = (await stage.alice.post("/v1/withdrawals/estimate", body)).json()
    made = (await stage.alice.post("/v1/withdrawals", body)).json()
    assert (made["state"], made["address"], made["cancellable"]) == ("held", OUTSIDE, True)
    assert (made["fee_highest"], made["fee"]) == (estimate["fee_highest"], None)
    balance = (await stage.alice.get("/v1/balances/USDC")).json()
    assert (balance["balance"], balance["held"]) == ("100.00", estimate["total"])
    assert (await stage.alice.get("/v1/withdrawals")).json()["items"] == [made]
    assert (await stage.bob.post(f"/v1/withdrawals/{made['id']}/cancel")).status_code == 404
    ended = (await stage.alice.post(f"/v1/withdrawals/{made['id']}/cancel")).json()
    assert ended["state"] == "cancelled"
    again = await stage.alice.post(f"/v1/withdrawals/{made['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "not_cancellable")
    assert (await stage.alice.get("/v1/balances/USDC")).json()["available"] == "100.00"


async def test_a_treasurer_ends_a_withdrawal_that_has_no_nonce_yet_at_once(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    body = {"asset": "USDC", "network": "local", "address": OUTSIDE, "amount": "40.00"}
    made = (await stage.alice.post("/v1/withdrawals", body)).json()
    path = f"/v1/treasury/withdrawals/{made['id']}/cancellations"
    ended = await stage.treasurer.post(path, {"reason": "asked by telephone"})
    assert (ended.status_code, ended.json()["state"]) == (201, "cancelled")
    assert (await stage.alice.get("/v1/balances/USDC")).json()["available"] == "100.00"
    again = await stage.treasurer.post(path, {"reason": "once more"})
    assert (again.status_code, again.json()["code"]) == (409, "already_cancelling")


async def test_top_up_instructions_name_account_and_reference(stage: Stage):
    told = [(await stage.alice.post("/v1/top-ups/instructions")).json() for _ in range(2)]
    assert told[0] == told[1]
    assert told[0]["reference_shown"].replace(" ", "") == told[0]["reference"]
    assert told[0]["accounts"] == [{"iban": "DE89370400440532013000", "asset": "EUR", "virtual_iban": None}]
    assert (await stage.alice.get("/v1/top-ups")).json() == {"items": [], "has_more": False}


async def test_trial_balance_sums_to_zero_and_names_every_account(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    trial = (await stage.treasurer.get("/v1/treasury/trial-balance")).json()
    assert trial["balanced"] is True
    assert trial["sums"] == [{"asset": "USDC", "users": "100.00", "house": "-100.00", "sum": "0.00", "balanced": True}]
    assert {row["account"]: row["balance"] for row in trial["accounts"]} == {
        f"{stage.alice.user}/wallet/USDC": "100.00",
        "house/capital/USDC": "-100.00",
    }


async def test_deposit_is_seen_then_credited_and_the_network_is_followed(stage: Stage, database, clock: ManualClock):
    chain = ScriptedChain(database.engine(), stage.services.chains.registry.network("local"), clock)
    await chain.begin(**{USDC: 6})
    address = (await stage.alice.post("/v1/deposit-addresses", {"network": "local"})).json()["address"]
    await chain.mine(paid(address.lower(), 5_000_000, contract=USDC, tx_hash=digest("tx", 1)))
    await stage.services.deposits.step()
    (seen,) = (await stage.alice.get("/v1/deposits")).json()["items"]
    assert (seen["state"], seen["amount"], seen["address"]) == ("pending", "5.00", address)
    assert (await stage.alice.get("/v1/balances/USDC")).json()["incoming"] == "5.00"
    await chain.mine_empty(1)
    await stage.services.deposits.step()
    assert (await stage.alice.get(f"/v1/deposits/{seen['id']}")).json()["state"] == "credited"
    assert (await stage.alice.get("/v1/balances/USDC")).json()["available"] == "5.00"
    assert (await stage.bob.get(f"/v1/deposits/{seen['id']}")).status_code == 404
    receipt = (await stage.alice.get(f"/v1/receipts/{seen['id']}")).json()
    assert {line["evidence"]["kind"] for line in receipt["lines"]} == {"chain"}
    (network,) = (await stage.alice.get("/v1/networks")).json()["items"]
    assert (network["state"], network["height"], network["spendable_height"]) == ("following", 2, 1)
    assert "following" in (await stage.nobody.get("/")).text
