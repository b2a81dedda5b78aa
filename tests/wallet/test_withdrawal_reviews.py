"""Withdrawals that a person must end, on a real chain with a real signer: as paid, as returned, and the wrong tries."""

from decimal import Decimal

import pytest

from chain import local
from tests.wallet.foreign_world import STRANGER, foreign_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

UNKNOWN = "0x" + "5e" * 32


@pytest.fixture
async def world(database, tmp_path):
    async with foreign_world(database, tmp_path) as made:
        yield made


async def test_f34_a_payment_that_others_made_in_its_place_is_resolved_as_paid_once(world):
    """Another installation with the same keys pays the same with the same nonce: the record knows nothing of it."""
    house, chain = world.house, world.chain
    suspense = [await house.house("suspense", asset) for asset in ("USDC", "ETH")]
    chain.set_automine(False)
    first, second = await world.withdraw("10.00"), await world.withdraw("10.00")
    await house.work()
    call = local.encode_call("transfer(address,uint256)", STRANGER, 10_000_000)
    theirs = world.steal(chain.token("USDC"), call=call, nonce=0)
    await house.work(blocks=1)
    assert [one["state"] for one in await world.under_review()] == []  # it isn't final
    early = await world.resolve(first, "paid", theirs)
    assert (early.status_code, early.json()["code"]) == (409, "resolution_refused")
    await house.work(blocks=4)
    assert [(await world.shown(one))["state"] for one in (first, second)] == ["needs_review", "final"]
    (review,) = await world.under_review()
    (payment,) = review["found"]["payments"]
    assert (payment["tx_hash"], payment["chain_amount"], payment["booked"]) == (theirs, "10000000", True)
    assert (payment["is_final"], payment["carries_out"], payment["told_to_be"]) == (True, None, None)
    assert review["found"]["nonce_used_up"]["tx_hash"] == theirs
    others = (await world.shown(second))["tx_hash"]

    for outcome, tx_hash, why in (
        ("returned", None, "say `paid` and name it"),
        ("returned", theirs, "what is returned names no transaction"),
        ("paid", None, "name the transaction that paid it"),
        ("paid", UNKNOWN, "no transaction 0x5e5e"),
        ("paid", others, f"is the payment of {second['id']}"),
    ):
        refused = await world.resolve(first, outcome, tx_hash)
        assert (refused.status_code, refused.json()["code"]) == (409, "resolution_refused"), refused.text
        assert why in refused.json()["detail"]
    path, told = f"/v1/treasury/withdrawals/{first['id']}/resolutions", {"outcome": "paid", "tx_hash": theirs}
    for caller, body, key, status, code in (
        (house.alice, told | {"reason": "mine"}, "", 403, "wrong_scope"),
        (world.treasurer, told, "", 422, "missing_field"),
        (world.treasurer, told | {"reason": " "}, "", 409, "resolution_refused"),
        (world.treasurer, told | {"reason": "x", "tx_hash": "0x12"}, "", 422, "invalid_request"),
        (world.treasurer, told | {"reason": "x", "outcome": "paid_again"}, "", 422, "invalid_request"),
        (world.treasurer, told | {"reason": "x"}, None, 400, "idempotency_key_missing"),
    ):
        refused = await caller.post(path, body, key=key)
        assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    unknown = await world.resolve({"id": "wdr_nobody"}, "returned")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    ended = await world.resolve(second, "returned")
    assert (ended.json()["code"], ended.json()["state"]) == ("resolution_refused", "final")

    assert await world.breaks() == [("foreign_outflow", "ETH"), ("foreign_outflow", "USDC")]
    paid = await world.resolve(first, "paid", theirs.upper().replace("0X", "0x"), key="p")
    assert (paid.status_code, paid.json()["state"], paid.json()["tx_hash"]) == (201, "final", theirs), paid.text
    again = await world.resolve(first, "paid", theirs.upper().replace("0X", "0x"), key="p")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    shown = [await world.shown(one) for one in (first, second)]
    assert 0 < Decimal(shown[0]["fee"]) <= Decimal(shown[0]["fee_highest"])
    assert [await house.house("suspense", asset) for asset in ("USDC", "ETH")] == suspense
    assert Decimal(await house.balance(house.alice)) == 80 - sum(Decimal(one["fee"]) for one in shown)
    assert (await house.house("in-transit:local:out"), await world.breaks()) == (0, [])
    assert chain.balance("USDC", STRANGER) == 20_000_000
    final = (await world.treasurer.get("/v1/treasury/withdrawals", state="final", limit=1)).json()
    assert (final["has_more"], final["items"][0]["found"]) == (True, None)


async def test_what_was_mined_and_paid_nothing_is_returned_with_its_gas_at_the_house_s_cost(world):
    house, chain = world.house, world.chain
    chain.set_automine(False)
    asked = await world.withdraw("10.00")
    await house.work()
    chain.rpc("anvil_setCode", chain.token("USDC"), "0x600160005260206000f3")  # says yes to everything, does nothing
    await house.work(blocks=5)
    (review,) = await world.under_review()
    assert review["reason"] == "the transaction succeeded, but paid nothing"
    own = review["found"]["nonce_used_up"]
    assert (own["is_ours"], own["tx_hash"] in review["found"]["attempts"]) == (True, True)
    refused = await world.resolve(asked, "paid", own["tx_hash"])
    assert "is on record that paid USDC" in refused.json()["detail"]
    done = await world.resolve(asked, "returned")
    assert (done.status_code, done.json()["state"], done.json()["fee"]) == (201, "reverted", "0.00"), done.text
    assert await house.balance(house.alice) == "100.00"
    receipt = chain.receipt(own["tx_hash"])
    cost = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert await house.house("network-fees", "ETH") == -cost
    assert (await house.house("in-transit:local:out"), await world.under_review()) == (0, [])


async def test_what_paid_nothing_and_was_paid_by_another_costs_the_house_the_gas_of_both(world):
    house, chain = world.house, world.chain
    chain.set_automine(False)
    asked = await world.withdraw("10.00")
    await house.work()
    usdc = chain.token("USDC")
    code = chain.rpc("eth_getCode", usdc, "latest")
    chain.rpc("anvil_setCode", usdc, "0x600160005260206000f3")  # says yes to everything, does nothing
    chain.mine()
    chain.rpc("anvil_setCode", usdc, code)  # before anybody sees that it's another token
    call = local.encode_call("transfer(address,uint256)", STRANGER, 10_000_000)
    theirs = world.steal(usdc, call=call, nonce=1)
    await house.work(blocks=5)
    (review,) = await world.under_review()
    own = review["found"]["nonce_used_up"]
    assert (own["is_ours"], review["reason"]) == (True, "the transaction succeeded, but paid nothing")
    assert [one["tx_hash"] for one in review["found"]["payments"]] == [theirs]
    paid = await world.resolve(asked, "paid", theirs)
    assert paid.status_code == 201, paid.text
    assert paid.json()["state"] == "final"
    receipts = [chain.receipt(tx_hash) for tx_hash in (own["tx_hash"], theirs)]
    costs = [int(one["gasUsed"], 16) * int(one["effectiveGasPrice"], 16) for one in receipts]
    assert await house.house("network-fees", "ETH") == -sum(costs)
    assert (await house.house("in-transit:local:out"), await world.breaks()) == (0, [])
