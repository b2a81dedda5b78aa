"""What own addresses do or become without us, on a real chain with a real signer: the sender stops, the book follows.

Keys are stolen, allowances drawn on, code and balances set; nothing of ours is patched.
"""

import pytest
from eth_account import Account

from chain import local
from chain.evm.addresses import show_address
from tests.support.contracts import create
from tests.wallet.foreign_world import ETHER, STRANGER, foreign_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
async def world(database, tmp_path):
    async with foreign_world(database, tmp_path) as made:
        yield made


async def test_f48_a_transaction_that_we_did_not_make_halts_its_sender_until_a_treasurer_accepts_it(world):
    house, suspense = world.house, await world.house.house("suspense", "ETH")
    first = await world.withdraw()
    await house.work(only="withdrawals")
    assert (await world.shown(first))["state"] == "nonce_reserved"
    stolen = world.steal(STRANGER, value=ETHER // 4)
    await house.work()  # it's in a block, and that isn't final yet
    ((halted,), alert) = await world.halted(), (await house.alerts())["sender_halted"]
    assert (halted["address"], halted["role"]) == (show_address(world.hot), "hot")
    assert [one["tx_hash"] for one in halted["findings"]] == [stolen]
    assert (alert["severity"], alert["subject"]) == ("critical", f"{world.hot} on local")
    assert (stolen in alert["text"], await world.outflows()) == (True, [])

    asked = await world.withdraw()
    await house.work(blocks=5)
    for one in (first, asked):  # the first one's nonce was given back, so that another address might pay it
        waiting = await world.shown(one)
        assert (waiting["state"], waiting["waiting_for"]) == ("approved", "approval")
        assert waiting["reason"] == "the address that pays it is under review"
    assert await world.attempts() == []
    gas = int(world.chain.receipt(stolen)["effectiveGasPrice"], 16) * 21_000
    assert {one[::2] for one in await world.outflows()} == {("ETH", "value"), ("ETH", "gas")}
    assert await house.house("suspense", "ETH") == suspense - ETHER // 4 - gas
    assert await world.breaks() == [("foreign_outflow", "ETH")] * 2

    path = f"/v1/treasury/senders/local/{world.hot}/acceptances"
    told = {"state": halted["state"], "reason": "known"}
    for caller, body, status, code in (
        (house.alice, told, 403, "wrong_scope"),
        (world.treasurer, told | {"state": "00" * 32}, 409, "sender_changed"),
        (world.treasurer, told | {"reason": "  "}, 422, "reason_missing"),
        (world.treasurer, told | {"reason": ""}, 422, "invalid_request"),
    ):
        refused = await caller.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    unknown = await world.treasurer.post(f"/v1/treasury/senders/local/{STRANGER}/acceptances", told)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (await world.treasurer.post(path, told)).status_code == 200
    assert (await world.treasurer.post(path, told)).status_code == 404  # once
    await house.work(blocks=1)
    assert (await world.halted(), "sender_halted" in await house.alerts()) == ([], False)


async def test_f34_a_nonce_that_others_used_ends_in_review_is_returned_and_the_sender_goes_on(world):
    house = world.house
    world.steal(STRANGER, value=1)
    await house.work(blocks=5)
    await world.accept()
    first = await world.withdraw("10.00")
    await world.finish()
    (review,) = await world.under_review()
    assert (review["id"], review["owner"], review["state"]) == (first["id"], house.alice.user, "needs_review")
    assert "nonce 0 was used up by" in review["reason"]
    assert (review["found"]["nonce"], review["found"]["payments"]) == (0, [])
    assert "payment_unclear" in await house.alerts()
    before = await house.balance(house.alice)
    done = await world.resolve(first, "returned", key="r")
    assert (done.status_code, done.json().get("state")) == (201, "cancelled"), done.text
    again = await world.resolve(first, "returned", key="r")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    late = await world.resolve(first, "returned")
    assert (late.status_code, late.json()["code"], late.json()["state"]) == (409, "resolution_refused", "cancelled")
    assert (before, await house.balance(house.alice)) == ("100.00", "100.00")
    assert (await world.shown(first))["reason"] == "it was not paid, and all that was held for it is back"

    second = await world.withdraw("20.00")
    await world.finish()
    assert (await world.shown(second))["state"] == "final"
    assert world.chain.balance("USDC", STRANGER) == 20_000_000
    assert (await world.under_review(), "payment_unclear" in await house.alerts()) == ([], False)
    assert await world.breaks() == [("foreign_outflow", "ETH")] * 2


async def test_f48_an_eip_7702_authorisation_is_found_by_code_and_nonce_and_what_its_code_pays_by_the_balance(world):
    house, chain = world.house, world.chain
    drain = create(chain, "Payer")  # whose code pays whom its caller names
    wanted = {"chainId": chain.chain_id, "address": show_address(drain), "nonce": 0}
    authorisation = world.thief.sign_authorization(wanted)
    stranger = Account.create()
    chain.faucet(stranger.address, ETHER)
    signed = stranger.sign_transaction(
        {
            "type": 4,
            "chainId": chain.chain_id,
            "nonce": 0,
            "to": show_address(world.hot),
            "value": 0,
            "data": b"",
            "gas": 200_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "authorizationList": [authorisation],
        }
    )
    world.send(signed)
    await house.work(blocks=4)
    assert await world.kinds() == ["code", "nonce"]
    ((code, _),) = [one["findings"] for one in await world.halted()]
    assert f"that of {drain} by an EIP-7702 authorisation" in code["text"]
    await world.accept()
    pay = local.encode_call("payMany(address[],uint256[])", [STRANGER], [1_000])
    local.send(chain.url, to=show_address(world.hot), call=pay)  # runs at our address, on our money
    assert chain.balance("ETH", STRANGER) == 1_000
    await house.work(blocks=5)
    assert await world.kinds() == ["balance"]  # and what was accepted isn't found again
    assert await world.outflows() == [("ETH", "0.000000000000001", "shortage")]
    assert await world.breaks() == [("foreign_outflow", "ETH")]
    await world.accept()
    asked = await world.withdraw()
    await world.finish()
    (review,) = await world.under_review()  # its nonce 0 went to the authorisation
    assert (review["id"], review["found"]["nonce_used_up"]["tx_hash"]) == (asked["id"], None)
    assert "used up without a transaction" in review["reason"]
    assert (await world.resolve(asked, "returned")).json()["state"] == "cancelled"
    assert await house.balance(house.alice) == "100.00"


async def test_f48_what_an_allowance_draws_is_an_outflow_and_halts_what_it_left(world):
    house, chain = world.house, world.chain
    spender = chain.accounts[4]
    token = chain.token("USDC").lower()
    world.steal(token, call=local.encode_call("approve(address,uint256)", spender, 10**12), by=world.deposit_thief)
    await house.work()
    assert await world.kinds(world.alice) == ["transaction"]
    await world.accept()
    drawn = world.usdc(
        "transferFrom(address,address,uint256)", show_address(world.alice), STRANGER, 30_000_000, sender=4
    )
    await house.work()
    (halted,) = await world.halted()
    assert (halted["address"], halted["role"]) == (show_address(world.alice), "deposit")
    assert [(one["kind"], one["tx_hash"]) for one in halted["findings"]] == [("outflow", drawn)]
    await house.work(blocks=4)
    (gas, usdc) = await world.outflows()
    assert (gas[::2], usdc) == (("ETH", "gas"), ("USDC", "30.00", "log"))
    assert await house.house("custody:local:deposit") == -70_000_000
    assert await house.balance(house.alice) == "100.00"  # the loss is the house's
    assert await world.breaks() == [("foreign_outflow", "ETH"), ("foreign_outflow", "USDC")]
    asked = await world.withdraw()  # another address pays, which nobody touched
    await world.finish()
    assert (await world.shown(asked))["state"] == "final"


async def test_what_anybody_can_do_to_an_address_halts_nothing(world):
    house, chain = world.house, world.chain
    chain.faucet(world.hot, 1)
    payer = create(chain, "Payer")
    local.send(chain.url, to=payer, call=local.encode_call("pay(address)", show_address(world.hot)), value=5)
    zero = ("transferFrom(address,address,uint256)", show_address(world.hot), STRANGER, 0)
    world.usdc(*zero, sender=4)
    await house.work(blocks=5)
    assert (await world.halted(), await world.outflows()) == ([], [])


async def test_f48_a_halt_stays_when_its_block_leaves_the_chain_and_what_was_booked_is_taken_back(world):
    house, chain = world.house, world.chain
    suspense = await house.house("suspense", "ETH")
    world.steal(STRANGER, value=1_000)
    await house.work()
    chain.reorg(1, longer=5)
    await house.work()
    assert (await world.kinds(), await world.outflows()) == (["transaction"], [])  # who could sign once can again
    stolen = world.steal(STRANGER, value=2_000)
    await house.work(blocks=5)
    assert len(await world.kinds()) == 2
    assert await house.house("suspense", "ETH") < suspense
    chain.reorg(7, longer=3)
    await house.work()
    assert (await house.network())["halted"] == "reorg_below_final"
    found = await house.items(world.treasurer, "/v1/treasury/outflows")
    assert [(one["state"], one["tx_hash"]) for one in found] == [("reversed", stolen)] * 2
    assert (await house.house("suspense", "ETH"), len(await world.kinds())) == (suspense, 2)
