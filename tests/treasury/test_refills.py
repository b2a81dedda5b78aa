"""Refill requests, on a real chain: asked once, closed by what cold sends or by what the treasurer names."""

from collections.abc import Iterator
from typing import Any

import pytest

from custody.derivation import Role
from tests.support.chain import RunningChain, start_local_chain
from tests.support.signer import generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house
from treasury.sweeping import HOT

pytestmark = pytest.mark.slow

ETHER = 10**18
DOLLAR = 10**6
COLD = 2
FAST = {"spendable_depth": 1, "final_depth": 2}
BLOCKS_MAX = 12


@pytest.fixture
def chain(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as running:
        yield running


async def refills(house: WholeHouse) -> list[tuple[str, str, str]]:
    """Each request's asset, amount and state, the newest first."""
    found = await house.items(house.treasurer, "/v1/treasury/refills")
    return [(one["asset"], one["amount"], one["state"]) for one in found]


async def test_f42_a_withdrawal_that_waits_for_funds_asks_cold_once_and_goes_when_that_has_come(
    chain, database, tmp_path
):
    signer = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
    try:
        network = {**FAST, "cold_addresses": [chain.accounts[COLD]]}
        async with whole_house(chain, database, tmp_path, signer=signer, network=network) as house:
            hot = "0x" + signer.address(Role.HOT).hex()
            await house.work()
            chain.faucet(hot, ETHER)
            chain.transfer("USDC", await house.address(house.alice), 100 * DOLLAR)
            await house.work(blocks=2)
            assert await refills(house) == []
            recipient = "0x" + "7e" * 20
            body = {"asset": "USDC", "network": "local", "address": recipient, "amount": "80"}
            asked = await house.alice.post("/v1/withdrawals", body)
            assert asked.status_code == 201, asked.text
            path = f"/v1/withdrawals/{asked.json()['id']}"
            for _ in range(3):
                await house.work(blocks=1)
                assert (await house.alice.get(path)).json()["waiting_for"] == "funds"
                assert await refills(house) == [("USDC", "80.00", "open")]
            assert "80.00 USDC" in (await house.alerts())["refill_needed"]["text"]

            chain.transfer("USDC", hot, 10 * DOLLAR)  # a stranger's gift is none
            await house.work(blocks=2)
            assert await refills(house) == [("USDC", "80.00", "open")]
            chain.transfer("USDC", hot, 80 * DOLLAR, sender=COLD)
            for _ in range(BLOCKS_MAX // 4):
                await house.work(blocks=4)
                if (await house.alice.get(path)).json()["state"] == "final":
                    break
            assert (await house.alice.get(path)).json()["state"] == "final"
            assert chain.balance("USDC", recipient) == 80 * DOLLAR
            assert await refills(house) == [("USDC", "80.00", "closed")]
            assert "refill_needed" not in await house.alerts()
            assert await house.house("custody:local:cold") == 80 * DOLLAR
            assert await house.house("custody:local:hot") == -10 * DOLLAR
            assert await house.house("suspense") == 10 * DOLLAR
            await house.require_agreement()
    finally:
        signer.stop()


async def of_usdc(house: WholeHouse) -> dict[str, Any]:
    """The only request of USDC."""
    found = await house.items(house.treasurer, "/v1/treasury/refills")
    (request,) = [one for one in found if one["asset"] == "USDC"]
    return request


async def test_below_its_floor_the_hot_address_is_to_be_filled_and_a_treasurer_says_by_what(chain, database, tmp_path):
    usdc, ether = {"hot_floor": "50", "hot_target": "200"}, {"hot_floor": "1"}
    async with whole_house(chain, database, tmp_path, network=FAST, usdc=usdc, ether=ether) as house:
        await house.work()
        assert sorted(await refills(house)) == [("ETH", "1.00", "open"), ("USDC", "200.00", "open")]
        hot = house.parts.addresses.address(HOT)
        chain.faucet(hot, 2 * ETHER)
        await house.work(blocks=2)
        assert sorted(await refills(house))[0] == ("ETH", "1.00", "open")  # what met the need may still be the refill
        await house.work(blocks=2)
        assert sorted(await refills(house))[0] == ("ETH", "1.00", "lapsed")

        request = await of_usdc(house)
        assert (request["amount"], request["state"]) == ("200.00", "open")
        chain.transfer("USDC", hot, 30 * DOLLAR)
        await house.work(blocks=2)
        assert (await of_usdc(house))["state"] == "open"
        chain.transfer("USDC", hot, 200 * DOLLAR)
        await house.work(blocks=2)
        request = await of_usdc(house)
        assert request["state"] == "arrived"
        assert request["inflow"] in (await house.alerts())["refill_needed"]["text"]

        path = f"/v1/treasury/refills/{request['id']}/close"
        wrong = await house.treasurer.post(path, {"inflow": "inf_other"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "refill_unfit")
        for replayed in (None, "true"):
            closed = await house.treasurer.post(path, {"inflow": request["inflow"]})
            assert (closed.status_code, closed.json()["state"]) == (200, "closed")
            assert closed.headers.get("Idempotent-Replayed") == replayed
        await house.work(blocks=1)
        assert (await of_usdc(house))["state"] == "closed"
        assert await house.house("suspense") == 230 * DOLLAR  # closing books nothing
        assert (await house.treasurer.post("/v1/treasury/refills/rfl_none/close", {"inflow": "x"})).status_code == 404
